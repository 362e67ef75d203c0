use bytes::BytesMut;
use urtext_types::{ErrorKind, Explain};

use super::*;
use crate::command::{Incoming, decode};

const HISTORY: &str = "75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601";

fn request() -> SnapshotRequest {
    SnapshotRequest {
        credentials: Some(Credentials {
            user: Some("backup".to_owned()),
            password: Secret::new("hunter2 \r\n é".to_owned()),
        }),
        announce_version: Some("9.1.2".to_owned()),
        announce_port: AnnouncePort::Unroutable,
        idle_timeout: Duration::from_secs(1),
    }
}

fn words(bytes: &Secret<Vec<u8>>) -> Vec<String> {
    match decode(&mut BytesMut::from(&bytes.expose()[..])) {
        Ok(Some(Incoming::Command(words))) => {
            words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        }
        other => panic!("not a command: {other:?}"),
    }
}

/// Plays a server: gives these lines one after the other; returns what was sent and the last answer.
fn play(request: &SnapshotRequest, lines: &[&str]) -> (Vec<String>, Result<Progress, ReplicationError>) {
    let (mut handshake, first) = Handshake::start(request);
    let mut sent = vec![words(&first).join(" ")];
    let mut last = Ok(Progress::Wait);
    for line in lines {
        assert!(last.is_ok(), "a line after {last:?}");
        last = handshake.on_line(line.as_bytes());
        if let Ok(Progress::Send(bytes)) = &last {
            sent.push(words(bytes).join(" "));
        }
    }
    (sent, last)
}

