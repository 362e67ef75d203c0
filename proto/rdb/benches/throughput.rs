//! MB/s of every depth on one file and one core, with the peak memory of each.
//!
//! `RDB=dump.rdb cargo bench -p urtext-rdb` for this library alone; `tests/bench-rdb` makes the file and runs other
//! readers beside it. Each row is a process of its own, so that its peak is its own: `throughput ROW FILE` prints
//! seconds and bytes. Time is processor time, so that a busy machine does not count; the best of [`ROUNDS`]. Of
//! rows with threads it is that of the busiest one: what they take where each has a core of its own.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    process::Command,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use crc_fast::{CrcAlgorithm, Digest};
use sha2::{Digest as _, Sha256};
use urtext_rdb::{ContentDigest, Depth, DigestBuilder, Event, Limits, Options, Parser, Portions, RdbError, Verifier};

const ROUNDS: usize = 3;
/// A round lasts at least this long: some kernels count in ticks of 10 ms.
const ROUND: Duration = Duration::from_millis(400);
/// As much as one read from a socket or a file gives.
const PIECE: usize = 64 << 10;
/// What a thread digests at a time, and how many such portions may wait for one.
const PORTION: usize = 1 << 20;
const PORTIONS_WAITING: usize = 4;

/// In memory, as a caller feeds it; those of `file:` open and read the file, as other programs do. `digest:2` cuts it into
/// portions on one thread and digests them on two.
const ROWS: &[&str] = &[
    "crc64",
    "sha256",
    "frame",
    "verify",
    "values",
    "digest",
    "digest:1",
    "digest:2",
    "file:frame",
    "file:verify",
    "file:values",
    "file:digest",
];

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let [row, file] = arguments.as_slice() {
        return measure(row, Path::new(file));
    }
    let Some(file) = env::var_os("RDB") else {
        writeln!(std::io::stderr(), "skipped: name a file of 500 MB or more in RDB")?;
        return Ok(());
    };
    let bytes = fs::metadata(&file)?.len();
    let mut out = std::io::stdout();
    writeln!(out, "{:<12} {:>8} {:>9} {:>9}", "", "MB/s", "seconds", "peak MiB")?;
    for row in ROWS {
        let output = Command::new(env::current_exe()?).arg(row).arg(&file).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().map(str::parse::<f64>);
        let (Some(Ok(seconds)), Some(Ok(peak))) = (numbers.next(), numbers.next()) else {
            return Err(format!("{row}: {}", String::from_utf8_lossy(&output.stderr)).into());
        };
        let rate = bytes as f64 / 1e6 / seconds;
        writeln!(out, "{row:<12} {rate:>8.0} {seconds:>9.3} {:>9.1}", peak / f64::from(1 << 20))?;
    }
    Ok(())
}

/// Prints the seconds of one pass, and the peak of memory without the file itself.
fn measure(row: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let (seconds, held) = match row.strip_prefix("file:") {
        Some(row) => (best(&mut || run(row, &mut |take| read(path, take)))?, 0),
        None => {
            let file = fs::read(path)?;
            let seconds = match row.strip_prefix("digest:") {
                Some(threads) => best_on_threads(&file, threads.parse()?)?,
                None => best(&mut || run(row, &mut |take| file.chunks(PIECE).try_for_each(take)))?,
            };
            (seconds, file.len() as u64)
        }
    };
    writeln!(std::io::stdout(), "{} {}", seconds.as_secs_f64(), peak_memory().saturating_sub(held))?;
    Ok(())
}

type Failure = Box<dyn Error>;
type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>;

fn read(path: &Path, take: Take<'_>) -> Result<(), Failure> {
    let (mut file, mut piece) = (File::open(path)?, vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            read => take(&piece[..read])?,
        }
    }
}

