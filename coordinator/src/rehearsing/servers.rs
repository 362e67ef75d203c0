//! Which of the installed servers can load a backup.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use urtext_rdb::{RdbHeader, ServerVersion, loadable_by};
use urtext_types::{Engine, ErrorKind};

use crate::Fault;

/// What servers are called.
const PROGRAMS: [&str; 2] = ["valkey-server", "redis-server"];

/// A server that could be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub program: PathBuf,
    pub version: ServerVersion,
}

/// The programs that are named, or else those in the folders of a `PATH`.
pub fn candidates(named: &[PathBuf], path: Option<&OsStr>) -> Vec<PathBuf> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let folders: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let programs = folders.iter().flat_map(|folder| PROGRAMS.map(|program| folder.join(program)));
    programs.filter(|program| program.is_file()).collect()
}

/// Programs that are named must answer; of those in a `PATH`, the ones that do are taken. Blocking.
pub fn installed(named: &[PathBuf], path: Option<&OsStr>) -> Result<Vec<Installed>, Fault> {
    let all = candidates(named, path);
    let asked = all.iter().map(|program| ask(program));
    if named.is_empty() { Ok(asked.filter_map(Result::ok).collect()) } else { asked.collect() }
}

/// Asks a program for its version. Blocking.
///
/// # Errors
/// It cannot be started, or is no server.
pub fn ask(program: &Path) -> Result<Installed, Fault> {
    let attempt = || format!("ask {} for its version", program.display());
    let answer = Command::new(program).arg("--version").output().map_err(|error| {
        Fault::new(ErrorKind::Usage, format!("{}: {error}", attempt()))
            .with_hint("name a redis-server or a valkey-server with --server")
    })?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let version = version_in(&text)
        .ok_or_else(|| Fault::new(ErrorKind::Usage, format!("{}: it is no Redis or Valkey server", attempt())))?;
    Ok(Installed { program: program.to_owned(), version })
}

/// `Redis server v=7.0.15 sha=…`, `Valkey server v=9.1.2 sha=…`
fn version_in(text: &str) -> Option<ServerVersion> {
    let (engine, rest) = match text.split_once(" server v=")? {
        ("Redis", rest) => (Engine::Redis, rest),
        ("Valkey", rest) => (Engine::Valkey, rest),
        _ => return None,
    };
    ServerVersion::parse(engine, rest.split_whitespace().next()?)
}

/// Takes the server that the backup came from if that is there, else the newest that can load it.
///
/// # Errors
/// None can: with what each of them lacks.
pub fn choose(installed: &[Installed], header: RdbHeader, origin: Option<ServerVersion>) -> Result<&Installed, Fault> {
    let loads = |server: &&Installed| loadable_by(header, [], server.version).is_ok();
    let rank = |server: &&Installed| {
        let same_engine = origin.is_some_and(|origin| origin.engine == server.version.engine);
        (origin == Some(server.version), same_engine, server.version.major, server.version.minor)
    };
    installed.iter().filter(loads).max_by_key(rank).ok_or_else(|| {
        let why = |server: &Installed| {
            let refusal = loadable_by(header, [], server.version).err().map(|refusal| refusal.to_string());
            format!("{}: {}", server.program.display(), refusal.unwrap_or_default())
        };
        let each: Vec<String> = installed.iter().map(why).collect();
        let message = match each.as_slice() {
            [] => "no redis-server and no valkey-server was found to rehearse with".to_owned(),
            _ => format!("no installed server can load this backup: {}", each.join("; ")),
        };
        Fault::new(ErrorKind::Refused, message)
            .with_hint("install one that can, or name its program with --server PATH; nothing was started")
    })
}

#[cfg(test)]
mod tests {
    use urtext_types::Explain;

    use super::*;

    fn server(engine: Engine, major: u32, minor: u32) -> Installed {
        let program = PathBuf::from(format!("/{engine}-{major}.{minor}"));
        Installed { program, version: ServerVersion { engine, major, minor } }
    }

    #[test]
    fn a_version_is_read_from_what_servers_print() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=d81b8ff7\n";
        assert_eq!(version_in(redis), ServerVersion::parse(Engine::Redis, "7.0"));
        let valkey = "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=0\n";
        assert_eq!(version_in(valkey), ServerVersion::parse(Engine::Valkey, "9.1"));
        for other in ["", "redis-cli 7.0.15", "Dragonfly server v=1.2.3", "Redis server v=new"] {
            assert_eq!(version_in(other), None, "{other}");
        }
    }

    #[test]
    fn the_server_that_wrote_it_comes_first_then_its_engine_then_the_newest() {
        let (old, new) = (server(Engine::Redis, 6, 2), server(Engine::Redis, 8, 2));
        let (valkey, newer) = (server(Engine::Valkey, 8, 1), server(Engine::Valkey, 9, 1));
        let all = [old.clone(), new.clone(), valkey.clone(), newer.clone()];
        let header = |engine, version| RdbHeader { engine, version };
        let check = |header, origin: Option<&Installed>, expect: &Installed| {
            assert_eq!(choose(&all, header, origin.map(|origin| origin.version)).expect("one"), expect);
        };
        check(header(Engine::Redis, 9), Some(&old), &old);
        check(header(Engine::Redis, 11), Some(&valkey), &valkey);
        check(header(Engine::Redis, 12), None, &new);
        check(header(Engine::Valkey, 80), Some(&valkey), &newer);
        let refused = choose(&all[..1], header(Engine::Valkey, 80), None).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.to_string().contains("/Redis-6.2: ") || refused.to_string().contains("6.2"), "{refused}");
        assert!(choose(&[], header(Engine::Redis, 9), None).expect_err("refused").to_string().contains("was found"));
    }
}
