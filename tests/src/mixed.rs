//! A data set for benches: every type, sizes as they are in the field, text that compresses and bytes that do not.

use redis::cmd;

use crate::{
    data::{Batch, Random},
    servers::Server,
};

/// Expiries begin here: absolute, so that a seed means one content, and far away (2033).
const LATER: u64 = 2_000_000_000_000;

/// A round gives at least this much RDB on every server, with LZF on. Measured: 628 kB, and more in small files.
pub const ROUND_BYTES: u64 = 620_000;

/// Writes at least [`ROUND_BYTES`] a round into databases 0 and 1. A seed means one content, on servers that
/// know field expiries and on those that do not.
#[track_caller]
pub fn load_mixed(server: &Server, seed: u64, rounds: u64) {
    let mut random = Random::new(seed);
    // One in eight is in the second database, so that the selection of databases is not free.
    let mut batches = [0, 1].map(|database| Batch::new(server, database));
    for round in 0..rounds {
        let batch = &mut batches[usize::from(round % 8 == 7)];
        Round { batch, random: &mut random, number: round }.write(server.version().has_field_expiry());
    }
    for batch in &mut batches {
        batch.flush();
    }
}

/// What is on its way: about a thousand keys.
struct Round<'a, 'b> {
    batch: &'a mut Batch<'b>,
    random: &'a mut Random,
    number: u64,
}

impl Round<'_, '_> {
    fn write(&mut self, field_expiry: bool) {
        self.strings();
        self.hashes(field_expiry);
        self.lists();
        self.sets();
        self.zsets();
        self.streams();
    }

    fn strings(&mut self) {
        for i in 0..300 {
            let (id, session) = (self.random.number(), self.json());
            self.set(&format!("session:{id:032x}"), &session, i % 2 == 0);
        }
        for i in 0..300 {
            let width = self.random.below(60);
            let count = self.random.number() as i64 >> width;
            self.set(&format!("counter:{}:{i}", self.number), count.to_string().as_bytes(), i % 8 == 0);
        }
        for i in 0..200 {
            let length = 16 + self.random.below(497) as usize;
            let blob = self.random.bytes(length);
            self.set(&format!("blob:{}:{i}", self.number), &blob, false);
        }
        for i in 0..2 {
            let page = self.text(4_500);
            self.set(&format!("page:{}:{i}", self.number), page.as_bytes(), true);
        }
        if self.number.is_multiple_of(16) {
            let mut archive = self.text(80_000).into_bytes();
            archive.extend(self.random.bytes(512 << 10));
            self.set(&format!("archive:{}", self.number), &archive, false);
        }
    }

    fn hashes(&mut self, field_expiry: bool) {
        for i in 0..150 {
            let key = format!("user:{}:{i}", self.number);
            let mut fields = vec![
                ("name".to_owned(), self.text(2).into_bytes()),
                ("visits".to_owned(), self.random.below(100_000).to_string().into_bytes()),
                ("token".to_owned(), self.random.bytes(20)),
            ];
            for n in 0..5 + self.random.below(12) {
                fields.push((format!("setting:{n}"), self.text(3).into_bytes()));
            }
            self.batch.run(cmd("HSET").arg(&key).arg(&fields));
            let expires_at = self.later();
            if field_expiry && i % 20 == 0 {
                let command = cmd("HPEXPIREAT").arg(&key).arg(expires_at).arg(&["FIELDS", "1", "token"]).clone();
                self.batch.run(&command);
            }
        }
        let index: Vec<_> = (0..1_000).map(|i| (format!("document:{i}"), self.random.bytes(24))).collect();
        self.batch.run(cmd("HSET").arg(format!("index:{}", self.number)).arg(&index));
    }

    fn lists(&mut self) {
        for i in 0..60 {
            let length = 5 + self.random.below(196);
            let jobs: Vec<_> = (0..length).map(|n| format!("job {n}: {}", self.text(4))).collect();
            self.batch.run(cmd("RPUSH").arg(format!("queue:{}:{i}", self.number)).arg(&jobs));
        }
    }

