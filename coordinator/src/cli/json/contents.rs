//! The shapes of `inspect`, `verify --file` and `diff`.

use std::collections::BTreeMap;

use serde::Serialize;
use urtext_rdb::{Checksum, Summary};
use urtext_types::{ReplicationId, Timestamp};

use crate::{
    compare::{Change, Tally},
    inspect::{Amount, LargeKey, Report, Row, key_text, loaders},
};

/// `urtext verify --file`
#[derive(Debug, Serialize)]
pub struct Verified {
    pub file: String,
    /// The header: `REDIS0011`.
    pub rdb: String,
    pub bytes: u64,
    pub keys: u64,
    /// `good`, or `none` where the server wrote none.
    pub checksum: &'static str,
    /// Equal for equal data; the number before the colon is the construction's version.
    pub content_digest: String,
    /// The oldest release of each engine that loads it.
    pub loads_into: Vec<String>,
    /// Modules without which it does not load.
    pub modules: Vec<String>,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    /// Collections without elements, which servers drop.
    pub empty_keys: u64,
    /// Behind the RDB, and not looked at.
    pub trailing_bytes: u64,
}

impl Verified {
    pub fn new(file: String, report: &Report) -> Self {
        let summary = &report.summary;
        let position = summary.position();
        Self {
            file,
            rdb: summary.header.to_string(),
            bytes: summary.bytes,
            keys: summary.keys(),
            checksum: match summary.checksum {
                Checksum::Verified(_) => "good",
                Checksum::NotComputed => "none",
            },
            content_digest: report.digest.to_string(),
            loads_into: loads_into(summary),
            modules: summary.modules.iter().map(|module| module.name()).collect(),
            history: position.map(|at| at.history),
            offset: position.map(|at| at.offset.get()),
            empty_keys: summary.empty_keys,
            trailing_bytes: summary.trailing_bytes,
        }
    }

    /// In words.
    pub fn loads_into(&self) -> String {
        let mut text = match self.loads_into.as_slice() {
            [] => "no server that is known".to_owned(),
            versions => format!("{}, and newer", versions.join(", ")),
        };
        if !self.modules.is_empty() {
            text.push_str(&format!("; with the modules {}", self.modules.join(", ")));
        }
        text
    }
}

fn loads_into(summary: &Summary) -> Vec<String> {
    let types: Vec<_> = summary.types.keys().copied().collect();
    loaders(summary.header, &types).iter().map(ToString::to_string).collect()
}

/// `urtext inspect`
#[derive(Debug, Serialize)]
pub struct Inspected {
    /// The file, `stdin`, or `backup ID`.
    pub source: String,
    #[serde(flatten)]
    pub rdb: Verified,
    /// As the server spelled it.
    pub server_version: Option<String>,
    /// The server's clock when it began to write.
    pub written_at: Option<Timestamp>,
    pub functions: u64,
    pub databases: BTreeMap<u32, DatabaseContents>,
    pub types: Vec<TypeContents>,
    pub prefixes: Vec<PrefixContents>,
    pub other_prefixes: AmountOfKeys,
    /// How many bytes too few may be said of any one prefix; 0 unless there were too many to count apart.
    pub prefixes_miss_at_most_bytes: u64,
    pub expiries: Expiries,
    pub largest: Vec<LargestKey>,
}

