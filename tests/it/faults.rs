//! Whatever happens on the road to a bucket, and whoever dies on it: what is listed can be restored, and what is not
//! listed does not stay.

use std::{
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use urtext_repository::{PrunePlan, PruneRequest, StoreAddress};
use urtext_tests::{
    data::load_strings,
    eventually::SOON,
    fleet::{Fleet, ORDERS, program},
    object_server::ObjectServer,
    process::run,
    road::{Mishap, Request, Road},
    say,
    servers::{Server, Version},
};
use urtext_types::Timestamp;

/// A replica that is backed up to a bucket at the end of the road.
struct Scene {
    fleet: Fleet,
    road: Road,
    bucket: ObjectServer,
    /// Of the data, which stays the same.
    digest: String,
}

const PREFIX: &str = "redis";

impl Scene {
    /// `direct`: the agent goes by itself.
    #[track_caller]
    fn new(direct: bool) -> Self {
        let bucket = ObjectServer::start();
        let road = Road::to(bucket.port());
        let address = bucket.address_by(road.port(), PREFIX);
        let mut fleet = Fleet::with_env(&[], "", &ObjectServer::credentials());
        let mut add = vec!["repository", "add", "bucket", &address, "--site", "nyc"];
        if direct {
            add.push("--direct");
        }
        fleet.coordinator.urtext(&add).expect(0);
        fleet.coordinator.stop();
        fleet.coordinator.serve();
        let (master, replica) = (Server::start(Version::Valkey91), Server::start(Version::Valkey91));
        replica.replicate(&master);
        load_strings(&master, "bulk", 91, 50, 100);
        replica.catch_up_with(&master);
        fleet.add("fra-1", master);
        fleet.add("nyc-1", replica);
        fleet.agent_mut("nyc-1").stop();
        fleet.agent_mut("nyc-1").env = ObjectServer::credentials();
        fleet.agent_mut("nyc-1").run();
        let mut scene = Self { fleet, road, bucket, digest: String::new() };
        scene.wait_for_agent();
        scene.fleet.snapshot("nyc-1");
        scene.digest = scene.fleet.backups()[0]["content_digest"].as_str().expect("a digest").to_owned();
        scene
    }

    #[track_caller]
    fn wait_for_agent(&self) {
        self.fleet.wait_for_node("nyc-1", "its agent connected", |seen| seen["connected"] == true);
        self.fleet.wait_until_seen("nyc-1");
    }

    /// A snapshot while other things happen.
    fn begin_snapshot(&self) -> thread::JoinHandle<()> {
        let mut command = Command::new(program("urtext"));
        command.args(["snapshot", ORDERS, "--node", "nyc-1", "--dir"]).arg(self.fleet.coordinator.dir());
        thread::spawn(move || drop(run(&mut command, SOON * 4)))
    }

    /// Restores every backup that is listed and compares what it holds; then sweeps, and nothing else is there.
    #[track_caller]
    fn assert_every_listed_backup_restores(&self, at_least: usize) {
        self.road.clear();
        let listed: Vec<String> = self.fleet.backups().iter().map(id_of).collect();
        assert!(listed.len() >= at_least, "{} backups are listed", listed.len());
        for id in &listed {
            let out = self.fleet.work().join(format!("out-{id}")).display().to_string();
            self.fleet.coordinator.urtext(&["restore", ORDERS, "--backup", id, "--to-dir", &out, "--yes"]).expect(0);
            let inspected = self.fleet.json(&["inspect", &format!("{out}/dump.rdb")]);
            assert_eq!(inspected["content_digest"], self.digest.as_str(), "{id}: {inspected}");
        }
        self.fleet.coordinator.urtext(&["catalog", "rebuild"]).expect(0);
        let rebuilt: Vec<String> = self.fleet.backups().iter().map(id_of).collect();
        assert_eq!(rebuilt, listed, "the catalog says what the bucket says");
        // A day and an hour later.
        let left = swept(&self.bucket.address(PREFIX));
        let is_named = |name: &String| listed.iter().any(|id| name.starts_with(&format!("backups/{ORDERS}/0/{id}/")));
        let unnamed: Vec<&String> =
            left.iter().filter(|name| name.starts_with("backups/") && !is_named(name)).collect();
        assert_eq!(unnamed, Vec::<&String>::new());
        let objects = left.iter().filter(|name| is_named(name)).count();
        assert_eq!(objects, 3 * listed.len(), "a part, the settings and the manifest of each: {left:#?}");
    }
}

#[track_caller]
fn id_of(backup: &serde_json::Value) -> String {
    backup["id"].as_str().expect("an id").to_owned()
}

/// Sweeps a bucket as of 25 hours from now, and gives the names that are left. In a process of its own, since the
/// environment must not be changed while other threads run.
#[track_caller]
fn swept(address: &str) -> Vec<String> {
    let mut again = Command::new(std::env::current_exe().expect("this program"));
    again.args(["--exact", "faults::sweeper", "--ignored", "--nocapture"]);
    again.env(SWEEP, address).envs(ObjectServer::credentials());
    let ended = run(&mut again, SOON * 4).expect(0);
    ended
        .stdout
        .lines()
        .chain(ended.stderr.lines())
        .filter_map(|line| line.strip_prefix("left "))
        .map(str::to_owned)
        .collect()
}

const SWEEP: &str = "URTEXT_TEST_SWEEP";

#[test]
#[ignore = "a part of the tests here, which run it in a process of its own"]
fn sweeper() {
    use tokio_stream::StreamExt;
    let address = std::env::var_os(SWEEP).expect("the address of a bucket");
    let address: StoreAddress = address.to_string_lossy().parse().expect("an address");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let store = address.open_to_sweep().expect("open");
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let later = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + hours(25);
        let request = PruneRequest {
            deployment: None,
            gone: Default::default(),
            busy: Default::default(),
            relied_on: Default::default(),
            grace: hours(24),
            now: Timestamp::from_millis(later.as_millis() as i64),
        };
        let plan = PrunePlan::make(store.as_ref(), request).await.expect("a plan");
        let outcome = plan.execute(store.as_ref()).await;
        assert!(outcome.failed.is_empty(), "{outcome:?}");
        let mut left = store.list(&urtext_repository::ObjectPrefix::all());
        while let Some(object) = left.next().await {
            say(&format!("left {}", object.expect("listed").name));
        }
    });
}