    fn sets(&mut self) {
        for i in 0..40 {
            let (width, size) = ([48, 32, 8][i % 3], 10 + self.random.below(400));
            let ids: Vec<_> = (0..size).map(|_| self.random.number() as i64 >> width).collect();
            self.batch.run(cmd("SADD").arg(format!("friends:{}:{i}", self.number)).arg(&ids));
            let tags: Vec<_> = (0..5 + self.random.below(40)).map(|_| self.text(2)).collect();
            self.batch.run(cmd("SADD").arg(format!("tags:{}:{i}", self.number)).arg(&tags));
        }
        let seen: Vec<_> = (0..1_500).map(|_| self.random.bytes(24)).collect();
        self.batch.run(cmd("SADD").arg(format!("seen:{}", self.number)).arg(&seen));
    }

    fn zsets(&mut self) {
        for i in 0..40 {
            let size = 10 + self.random.below(90);
            let visits: Vec<_> =
                (0..size).map(|n| (1_700_000_000 + self.random.below(1 << 24), format!("visitor:{n}"))).collect();
            self.batch.run(cmd("ZADD").arg(format!("recent:{}:{i}", self.number)).arg(&visits));
        }
        let board: Vec<_> = (0..2_000)
            .map(|n| {
                (self.random.below(1 << 40) as f64 / 1024.0, format!("player:{n}:{:x}", self.random.below(1 << 32)))
            })
            .collect();
        self.batch.run(cmd("ZADD").arg(format!("board:{}", self.number)).arg(&board));
    }

    fn streams(&mut self) {
        for i in 0..3 {
            let key = format!("events:{}:{i}", self.number);
            let entries = 200 + self.random.below(400);
            for n in 0..entries {
                let (sensor, reading) = (self.random.below(100), self.random.below(1 << 30));
                let id = format!("{}-{}", 1_700_000_000_000 + n / 2 * 40, n % 2);
                let command =
                    cmd("XADD").arg(&key).arg(id).arg("sensor").arg(sensor).arg("reading").arg(reading).clone();
                self.batch.run(&command);
            }
            self.batch.run(cmd("XGROUP").arg("CREATE").arg(&key).arg("readers").arg(0));
            self.batch
                .run(cmd("XREADGROUP").arg(&["GROUP", "readers", "one", "COUNT", "20", "STREAMS"]).arg(&key).arg(">"));
        }
    }

    fn set(&mut self, key: &str, value: &[u8], volatile: bool) {
        let mut command = cmd("SET");
        command.arg(key).arg(value);
        if volatile {
            self.batch.run(&command);
            let expires_at = self.later();
            self.batch.run(cmd("PEXPIREAT").arg(key).arg(expires_at));
        } else {
            self.batch.run(&command);
        }
    }

    fn later(&mut self) -> u64 {
        LATER + self.random.below(1 << 36)
    }

    /// Two to twelve hundred bytes as an application writes them.
    fn json(&mut self) -> Vec<u8> {
        let roles = self.random.below(5);
        let roles: Vec<_> = (0..roles).map(|_| format!("\"{}\"", self.text(1))).collect();
        let basket: Vec<_> = (0..self.random.below(16))
            .map(|_| format!("{{\"article\":{},\"title\":\"{}\"}}", self.random.below(1 << 20), self.text(4)))
            .collect();
        let token = u128::from(self.random.number()) << 64 | u128::from(self.random.number());
        let (user, roles, basket) = (self.random.below(1 << 24), roles.join(","), basket.join(","));
        format!("{{\"user\":{user},\"token\":\"{token:032x}\",\"roles\":[{roles}],\"basket\":[{basket}]}}").into_bytes()
    }

    fn text(&mut self, words: u64) -> String {
        let words: Vec<_> = (0..words).map(|_| WORDS[self.random.below(WORDS.len() as u64) as usize]).collect();
        words.join(" ")
    }
}

const WORDS: [&str; 48] = [
    "amber", "anchor", "basin", "beacon", "bridge", "cable", "candle", "canyon", "cedar", "copper", "coral", "delta",
    "ember", "engine", "falcon", "feather", "forest", "garden", "glacier", "granite", "harbour", "hazel", "island",
    "ivory", "jasper", "kettle", "lantern", "lattice", "linen", "marble", "meadow", "mirror", "nectar", "orchard",
    "paper", "pebble", "quarry", "quiver", "raven", "ribbon", "saddle", "silver", "thicket", "timber", "umber",
    "velvet", "willow", "zephyr",
];
