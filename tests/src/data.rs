//! Data sets of every type from a seed, and the comparison of what two servers hold.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use redis::{Cmd, Connection, FromRedisValue, Pipeline, Value, cmd};

use crate::servers::Server;

/// Commands per pipeline: a few hundred keep the server busy and the buffers small.
const BATCH: usize = 500;

/// Two reads of one expiry, by relative time on two servers, may differ by the time between the reads.
const EXPIRY_TOLERANCE_MS: i64 = 5_000;

/// SplitMix64: the same bytes from the same seed, for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Writes about `keys` keys of every type and encoding into databases 0, 3 and 15, some with an expiry
/// days ahead; the same content for the same seed and server version.
#[track_caller]
pub fn load(server: &Server, seed: u64, keys: usize) {
    let mut random = Random::new(seed);
    for (database, share) in [(0, 2), (3, 4), (15, 4)] {
        let mut batch = Batch::new(server, database);
        for number in 0..keys / share {
            write_one(&mut batch, &mut random, number, server.version().has_field_expiry());
        }
        batch.flush();
    }
    if server.version().is_7_or_later() {
        let code = "#!lua name=urtext\nredis.register_function('answer', function() return 42 end)";
        server.call(&["FUNCTION", "LOAD", "REPLACE", code]);
    }
}

/// Writes `count` strings `PREFIX:0`, `PREFIX:1`, … of `length` bytes that do not compress into database 0.
#[track_caller]
pub fn load_strings(server: &Server, prefix: &str, seed: u64, count: usize, length: usize) {
    let mut random = Random::new(seed);
    let mut batch = Batch::new(server, 0);
    for number in 0..count {
        batch.run(cmd("SET").arg(format!("{prefix}:{number}")).arg(random.bytes(length)));
    }
    batch.flush();
}

fn write_one(batch: &mut Batch, random: &mut Random, number: usize, field_expiry: bool) {
    let key = format!("key:{number}:{:x}", random.below(1 << 20));
    // Small ones keep the packed encodings, large ones have the plain ones.
    let many = if random.below(20) == 0 { 600 } else { 1 + random.below(12) };
    match number % 14 {
        0 => {
            let value = random.number() as i64;
            batch.run(cmd("SET").arg(&key).arg(value >> random.clone().below(60)));
        }
        1 => {
            let value = random.bytes(number % 300);
            batch.run(cmd("SET").arg(&key).arg(&value));
        }
        2 => {
            let value = "the same words again and again; ".repeat(1 + number % 50);
            batch.run(cmd("SET").arg(&key).arg(&value));
        }
        3 | 4 => {
            let items: Vec<Vec<u8>> = (0..many).map(|i| random.bytes(if i % 50 == 49 { 9_000 } else { 12 })).collect();
            batch.run(cmd("RPUSH").arg(&key).arg(&items));
        }
        5 => {
            let items: Vec<i64> = (0..many).map(|_| random.number() as i64 >> 20).collect();
            batch.run(cmd("SADD").arg(&key).arg(&items));
        }
        6 => {
            let items: Vec<Vec<u8>> = (0..many).map(|_| random.bytes(20)).collect();
            batch.run(cmd("SADD").arg(&key).arg(&items));
        }
        7 | 8 => {
            let items: Vec<(f64, Vec<u8>)> =
                (0..many).map(|_| (random.number() as i64 as f64 / 1024.0, random.bytes(16))).collect();
            batch.run(cmd("ZADD").arg(&key).arg(&items));
        }
        9 | 10 => {
            let items: Vec<(String, Vec<u8>)> = (0..many).map(|i| (format!("field{i}"), random.bytes(24))).collect();
            batch.run(cmd("HSET").arg(&key).arg(&items));
            if field_expiry && number.is_multiple_of(3) {
                batch.run(cmd("HPEXPIRE").arg(&key).arg(86_400_000).arg("FIELDS").arg(1).arg("field0"));
            }
        }
        11 => {
            for i in 0..many.min(150) {
                batch.run(cmd("XADD").arg(&key).arg(format!("{}-{i}", 1000 + i)).arg("field").arg(i));
            }
            batch.run(cmd("XGROUP").arg("CREATE").arg(&key).arg("readers").arg(0));
            batch.run(cmd("XREADGROUP").arg(&["GROUP", "readers", "one", "COUNT", "3", "STREAMS"]).arg(&key).arg(">"));
        }
        12 => {
            let items: Vec<u64> = (0..many).map(|_| random.number()).collect();
            batch.run(cmd("PFADD").arg(&key).arg(&items));
        }
        _ => batch.run(cmd("SETBIT").arg(&key).arg(many * 37).arg(1)),
    }
    if number.is_multiple_of(7) {
        let days = 1 + random.below(300);
        batch.run(cmd("PEXPIRE").arg(&key).arg(days * 86_400_000));
    }
}

/// Commands on their way to one database.
pub(crate) struct Batch<'a> {
    server: &'a Server,
    connection: Connection,
    pipeline: Pipeline,
    waiting: usize,
}

