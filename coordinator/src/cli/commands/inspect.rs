//! `urtext inspect`

use urtext_types::{ByteCount, ErrorKind};

use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args, json,
        output::Table,
        source::{Consumer, rdb_fault},
    },
    clock::Clock,
    inspect::{Inspector, Report, Settings, key_text},
};

pub(in crate::cli) async fn run(context: &Context, args: args::Inspect) -> Result<Ended, Stop> {
    let mut source = context.open_source(&args.what, args.identity.as_deref(), &args.alone).await?;
    let (name, manifest) = (source.name.clone(), source.manifest.take());
    let top = usize::from(args.top);
    let inspecting = Inspecting::new(format!("inspect {name}"), settings(top, args.separator));
    let report = source.read_into(inspecting).await?;
    let mut value = json::Inspected::new(name, &report, top);
    if let Some(manifest) = manifest {
        if let Some(said) = manifest.rdb.content_digest
            && said.agrees_with(&report.digest) == Some(false)
        {
            let message = format!("{} holds other data than its manifest says: {}", value.source, report.digest);
            return Err(Fault::new(ErrorKind::Integrity, message).into());
        }
        value.rdb.history = manifest.position.map(|at| at.history);
        value.rdb.offset = manifest.position.map(|at| at.offset.get());
    }
    print(context, &value)?;
    context.output.value(&value)?;
    Ok(Ended::Well)
}

/// `1 key`, `7 keys`.
pub(super) fn keys_in_words(keys: u64) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

/// How to inspect, with expiries counted from now unless the file says when it was written.
pub(super) fn settings(largest: usize, separator: u8) -> Settings {
    Settings { separator, largest, now: Clock::system().now() }
}

/// An inspection whose errors say what was attempted.
pub(super) struct Inspecting {
    attempt: String,
    inspector: Inspector,
}

impl Inspecting {
    pub(super) fn new(attempt: String, settings: Settings) -> Self {
        Self { attempt, inspector: Inspector::new(settings) }
    }
}

impl Consumer for Inspecting {
    type Output = Report;

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.inspector.feed(bytes).map_err(|error| {
            let mut attempt = self.attempt.clone();
            if let Some(place) = self.inspector.damaged() {
                let key = key_text(&place.key, place.key.len() as u64);
                attempt.push_str(&format!(
                    ": in the record of {key} in database {}, which begins at offset {}",
                    place.database, place.offset
                ));
            }
            rdb_fault(attempt, error)
        })
    }

    fn finish(self) -> Result<Report, Fault> {
        self.inspector.finish().map_err(|error| rdb_fault(self.attempt, error))
    }
}

fn print(context: &Context, value: &json::Inspected) -> Result<(), Stop> {
    let output = &context.output;
    let rdb = &value.rdb;
    output.text(format_args!("source       {}", value.source))?;
    output.text(format_args!("format       {}, {}", rdb.rdb, ByteCount::new(rdb.bytes)))?;
    match (&value.server_version, value.written_at) {
        (Some(version), Some(at)) => output.text(format_args!("written      {at} by version {version}"))?,
        (Some(version), None) => output.text(format_args!("written      by version {version}"))?,
        (None, Some(at)) => output.text(format_args!("written      {at}"))?,
        (None, None) => {}
    }
    output.text(format_args!("loads into   {}", rdb.loads_into()))?;
    match (rdb.history, rdb.offset) {
        (Some(history), Some(offset)) => output.text(format_args!("position     {history}:{offset}"))?,
        _ => output.text("position     not known: the server wrote none")?,
    }
    output.text(format_args!("checksum     {}", rdb.checksum))?;
    output.text(format_args!("digest       {}", rdb.content_digest))?;
    if value.functions > 0 {
        output.text(format_args!("functions    {}", value.functions))?;
    }
    let size = |bytes| ByteCount::new(bytes).to_string();
    let mut databases = Table::new(["DATABASE", "KEYS", "WITH EXPIRY", "BYTES"]);
    for (number, database) in &value.databases {
        let json::DatabaseContents { keys, expires, bytes } = database;
        databases.row([number.to_string(), keys.to_string(), expires.to_string(), size(*bytes)]);
    }
    let mut types = Table::new(["TYPE", "LAYOUT", "KEYS", "BYTES"]);
    for entry in &value.types {
        let (keys, bytes) = (entry.amount.keys.to_string(), size(entry.amount.bytes));
        types.row([entry.r#type.clone(), entry.layout.clone(), keys, bytes]);
    }
    let mut prefixes = Table::of_names(["KEYS", "BYTES", "DATABASE", "PREFIX"]);
    for entry in &value.prefixes {
        let prefix = entry.prefix.clone().unwrap_or_else(|| "(none)".to_owned());
        prefixes.row([entry.amount.keys.to_string(), size(entry.amount.bytes), entry.database.to_string(), prefix]);
    }
    let other = &value.other_prefixes;
    if other.keys > 0 {
        prefixes.row([other.keys.to_string(), size(other.bytes), "-".to_owned(), "(all others)".to_owned()]);
    }
    let mut expiries = Table::new(["KEYS", "EXPIRE"]);
    expiries.row([value.expiries.never.to_string(), "never".to_owned()]);
    for span in value.expiries.spans.iter().filter(|span| span.keys > 0) {
        expiries.row([span.keys.to_string(), span.span.to_owned()]);
    }
    let mut largest = Table::of_names(["BYTES", "TYPE", "DATABASE", "KEY"]);
    for key in &value.largest {
        largest.row([size(key.bytes), key.r#type.clone(), key.database.to_string(), key.key.clone()]);
    }
    for table in [databases, types, prefixes] {
        if !table.is_empty() {
            output.text(format_args!("\n{table}"))?;
        }
    }
    if value.prefixes_miss_at_most_bytes > 0 {
        output.note(format_args!(
            "there are too many prefixes to count all of them apart: each may have up to {} more than is shown",
            size(value.prefixes_miss_at_most_bytes)
        ))?;
    }
    if !largest.is_empty() {
        output.text(format_args!("\nexpiries, counted from {}\n{expiries}", value.expiries.from))?;
        output.text(format_args!("\n{largest}"))?;
    }
    if rdb.empty_keys > 0 {
        output.warning(format_args!("{} collections are empty: servers drop them when they load", rdb.empty_keys))?;
    }
    if rdb.trailing_bytes > 0 {
        output.warning(format_args!("{} follow the RDB and were not looked at", size(rdb.trailing_bytes)))?;
    }
    Ok(())
}
