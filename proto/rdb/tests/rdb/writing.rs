//! What is framed, filtered, split and merged is a valid RDB with the same content.

use urtext_rdb::{ContentDigest, Depth, Event, Limits, Parser, RdbHeader, Summary, Unwritable, Writer, key_slot};
use urtext_types::Engine;

use crate::{
    content::digest,
    support::{corpus, encode, verify},
};

/// Writes the records that `keep` wants into a file with this header.
fn rewrite(bytes: &[u8], header: RdbHeader, keep: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, Unwritable> {
    let mut writer = Writer::new(header);
    copy_into(&mut writer, bytes, keep)?;
    Ok(writer.finish())
}

fn copy_into(writer: &mut Writer, bytes: &[u8], keep: impl Fn(&[u8]) -> bool) -> Result<(), Unwritable> {
    let mut parser = Parser::new(Depth::Frame, Limits::default());
    let (mut kept, mut result) = (false, Ok(()));
    let mut sink = |event: Event<'_>| {
        let done = match event {
            Event::Key(key) => {
                kept = keep(key.key);
                if kept { writer.begin_record(&key) } else { Ok(()) }
            }
            Event::Raw(raw) if kept => {
                writer.raw(raw);
                Ok(())
            }
            Event::Aux { key, value } if key != b"slot-info" => writer.aux(key, value),
            Event::Function { source } => writer.function(source),
            Event::HashTemplate { id, fields } => writer.hash_template(id, fields),
            _ => Ok(()),
        };
        if result.is_ok() {
            result = done;
        }
    };
    bytes.chunks(50).try_for_each(|piece| parser.feed(piece, &mut sink)).expect("a sound file");
    result
}

/// Sound files, whatever follows them.
fn sound_files() -> Vec<(String, Vec<u8>, Summary)> {
    let sound = |(name, bytes): (String, Vec<u8>)| verify(&bytes).ok().map(|summary| (name, bytes, summary));
    let files: Vec<_> = corpus().into_iter().filter_map(sound).collect();
    assert!(files.len() > 30);
    files
}

#[test]
fn a_copy_holds_the_same() {
    for (name, bytes, summary) in sound_files() {
        let copy = rewrite(&bytes, summary.header, |_| true).expect("the same version");
        let again = verify(&copy).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(digest(&copy), digest(&bytes), "{name}");
        assert_eq!((&again.aux, &again.databases, &again.types), (&summary.aux, &summary.databases, &summary.types));
    }
}

#[test]
fn a_file_split_by_slot_adds_up_to_the_whole() {
    for (_, bytes, summary) in sound_files() {
        let lower = rewrite(&bytes, summary.header, |key| key_slot(key) < 8192).expect("the same version");
        let upper = rewrite(&bytes, summary.header, |key| key_slot(key) >= 8192).expect("the same version");
        let keys = |file: &[u8]| verify(file).expect("a sound file").keys();
        assert_eq!(keys(&lower) + keys(&upper), summary.keys());
        // Functions are in both; the keys of a data set are in one.
        if summary.functions == 0 {
            let mut sum: ContentDigest = digest(&lower);
            sum.merge(&digest(&upper));
            assert_eq!(sum, digest(&bytes));
        }
    }
}

#[test]
fn files_are_merged() {
    let files: Vec<_> = sound_files().into_iter().filter(|(_, _, summary)| summary.functions == 0).collect();
    let newest = RdbHeader { engine: Engine::Redis, version: 15 };
    let (mut writer, mut sum, mut keys) = (Writer::new(newest), ContentDigest::default(), 0);
    for (_, bytes, summary) in &files {
        copy_into(&mut writer, bytes, |_| true).expect("the newest version holds all");
        sum.merge(&digest(bytes));
        keys += summary.keys();
    }
    let merged = writer.finish();
    assert_eq!(verify(&merged).expect("a sound file").keys(), keys);
    assert_eq!(digest(&merged), sum);
}

#[test]
fn what_a_version_cannot_hold_is_refused() {
    let header = |engine, version| RdbHeader { engine, version };
    let (_, redis, _) = sound_files().into_iter().find(|(name, ..)| name.contains("redis-8.2")).expect("there");
    let (_, valkey, _) = sound_files().into_iter().find(|(name, ..)| name.contains("valkey-9.1")).expect("there");
    let refused = |result: Result<Vec<u8>, Unwritable>| matches!(result, Err(Unwritable::NotInVersion { .. }));
    assert!(refused(rewrite(&redis, header(Engine::Valkey, 80), |_| true)));
    assert!(refused(rewrite(&redis, header(Engine::Redis, 11), |_| true)));
    assert!(refused(rewrite(&valkey, header(Engine::Redis, 12), |_| true)));
    let without_expiries = |key: &[u8]| !key.windows(4).any(|part| part == b"hash");
    assert!(rewrite(&valkey, header(Engine::Redis, 11), without_expiries).is_ok());
}

#[test]
fn templates_may_not_conflict() {
    let header = RdbHeader { engine: Engine::Redis, version: 15 };
    let mut writer = Writer::new(header);
    assert_eq!(writer.hash_template(1, &[b"a".to_vec()]), Ok(()));
    assert_eq!(writer.hash_template(1, &[b"a".to_vec()]), Ok(()));
    assert_eq!(writer.hash_template(1, &[b"b".to_vec()]), Err(Unwritable::TemplateConflict { id: 1 }));
    assert!(verify(&writer.finish()).is_ok());
}

#[test]
fn long_lengths_are_written_as_they_are_read() {
    let header = RdbHeader { engine: Engine::Redis, version: 11 };
    for size in [0, 63, 64, 1023, 16383, 16384, 70_000] {
        let mut writer = Writer::new(header);
        let value = "x".repeat(size);
        writer.aux(b"field", value.as_bytes()).expect("auxiliary fields from version 7 on");
        let mut file = writer.take();
        file.extend_from_slice(&writer.finish());
        let summary = verify(&file).expect("a sound file");
        let kept = summary.aux.pairs.first().map(|(_, value)| value.len());
        assert_eq!((kept, summary.aux.omitted), if size <= 1024 { (Some(size), 0) } else { (None, 1) });
    }
    assert!(digest(&encode::file(&[])).databases().next().is_none());
}
