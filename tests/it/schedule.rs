//! What happens by itself: snapshots at their times and from the right nodes, and an operator's hooks around them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use urtext_tests::{
    data::load,
    eventually::{SOON, eventually},
    fleet::{Fleet, ORDERS},
    servers::{Server, Version},
};

/// A master and a replica at two sites.
fn fleet_of_two(settings: &str) -> Fleet {
    let mut fleet = Fleet::with(&[], settings);
    let (master, replica) = (Server::start(Version::Redis70), Server::start(Version::Redis70));
    replica.replicate(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    load(fleet.server("fra-1"), 71, 50);
    fleet
}

fn job(fleet: &Fleet) -> Value {
    fleet.json(&["schedule", ORDERS])["jobs"][0].clone()
}

/// Waits until the schedule shows a state.
#[track_caller]
fn wait_for_job(fleet: &Fleet, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("urtext schedule to show {what}"), SOON, || {
        let job = job(fleet);
        if holds(&job) { Ok(job) } else { Err(format!("{job:#}\n{}", fleet.coordinator.log())) }
    })
}

fn nodes_of(backups: &[Value]) -> Vec<&str> {
    backups.iter().map(|backup| backup["node"].as_str().expect("a node")).collect()
}

#[test]
fn snapshots_are_taken_at_their_times_in_distinct_sites_one_at_a_time_on_a_host() {
    let settings = "[deployments.orders.schedule]\nsnapshot = '*/4 * * * * *'\ntime_zone = 'Europe/Berlin'\ncopies = 2\njitter = '0s'";
    let fleet = fleet_of_two(settings);
    let shown = wait_for_job(&fleet, "two copies", |job| {
        let snapshots = job["last_run"]["snapshots"].as_array();
        job["last_run"]["state"] == "done" && snapshots.is_some_and(|snapshots| snapshots.len() == 2)
    });
    let run = &shown["last_run"];
    // All servers are on one host: the second of the two waited for the first.
    let ids: Vec<&str> =
        run["snapshots"].as_array().expect("two").iter().filter_map(|one| one["backup"].as_str()).collect();
    let backups = fleet.backups();
    let of_run: Vec<Value> =
        backups.iter().filter(|backup| ids.contains(&backup["id"].as_str().expect("id"))).cloned().collect();
    let mut nodes = nodes_of(&of_run);
    nodes.sort_unstable();
    assert_eq!(nodes, ["fra-1", "nyc-1"], "{shown:#}");
    let times = |backup: &Value| -> (String, String) {
        let shown = fleet.json(&["backup", "show", backup["id"].as_str().expect("id")]);
        let timings = &shown["manifest"]["timings"];
        let time = |key: &str| timings[key].as_str().unwrap_or_else(|| panic!("no {key} in {shown:#}")).to_owned();
        (time("started_at"), time("finished_at"))
    };
    let (one, two) = (times(&of_run[0]), times(&of_run[1]));
    assert!(one.1 <= two.0 || two.1 <= one.0, "{one:?} and {two:?} overlap");

    let printed = fleet.coordinator.urtext(&["schedule"]).expect(0).stdout;
    let words = ["*/4 * * * * * in Europe/Berlin, 2 copies", "next", "committed", "A replica, as far as any node"];
    assert!(words.iter().all(|word| printed.contains(word)), "{printed}");
    let status = fleet.coordinator.urtext(&["status", ORDERS]).expect(0).stdout;
    assert!(status.contains("next snapshot     20"), "{status}");
}

