//! What an RDB file holds at a moment.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use urtext_rdb::{ContentDigest, Depth, DigestBuilder, Event, Limits, Parser};
use urtext_types::{ErrorKind, Timestamp};

use crate::Fault;

const PIECE_BYTES: usize = 512 * 1024;

/// Digests a file, without what has expired by `as_of`. Blocking.
pub fn content_of(path: &Path, as_of: Timestamp) -> Result<ContentDigest, Fault> {
    let attempt = || format!("read {}", path.display());
    let failed = |error: std::io::Error| Fault::new(ErrorKind::Unavailable, format!("{}: {error}", attempt()));
    let mut file = File::open(path).map_err(failed)?;
    let mut parser = Parser::new(Depth::Values, Limits::default());
    let mut digest = DigestBuilder::as_of(as_of);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece).map_err(failed)?;
        if read == 0 {
            break;
        }
        let fed = parser.feed(&piece[..read], &mut |event: Event<'_>| digest.event(&event));
        fed.map_err(Fault::while_doing(attempt()))?;
    }
    parser.finish().map_err(Fault::while_doing(attempt()))?;
    Ok(digest.finish())
}

/// Keys of each database that holds any.
pub fn keys_of(content: &ContentDigest) -> BTreeMap<u32, u64> {
    content.databases().map(|(number, database)| (number, database.keys())).filter(|(_, keys)| *keys > 0).collect()
}

/// What differs between the backup and what the server held, in words; `None` if they are the same.
pub fn difference(expected: &ContentDigest, found: &ContentDigest) -> Option<String> {
    let (wanted, there) = (keys_of(expected), keys_of(found));
    if wanted != there {
        let count = |keys: &BTreeMap<u32, u64>| keys.values().sum::<u64>();
        return Some(format!("the server held {} keys and the backup has {}", count(&there), count(&wanted)));
    }
    if !expected.same_functions(found) {
        return Some("the server held other function libraries than the backup".to_owned());
    }
    let parts = expected.differences(found);
    (!parts.is_empty()).then(|| {
        let databases: std::collections::BTreeSet<u32> = parts.iter().map(|(database, _)| *database).collect();
        let databases: Vec<String> = databases.iter().map(ToString::to_string).collect();
        format!("values differ in database {}, in {} of its 256 parts", databases.join(", "), parts.len())
    })
}
