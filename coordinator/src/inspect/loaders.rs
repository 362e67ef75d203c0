//! Which servers could load a file.

use urtext_rdb::{RdbHeader, ServerVersion, ValueType, loadable_by};
use urtext_types::Engine;

/// Releases at which what a server can read has changed, the oldest first.
const RELEASES: [(Engine, &[(u32, u32)]); 2] = [
    (Engine::Redis, &[(2, 6), (3, 2), (4, 0), (5, 0), (7, 0), (7, 2), (7, 4), (8, 6), (8, 8), (8, 10)]),
    (Engine::Valkey, &[(7, 2), (9, 0), (9, 2)]),
];

/// For each engine the oldest release that loads a file with this header and these types; newer ones do too.
/// Modules that the file may need are another matter.
pub fn loaders(header: RdbHeader, types: &[ValueType]) -> Vec<ServerVersion> {
    let oldest = |engine: Engine, releases: &[(u32, u32)]| {
        let versions = releases.iter().map(|&(major, minor)| ServerVersion { engine, major, minor });
        versions.into_iter().find(|version| loadable_by(header, types.iter().copied(), *version).is_ok())
    };
    RELEASES.iter().filter_map(|(engine, releases)| oldest(*engine, releases)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_release_of_each_engine_is_named() {
        let check = |header: &[u8; 9], types: &[ValueType], expect: &[&str]| {
            let header = RdbHeader::parse(header).expect("a header");
            let found: Vec<String> = loaders(header, types).iter().map(ToString::to_string).collect();
            assert_eq!(found, expect, "{header}");
        };
        check(b"REDIS0003", &[], &["Redis 2.6", "Valkey 7.2"]);
        check(b"REDIS0009", &[ValueType::String], &["Redis 5.0", "Valkey 7.2"]);
        check(b"REDIS0011", &[], &["Redis 7.2", "Valkey 7.2"]);
        check(b"REDIS0012", &[], &["Redis 7.4"]);
        check(b"VALKEY080", &[], &["Valkey 9.0"]);
        // A header that was rewritten does not hide what is inside.
        check(b"REDIS0009", &[ValueType::ListQuicklist2], &["Redis 7.0", "Valkey 7.2"]);
    }
}