#[derive(Debug, Serialize)]
pub struct DatabaseContents {
    pub keys: u64,
    pub expires: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct TypeContents {
    /// What clients see.
    pub r#type: String,
    /// How it is laid out in the file.
    pub layout: String,
    #[serde(flatten)]
    pub amount: AmountOfKeys,
}

#[derive(Debug, Serialize)]
pub struct PrefixContents {
    pub database: u32,
    /// Escaped where it is not printable; `null`: keys without a separator.
    pub prefix: Option<String>,
    #[serde(flatten)]
    pub amount: AmountOfKeys,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct AmountOfKeys {
    pub keys: u64,
    /// As serialized in the file.
    pub bytes: u64,
}

impl From<Amount> for AmountOfKeys {
    fn from(Amount { keys, bytes }: Amount) -> Self {
        Self { keys, bytes }
    }
}

/// Keys by the time that they have left, counted from `from`.
#[derive(Debug, Serialize)]
pub struct Expiries {
    pub from: Timestamp,
    pub never: u64,
    pub spans: Vec<ExpirySpan>,
}

#[derive(Debug, Serialize)]
pub struct ExpirySpan {
    pub span: &'static str,
    /// Milliseconds after `from`; `null`: without end.
    pub until_ms: Option<i64>,
    pub keys: u64,
}

#[derive(Debug, Serialize)]
pub struct LargestKey {
    pub database: u32,
    /// In quotes, escaped where it is not printable, and cut off after 256 bytes.
    pub key: String,
    pub r#type: String,
    /// As serialized in the file.
    pub bytes: u64,
}

impl Inspected {
    /// `top`: how many prefixes.
    pub fn new(source: String, report: &Report, top: usize) -> Self {
        let (rows, _, rest) = report.prefixes.top(top);
        let summary = &report.summary;
        let expires = |number| summary.databases.get(number).map_or(0, |database| database.expires);
        let expiries = &report.expiries;
        Self {
            rdb: Verified::new(source.clone(), report),
            source,
            server_version: summary.aux.server_version.clone(),
            written_at: summary.aux.ctime,
            functions: summary.functions,
            databases: report
                .databases
                .iter()
                .map(|(number, &Amount { keys, bytes })| {
                    (*number, DatabaseContents { keys, expires: expires(number), bytes })
                })
                .collect(),
            types: report
                .types
                .iter()
                .map(|(value_type, amount)| TypeContents {
                    r#type: value_type.logical().to_string(),
                    layout: value_type.to_string(),
                    amount: (*amount).into(),
                })
                .collect(),
            prefixes: rows
                .into_iter()
                .map(|Row { database, prefix, counts }| PrefixContents {
                    database,
                    prefix: prefix.as_deref().map(prefix_text),
                    amount: counts.into(),
                })
                .collect(),
            other_prefixes: rest.into(),
            prefixes_miss_at_most_bytes: report.prefixes.missed(),
            expiries: Expiries {
                from: expiries.from,
                never: expiries.never,
                spans: expiries
                    .spans
                    .iter()
                    .map(|span| ExpirySpan { span: span.name, until_ms: span.until, keys: span.keys })
                    .collect(),
            },
            largest: report
                .largest
                .iter()
                .map(|LargeKey { bytes, database, key, key_bytes, value_type }| LargestKey {
                    database: *database,
                    key: key_text(key, *key_bytes),
                    r#type: value_type.logical().to_string(),
                    bytes: *bytes,
                })
                .collect(),
        }
    }
}

/// A prefix as text, without quotes.
pub fn prefix_text(prefix: &[u8]) -> String {
    let quoted = key_text(prefix, prefix.len() as u64);
    quoted[1..quoted.len() - 1].to_owned()
}

/// `urtext diff`
#[derive(Debug, Serialize)]
pub struct Diff {
    pub identical: bool,
    pub first: DiffSide,
    pub second: DiffSide,
    /// Keys that are the same; `null` if the two were found identical without reading them.
    pub same: Option<u64>,
    pub total: Differences,
    pub databases: BTreeMap<u32, Differences>,
    pub prefixes: Vec<PrefixDifferences>,
    pub other_prefixes: Differences,
    /// How many keys too few may be said of any one prefix.
    pub prefixes_miss_at_most_keys: u64,
    pub functions_differ: bool,
    /// With `--keys`, in the order of database and name, up to the limit.
    pub keys: Vec<DifferentKey>,
    /// Keys that differ and are not listed.
    pub keys_omitted: u64,
}

#[derive(Debug, Serialize)]
pub struct DiffSide {
    pub source: String,
    pub keys: Option<u64>,
    /// Of a backup, as its manifest says it.
    pub content_digest: Option<String>,
}

/// Keys, seen from the first side to the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    pub added: u64,
    pub removed: u64,
    /// Another type or value.
    pub changed: u64,
    /// The same value, and another expiry.
    pub expiry: u64,
}

impl From<Tally> for Differences {
    fn from(Tally { added, removed, changed, expiry }: Tally) -> Self {
        Self { added, removed, changed, expiry }
    }
}

#[derive(Debug, Serialize)]
pub struct PrefixDifferences {
    pub database: u32,
    pub prefix: Option<String>,
    #[serde(flatten)]
    pub differences: Differences,
}

#[derive(Debug, Serialize)]
pub struct DifferentKey {
    /// `added`, `removed`, `changed` or `expiry`.
    pub change: &'static str,
    pub database: u32,
    /// In quotes, escaped where it is not printable, and cut off after 256 bytes.
    pub key: String,
    pub r#type: String,
}

impl DifferentKey {
    /// One word for what happened to the key.
    pub fn word(change: Change) -> &'static str {
        match change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
            Change::Expiry => "expiry",
        }
    }
}
