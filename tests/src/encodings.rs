//! One data set in every layout that a server can be brought to write: the same keys and values, stored packed,
//! plain, and as the server does by itself, each in a database of its own.

use redis::cmd;

use crate::{
    data::{Batch, Random},
    servers::{Server, Version},
};

/// How a server is told to store what is written next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As its defaults say.
    Default,
    /// Everything in listpacks, ziplists and intsets.
    Packed,
    /// Nothing in them, as far as there is another way.
    Plain,
}

impl Layout {
    pub const ALL: [Self; 3] = [Self::Default, Self::Packed, Self::Plain];

    /// The database that holds [`load_data_set`] in this layout.
    pub fn database(self) -> u8 {
        self as u8
    }

    /// The database that holds hashes whose fields expire, where the server has them.
    pub fn field_expiry_database(self) -> u8 {
        self as u8 + 3
    }

    /// By the names that all servers know; Redis 7.0 and later have others for most of them as well.
    fn settings(self, version: Version) -> Vec<(&'static str, &'static str)> {
        let [entries, value, ints, list, depth, stream] = match self {
            Self::Default => return Vec::new(),
            Self::Packed => ["100000", "1000000", "100000", "-5", "0", "100"],
            Self::Plain => ["0", "0", "0", "-1", "1", "3"],
        };
        let mut settings = vec![
            ("hash-max-ziplist-entries", entries),
            ("hash-max-ziplist-value", value),
            ("zset-max-ziplist-entries", entries),
            ("zset-max-ziplist-value", value),
            ("set-max-intset-entries", ints),
            ("list-max-ziplist-size", list),
            // Inner nodes of a list are compressed in memory, and saved as they are.
            ("list-compress-depth", depth),
            ("stream-node-max-entries", stream),
        ];
        if has_packed_sets(version) {
            settings.extend([("set-max-listpack-entries", entries), ("set-max-listpack-value", value)]);
        }
        settings
    }
}

/// Sets of texts in listpacks: Redis 7.2.
fn has_packed_sets(version: Version) -> bool {
    matches!(version, Version::Redis82 | Version::Valkey81 | Version::Valkey91)
}

/// Expiries begin here: absolute, so that every server holds the same, and far away (2033).
const LATER: i64 = 2_000_000_000_000;

/// Writes the data set in all layouts; two function libraries where there are functions.
#[track_caller]
pub fn load_every_encoding(server: &Server) {
    for layout in Layout::ALL {
        load_data_set(server, layout);
    }
    if server.version().is_7_or_later() {
        for name in ["first", "second"] {
            let code = format!("#!lua name={name}\nredis.register_function('{name}', function() return '\u{e9}' end)");
            server.call(&["FUNCTION", "LOAD", &code]);
        }
    }
}

/// Writes the data set in one layout, into its databases: the same content on every server.
#[track_caller]
pub fn load_data_set(server: &Server, layout: Layout) {
    let version = server.version();
    for (name, value) in layout.settings(version) {
        server.call(&["CONFIG", "SET", name, value]);
    }
    if layout == Layout::Plain && version.is_7_or_later() {
        // Elements of lists from this size on get a node of their own that is no listpack.
        server.call(&["DEBUG", "QUICKLIST-PACKED-THRESHOLD", "200B"]);
    }
    let mut data = Data { batch: Batch::new(server, layout.database()), keys: 0 };
    data.strings();
    data.names();
    data.lists();
    data.sets();
    data.zsets();
    data.hashes();
    data.streams(version);
    data.batch.flush();
    if version.has_field_expiry() {
        let mut data = Data { batch: Batch::new(server, layout.field_expiry_database()), keys: 0 };
        data.hashes_whose_fields_expire();
        data.batch.flush();
    }
}

struct Data<'a> {
    batch: Batch<'a>,
    keys: i64,
}

