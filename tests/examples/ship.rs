//! How fast a backup is shipped to a bucket, beside `rclone rcat` of the same bytes: `ship MEGABYTES ROUNDS`.
//!
//! Every row is a whole command, alternating, to the same S3 server on this machine. Ours read the server's own stream,
//! parse and verify it, compress, encrypt, store, sign and commit; `rclone rcat` copies a file that is there already.

use std::{
    env,
    error::Error,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use urtext_tests::{
    fleet::{Fleet, ORDERS},
    mixed::{ROUND_BYTES, load_mixed},
    object_server::ObjectServer,
    process::run,
    say,
    servers::{Server, Version},
};

const LIMIT: Duration = Duration::from_secs(600);

/// Ships once; the second argument is the round.
type Ship = dyn Fn(&Fleet, usize);

/// A way to ship, and how long it took each time.
struct Row {
    name: &'static str,
    ship: Box<Ship>,
    took: Vec<Duration>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [megabytes, rounds] = arguments.as_slice() else { return Err("usage: ship MEGABYTES ROUNDS".into()) };
    let (megabytes, rounds): (u64, usize) = (megabytes.parse()?, rounds.parse()?);

    let bucket = ObjectServer::start();
    let mut fleet = Fleet::with_env(&[], "", &ObjectServer::credentials());
    let (through, direct) = (bucket.address("through"), bucket.address("direct"));
    fleet.coordinator.urtext(&["repository", "add", "through", &through, "--site", "nyc"]).expect(0);
    fleet.coordinator.urtext(&["repository", "add", "direct", &direct, "--site", "sgp", "--direct"]).expect(0);
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    let master = Server::start(Version::Redis82);
    load_mixed(&master, 1, (megabytes * 1_000_000).div_ceil(ROUND_BYTES));
    for node in ["nyc-1", "sgp-1"] {
        let replica = Server::start(Version::Redis82);
        replica.replicate(&master);
        replica.catch_up_with(&master);
        fleet.add(node, replica);
    }
    fleet.agent_mut("sgp-1").stop();
    fleet.agent_mut("sgp-1").env = ObjectServer::credentials();
    fleet.agent_mut("sgp-1").run();
    fleet.wait_until_seen("sgp-1");
    master.call(&["SAVE"]);
    let file = fleet.work().join("dump.rdb");
    let bytes = fs::copy(master.dir().join("dump.rdb"), &file)?;
    let recipient = fs::read_to_string(fleet.coordinator.identity())?;
    let recipient = recipient.lines().find_map(|line| line.split("public key: ").nth(1)).map(str::to_owned);
    let recipient = recipient.ok_or("the identity file names no public key")?;

    let port = bucket.port();
    let piped = format!(
        "redis-cli -p {} --rdb - 2>/dev/null | zstd -q -1 -c | age -r {recipient} | rclone rcat bucket:backups/piped/",
        fleet.server("nyc-1").port()
    );
    let rcat = format!("rclone rcat bucket:backups/rcat/$ROUND < '{}'", file.display());
    let snapshot = |node: &'static str| move |fleet: &Fleet, _: usize| drop(fleet.snapshot(node));
    let mut rows = [
        row("rclone rcat", move |_, round| rclone(&rcat, port, round)),
        row("urtext, gRPC", snapshot("nyc-1")),
        row("urtext, direct", snapshot("sgp-1")),
        row("cli|zstd|age|rcat", move |_, round| rclone(&format!("{piped}$ROUND"), port, round)),
    ];
    for round in 0..rounds {
        for row in &mut rows {
            let began = Instant::now();
            (row.ship)(&fleet, round);
            row.took.push(began.elapsed());
        }
    }
    report(&fleet, bytes, &mut rows);
    Ok(())
}

fn row(name: &'static str, ship: impl Fn(&Fleet, usize) + 'static) -> Row {
    Row { name, ship: Box::new(ship), took: Vec::new() }
}

/// Runs a pipe in which a remote `bucket` is known.
fn rclone(pipe: &str, port: u16, round: usize) {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", pipe]).stdin(Stdio::null()).env("ROUND", round.to_string());
    command.env("RCLONE_CONFIG", Path::new("/dev/null")).env("RCLONE_CONFIG_BUCKET_TYPE", "s3");
    command.env("RCLONE_CONFIG_BUCKET_PROVIDER", "Other").env("RCLONE_CONFIG_BUCKET_ENV_AUTH", "true");
    command.env("RCLONE_CONFIG_BUCKET_REGION", "us-east-1").envs(ObjectServer::credentials());
    // The server speaks plain HTTP, and rclone of Debian cannot have a bundle of authorities beside.
    command.env_remove("AWS_CA_BUNDLE");
    command.env("RCLONE_CONFIG_BUCKET_ENDPOINT", format!("http://127.0.0.1:{port}"));
    run(&mut command, LIMIT).expect(0);
}

fn report(fleet: &Fleet, bytes: u64, rows: &mut [Row]) {
    say(&format!(
        "{:.0} MB of RDB by redis-8.2, {} rounds, to one S3 server on the same machine",
        bytes as f64 / 1e6,
        rows[0].took.len()
    ));
    say(&format!("{:<20} {:>9} {:>9} {:>8} {:>16}", "", "best s", "median s", "MB/s", "x rclone rcat"));
    let mut peer = None;
    for Row { name, took, .. } in rows {
        took.sort_unstable();
        let (best, median) = (took[0].as_secs_f64(), took[took.len() / 2].as_secs_f64());
        let peer = *peer.get_or_insert(median);
        let speed = bytes as f64 / 1e6 / median;
        say(&format!("{name:<20} {best:>9.2} {median:>9.2} {speed:>8.0} {:>16.2}", peer / median));
    }
    let mib = |bytes: u64| bytes / 1024 / 1024;
    say(&format!(
        "peak memory, MiB: coordinator {}, agent through it {}, agent direct {}",
        mib(fleet.coordinator.peak_memory()),
        mib(fleet.agent("nyc-1").peak_memory()),
        mib(fleet.agent("sgp-1").peak_memory())
    ));
    fleet.coordinator.urtext(&["backups", ORDERS]).expect(0);
}
