//! What is written from raw records is loaded by the server that wrote them, and is the same: whole, in parts by
//! slot, and put together again.

use redis::cmd;
use urtext_rdb::{ContentDigest, Depth, Event, Key, SLOTS, Writer, key_slot};
use urtext_tests::{
    encodings::{Layout, load_every_encoding},
    servers::{Options, Server, Version},
};

use crate::rdb_contents::{assert_same, digest, events, functions_of_server, of_file, of_server, saved};

/// A file of the records that `keep` takes from `files`, in the version of the first. Functions and auxiliary
/// fields are the first file's.
#[track_caller]
fn written(files: &[&[u8]], keep: impl Fn(&Key<'_>) -> bool) -> Vec<u8> {
    let (mut writer, mut out, mut kept) = (None::<Writer>, Vec::new(), false);
    for (number, file) in files.iter().enumerate() {
        events(file, Depth::Frame, &mut |event| {
            let writer = match (&mut writer, &event) {
                (None, Event::Header(header)) => return writer = Some(Writer::new(*header)),
                (Some(writer), _) => writer,
                (None, _) => panic!("no header at the beginning"),
            };
            match event {
                Event::Aux { key, value } if number == 0 => writer.aux(key, value).expect("its own version"),
                Event::Function { source } if number == 0 => writer.function(source).expect("its own version"),
                Event::Key(key) => {
                    kept = keep(&key);
                    if kept {
                        writer.begin_record(&key).expect("its own version");
                    }
                }
                Event::Raw(bytes) if kept => writer.raw(bytes),
                Event::KeyEnd(_) => out.append(&mut writer.take()),
                _ => {}
            }
        });
    }
    out.extend(writer.expect("at least one file").finish());
    out
}

/// A server that has loaded a file.
#[track_caller]
fn server_of(version: Version, file: &[u8]) -> Server {
    let folder = tempfile::tempdir().expect("make a server's folder");
    std::fs::write(folder.path().join("dump.rdb"), file).expect("write a file to load");
    Server::in_folder(version, Options::default(), folder)
}

#[track_caller]
fn check(version: Version) {
    let server = Server::start(version);
    load_every_encoding(&server);
    let file = saved(&server);
    let (content, functions) = (digest(&file), functions_of_server(&server));

    let copy = written(&[&file], |_| true);
    let loaded = server_of(version, &copy);
    assert_same(&of_server(&server), &of_server(&loaded));
    assert_eq!(functions_of_server(&loaded), functions);
    // It keeps some values in other encodings now.
    let again = digest(&saved(&loaded));
    assert_eq!(again.differences(&content), []);
    assert_eq!(again.root(), content.root());

    let borders = [0, SLOTS / 3, SLOTS / 2, SLOTS];
    let parts = [0, 1, 2].map(|part| {
        let slots = borders[part]..borders[part + 1];
        written(&[&file], |key| slots.contains(&key_slot(key.key)))
    });
    let keys = |content: &ContentDigest| content.databases().map(|(_, database)| database.keys()).sum::<u64>();
    let [mut sum, second, third] = [&parts[0], &parts[1], &parts[2]].map(|part| digest(part));
    assert_eq!(keys(&sum) + keys(&second) + keys(&third), keys(&content));
    assert!([&sum, &second, &third].iter().all(|part| keys(part) > 0), "a part without keys proves nothing");
    sum.merge(&second);
    sum.merge(&third);
    // Of the keys alone: each part has the function libraries.
    assert_eq!(sum.differences(&content), []);
    assert!(sum.databases().eq(content.databases()));

    let half = server_of(version, &parts[1]);
    assert_same(&of_server(&half), &of_file(&parts[1]));
    assert_eq!(digest(&saved(&half)), second);

    let whole = written(&[&parts[2], &parts[0], &parts[1]], |_| true);
    assert_eq!(digest(&whole), content);
    assert_same(&of_server(&server_of(version, &whole)), &of_file(&file));
}

#[test]
fn redis_6_2_loads_what_is_written_from_its_records() {
    check(Version::Redis62);
}

#[test]
fn redis_7_0_loads_what_is_written_from_its_records() {
    check(Version::Redis70);
}

#[test]
fn redis_8_2_loads_what_is_written_from_its_records() {
    check(Version::Redis82);
}

#[test]
fn valkey_8_1_loads_what_is_written_from_its_records() {
    check(Version::Valkey81);
}

#[test]
fn valkey_9_1_loads_what_is_written_from_its_records() {
    check(Version::Valkey91);
}

#[test]
fn a_server_that_loads_the_file_of_another_holds_the_same() {
    use Version::{Redis62, Redis70, Redis82, Valkey81, Valkey91};
    for (from, to) in [
        (Redis62, &[Redis70, Redis82, Valkey81, Valkey91][..]),
        (Redis70, &[Redis82, Valkey81, Valkey91]),
        (Valkey81, &[Redis82, Valkey91]),
    ] {
        let server = Server::start(from);
        load_every_encoding(&server);
        let file = saved(&server);
        without_entries_of_16383_bytes(&server);
        let file_for_valkey91 = saved(&server);
        for to in to {
            let file = if *to == Valkey91 { &file_for_valkey91 } else { &file };
            let (ours, theirs) = (digest(file), digest(&saved(&server_of(*to, file))));
            assert_eq!(theirs.differences(&ours), [], "{} from {}", to.name(), from.name());
            assert_eq!(theirs.root(), ours.root(), "functions of {} from {}", to.name(), from.name());
        }
    }
}

/// Valkey 9.1 ends when it loads a listpack with an entry of exactly 16383 bytes as all other servers write it.
fn without_entries_of_16383_bytes(server: &Server) {
    let mut connection = server.connect().expect("connect to a server");
    for layout in Layout::ALL {
        let keys = ["list:texts", "set:texts", "set:mixed", "zset:scores", "hash:texts", "stream:other-fields"];
        let () = cmd("SELECT").arg(layout.database()).query(&mut connection).expect("select a database");
        let deleted: usize = cmd("DEL").arg(&keys).query(&mut connection).expect("delete keys");
        assert_eq!(deleted, keys.len());
    }
}
