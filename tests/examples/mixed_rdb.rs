//! Makes the files that the benches of the RDB library read: `mixed_rdb SERVER MEGABYTES SEED COMPRESSED PLAIN`.
//!
//! SERVER is a folder of `tests/install-servers`: `redis-8.2`. The same seed gives the same content; the order of
//! its keys in the file is the server's own. COMPRESSED has at least so many megabytes; PLAIN holds the same, saved with
//! `rdbcompression no`.

use std::{env, error::Error, fs, path::PathBuf};

use urtext_tests::{
    mixed::{ROUND_BYTES, load_mixed},
    say,
    servers::{Server, Version},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, megabytes, seed, compressed, plain] = arguments.as_slice() else {
        return Err("usage: mixed_rdb SERVER MEGABYTES SEED COMPRESSED PLAIN".into());
    };
    let version = Version::ALL.into_iter().find(|version| version.name() == server).ok_or("no such server")?;
    let (megabytes, seed): (u64, u64) = (megabytes.parse()?, seed.parse()?);

    let server = Server::start(version);
    load_mixed(&server, seed, (megabytes * 1_000_000).div_ceil(ROUND_BYTES));
    for (file, compression) in [(plain, "no"), (compressed, "yes")] {
        let file = PathBuf::from(file);
        server.call(&["CONFIG", "SET", "rdbcompression", compression]);
        server.call(&["SAVE"]);
        // Beside its place first: the two folders may be on different file systems, and half a file is no file.
        let partial = file.with_extension("partial");
        let bytes = fs::copy(server.dir().join("dump.rdb"), &partial)?;
        fs::rename(&partial, &file)?;
        say(&format!("{}: {bytes} bytes from {}", file.display(), version.name()));
        if bytes < megabytes * 1_000_000 {
            return Err(format!("the file is smaller than {megabytes} MB").into());
        }
    }
    Ok(())
}