/// One pass over the pieces that `feed` gives.
fn run(row: &str, feed: &mut dyn FnMut(Take<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
    match row {
        "crc64" => {
            let mut crc = Digest::new(CrcAlgorithm::Crc64Redis);
            feed(&mut |piece| {
                crc.update(piece);
                Ok(())
            })?;
            std::hint::black_box(crc.finalize());
        }
        "sha256" => {
            let mut sha256 = Sha256::new();
            feed(&mut |piece| {
                sha256.update(piece);
                Ok(())
            })?;
            std::hint::black_box(sha256.finalize());
        }
        "frame" => events(Depth::Frame, feed)?,
        "values" => events(Depth::Values, feed)?,
        "verify" => {
            let mut verifier = Verifier::new(Options::default());
            feed(&mut |piece| Ok(verifier.feed(piece)?))?;
            std::hint::black_box(verifier.finish()?.keys());
        }
        "digest" => {
            let (mut parser, mut digest) = (Parser::new(Depth::Values, Limits::default()), DigestBuilder::new());
            let mut sink = |event: Event<'_>| digest.event(&event);
            feed(&mut |piece| Ok(parser.feed(piece, &mut sink)?))?;
            parser.finish()?;
            std::hint::black_box(digest.finish().root());
        }
        _ => return Err(format!("no row {row}; there are {}", ROWS.join(", ")).into()),
    }
    Ok(())
}

fn events(depth: Depth, feed: &mut dyn FnMut(Take<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut parser = Parser::new(depth, Limits::default());
    let mut sink = |event: Event<'_>| {
        std::hint::black_box(&event);
    };
    feed(&mut |piece| Ok(parser.feed(piece, &mut sink)?))?;
    parser.finish()?;
    Ok(())
}

/// The time of one pass, in the best round.
fn best(pass: &mut dyn FnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = processor_time();
        let mut passes = 0;
        while processor_time() - start < ROUND {
            pass()?;
            passes += 1;
        }
        best = best.min((processor_time() - start) / passes);
    }
    Ok(best)
}

/// The time of the busiest thread, in the best round.
fn best_on_threads(file: &[u8], threads: usize) -> Result<Duration, Failure> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(digest_on_threads(file, threads)?);
    }
    Ok(best)
}

/// Cuts the file into portions here, and digests them on so many other threads, each in its turn.
fn digest_on_threads(file: &[u8], threads: usize) -> Result<Duration, Failure> {
    let start = processor_time();
    let digest = |portions: Receiver<Vec<u8>>| -> Result<(ContentDigest, Duration), RdbError> {
        let mut digest = DigestBuilder::new();
        for portion in portions {
            let mut parser = Parser::new(Depth::Values, Limits::default());
            parser.feed(&portion, &mut |event: Event<'_>| digest.event(&event))?;
            parser.finish()?;
        }
        Ok((digest.finish(), processor_time()))
    };
    thread::scope(|scope| -> Result<Duration, Failure> {
        let mut senders = Vec::new();
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (sender, portions) = mpsc::sync_channel(PORTIONS_WAITING);
                senders.push(sender);
                scope.spawn(move || digest(portions))
            })
            .collect();
        let mut turns = senders.iter().cycle();
        // A thread that is gone has its own error.
        let mut hand_out = |portion| drop(turns.next().map(|sender| sender.send(portion)));
        let mut portions = Portions::new(Limits::default(), PORTION);
        file.chunks(PIECE).try_for_each(|piece| portions.feed(piece, &mut hand_out))?;
        portions.finish()?.0.map(&mut hand_out);
        drop(senders);
        let (mut whole, mut busiest) = (ContentDigest::default(), processor_time() - start);
        for worker in workers {
            let (part, time) = worker.join().expect("no thread panics")?;
            whole.merge(&part);
            busiest = busiest.max(time);
        }
        std::hint::black_box(whole.root());
        Ok(busiest)
    })
}

/// Of this thread: in nanoseconds where the kernel tells them, else in ticks of 10 ms.
fn processor_time() -> Duration {
    let exact = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    if let Some(Ok(nanoseconds)) = exact.split_whitespace().next().map(str::parse) {
        return Duration::from_nanos(nanoseconds);
    }
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: utime and stime are the fields 14 and 15.
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(10) * ticks.filter_map(|n| n.parse::<u32>().ok()).sum::<u32>()
}

/// Resident at the peak, in bytes, as the kernel counts it.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    peak.map_or(0, |kib: u64| kib * 1024)
}
