use super::*;
use crate::command;
use bytes::BytesMut;

const HISTORY: &str = "75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601";

fn offering(delivered: bool, expected_listening_port: Option<u16>) -> Offering {
    Offering {
        position: format!("{HISTORY}:48211").parse().expect("a position"),
        rdb_length: 175,
        expected_listening_port,
        delivered,
        handshake_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
    }
}

/// Gives these commands one after the other; returns the action for the last.
fn play(offering: &Offering, commands: &[&str]) -> Result<Action, ReplicationError> {
    let mut peer = Peer::new(offering);
    let mut last = Ok(Action::Nothing);
    for words in commands {
        assert!(last.is_ok(), "a command after {last:?}");
        let mut bytes = BytesMut::from(&command::encode(&words.split(' ').collect::<Vec<_>>())[..]);
        let incoming = command::decode(&mut bytes).expect("well formed").expect("complete");
        last = peer.on_incoming(&incoming);
    }
    last
}

#[track_caller]
fn check(delivered: bool, commands: &[&str], expected: Action) {
    match play(&offering(delivered, None), commands) {
        Ok(action) => assert_eq!(action, expected),
        Err(error) => panic!("{error}"),
    }
}

fn reply(text: &str) -> Action {
    Action::Reply(text.as_bytes().to_vec())
}

#[test]
fn what_replicas_say_before_psync_is_agreed_to() {
    check(false, &["PING"], reply("+PONG\r\n"));
    check(false, &["ping"], reply("+PONG\r\n"));
    check(false, &["AUTH secret"], reply("+OK\r\n"));
    check(false, &["AUTH user secret"], reply("+OK\r\n"));
    check(false, &["REPLCONF listening-port 6380"], reply("+OK\r\n"));
    check(false, &["REPLCONF ip-address 10.0.0.1"], reply("+OK\r\n"));
    check(false, &["REPLCONF capa eof capa psync2 capa rdb-channel-repl"], reply("+OK\r\n"));
    check(false, &["REPLCONF version 9.1.2"], reply("+OK\r\n"));
    check(false, &["REPLCONF set-cluster-node-id x"], reply("+OK\r\n"));
    check(false, &["REPLCONF"], reply("+OK\r\n"));
    check(false, &["REPLCONF ACK 7"], Action::Nothing);
    check(false, &["REPLCONF capa"], reply("-ERR syntax error\r\n"));
    check(false, &["GET key"], reply("-ERR only a replica is served here\r\n"));
    check(false, &["PSYNC ?"], reply("-ERR wrong number of arguments for 'psync' command\r\n"));
}

#[test]
fn the_rdb_is_offered_whatever_the_replica_had() {
    let all = || Action::SendAll(format!("+FULLRESYNC {HISTORY} 48211\r\n").into_bytes());
    check(false, &["PSYNC ? -1"], all());
    check(false, &["PSYNC ffffffffffffffffffffffffffffffffffffffff 9"], all());
    // It had this very position before the restore: it is to get the copy's bytes all the same.
    check(false, &[&format!("PSYNC {HISTORY} 48212")], all());
    check(true, &[&format!("PSYNC {HISTORY} 48211")], all());
    check(true, &[&format!("PSYNC {HISTORY} 48213")], all());
    check(true, &["PSYNC ? -1"], all());
}

#[test]
fn a_replica_that_has_the_rdb_continues() {
    let psync = format!("PSYNC {HISTORY} 48212");
    let capa = "REPLCONF capa eof capa psync2";
    check(true, &[capa, &psync], Action::Continue(format!("+CONTINUE {HISTORY}\r\n").into_bytes()));
    check(true, &[&psync], Action::Continue(b"+CONTINUE\r\n".to_vec()));
}

#[test]
fn acknowledgements_are_reported_once_and_never_answered() {
    let acked = |offset| Action::Acked(Offset::new(offset).expect("small"));
    check(false, &["PSYNC ? -1", "REPLCONF ACK 48211"], acked(48211));
    check(false, &["PSYNC ? -1", "REPLCONF ACK 48211 FACK 3"], acked(48211));
    check(false, &["PSYNC ? -1", "REPLCONF ACK 48211", "REPLCONF ACK 48211"], Action::Nothing);
    check(false, &["PSYNC ? -1", "REPLCONF ACK 0", "REPLCONF ACK 48211"], acked(48211));
    check(false, &["PSYNC ? -1", "REPLCONF whatever 1"], Action::Nothing);
    check(false, &["PSYNC ? -1", "REPLCONF odd"], Action::Nothing);
}

#[test]
fn a_replica_that_goes_on_with_nonsense_is_cut_off() {
    #[track_caller]
    fn check(command: &str) {
        let result = play(&offering(false, None), &["PSYNC ? -1", command]);
        assert!(matches!(result, Err(ReplicationError::BadCommand { .. })), "{result:?}");
    }
    check("REPLCONF ACK -1");
    check("REPLCONF ACK 9223372036854775808");
    check("REPLCONF ACK x");
    check("PSYNC ? -1");
    check("FLUSHALL");
}

#[test]
fn a_stranger_gets_nothing() {
    #[track_caller]
    fn check(commands: &[&str], announced: &str) {
        match play(&offering(true, Some(6380)), commands) {
            Err(error @ ReplicationError::Stranger { .. }) => assert_eq!(
                error.to_string(),
                format!("a stranger asked for the data: it announced port {announced} instead of 6380")
            ),
            other => panic!("{other:?}"),
        }
    }
    check(&["PING", "REPLCONF listening-port 6379"], "6379");
    check(&["PING", "REPLCONF listening-port 6380", "REPLCONF listening-port 6379"], "6379");
    check(&["PING", "REPLCONF listening-port -1"], "-1");
    check(&["PING", "REPLCONF listening-port 71916"], "71916");
    check(&["PING", "PSYNC ? -1"], "none");
    check(&["PING", &format!("PSYNC {HISTORY} 48212")], "none");

    let known = play(&offering(false, Some(6380)), &["REPLCONF capa eof listening-port 6380", "PSYNC ? -1"]);
    assert!(matches!(known, Ok(Action::SendAll(_))), "{known:?}");
}