/// Each of these once, at every request of a snapshot in turn: it is made all the same.
#[track_caller]
fn survives(mishaps: &[Mishap]) {
    let scene = Scene::new(false);
    let mut made = 1;
    for &mishap in mishaps {
        for number in 0.. {
            scene.road.rule(move |request| (request.number == number).then_some(mishap));
            let ended = scene.fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "nyc-1"]);
            assert_eq!(ended.code(), 0, "{mishap:?} at {:#?}\n{}", scene.road.passed(), ended.stderr);
            made += 1;
            let passed = scene.road.passed().len();
            if passed <= number {
                assert!(passed >= 4, "two puts, a listing and the manifest at least: {:#?}", scene.road.passed());
                break;
            }
        }
    }
    scene.assert_every_listed_backup_restores(made);
}

#[test]
fn a_request_that_is_late_or_twice_or_refused_once_costs_no_backup() {
    let late = Mishap::Late(Duration::from_millis(400));
    survives(&[late, Mishap::Twice, Mishap::Refused(500), Mishap::Refused(503)]);
}

#[test]
fn a_connection_that_breaks_and_a_listing_of_yesterday_cost_no_backup() {
    survives(&[Mishap::CutOff(20), Mishap::Lost(0), Mishap::Lost(10), Mishap::Stale]);
}

fn is_put(request: &Request) -> bool {
    request.method == "PUT"
}

/// What goes on failing is said, with the place and what to do; nothing is listed that is not whole.
#[test]
fn a_bucket_that_is_full_or_read_only_or_damages_what_it_gives_is_said_so() {
    let scene = Scene::new(true);
    let snapshot = || scene.fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "nyc-1"]);
    scene.road.rule(|request| is_put(request).then_some(Mishap::Refused(507)));
    snapshot().expect(6).says(&["no room", "s3://backups/redis", "make room"]);
    scene.road.rule(|request| is_put(request).then_some(Mishap::Refused(403)));
    snapshot().expect(8).says(&["not allowed to write", "s3://backups/redis", "credentials"]);
    scene.road.clear();
    let id = scene.fleet.snapshot("nyc-1");

    // Read through a road that flips a bit, a backup is refused, and by another way it is whole.
    let parts = |request: &Request| request.method == "GET" && request.path.contains("rdb.00000");
    scene.road.rule(move |request| parts(request).then_some(Mishap::Flipped));
    let out = scene.fleet.work().join("flipped");
    let restore = ["restore", ORDERS, "--backup", &id, "--to-dir", &out.display().to_string(), "--yes"];
    scene.fleet.coordinator.urtext(&restore).expect(7).says(&["rdb.00000"]);
    assert!(!out.join("dump.rdb").exists());
    scene.fleet.coordinator.urtext(&["verify", &id]).expect(7).prints(&[&id, "rdb.00000"]);
    // One object is lost: that backup is named, and the others are not touched by it.
    scene.road.rule(move |request| parts(request).then_some(Mishap::Refused(404)));
    scene.fleet.coordinator.urtext(&["verify", &id]).expect(7).prints(&[&id, "rdb.00000"]);
    scene.road.clear();
    scene.fleet.coordinator.urtext(&["verify", &id]).expect(0);
    scene.assert_every_listed_backup_restores(2);
}

/// Agent and coordinator are killed between any two requests of a snapshot.
#[test]
fn who_dies_at_any_request_leaves_a_backup_or_what_prune_removes() {
    let mut scene = Scene::new(true);
    for victim in ["the agent", "the coordinator"] {
        for number in 0.. {
            scene.road.rule(move |request| (request.number == number).then_some(Mishap::Held));
            let snapshot = scene.begin_snapshot();
            if !scene.road.wait_until_held_or(|| snapshot.is_finished()) {
                assert!(number >= 4, "{number} requests: {:#?}", scene.road.passed());
                break;
            }
            match victim {
                "the agent" => scene.fleet.agent_mut("nyc-1").kill9(),
                _ => scene.fleet.coordinator.kill9(),
            }
            scene.road.let_go();
            scene.road.clear();
            match victim {
                "the agent" => scene.fleet.agent_mut("nyc-1").run(),
                _ => scene.fleet.coordinator.serve(),
            }
            scene.wait_for_agent();
            // Whatever it says: its agent or its coordinator had gone.
            snapshot.join().expect("the command ended");
        }
    }
    scene.road.clear();
    scene.fleet.snapshot("nyc-1");
    scene.assert_every_listed_backup_restores(4);
}
