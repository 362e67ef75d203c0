//! `urtext diff`: two data sets, key by key.
//!
//! Each side is read once, from its beginning to its end, into fingerprints on disk; then these are compared
//! part by part. Memory does not grow with the data.

use std::collections::{BTreeMap, BinaryHeap};

use urtext_rdb::LogicalType;
use urtext_types::{DataDigest, Timestamp};

use super::inspect::keys_in_words;
use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args, json,
        output::{Table, WIDTH, wrap},
        source::{Consumer, Source, rdb_fault},
        spill::{Spill, SpillError, compare_spilled, spill_fault},
    },
    clock::Clock,
    compare::{Change, Difference, Fingerprinter, Functions, Tally},
    inspect::{Counts, PrefixTable, Row, key_text, prefix_of},
};

/// How many prefixes are listed at most; with `--limit` fewer.
const PREFIXES: u32 = 1000;

pub(in crate::cli) async fn run(context: &Context, args: args::Diff) -> Result<Ended, Stop> {
    if matches!((&args.first, &args.second), (args::Named::Stdin, args::Named::Stdin)) {
        let fault = Fault::new(urtext_types::ErrorKind::Usage, "stdin cannot be both sides");
        return Err(fault.with_hint("name a file for one of them").into());
    }
    let as_of = args.as_of.map(|time| time.from(Clock::system().now()));
    // Whatever is wrong with a name is said before anything is read.
    let first = context.open_source(&args.first, args.identity.as_deref(), &args::Alone::default()).await?;
    let second = context.open_source(&args.second, args.identity.as_deref(), &args::Alone::default()).await?;
    let sides = [Known::of(&first), Known::of(&second)];
    if sides[0].digest.zip(sides[1].digest).and_then(|(a, b)| a.agrees_with(&b)) == Some(true) {
        return identical_by_digest(context, &sides);
    }
    let first = fingerprints(first, as_of).await?;
    let second = fingerprints(second, as_of).await?;
    let keys = [first.spill.keys(), second.spill.keys()];
    let functions_differ = first.functions != second.functions;
    let list = if args.keys { args.limit as usize } else { 0 };
    let mut found = Found::new(args.separator, list);
    let compared = tokio::task::spawn_blocking(move || {
        let same = compare_spilled(first.spill, second.spill, &mut |difference| found.add(&difference));
        same.map(|same| (same, found))
    });
    let (same, found) = match compared.await {
        Ok(Ok(compared)) => compared,
        Ok(Err(SpillError::Io(error))) => return Err(spill_fault(&error).into()),
        Ok(Err(SpillError::Side(twice, is_first))) => {
            let side = &sides[usize::from(!is_first)].name;
            return Err(Fault::while_doing(format!("compare {side}"))(twice).into());
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let top = args.limit.min(PREFIXES) as usize;
    let value = found.into_json(same, sides, keys, functions_differ, top);
    print(context, &value, args.keys)?;
    context.output.value(&value)?;
    Ok(if value.identical { Ended::Well } else { Ended::Different })
}

/// What is known of a side before it is read.
struct Known {
    name: String,
    digest: Option<DataDigest>,
    keys: Option<u64>,
}

impl Known {
    fn of(source: &Source) -> Self {
        let manifest = source.manifest.as_deref();
        Self {
            name: source.name.clone(),
            digest: manifest.and_then(|manifest| manifest.rdb.content_digest),
            keys: manifest.map(|manifest| manifest.contents.keys()),
        }
    }

    fn side(self, keys: Option<u64>) -> json::DiffSide {
        json::DiffSide {
            source: self.name,
            keys: keys.or(self.keys),
            content_digest: self.digest.map(|digest| digest.to_string()),
        }
    }
}

/// Both manifests are signed, and say that both hold the same: nothing needs to be read.
fn identical_by_digest(context: &Context, sides: &[Known; 2]) -> Result<Ended, Stop> {
    let [first, second] = sides;
    let side = |known: &Known| Known { name: known.name.clone(), ..*known }.side(None);
    let value = json::Diff {
        identical: true,
        first: side(first),
        second: side(second),
        same: None,
        total: json::Differences::default(),
        databases: BTreeMap::new(),
        prefixes: Vec::new(),
        other_prefixes: json::Differences::default(),
        prefixes_miss_at_most_keys: 0,
        functions_differ: false,
        keys: Vec::new(),
        keys_omitted: 0,
    };
    context.output.text("identical: both manifests say the same content digest")?;
    context.output.text(value.first.content_digest.as_deref().unwrap_or_default())?;
    context.output.value(&value)?;
    Ok(Ended::Well)
}

/// One side that was read.
struct Side {
    spill: Spill,
    functions: Functions,
}

async fn fingerprints(source: Source, as_of: Option<Timestamp>) -> Result<Side, Stop> {
    let attempt = format!("read {}", source.name);
    source.read_into(Reading { attempt, fingerprinter: Fingerprinter::new(as_of), spill: Spill::new() }).await
}

struct Reading {
    attempt: String,
    fingerprinter: Fingerprinter,
    spill: Spill,
}

impl Consumer for Reading {
    type Output = Side;

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let spill = &mut self.spill;
        let mut written = Ok(());
        let parsed = self.fingerprinter.feed(bytes, |one| {
            if written.is_ok() {
                written = spill.add(&one);
            }
        });
        parsed.map_err(|error| rdb_fault(self.attempt.clone(), error))?;
        written.map_err(|error| spill_fault(&error))
    }

    fn finish(self) -> Result<Side, Fault> {
        let (functions, _) = self.fingerprinter.finish().map_err(|error| rdb_fault(self.attempt, error))?;
        Ok(Side { spill: self.spill, functions })
    }
}

/// Differences on their way to a report.
struct Found {
    separator: u8,
    databases: BTreeMap<u32, Tally>,
    prefixes: PrefixTable<Tally>,
    total: Tally,
    /// How many keys to list: the first by database and name, the last of them on top.
    most: usize,
    listed: BinaryHeap<Listed>,
}

/// A key that is listed, in the order of the list.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    database: u32,
    name: Vec<u8>,
    name_bytes: u64,
    change: Change,
    logical: LogicalType,
}