impl Data<'_> {
    /// A command that makes a key. Every third key has an expiry.
    fn make(&mut self, key: impl AsRef<[u8]>, name: &str, arguments: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let mut command = cmd(name);
        command.arg(key.as_ref());
        arguments.into_iter().for_each(|argument| {
            command.arg(argument.as_ref());
        });
        self.batch.run(&command);
        self.keys += 1;
        if self.keys % 3 == 0 {
            self.batch.run(cmd("PEXPIREAT").arg(key.as_ref()).arg(LATER + self.keys * 86_400_001));
        }
    }

    fn run(&mut self, name: &str, arguments: &str) {
        let mut command = cmd(name);
        arguments.split_whitespace().for_each(|argument| {
            command.arg(argument);
        });
        self.batch.run(&command);
    }

    fn strings(&mut self) {
        for (number, text) in texts().iter().chain(&integers()).enumerate() {
            self.make(format!("string:{number}"), "SET", [text]);
        }
        // Around the steps of a length in the file, and around those at which readers cut long texts.
        for length in [20, 21, 63, 64, 16_383, 16_384, 65_535, 65_536, 65_537, 131_072, 200_001] {
            self.make(format!("random:{length}"), "SET", [random(length)]);
            self.make(format!("repeated:{length}"), "SET", ["abcdefgh".repeat(length / 8 + 1)[..length].to_owned()]);
        }
        self.make("bits", "SETBIT", ["100000", "1"]);
        self.make("few distinct", "PFADD", (0..10).map(|n| n.to_string()));
        self.make("many distinct", "PFADD", (0..20_000).map(|n| n.to_string()));
    }

    /// Keys are strings too.
    fn names(&mut self) {
        let names =
            [Vec::new(), b"-128".to_vec(), b"300".to_vec(), b"70000".to_vec(), b"name ".repeat(100), random(300)];
        for name in names.into_iter().chain([every_byte()]) {
            self.make(&name, "SET", ["named"]);
        }
    }

    fn lists(&mut self) {
        self.make("list:one", "RPUSH", [b"one"]);
        self.make("list:texts", "RPUSH", texts());
        self.make("list:integers", "RPUSH", integers());
        self.make("list:many", "RPUSH", (0..3_000).map(|n| format!("element {n} of a list of many")));
        self.make("list:long", "RPUSH", [random(70_000), b"short".to_vec(), b"ab".repeat(40_000)]);
    }

    fn sets(&mut self) {
        self.make("set:one", "SADD", ["one"]);
        self.make("set:texts", "SADD", texts());
        self.make("set:many", "SADD", (0..700).map(|n| format!("member {n}")));
        let within = |bound: i128| integers().into_iter().filter(move |text| number(text).abs() <= bound);
        self.make("set:16 bits", "SADD", within(32_767));
        self.make("set:32 bits", "SADD", within(2_147_483_647));
        self.make("set:64 bits", "SADD", integers());
        self.make("set:many integers", "SADD", (0..700).map(|n| (n * 1_000_003 - 7).to_string()));
        self.make("set:mixed", "SADD", integers().into_iter().chain(texts()));
    }

    fn zsets(&mut self) {
        self.make("zset:one", "ZADD", ["1", "one"]);
        let scores = [
            "0",
            "1",
            "-1",
            "127",
            "-4097",
            "1.5",
            "-0.1",
            "1e300",
            "-2.5e-300",
            "inf",
            "-inf",
            "3.0000000000000004",
            "9007199254740993",
            "1e17",
            "123456789012",
            "5e-324",
            "1.7976931348623157e308",
            "1e21",
            "0.30000000000000004",
        ];
        let members = texts().into_iter().chain(integers()).enumerate();
        self.make(
            "zset:scores",
            "ZADD",
            members.flat_map(|(n, member)| [scores[n % scores.len()].as_bytes().to_vec(), member]),
        );
        self.make(
            "zset:many",
            "ZADD",
            (0..700).flat_map(|n| [(f64::from(n) / 8.0).to_string(), format!("member {n}")]),
        );
    }

    fn hashes(&mut self) {
        self.make("hash:one", "HSET", ["field", "value"]);
        let all = || texts().into_iter().chain(integers());
        self.make(
            "hash:texts",
            "HSET",
            all().zip(all().collect::<Vec<_>>().into_iter().rev()).flat_map(<[_; 2]>::from),
        );
        self.make("hash:many", "HSET", (0..700).flat_map(|n| [format!("field {n}"), format!("value {}", n * n)]));
        self.make(
            "hash:long",
            "HSET",
            [b"random".to_vec(), random(70_000), b"repeated".to_vec(), b"ab".repeat(40_000)],
        );
    }

    fn hashes_whose_fields_expire(&mut self) {
        self.make("expiring:one", "HSET", ["field", "value"]);
        self.expire_fields("expiring:one", &["field"]);
        self.make("expiring:some", "HSET", texts().into_iter().flat_map(|text| [text, b"value".to_vec()]));
        self.expire_fields("expiring:some", &["007", "a"]);
        self.make("expiring:many", "HSET", (0..700).flat_map(|n| [format!("field {n}"), n.to_string()]));
        let half: Vec<_> = (0..350).map(|n| format!("field {}", n * 2)).collect();
        for part in half.chunks(50) {
            self.expire_fields("expiring:many", &part.iter().map(String::as_str).collect::<Vec<_>>());
        }
        self.make("expiring:no more", "HSET", ["field", "value", "other", "value"]);
        self.expire_fields("expiring:no more", &["field"]);
        self.batch.run(cmd("HPERSIST").arg(&["expiring:no more", "FIELDS", "1", "field"]));
    }

    fn expire_fields(&mut self, key: &str, fields: &[&str]) {
        self.keys += 1;
        let at = LATER + self.keys * 3_600_001;
        self.batch.run(cmd("HPEXPIREAT").arg(key).arg(at).arg("FIELDS").arg(fields.len()).arg(fields));
    }

    fn streams(&mut self, version: Version) {
        self.make("stream:one", "XADD", ["1-1", "field", "value"]);

        self.make("stream:same-fields", "XADD", ["999-0", "sensor", "0", "reading", "1"]);
        (0..150).for_each(|n| {
            self.run("XADD", &format!("stream:same-fields {}-{} sensor {n} reading {}", 1000 + n / 2, n % 2, n * n))
        });

        self.make("stream:other-fields", "XADD", [b"7-7".to_vec(), Vec::new(), Vec::new()]);
        for (n, pair) in texts().chunks_exact(2).enumerate() {
            self.batch
                .run(cmd("XADD").arg("stream:other-fields").arg(format!("{}-0", n + 8)).arg(pair).arg("n").arg(n));
        }
        for (n, number) in integers().iter().enumerate() {
            self.batch.run(cmd("XADD").arg("stream:other-fields").arg(format!("100-{n}")).arg("number").arg(number));
        }
        self.run("XADD", "stream:other-fields 18446744073709551615-18446744073709551614 the last");

        self.make("stream:deleted", "XADD", ["1-0", "n", "0"]);
        (2..30).for_each(|n| self.run("XADD", &format!("stream:deleted {n}-0 n {n}")));
        self.run("XDEL", "stream:deleted 1-0 7-0 8-0 9-0 10-0 29-0");

        self.make("stream:emptied", "XADD", ["5-5", "field", "value"]);
        self.run("XDEL", "stream:emptied 5-5");

        self.make("stream:trimmed", "XADD", ["1-0", "n", "0"]);
        (2..30).for_each(|n| self.run("XADD", &format!("stream:trimmed MAXLEN = 5 {n}-0 n {n}")));

        self.run("XGROUP", "CREATE stream:never-written readers 0 MKSTREAM");
        self.groups();

        self.make("stream:moved-on", "XADD", ["1-1", "field", "value"]);
        let numbers = if version.is_7_or_later() { "ENTRIESADDED 100 MAXDELETEDID 300-3" } else { "" };
        self.run("XSETID", &format!("stream:moved-on 500-5 {numbers}"));
    }

    /// Pending entries with times of their own choice: the same on every server.
    fn groups(&mut self) {
        self.make("stream:groups", "XADD", ["1-0", "n", "1"]);
        (2..20).for_each(|n| self.run("XADD", &format!("stream:groups {n}-0 n {n}")));
        self.run("XGROUP", "CREATE stream:groups nobody $");
        self.run("XGROUP", "CREATE stream:groups anybody 0");
        self.run("XGROUP", "CREATE stream:groups readers 0");
        self.run("XREADGROUP", "GROUP readers one COUNT 4 STREAMS stream:groups >");
        self.run("XREADGROUP", "GROUP readers two COUNT 3 STREAMS stream:groups >");
        self.run("XREADGROUP", "GROUP anybody three COUNT 100 STREAMS stream:groups >");
        self.run("XGROUP", "CREATECONSUMER stream:groups readers idle");
        self.run("XGROUP", "SETID stream:groups nobody 3-0");
        for (group, consumer, id) in
            [("readers", "one", 1..=4), ("readers", "two", 5..=7), ("anybody", "three", 1..=19)]
                .into_iter()
                .flat_map(|(group, consumer, ids)| ids.map(move |id| (group, consumer, id)))
        {
            let (at, deliveries) = (1_700_000_000_000_u64 + id * 77, id % 3 + 1);
            self.run(
                "XCLAIM",
                &format!("stream:groups {group} {consumer} 0 {id}-0 TIME {at} RETRYCOUNT {deliveries} JUSTID"),
            );
        }
        self.run("XACK", "stream:groups readers 2-0 5-0");
        // Pending, and gone.
        self.run("XDEL", "stream:groups 3-0 12-0");
    }
}