/// `[deployments.orders.schedule]` for once a minute, some seconds from now; and the time of that, in seconds.
fn once_a_minute(seconds_from_now: u64) -> (String, u64) {
    let at = unix_seconds() + seconds_from_now;
    (format!("[deployments.orders.schedule]\nsnapshot = '{} * * * * *'\njitter = '0s'", at % 60), at)
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

#[test]
fn a_snapshot_that_was_missed_is_made_up_for_and_a_restart_does_not_repeat_it() {
    let mut fleet = fleet_of_two("");
    assert_eq!(job(&fleet)["expression"], Value::Null, "the harness takes its snapshots itself");
    fleet.coordinator.stop();
    let (settings, at) = once_a_minute(5);
    fleet.coordinator.configure(&settings);
    fleet.coordinator.serve();
    wait_for_job(&fleet, "when it comes next", |job| job["next"].is_string() && job["last_run"].is_null());
    fleet.coordinator.stop();
    assert!(unix_seconds() < at, "this machine is too slow for this test");
    // Nobody is there when the time comes.
    while unix_seconds() <= at {
        std::thread::sleep(Duration::from_millis(100));
    }
    fleet.coordinator.serve();
    let shown = wait_for_job(&fleet, "a good run", |job| job["last_run"]["state"] == "done");
    assert_eq!(nodes_of(&fleet.backups()), ["nyc-1"], "{shown:#}");

    fleet.coordinator.stop();
    fleet.coordinator.serve();
    for node in ["fra-1", "nyc-1"] {
        fleet.wait_for_node(node, "its agent back", |seen| seen["connected"] == true);
    }
    // Long enough for two looks.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(job(&fleet)["last_run"]["slot"], shown["last_run"]["slot"]);
    assert_eq!(fleet.backups().len(), 1);
}

/// A hook that writes down what it is told, and does what the file `does-HOOK` beside it says.
fn hook(dir: &Path) -> PathBuf {
    let path = dir.join("hook");
    let script = "#!/bin/sh\n\
        dir=$(dirname \"$0\")\n\
        echo \"$1 $URTEXT_HOOK $URTEXT_DEPLOYMENT/$URTEXT_SHARD $URTEXT_SITE $URTEXT_NODE \
            ${URTEXT_OUTCOME:-none} ${URTEXT_BACKUP:-none} ${URTEXT_ERROR:-none}\" >>\"$dir/told\"\n\
        case $(cat \"$dir/does-$1\" 2>/dev/null) in\n\
        fail) echo 'not now' >&2; exit 3 ;;\n\
        hang) sleep 600 ;;\n\
        esac\n";
    fs::write(&path, script).expect("write a hook");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it a program");
    path
}

/// The settings of a deployment whose hooks are all [`hook`].
fn hooked(dir: &Path) -> String {
    let hook = hook(dir);
    let hooks = ["before", "after", "failed"].map(|name| format!("{name} = ['{}', '{name}']", hook.display()));
    format!("[deployments.orders.hooks]\n{}\nlimit = '2s'", hooks.join("\n"))
}

fn does(dir: &Path, hook: &str, what: &str) {
    fs::write(dir.join(format!("does-{hook}")), what).expect("tell a hook what to do");
}

/// Waits until the hooks have been told something.
#[track_caller]
fn wait_until_told(dir: &Path, line: &str) {
    eventually(&format!("a hook to be told {line:?}"), SOON, || {
        let told = fs::read_to_string(dir.join("told")).unwrap_or_default();
        if told.lines().any(|told| told.starts_with(line)) { Ok(()) } else { Err(told) }
    });
}

/// Waits until the audit has an entry about a hook.
#[track_caller]
fn wait_for_audit(fleet: &Fleet, action: &str, words: &[&str]) {
    eventually(&format!("the audit to say {action:?} {words:?}"), SOON, || {
        let audit = fleet.json(&["audit", ORDERS]);
        let is_it = |entry: &&Value| {
            let subject = entry["subject"].as_str().expect("a subject");
            entry["action"] == action && words.iter().all(|word| subject.contains(word))
        };
        audit["entries"].as_array().expect("a list").iter().find(is_it).map(drop).ok_or(format!("{audit:#}"))
    });
}

#[test]
fn hooks_run_around_a_snapshot_and_the_one_before_can_refuse_it() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let dir = work.path();
    let mut fleet = Fleet::with(&[], &hooked(dir));
    fleet.add("fra-1", Server::start(Version::Redis70));
    load(fleet.server("fra-1"), 72, 50);

    let id = fleet.snapshot("fra-1");
    wait_until_told(dir, "before before orders/0 fra fra-1 none none none");
    wait_until_told(dir, &format!("after after orders/0 fra fra-1 committed {id} none"));
    wait_for_audit(&fleet, "ran a hook", &["before the snapshot of node fra-1", "exited with 0"]);
    wait_for_audit(&fleet, "ran a hook", &["after the snapshot of node fra-1", "exited with 0"]);

    // What comes after changes nothing about a backup that is committed.
    does(dir, "after", "fail");
    fleet.snapshot("fra-1");
    wait_for_audit(&fleet, "a hook failed", &["after the snapshot", "exited with 3", "not now"]);

    let snapshot = ["snapshot", ORDERS];
    does(dir, "before", "fail");
    fleet.coordinator.urtext(&snapshot).expect(5).says(&["fra-1", "exited with 3", "not now", "hint:", "hooks.before"]);
    wait_until_told(dir, "failed failed orders/0 fra fra-1 refused none the hook before the snapshot");
    does(dir, "before", "hang");
    let words = ["did not end within 2s", "killed with all that it started"];
    fleet.coordinator.urtext(&snapshot).expect(5).says(&words);
    wait_for_audit(&fleet, "a hook failed", &words);
    assert_eq!(fleet.backups().len(), 2, "nothing was captured that was refused");

    // The server dies: the snapshot fails, and who is to be told is told.
    does(dir, "before", "nothing");
    fleet.server_mut("fra-1").kill9();
    fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "fra-1"]).expect(6);
    wait_until_told(dir, "failed failed orders/0 fra fra-1 failed 01");
}

