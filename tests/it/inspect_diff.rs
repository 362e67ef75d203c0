//! What is in a copy, whether it is sound, and what differs between two: for files, backups and live servers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use urtext_tests::{
    data::{Contents, load, load_strings},
    fleet::{Fleet, program},
    process::{Daemon, Output, run},
    say,
    servers::{Options, Server, Version},
};

/// Machines are busy.
const LIMIT: Duration = Duration::from_secs(120);

/// `urtext` with no coordinator and no directory.
#[track_caller]
fn urtext(args: &[&str]) -> Output {
    let mut command = Command::new(program("urtext"));
    run(command.env_remove("URTEXT_DIR").args(args), LIMIT)
}

/// SAVE, and the file that it makes.
#[track_caller]
fn save(server: &Server) -> PathBuf {
    server.call(&["SAVE"]);
    server.dir().join("dump.rdb")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's path is text")
}

/// A pair of servers that replicate, each with its agent.
#[track_caller]
fn pair(version: Version) -> Fleet {
    let (master, replica) = (Server::start(version), Server::start(version));
    replica.replicate(&master);
    let mut fleet = Fleet::new();
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    fleet
}

#[test]
fn a_file_of_every_server_is_inspected_and_verified_without_a_coordinator() {
    for version in Version::ALL {
        let server = Server::start(version);
        load(&server, 7, 400);
        let file = save(&server);
        let inspected = urtext(&["inspect", text(&file), "--json"]).expect(0).json();
        assert_eq!(inspected["keys"], Contents::of(&server).len(), "{}", version.name());
        let databases = inspected["databases"].as_object().expect("databases");
        assert_eq!(databases.keys().collect::<Vec<_>>(), ["0", "15", "3"]);
        assert_eq!(inspected["prefixes"][0]["prefix"], "key:");
        assert_eq!(inspected["largest"].as_array().map(Vec::len), Some(10));
        let less = ["inspect", text(&file), "--top", "3", "--separator", "e", "--json"];
        let less = urtext(&less).expect(0).json();
        assert_eq!(less["prefixes"][0]["prefix"], "ke");
        assert_eq!(less["largest"].as_array().map(Vec::len), Some(3));
        let verified = urtext(&["verify", "--file", text(&file), "--json"]).expect(0).json();
        assert_eq!(verified["content_digest"], inspected["content_digest"]);
        assert_eq!(verified["checksum"], "good");
        let printed = urtext(&["inspect", text(&file)]).expect(0).stdout;
        let name = text(&file);
        let wide = printed.lines().find(|line| line.chars().count() > 100 && !line.contains(name));
        assert_eq!(wide, None, "{printed}");
    }
}

#[test]
fn the_same_data_has_the_same_digest_whatever_server_wrote_it() {
    let server = Server::start(Version::Redis70);
    load(&server, 8, 400);
    let file = save(&server);
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(&file, folder.path().join("dump.rdb")).expect("copied");
    let other = Server::in_folder(Version::Valkey91, Options::default(), folder);
    let written = save(&other);
    let inspected = [&file, &written].map(|file| urtext(&["inspect", text(file), "--json"]).expect(0).json());
    assert_ne!(inspected[0]["rdb"], inspected[1]["rdb"]);
    assert_eq!(inspected[0]["content_digest"], inspected[1]["content_digest"]);
    urtext(&["diff", text(&file), text(&written)]).expect(0);
}