#[test]
fn everything_is_said_in_order_before_the_rdb_comes() {
    let full_resync = format!("+FULLRESYNC {HISTORY} 48211");
    let (sent, last) = play(&request(), &["+OK", "+OK", "", "+OK", "+OK", "", "+OK", "", "", &full_resync, "", "$175"]);
    assert_eq!(
        sent,
        [
            "AUTH backup hunter2 \r\n é",
            "REPLCONF listening-port -1",
            "REPLCONF capa eof capa psync2",
            "REPLCONF version 9.1.2",
            "REPLCONF rdb-only 1",
            "PSYNC ? -1",
        ]
    );
    match last {
        Ok(Progress::Payload { position, framing }) => {
            assert_eq!(position.to_string(), format!("{HISTORY}:48211"));
            assert_eq!(framing, Framing::Length(175));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_asked_for_is_not_said() {
    let request =
        SnapshotRequest { credentials: None, announce_version: None, announce_port: AnnouncePort::None, ..request() };
    let (sent, _) = play(&request, &["+OK", "+OK"]);
    assert_eq!(sent, ["REPLCONF capa eof capa psync2", "REPLCONF rdb-only 1", "PSYNC ? -1"]);

    let password = Secret::new("hunter2".to_owned());
    let request = SnapshotRequest { credentials: Some(Credentials { user: None, password }), ..request };
    assert_eq!(play(&request, &[]).0, ["AUTH hunter2"]);
}

#[test]
fn a_server_that_does_not_know_versions_is_fine() {
    let (sent, last) = play(&request(), &["+OK", "+OK", "+OK", "-ERR Unrecognized REPLCONF option: version"]);
    assert_eq!(sent.last().map(String::as_str), Some("REPLCONF rdb-only 1"));
    assert!(last.is_ok());
}

#[test]
fn every_refusal_says_whose_move_it_is() {
    #[track_caller]
    fn check(lines: &[&str], text: &str, kind: ErrorKind) {
        let (_, last) = play(&request(), lines);
        let error = last.expect_err("refused");
        assert_eq!((error.to_string().as_str(), error.kind()), (text, kind));
        assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"));
    }
    let before_psync = ["+OK"; 5];
    let at_psync = |line| [&before_psync[..], &[line]].concat();
    let full_resync = format!("+FULLRESYNC {HISTORY} 48211");
    let after_psync = |line| [&before_psync[..], &[&full_resync, "", line]].concat();
    use ErrorKind::{Denied, Integrity, Refused, Unavailable, Usage};

    check(
        &["-DENIED Redis is running in protected mode because protected mode is enabled"],
        "the server is in protected mode and accepts connections from its own host only",
        Denied,
    );
    check(&["-ERR max number of clients reached"], "the server accepts no more clients", Unavailable);
    check(
        &["-WRONGPASS invalid username-password pair or user is disabled."],
        "the server refused the password of user \"backup\", or the user is disabled",
        Denied,
    );
    check(
        &["-ERR AUTH <password> called without any password configured for the default user. Are you sure?"],
        "a password is configured but the server has none for user \"backup\"",
        Usage,
    );
    check(
        &["-ERR unknown command 'AUTH', with args beginning with: 'backup' 'hunter2' "],
        "the server does not know the command AUTH",
        Denied,
    );
    check(&["-ERR what is hunter2"], "the server refused AUTH: -ERR", Unavailable);
    check(&["hunter2"], "unexpected answer to AUTH: (not shown)", Integrity);
    check(&["+OK", "-NOAUTH Authentication required."], "the server wants a password and none is configured", Denied);
    check(
        &["+OK", "-NOPERM this user has no permissions to run the 'replconf' command"],
        "user \"backup\" may not run REPLCONF",
        Denied,
    );
    check(
        &["+OK", "+OK", "+OK", "-NOPERM this user has no permissions to run the 'replconf' command"],
        "user \"backup\" may not run REPLCONF",
        Denied,
    );
    check(
        &["+OK", "-ERR value is not an integer or out of range"],
        "the server refused REPLCONF: -ERR value is not an integer or out of range",
        Unavailable,
    );
    check(
        &["+OK", "+OK", "+OK", "+OK", "-ERR Unrecognized REPLCONF option: rdb-only"],
        "the server cannot send only its RDB: it refused REPLCONF rdb-only (-ERR Unrecognized REPLCONF option: rdb-only)",
        Refused,
    );
    check(
        &at_psync("-LOADING Redis is loading the dataset in memory"),
        "the server is loading its data set",
        Unavailable,
    );
    check(
        &at_psync("-NOMASTERLINK Can't SYNC while not connected with my master"),
        "the server is a replica whose link to its master is down, or it is failing over: \
         -NOMASTERLINK Can\\'t SYNC while not connected with my master",
        Unavailable,
    );
    check(
        &at_psync("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
        "the server is a replica without its master and does not serve stale data",
        Unavailable,
    );
    check(
        &at_psync("-BUSY Redis is busy running a script."),
        "the server is busy: -BUSY Redis is busy running a script.",
        Unavailable,
    );
    check(
        &at_psync("-NOPERM this user has no permissions to run the 'psync' command"),
        "user \"backup\" may not run PSYNC",
        Denied,
    );
    check(&at_psync("-ERR unknown command `PSYNC`, with args"), "the server does not know the command PSYNC", Denied);
    check(&at_psync("-ERR something new"), "the server refused PSYNC: -ERR something new", Unavailable);
    for reply in [
        "+CONTINUE",
        "+RDBCHANNELSYNC 7",
        "+DUALCHANNELSYNC",
        "+FULLRESYNC",
        "+FULLRESYNC 75d1 5",
        "+FULLRESYNC 0000000000000000000000000000000000000000 5",
        "+FULLRESYNC 75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601 -1",
        "+FULLRESYNC 75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601 5 6",
        "HTTP/1.1 400 Bad Request",
    ] {
        check(&at_psync(reply), &format!("unexpected answer to PSYNC: {reply}"), Integrity);
    }
    check(
        &after_psync("-ERR BGSAVE failed, replication can't continue"),
        "the server could not save its data set for us: -ERR BGSAVE failed, replication can\\'t continue",
        Unavailable,
    );
    check(&after_psync("$-1"), "not a length or an end mark before the RDB: $-1", Integrity);
    check(&after_psync("*1"), "not a length or an end mark before the RDB: *1", Integrity);
}

#[test]
fn the_password_is_not_printed_with_the_conversation() {
    let (handshake, first) = Handshake::start(&request());
    let printed = format!("{handshake:?} {first:?} {:?}", request());
    assert!(!printed.contains("hunter2"), "{printed}");
}
