//! What a server answers and what a file holds, in the same words: a line for everything that a client can see.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Cmd, Connection, FromRedisValue, Value as Answer, cmd, from_redis_value};
use urtext_rdb::{
    Collector, ContentDigest, Depth, DigestBuilder, Event, Item, Limits, Parser, StreamId, StreamItem, Value,
};
use urtext_tests::servers::{Server, Version};

/// By database and key.
pub(crate) type Contents = BTreeMap<(u32, Vec<u8>), Vec<String>>;

/// SAVE, and the file.
#[track_caller]
pub(crate) fn saved(server: &Server) -> Vec<u8> {
    server.call(&["SAVE"]);
    std::fs::read(server.dir().join("dump.rdb")).expect("read what the server saved")
}

/// Reads a file at a depth.
#[track_caller]
pub(crate) fn events(file: &[u8], depth: Depth, sink: &mut impl FnMut(Event<'_>)) {
    let mut parser = Parser::new(depth, Limits::default());
    // As it comes from a socket.
    let read = file.chunks(64 << 10).try_for_each(|piece| parser.feed(piece, sink));
    read.and_then(|()| parser.finish().map(drop)).unwrap_or_else(|error| panic!("a server's own file: {error}"));
}

/// The content digest of a file.
#[track_caller]
pub(crate) fn digest(file: &[u8]) -> ContentDigest {
    let mut digest = DigestBuilder::new();
    events(file, Depth::Values, &mut |event| digest.event(&event));
    digest.finish()
}

/// Everything in a file.
#[track_caller]
pub(crate) fn of_file(file: &[u8]) -> Contents {
    let (mut contents, mut collector, mut numbers) = (Contents::new(), Collector::new(), Vec::new());
    events(file, Depth::Values, &mut |event| {
        if let Event::Item(Item::Stream(item)) = &event {
            numbers.extend(stream_line(item));
        }
        if let Some(record) = collector.event(&event) {
            let mut lines = lines(record.value);
            lines.append(&mut numbers);
            lines.extend(record.expires_at.map(expires));
            let before = contents.insert((record.database, record.key), lines);
            assert_eq!(before, None, "a key that is there twice");
        }
    });
    contents
}

/// Fails the test with the first few differences.
#[track_caller]
pub(crate) fn assert_same(server: &Contents, file: &Contents) {
    let keys: BTreeSet<_> = server.keys().chain(file.keys()).collect();
    let none = Vec::new();
    let mut differences = Vec::new();
    for (database, key) in keys {
        let [server, file] = [server, file].map(|all| all.get(&(*database, key.clone())).unwrap_or(&none));
        if server != file {
            let only = |all: &[String], other: &[String]| {
                let lines = all.iter().filter(|line| !other.contains(line)).take(3);
                lines.map(|line| format!("{line:.200}")).collect::<Vec<_>>()
            };
            let (server, file) = (only(server, file), only(file, server));
            differences.push(format!("db {database} {}: {server:#?} and {file:#?}", key.escape_ascii()));
        }
    }
    assert!(
        differences.is_empty(),
        "{} keys differ:\n{}",
        differences.len(),
        differences[..differences.len().min(8)].join("\n")
    );
}

/// The function libraries in a file.
#[track_caller]
pub(crate) fn functions_of_file(file: &[u8]) -> BTreeSet<String> {
    let mut functions = BTreeSet::new();
    events(file, Depth::Frame, &mut |event| {
        if let Event::Function { source } = event {
            functions.insert(text(source));
        }
    });
    functions
}

/// Fields and values, in their order.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn lines(value: Value) -> Vec<String> {
    match value {
        Value::String(bytes) => vec![format!("string {}", text(&bytes))],
        Value::List(elements) => elements.iter().map(|element| format!("element {}", text(element))).collect(),
        Value::Set(members) => sorted(members.iter().map(|member| format!("member {}", text(member)))),
        Value::Zset(members) => {
            sorted(members.iter().map(|(member, score)| format!("member {} score {score:?}", text(member))))
        }
        Value::Hash(fields) => {
            sorted(fields.iter().map(|field| field_line(&field.field, &field.value, field.expires_at)))
        }
        Value::Stream(stream) => stream.entries.iter().map(|entry| entry_line(entry.id, &entry.fields)).collect(),
        other => panic!("no server of the suite writes {other:?}"),
    }
}