impl Found {
    fn new(separator: u8, most: usize) -> Self {
        Self {
            separator,
            databases: BTreeMap::new(),
            prefixes: PrefixTable::default(),
            total: Tally::default(),
            most,
            listed: BinaryHeap::new(),
        }
    }

    fn add(&mut self, difference: &Difference<'_>) {
        let Difference { change, key } = difference;
        let one = Tally::of(*change);
        self.total.add(&one);
        self.databases.entry(key.database).or_default().add(&one);
        self.prefixes.add(key.database, prefix_of(&key.name, self.separator), &one);
        let (database, name_bytes, logical) = (key.database, key.name_bytes, key.logical);
        let listed = || Listed { database, name: key.name.clone(), name_bytes, change: *change, logical };
        if self.listed.len() < self.most {
            self.listed.push(listed());
        } else if let Some(mut last) = self.listed.peek_mut()
            && (key.database, &key.name) < (last.database, &last.name)
        {
            *last = listed();
        }
    }

    fn into_json(
        self,
        same: u64,
        [first, second]: [Known; 2],
        keys: [u64; 2],
        functions_differ: bool,
        top: usize,
    ) -> json::Diff {
        let (rows, _, rest) = self.prefixes.top(top);
        let different = self.total.weight();
        let listed: Vec<json::DifferentKey> = self
            .listed
            .into_sorted_vec()
            .into_iter()
            .map(|key| json::DifferentKey {
                change: json::DifferentKey::word(key.change),
                database: key.database,
                key: key_text(&key.name, key.name_bytes),
                r#type: key.logical.to_string(),
            })
            .collect();
        json::Diff {
            identical: different == 0 && !functions_differ,
            first: first.side(Some(keys[0])),
            second: second.side(Some(keys[1])),
            same: Some(same),
            total: self.total.into(),
            databases: self.databases.into_iter().map(|(number, tally)| (number, tally.into())).collect(),
            prefixes: rows
                .into_iter()
                .map(|Row { database, prefix, counts }| json::PrefixDifferences {
                    database,
                    prefix: prefix.as_deref().map(json::prefix_text),
                    differences: counts.into(),
                })
                .collect(),
            other_prefixes: rest.into(),
            prefixes_miss_at_most_keys: self.prefixes.missed(),
            functions_differ,
            keys_omitted: different - listed.len() as u64,
            keys: listed,
        }
    }
}

fn print(context: &Context, value: &json::Diff, keys: bool) -> Result<(), Stop> {
    let output = &context.output;
    for (letter, side) in [("A", &value.first), ("B", &value.second)] {
        output.text(format_args!("{letter}  {}: {}", side.source, keys_in_words(side.keys.unwrap_or_default())))?;
    }
    let json::Differences { added, removed, changed, expiry } = value.total;
    let same = value.same.unwrap_or_default();
    if value.identical {
        output.text(format_args!("identical: all {same} keys are the same"))?;
        return Ok(());
    }
    let row = |differences: &json::Differences| {
        let json::Differences { added, removed, changed, expiry } = differences;
        [added, removed, changed, expiry].map(u64::to_string)
    };
    let mut table = Table::of_names(["ADDED", "REMOVED", "CHANGED", "EXPIRY", "DATABASE", "PREFIX"]);
    for entry in &value.prefixes {
        let [added, removed, changed, expiry] = row(&entry.differences);
        let prefix = entry.prefix.clone().unwrap_or_else(|| "(none)".to_owned());
        table.row([added, removed, changed, expiry, entry.database.to_string(), prefix]);
    }
    if value.other_prefixes != json::Differences::default() {
        let [added, removed, changed, expiry] = row(&value.other_prefixes);
        table.row([added, removed, changed, expiry, "-".to_owned(), "(all others)".to_owned()]);
    }
    if value.databases.len() > 1 {
        for (number, differences) in &value.databases {
            let [added, removed, changed, expiry] = row(differences);
            table.row([added, removed, changed, expiry, number.to_string(), "(all of the database)".to_owned()]);
        }
    }
    if !table.is_empty() {
        output.text(format_args!("\n{table}"))?;
    }
    if value.functions_differ {
        output.text("\nthe function libraries differ")?;
    }
    if keys && !value.keys.is_empty() {
        let mut table = Table::of_names(["KEY IS", "TYPE", "DATABASE", "KEY"]);
        for key in &value.keys {
            table.row([key.change.to_owned(), key.r#type.clone(), key.database.to_string(), key.key.clone()]);
        }
        output.text(format_args!("\n{table}"))?;
        if value.keys_omitted > 0 {
            let more = value.keys_omitted;
            output.note(format_args!("and {more} more: --limit N lists the first N by database and name"))?;
        }
    }
    let verdict = format!(
        "different: {added} added, {removed} removed, {changed} changed, {expiry} with another expiry only; {same} the \
         same"
    );
    output.text(format_args!("\n{}", wrap(&verdict, WIDTH).join("\n")))?;
    Ok(())
}
