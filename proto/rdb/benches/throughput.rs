//! MB/s of every depth on one file and one core, beside `redis-check-rdb` on the same file.
//!
//! `RDB=dump.rdb cargo bench -p urtext-rdb`. Each figure is the best of [`ROUNDS`], in processor time, so that a
//! busy machine does not count; the file is in the page cache and in memory, and is fed in pieces.

use std::{
    env, fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use crc_fast::{CrcAlgorithm, Digest};
use sha2::{Digest as _, Sha256};
use urtext_rdb::{Depth, DigestBuilder, Event, Limits, Options, Parser, Verifier};

const ROUNDS: usize = 3;
/// As much as one read from a socket or a file gives.
const PIECE: usize = 64 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = env::var_os("RDB") else {
        writeln!(std::io::stderr(), "skipped: name a file of 500 MB or more in RDB")?;
        return Ok(());
    };
    let file = fs::read(&path)?;
    let mut out = std::io::stdout();
    writeln!(out, "{:<24} {:>10} {:>10} {:>14}", "", "MB/s", "seconds", "peak MiB more")?;
    let show = |name: &str, time: Duration| {
        let rate = file.len() as f64 / 1e6 / time.as_secs_f64();
        writeln!(
            std::io::stdout(),
            "{name:<24} {rate:>10.0} {:>10.3} {:>14}",
            time.as_secs_f64(),
            peak_beyond(file.len())
        )
    };
    show("crc64", best(|| crc(&file)))?;
    show("sha256, to compare", best(|| u64::from(Sha256::digest(&file)[0])))?;
    show("frame", best(|| events(&file, Depth::Frame)))?;
    let verify = best(|| {
        let mut verifier = Verifier::new(Options::default());
        file.chunks(PIECE).try_for_each(|piece| verifier.feed(piece)).expect("a sound file");
        verifier.finish().expect("a whole file").keys()
    });
    show("verify", verify)?;
    show("values", best(|| events(&file, Depth::Values)))?;
    show("digest", best(|| digest(&file)))?;
    match check_rdb(&path) {
        Some(theirs) => {
            show("redis-check-rdb", theirs)?;
            writeln!(out, "verify is {:.1} x redis-check-rdb", theirs.as_secs_f64() / verify.as_secs_f64())?;
        }
        None => writeln!(out, "redis-check-rdb: not installed, or it does not read this file")?,
    }
    Ok(())
}

fn best(mut run: impl FnMut() -> u64) -> Duration {
    (0..ROUNDS)
        .map(|_| {
            let start = processor_time();
            std::hint::black_box(run());
            processor_time() - start
        })
        .min()
        .expect("at least one round")
}

/// Of this process and of the children that it waited for, in ticks of 10 ms.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: utime, stime, cutime, cstime are the fields 14 to 17.
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
    Duration::from_millis(10) * ticks.filter_map(|n| n.parse::<u32>().ok()).sum::<u32>()
}

fn crc(file: &[u8]) -> u64 {
    let mut crc = Digest::new(CrcAlgorithm::Crc64Redis);
    file.chunks(PIECE).for_each(|piece| crc.update(piece));
    crc.finalize()
}

fn events(file: &[u8], depth: Depth) -> u64 {
    let mut parser = Parser::new(depth, Limits::default());
    let mut count = 0;
    let mut sink = |event: Event<'_>| {
        std::hint::black_box(&event);
        count += 1;
    };
    file.chunks(PIECE).try_for_each(|piece| parser.feed(piece, &mut sink)).expect("a sound file");
    parser.finish().expect("a whole file");
    count
}

fn digest(file: &[u8]) -> u64 {
    let mut parser = Parser::new(Depth::Values, Limits::default());
    let mut digest = DigestBuilder::new();
    let mut sink = |event: Event<'_>| digest.event(&event);
    file.chunks(PIECE).try_for_each(|piece| parser.feed(piece, &mut sink)).expect("a sound file");
    parser.finish().expect("a whole file");
    digest.finish().databases().map(|(_, database)| database.keys()).sum()
}

/// Peak resident memory beyond the file itself, as the kernel counts it.
fn peak_beyond(file: usize) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    peak.map_or_else(|| "?".to_owned(), |kib| format!("{:.1}", kib / 1024.0 - file as f64 / 1048576.0))
}

fn check_rdb(path: &std::ffi::OsStr) -> Option<Duration> {
    let run = || Command::new("redis-check-rdb").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !run().ok()?.success() {
        return None;
    }
    Some(best(|| run().map_or(0, |status| u64::from(status.success()))))
}