fn stream_line(item: &StreamItem<'_>) -> Vec<String> {
    let line = match item {
        StreamItem::Entry(_) => return Vec::new(),
        StreamItem::Tail { length, last_id, since_7_0 } => {
            let mut lines = vec![format!("length {length}"), format!("last id {last_id}")];
            if let Some(tail) = since_7_0 {
                lines.push(format!("first id {}", tail.first_id));
                lines.push(format!("deleted up to {}", tail.max_deleted_id));
                lines.push(format!("ever added {}", tail.entries_added));
            }
            return lines;
        }
        StreamItem::Group { name, last_id, entries_read } => {
            format!("group {} at {last_id}, read {entries_read:?}", text(name))
        }
        StreamItem::Pending { id, delivered_at, deliveries } => format!("pending {id} at {delivered_at}, {deliveries}"),
        StreamItem::Consumer { name, seen_at, active_at } => {
            format!("consumer {} seen at {seen_at}, active {active_at:?}", text(name))
        }
        StreamItem::ConsumerPending(id) => format!("holds {id}"),
        other => panic!("no server of the suite writes {other:?}"),
    };
    vec![line]
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines
}

fn field_line(field: &[u8], value: &[u8], expires_at: Option<i64>) -> String {
    format!("field {} = {}, expires {expires_at:?}", text(field), text(value))
}

fn entry_line(id: StreamId, fields: &[(Vec<u8>, Vec<u8>)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(field, value)| format!("{} = {}", text(field), text(value))).collect();
    format!("entry {id}: {}", fields.join(", "))
}

fn expires(at: i64) -> String {
    format!("expires at {at}")
}

/// Everything in a server, asked by its own commands.
#[track_caller]
pub(crate) fn of_server(server: &Server) -> Contents {
    let connection = server.connect().unwrap_or_else(|error| panic!("connect to {}: {error}", server.url()));
    let mut asking = Asking { connection, version: server.version() };
    let mut contents = Contents::new();
    for database in 0..16_u32 {
        let () = asking.ask(cmd("SELECT").arg(database));
        let keys: Vec<Vec<u8>> = asking.ask(cmd("KEYS").arg("*"));
        for key in keys {
            let lines = asking.key(&key);
            contents.insert((database, key), lines);
        }
    }
    contents
}

/// The function libraries of a server.
#[track_caller]
pub(crate) fn functions_of_server(server: &Server) -> BTreeSet<String> {
    if !server.version().is_7_or_later() {
        return BTreeSet::new();
    }
    let libraries: Vec<Answer> = server.get(&["FUNCTION", "LIST", "WITHCODE"]);
    libraries.into_iter().map(|library| text(&get::<Vec<u8>>(&mut fields(library), "library_code"))).collect()
}

struct Asking {
    connection: Connection,
    version: Version,
}

impl Asking {
    #[track_caller]
    fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> T {
        command.query(&mut self.connection).unwrap_or_else(|error| panic!("read a data set: {error}"))
    }