#[test]
fn damage_is_named_with_its_place_and_exit_code() {
    let server = Server::start(Version::Redis70);
    load_strings(&server, "user", 1, 50, 500);
    let file = save(&server);
    let sound = fs::read(&file).expect("the file");
    let odd = tempfile::tempdir().expect("a folder");
    let check = |name: &str, bytes: &[u8], code: i32, words: &[&str]| {
        let path = odd.path().join(name);
        fs::write(&path, bytes).expect("written");
        for args in [vec!["verify", "--file", text(&path)], vec!["inspect", text(&path)]] {
            urtext(&args).expect(code).says(words).says(&["hint:"]);
        }
        urtext(&["diff", text(&path), text(&file)]).expect(code).says(words);
    };
    check("cut", &sound[..sound.len() / 2], 7, &["cut off after", "take it again"]);
    check("empty", b"", 7, &[": empty", "take it again"]);
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    check("flipped", &flipped, 7, &["use another copy"]);
    check("log", b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", 7, &["not an RDB", "append-only"]);
    check("text", b"this is only a letter to somebody", 7, &["not an RDB"]);
    check("short", b"hello", 7, &["not an RDB"]);
    check("gzip", &[&[0x1f, 0x8b][..], &sound].concat(), 7, &["gzip"]);
    check("newer", b"REDIS0099\xff\0\0\0\0\0\0\0\0", 5, &["version", "update Urtext"]);

    // Behind an RDB: verify refuses what nobody meant to be there, and the others read what is before it.
    let followed = odd.path().join("followed");
    fs::write(&followed, [&sound[..], b"rest"].concat()).expect("written");
    urtext(&["verify", "--file", text(&followed)]).expect(7).says(&[&format!("offset {}", sound.len()), "hint:"]);
    urtext(&["inspect", text(&followed)]).expect(0).says(&["4 B follow"]);
    urtext(&["diff", text(&followed), text(&file)]).expect(0);

    urtext(&["verify", "--file", text(odd.path())]).expect(2).says(&["is a directory"]);
    urtext(&["inspect", "no-such-file"]).expect(3).says(&["no such file", "id of a backup"]);
    urtext(&["verify", "--file", "no-such-file"]).expect(3).says(&["no such file", "hint:", "by its id alone"]);
    urtext(&["inspect", "01M823FD2KCZHKAZ5ZFCCVWTAC"]).expect(2).says(&["which coordinator"]);
    urtext(&["diff", "-", "-"]).expect(2).says(&["stdin"]);
}

#[test]
fn whatever_keys_are_called_the_tables_fit() {
    let server = Server::start(Version::Redis82);
    let odd = ["k".repeat(300), format!("{}:{}", "p ".repeat(20), "q".repeat(40)), "\u{1}\n \u{202e}".repeat(20)];
    for key in &odd {
        server.call(&["SET", key, "value"]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (file, empty) = (folder.path().join("a.rdb"), folder.path().join("b.rdb"));
    fs::copy(save(&server), &file).expect("copied");
    server.call(&["FLUSHALL"]);
    fs::copy(save(&server), &empty).expect("copied");
    let tables =
        [urtext(&["inspect", text(&file)]).expect(0), urtext(&["diff", text(&file), text(&empty), "--keys"]).expect(9)];
    for printed in tables.map(|output| output.stdout) {
        let wide = printed.lines().find(|line| line.chars().count() > 100 && !line.contains(text(folder.path())));
        assert_eq!(wide, None, "{printed}");
        assert_eq!(printed.matches('…').count(), odd.len(), "{printed}");
    }
    let whole = urtext(&["inspect", text(&file), "--json"]).expect(0).json();
    assert!(whole["largest"].to_string().contains(&"q".repeat(40)), "JSON has them whole");
}

/// The change that `--keys` tells of each key.
fn changes(diff: &Value) -> Value {
    let keys = diff["keys"].as_array().expect("keys").iter();
    keys.map(|key| json!([key["change"], key["database"], key["key"]])).collect()
}

#[test]
fn the_differences_between_two_files_are_those_that_were_made() {
    let server = Server::start(Version::Valkey91);
    load(&server, 9, 300);
    for key in ["user:1", "user:2", "user:3", "plain"] {
        server.call(&["SET", key, "one"]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (before, after) = (folder.path().join("before.rdb"), folder.path().join("after.rdb"));
    fs::copy(save(&server), &before).expect("copied");
    server.call(&["SET", "user:1", "another"]);
    server.call(&["DEL", "user:2"]);
    server.call(&["EXPIREAT", "user:3", "4102444800"]);
    server.call(&["SADD", "odd\n\u{1b}key", "member"]);
    server.call(&["DEL", "plain"]);
    server.call(&["RPUSH", "plain", "one"]);
    server.call(&["FUNCTION", "FLUSH"]);
    fs::copy(save(&server), &after).expect("copied");

    let (a, b) = (text(&before), text(&after));
    let diff = urtext(&["diff", a, b, "--keys", "--json"]).expect(9).json();
    assert_eq!(diff["identical"], false);
    assert_eq!(diff["total"], json!({"added": 1, "removed": 1, "changed": 2, "expiry": 1}));
    assert_eq!(diff["functions_differ"], true);
    let made = json!([
        ["added", 0, r#""odd\n\u{1b}key""#],
        ["changed", 0, r#""plain""#],
        ["changed", 0, r#""user:1""#],
        ["removed", 0, r#""user:2""#],
        ["expiry", 0, r#""user:3""#],
    ]);
    assert_eq!(changes(&diff), made);
    assert_eq!(
        diff["prefixes"][0],
        json!({"database": 0, "prefix": "user:", "added": 0, "removed": 1, "changed": 1, "expiry": 1})
    );
    let sum = |side: &str| diff[side]["keys"].as_u64().expect("a number");
    assert_eq!(sum("first"), sum("second"));
    assert_eq!(diff["same"], sum("first") - 4);

    let shorter = urtext(&["diff", a, b, "--separator", "s", "--json"]).expect(9).json();
    assert_eq!(shorter["prefixes"][0]["prefix"], "us");

    // The other way round, what was added was removed.
    let back = urtext(&["diff", b, a, "--json", "--keys", "--limit", "1"]).expect(9).json();
    assert_eq!(back["total"], json!({"added": 1, "removed": 1, "changed": 2, "expiry": 1}));
    assert_eq!(changes(&back), json!([["removed", 0, r#""odd\n\u{1b}key""#]]));
    assert_eq!(back["keys_omitted"], 4);

    // Beyond the time of user:3 it counts on neither side but the one where it never expires.
    let later = urtext(&["diff", a, b, "--as-of", "2100-01-01T00:00:00Z", "--keys", "--json"]).expect(9).json();
    assert!(changes(&later).as_array().expect("keys").contains(&json!(["removed", 0, r#""user:3""#])));
    urtext(&["diff", a, a]).expect(0);
    let printed = urtext(&["diff", a, b, "--keys"]).expect(9).stdout;
    assert!(!printed.contains('\u{1b}'), "{printed:?}");
}

#[test]
fn backups_and_live_servers_are_compared_with_each_other() {
    let fleet = pair(Version::Redis70);
    let (master, replica) = (fleet.server("fra-1"), fleet.server("nyc-1"));
    load(master, 11, 300);
    replica.catch_up_with(master);
    fleet.wait_until_seen("fra-1");
    fleet.wait_until_seen("nyc-1");
    let [first, twin] = ["fra-1", "nyc-1"].map(|node| fleet.snapshot(node));

    // The manifests name the digest that is found in the data, and it is the same for both.
    let shown = |id: &str| fleet.json(&["backup", "show", id]);
    let digest = shown(&first)["manifest"]["rdb"]["content_digest"].clone();
    assert!(digest.as_str().is_some_and(|digest| digest.starts_with("1:")), "{digest}");
    assert_eq!(shown(&twin)["backup"]["content_digest"], digest);
    let inspected = fleet.json(&["inspect", &first]);
    assert_eq!(inspected["content_digest"], digest);
    assert_eq!(inspected["offset"], shown(&first)["backup"]["offset"]);
    assert_eq!(inspected["keys"], Contents::of(master).len());
    let twins = fleet.json(&["diff", &first, &twin]);
    assert_eq!((&twins["identical"], &twins["same"]), (&json!(true), &Value::Null), "nothing needs to be read");

    // A live server is left as it was.
    let before = (master.history(), replica.history());
    let live = fleet.json(&["diff", &first, &replica.url()]);
    assert_eq!((&live["identical"], &live["same"]), (&json!(true), &inspected["keys"]));
    master.call(&["SET", "later", "1"]);
    replica.catch_up_with(master);
    let live = fleet.coordinator.urtext(&["diff", &replica.url(), &master.url()]).expect(0);
    assert!(live.stdout.contains("identical"), "{}", live.stdout);
    let differ = fleet.coordinator.urtext(&["diff", &first, &master.url(), "--keys", "--json"]).expect(9).json();
    assert_eq!(changes(&differ), json!([["added", 0, r#""later""#]]));
    assert_eq!((master.history(), replica.history()), before);

    fleet.wait_until_seen("nyc-1");
    let last = fleet.snapshot("nyc-1");
    let differ = fleet.coordinator.urtext(&["diff", &last, &first, "--json"]).expect(9).json();
    assert_eq!(differ["total"], json!({"added": 0, "removed": 1, "changed": 0, "expiry": 0}));

    // Nothing is opened without the identity, and what does not exist is not found.
    let elsewhere = fleet.work().join("identity.txt");
    fs::rename(fleet.coordinator.identity(), &elsewhere).expect("moved");
    fleet.coordinator.urtext(&["inspect", &first]).expect(3).says(&["no age identity", "--identity"]);
    fleet.json(&["inspect", &first, "--identity", text(&elsewhere)]);
    let nowhere = ["diff", &first, "01M823FD2KCZHKAZ5ZFCCVWTAC", "--identity", text(&elsewhere)];
    fleet.coordinator.urtext(&nowhere).expect(3).says(&["there is no backup", "urtext backups"]);
}

#[test]
fn a_restore_proves_the_digest_of_the_manifest() {
    let mut fleet = pair(Version::Valkey91);
    load(fleet.server("fra-1"), 12, 300);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    fleet.wait_until_seen("nyc-1");
    let id = fleet.snapshot("nyc-1");
    fleet.add("sgp-1", Server::start(Version::Valkey91));
    let restored = fleet.restore_to("sgp-1", &["--backup", &id]);
    let digest = &fleet.json(&["backup", "show", &id])["backup"]["content_digest"];
    assert!(digest.is_string());
    assert_eq!(&restored["proof"]["content_digest"], digest);
    fleet.coordinator.urtext(&["diff", &id, text(&save(fleet.server("sgp-1")))]).expect(0);
}

#[test]
fn a_server_that_attaching_would_harm_is_not_read() {
    let lone = Server::start(Version::Redis70);
    lone.call(&["SET", "a", "1"]);
    let history = lone.history();
    let file = save(&lone);
    urtext(&["diff", text(&file), &lone.url()]).expect(5).says(&["would change its replication id", "BGSAVE"]);
    assert_eq!(lone.history(), history);
    urtext(&["diff", text(&file), "redis://127.0.0.1:1"]).expect(6).says(&["connect to redis://127.0.0.1:1"]);
    urtext(&["diff", text(&file), "rediss://127.0.0.1:1"]).expect(2).says(&["TLS", "snapshot"]);
    lone.call(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let refused = urtext(&["diff", text(&file), &lone.url()]).expect(8).says(&["wants a password"]);
    assert!(!refused.stderr.contains("hunter2"));
}

/// Two hundred thousand keys on each side are sixty megabytes of fingerprints.
#[test]
fn a_comparison_of_many_keys_stays_within_40_mib() {
    const KEYS: u32 = 200_000;
    const MOST: u64 = 40 << 20;
    let server = Server::start(Version::Redis70);
    let name = "a-prefix-as-long-as-they-are-in-real-deployments-with-their-tenants-and-their-regions";
    server.call(&["DEBUG", "POPULATE", &KEYS.to_string(), name, "16"]);
    let folder = tempfile::tempdir().expect("a folder");
    let before = folder.path().join("before.rdb");
    fs::copy(save(&server), &before).expect("copied");
    server.call(&["SET", &format!("{name}:7"), "another"]);
    let after = save(&server);

    let log = folder.path().join("log");
    let mut command = Command::new(program("urtext"));
    command.env_remove("URTEXT_DIR").args(["diff", text(&before), text(&after), "--json"]);
    let begin = std::time::Instant::now();
    let mut diff = Daemon::start("urtext diff", &mut command, &log);
    let mut peak = 0;
    // The most that it ever had only grows: what is missed is the growth of its last few milliseconds.
    while diff.is_running() {
        peak = peak.max(high_water(diff.pid()).unwrap_or(0));
        assert!(begin.elapsed() < LIMIT, "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(diff.wait(LIMIT).code(), Some(9), "{}", diff.log());
    let value: Value = serde_json::from_str(diff.log().trim()).expect("JSON");
    assert_eq!(value["total"], json!({"added": 0, "removed": 0, "changed": 1, "expiry": 0}));
    assert_eq!(value["same"], KEYS - 1);
    say(&format!("{KEYS} keys compared in {:?} with {} MiB at most", begin.elapsed(), peak >> 20));
    assert!(peak > 0 && peak < MOST, "{} MiB", peak >> 20);
}

/// `VmHWM` in bytes; `None` once the process has ended.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