impl<'a> Batch<'a> {
    #[track_caller]
    pub(crate) fn new(server: &'a Server, database: u8) -> Self {
        let mut connection = server.connect().unwrap_or_else(|error| panic!("connect to {}: {error}", server.url()));
        select(&mut connection, database);
        Self { server, connection, pipeline: Pipeline::new(), waiting: 0 }
    }

    pub(crate) fn run(&mut self, command: &Cmd) {
        self.pipeline.add_command(command.clone()).ignore();
        self.waiting += 1;
        if self.waiting == BATCH {
            self.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        if self.waiting == 0 {
            return;
        }
        let written: redis::RedisResult<()> = self.pipeline.query(&mut self.connection);
        written.unwrap_or_else(|error| panic!("write to {}: {error}", self.server.url()));
        self.pipeline.clear();
        self.waiting = 0;
    }
}

/// Everything that a server holds, in a form that two servers can be compared by.
#[derive(Debug, PartialEq)]
pub struct Contents(BTreeMap<(u8, Vec<u8>), Entry>);

#[derive(Debug, PartialEq)]
struct Entry {
    kind: String,
    value: Value,
    /// Milliseconds since 1970.
    expires_at: Option<i64>,
}

impl Contents {
    /// Reads every key of every database.
    #[track_caller]
    pub fn of(server: &Server) -> Self {
        let mut all = BTreeMap::new();
        let mut connection = server.connect().unwrap_or_else(|error| panic!("connect to {}: {error}", server.url()));
        for database in 0..16 {
            select(&mut connection, database);
            let keys: Vec<Vec<u8>> = ask(&mut connection, cmd("KEYS").arg("*"));
            for key in keys {
                let entry = read(&mut connection, &key);
                all.insert((database, key), entry);
            }
        }
        Self(all)
    }

    /// The number of keys in all databases.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails the test with the first few differences.
    #[track_caller]
    pub fn assert_same(&self, other: &Self) {
        let mut differences = String::new();
        let mut count = 0;
        let mut differ = |(database, key): &(u8, Vec<u8>), how: &str| {
            count += 1;
            if count <= 10 {
                writeln!(differences, "db {database} {:?}: {how}", String::from_utf8_lossy(key)).unwrap_or_default();
            }
        };
        for (key, ours) in &self.0 {
            match other.0.get(key) {
                None => differ(key, "only in the first"),
                Some(theirs) => {
                    if let Some(how) = ours.difference(theirs) {
                        differ(key, &how);
                    }
                }
            }
        }
        for key in other.0.keys().filter(|key| !self.0.contains_key(*key)) {
            differ(key, "only in the second");
        }
        assert_eq!(count, 0, "the contents differ in {count} keys:\n{differences}");
    }
}

impl Entry {
    fn difference(&self, other: &Self) -> Option<String> {
        if self.kind != other.kind {
            return Some(format!("{} and {}", self.kind, other.kind));
        }
        if self.value != other.value {
            return Some(format!("{} {:.200?} and {:.200?}", self.kind, self.value, other.value));
        }
        match (self.expires_at, other.expires_at) {
            (None, None) => None,
            (Some(a), Some(b)) if (a - b).abs() <= EXPIRY_TOLERANCE_MS => None,
            (a, b) => Some(format!("expires at {a:?} and {b:?}")),
        }
    }
}

fn read(connection: &mut Connection, key: &[u8]) -> Entry {
    let kind: String = ask(connection, cmd("TYPE").arg(key));
    let value = match kind.as_str() {
        "string" => ask(connection, cmd("GET").arg(key)),
        "list" => ask(connection, cmd("LRANGE").arg(key).arg(0).arg(-1)),
        "set" => in_order(ask(connection, cmd("SMEMBERS").arg(key)), 1),
        "zset" => ask(connection, cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES")),
        "hash" => in_order(ask(connection, cmd("HGETALL").arg(key)), 2),
        "stream" => {
            let entries: Value = ask(connection, cmd("XRANGE").arg(key).arg("-").arg("+"));
            let groups: Value = ask(connection, cmd("XINFO").arg("GROUPS").arg(key));
            let pending: Value = ask(connection, cmd("XPENDING").arg(key).arg("readers"));
            Value::Array(vec![entries, groups, pending])
        }
        other => panic!("a key of type {other:?}: the harness writes none"),
    };
    let left: i64 = ask(connection, cmd("PTTL").arg(key));
    let expires_at = (left >= 0).then(|| now_ms() + left);
    Entry { kind, value, expires_at }
}

/// Sets and hashes come in the order of a hash table, which differs from server to server.
fn in_order(value: Value, group: usize) -> Value {
    let Value::Array(items) = value else { return value };
    let mut groups: Vec<Vec<Value>> = items.chunks(group).map(<[Value]>::to_vec).collect();
    groups.sort_by_cached_key(|group| format!("{group:?}"));
    Value::Array(groups.into_iter().flatten().collect())
}

#[track_caller]
fn select(connection: &mut Connection, database: u8) {
    let () = ask(connection, cmd("SELECT").arg(database));
}

#[track_caller]
fn ask<T: FromRedisValue>(connection: &mut Connection, command: &Cmd) -> T {
    command.query(connection).unwrap_or_else(|error| panic!("read a data set: {error}"))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_millis() as i64
}