#[test]
fn a_scheduled_snapshot_that_fails_is_an_alarm_until_one_succeeds() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let dir = work.path();
    does(dir, "before", "fail");
    let schedule = "[deployments.orders.schedule]\nsnapshot = '*/2 * * * * *'\njitter = '0s'";
    let mut fleet = Fleet::with(&[], &format!("{}\n{schedule}", hooked(dir)));
    fleet.add("fra-1", Server::start(Version::Redis70));
    let alarms = |fleet: &Fleet| fleet.json(&["status", ORDERS])["shards"][0]["alarms"].to_string();
    eventually("an alarm", SOON, || {
        let alarms = alarms(&fleet);
        let is_it = alarms.contains("snapshot-failed") && alarms.contains("not now");
        if is_it { Ok(()) } else { Err(alarms) }
    });
    assert!(fleet.backups().is_empty());
    let status = fleet.coordinator.urtext(&["status", ORDERS]).expect(0).stdout;
    assert!(status.contains("scheduled run     FAILED") || status.contains("scheduled run     running"), "{status}");

    does(dir, "before", "nothing");
    eventually("the alarm to go", SOON, || {
        let alarms = alarms(&fleet);
        if alarms.contains("snapshot-failed") { Err(alarms) } else { Ok(()) }
    });
    assert!(!fleet.backups().is_empty());
}

#[test]
fn a_second_site_pulls_what_it_lacks_and_the_canonical_backup_is_rehearsed_by_itself() {
    let server = Version::Redis70.program();
    let settings = format!(
        "[deployments.orders.schedule]\nsync = '*/2 * * * * *'\nrehearse = '*/3 * * * * *'\njitter = '0s'\n\
         [rehearse]\nidentity = 'operator/identity.txt'\nservers = ['{}']",
        server.display()
    );
    let mut fleet = fleet_of_two(&settings);
    let second = fleet.work().join("second").display().to_string();
    fleet.coordinator.urtext(&["repository", "add", "second", &second, "--upload-limit", "1 GiB/s"]).expect(0);
    fleet.coordinator.configure("pulls = ['main']");
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    fleet.wait_for_node("nyc-1", "its agent connected", |seen| seen["connected"] == true);
    fleet.wait_until_seen("nyc-1");
    let id = fleet.snapshot("nyc-1");
    eventually("the second repository to have a copy", SOON, || {
        let copies = fleet.backups()[0]["copies"].clone();
        let names: Vec<&str> =
            copies.as_array().expect("a list").iter().filter_map(|one| one["repository"].as_str()).collect();
        if names == ["main", "second"] { Ok(()) } else { Err(format!("{copies}\n{}", fleet.coordinator.log())) }
    });
    eventually("the canonical backup to be rehearsed", SOON, || {
        let canonical = fleet.canonical()["canonical"].clone();
        assert_eq!(canonical["id"], id.as_str());
        if canonical["verified"] == "rehearsed" { Ok(()) } else { Err(fleet.coordinator.log()) }
    });
    eventually("the schedule to say what came of it", SOON, || {
        let shown = fleet.coordinator.urtext(&["schedule", ORDERS]).expect(0).stdout;
        let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        let says = |words: &str| shown.contains(words);
        if says("loads into") && says("nothing was missing") { Ok(()) } else { Err(shown) }
    });
    fleet.coordinator.urtext(&["audit", ORDERS]).expect(0).prints(&["rehearsed", "schedule"]);
}