    fn key(&mut self, key: &[u8]) -> Vec<String> {
        let kind: String = self.ask(cmd("TYPE").arg(key));
        let mut lines = match kind.as_str() {
            "string" => lines(Value::String(self.ask(cmd("GET").arg(key)))),
            "list" => lines(Value::List(self.ask(cmd("LRANGE").arg(key).arg(0).arg(-1)))),
            "set" => lines(Value::Set(self.ask(cmd("SMEMBERS").arg(key)))),
            "zset" => lines(Value::Zset(self.ask(cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES")))),
            "hash" => self.hash(key),
            "stream" => self.stream(key),
            other => panic!("a key of type {other}"),
        };
        lines.extend(self.expires_at(key).map(expires));
        lines
    }

    fn hash(&mut self, key: &[u8]) -> Vec<String> {
        let pairs: Pairs = self.ask(cmd("HGETALL").arg(key));
        let mut times = vec![-1; pairs.len()];
        if self.version.has_field_expiry() {
            let names: Vec<_> = pairs.iter().map(|(field, _)| field).collect();
            times = self.ask(cmd("HPEXPIRETIME").arg(key).arg("FIELDS").arg(names.len()).arg(&names));
        }
        let time = |at: i64| (at >= 0).then_some(at);
        sorted(pairs.iter().zip(times).map(|((field, value), at)| field_line(field, value, time(at))))
    }

    fn stream(&mut self, key: &[u8]) -> Vec<String> {
        let mut stream = fields(self.ask(cmd("XINFO").arg("STREAM").arg(key).arg("FULL").arg("COUNT").arg(0)));
        let entries: Vec<(String, Pairs)> = get(&mut stream, "entries");
        let mut lines: Vec<_> = entries.iter().map(|(id, fields)| entry_line(stream_id(id), fields)).collect();
        lines.push(format!("length {}", get::<u64>(&mut stream, "length")));
        lines.push(format!("last id {}", get::<String>(&mut stream, "last-generated-id")));
        if self.version.is_7_or_later() {
            lines.push(format!("first id {}", get::<String>(&mut stream, "recorded-first-entry-id")));
            lines.push(format!("deleted up to {}", get::<String>(&mut stream, "max-deleted-entry-id")));
            lines.push(format!("ever added {}", get::<u64>(&mut stream, "entries-added")));
        }
        for group in get::<Vec<Answer>>(&mut stream, "groups") {
            lines.extend(self.group(fields(group)));
        }
        lines
    }

    fn group(&self, mut group: Fields) -> Vec<String> {
        let (name, last_id): (Vec<u8>, String) = (get(&mut group, "name"), get(&mut group, "last-delivered-id"));
        let read: Option<u64> = group.remove("entries-read").and_then(|read| from_redis_value(read).expect("a number"));
        let mut lines = vec![format!("group {} at {last_id}, read {read:?}", text(&name))];
        for (id, _, at, deliveries) in get::<Vec<(String, Answer, i64, u64)>>(&mut group, "pending") {
            lines.push(format!("pending {id} at {at}, {deliveries}"));
        }
        for consumer in get::<Vec<Answer>>(&mut group, "consumers") {
            let mut consumer = fields(consumer);
            let (name, seen_at): (Vec<u8>, i64) = (get(&mut consumer, "name"), get(&mut consumer, "seen-time"));
            let active_at: Option<i64> = consumer.remove("active-time").map(|at| from_redis_value(at).expect("a time"));
            lines.push(format!("consumer {} seen at {seen_at}, active {active_at:?}", text(&name)));
            let held = get::<Vec<(String, Answer, Answer)>>(&mut consumer, "pending");
            lines.extend(held.iter().map(|(id, ..)| format!("holds {id}")));
        }
        lines
    }

    fn expires_at(&mut self, key: &[u8]) -> Option<i64> {
        if self.version.is_7_or_later() {
            let at: i64 = self.ask(cmd("PEXPIRETIME").arg(key));
            return (at >= 0).then_some(at);
        }
        // Its clock goes on between the two: never too late, and nearly always the same millisecond.
        let script = "redis.replicate_commands() local now = redis.call('TIME') \
                      return {redis.call('PTTL', KEYS[1]), now[1], now[2]}";
        let times = (0..8).map(|_| {
            let (left, seconds, micros): (i64, i64, i64) = self.ask(cmd("EVAL").arg(script).arg(1).arg(key));
            (left >= 0).then(|| seconds * 1_000 + micros / 1_000 + left)
        });
        times.max().flatten()
    }
}

type Fields = BTreeMap<String, Answer>;

/// Names and values in turn.
#[track_caller]
fn fields(answer: Answer) -> Fields {
    from_redis_value(answer).expect("names and values in turn")
}

#[track_caller]
fn get<T: FromRedisValue>(fields: &mut Fields, name: &str) -> T {
    let answer =
        fields.remove(name).unwrap_or_else(|| panic!("no {name} in the answer; there are {:?}", fields.keys()));
    from_redis_value(answer).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn stream_id(text: &str) -> StreamId {
    let (millis, sequence) = text.split_once('-').expect("an id has two numbers");
    StreamId { millis: millis.parse().expect("a number"), sequence: sequence.parse().expect("a number") }
}