/// Texts that servers store in different ways, each once: empty, binary, almost a number, around the sizes at
/// which the entries of packed structures change their form.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = ["", "a", "007", "-0", "+1", "1.0", " 1", "9223372036854775808", "\u{e4}\0\u{20ac}"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec();
    texts.extend([every_byte(), vec![0xff, 0xfe], b"compressible ".repeat(80)]);
    // An entry of a listpack is as long as its text and one, two or five bytes. Valkey 9.1 writes the one of
    // exactly 16383 bytes (16378 of text) in a form that no other server does.
    let lengths = [62, 63, 64, 125, 126, 127, 250, 253, 254, 4_095, 4_096, 16_377, 16_378, 16_379, 16_384];
    texts.extend(lengths.map(random));
    texts
}

/// Decimal numbers at the ends of every width that a packed structure has, each once.
fn integers() -> Vec<Vec<u8>> {
    let mut integers: Vec<i64> = vec![0, 1, 11, 12, 13, 14, -1, i64::MAX, i64::MIN];
    for bits in [7, 12, 15, 23, 31] {
        let end = 1_i64 << bits;
        integers.extend([end - 1, end, -end, -end - 1]);
    }
    integers.sort_unstable();
    integers.dedup();
    integers.iter().map(|n| n.to_string().into_bytes()).collect()
}

fn number(text: &[u8]) -> i128 {
    String::from_utf8_lossy(text).parse().expect("a decimal number")
}

fn every_byte() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// The same for the same length.
fn random(length: usize) -> Vec<u8> {
    Random::new(length as u64).bytes(length)
}
