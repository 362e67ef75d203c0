//! On the worst day, with nothing of ours at hand: age and zstd, and the server's own checker.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    time::Duration,
};

use urtext_tests::{
    data::{Contents, load, load_strings},
    fleet::{Fleet, files_below},
    process::run,
    servers::{Options, Server, Version},
};

#[test]
fn ordinary_tools_turn_the_stored_parts_into_an_rdb_that_a_server_loads() {
    let version = Version::Redis70;
    let mut fleet = Fleet::new();
    let (master, replica) = (Server::start(version), Server::start(version));
    load(&master, 91, 300);
    // Enough for several parts.
    load_strings(&master, "bulk", 92, 800, 50_000);
    replica.replicate(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let id = fleet.snapshot("nyc-1");

    let all = files_below(&fleet.coordinator.repository());
    let parts: Vec<_> = all
        .iter()
        .filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            file.to_string_lossy().contains(&id) && name.starts_with("rdb.") && name.ends_with(".zst.age")
        })
        .collect();
    assert!(parts.len() >= 3, "several parts: {all:#?}");
    let dir = tempfile::tempdir().expect("make a folder");
    let rdb = dir.path().join("dump.rdb");
    // Each part alone, and one after the other: exactly what the documentation says.
    let whole = File::create(&rdb).expect("make a file");
    for part in parts {
        let mut age = Command::new("age");
        age.args(["--decrypt", "--identity"]).arg(fleet.coordinator.identity()).arg(part);
        let mut age = age.stdout(Stdio::piped()).spawn().expect("start age");
        let mut zstd = Command::new("zstd");
        zstd.args(["--decompress", "--stdout", "--quiet"]);
        zstd.stdin(age.stdout.take().expect("a pipe")).stdout(whole.try_clone().expect("share a file"));
        assert!(zstd.status().expect("run zstd").success());
        assert!(age.wait().expect("wait for age").success());
    }
    drop(whole);
    let check = run(Command::new("redis-check-rdb").arg(&rdb), Duration::from_secs(60)).expect(0);
    assert!(check.stdout.contains("Checksum OK") && check.stdout.contains("RDB looks OK"), "{}", check.stdout);

    let size = fs::metadata(&rdb).expect("size of a file").len();
    assert_eq!(fleet.backups()[0]["rdb_bytes"], size);
    let restored = Server::in_folder(version, Options::default(), dir);
    Contents::of(fleet.server("nyc-1")).assert_same(&Contents::of(&restored));
}

#[test]
fn nothing_that_is_stored_shows_what_was_backed_up() {
    let server = Server::start(Version::Redis70);
    server.call(&["SET", "a-key-that-nobody-else-has", "a-value-that-nobody-else-has"]);
    let mut fleet = Fleet::new();
    fleet.add("fra-1", server);
    fleet.snapshot("fra-1");
    for file in files_below(fleet.coordinator.dir()) {
        let content = fs::read(&file).expect("read a file");
        let shown = content.windows(20).any(|bytes| b"that-nobody-else-has".starts_with(bytes));
        assert!(!shown, "{} shows plain data", file.display());
    }
}
