use super::*;

fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::parse(expression, zone).expect(expression)
}

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The slots that follow `from`, in UTC and to the minute.
#[track_caller]
fn check_slots(expression: &str, zone: &str, from: &str, expect: &[&str]) {
    let schedule = schedule(expression, zone);
    let mut time = at(from);
    let mut found = Vec::new();
    for _ in expect {
        time = schedule.next_after(time).expect("another slot");
        found.push(time.to_string()[..16].to_owned());
    }
    assert_eq!(found, expect, "{expression} in {zone} after {from}");
}

#[test]
fn what_falls_into_the_hour_that_spring_takes_comes_right_after_it() {
    // Berlin, 2026-03-29: 02:00 becomes 03:00, which is 01:00 UTC.
    let days = ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"];
    check_slots("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", &days);
    let days = ["2026-03-28T02:00", "2026-03-29T01:00", "2026-03-30T01:00"];
    check_slots("0 3 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", &days);
    check_slots("30 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", &["2026-03-08T07:00", "2026-03-09T06:30"]);
    // Lord Howe puts its clocks forward by half an hour: 02:00 becomes 02:30, on 2026-10-04.
    check_slots("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", &["2026-10-03T15:30", "2026-10-04T15:15"]);
}

#[test]
fn what_falls_into_the_hour_that_autumn_repeats_comes_once() {
    // Berlin, 2026-10-25: 03:00 becomes 02:00; 02:30 passes at 00:30 and at 01:30 UTC.
    let days = ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"];
    check_slots("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", &days);
    check_slots("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", &["2026-11-01T05:30", "2026-11-02T06:30"]);
    // Every hour is every hour, the repeated one as well.
    let hours = ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"];
    check_slots("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", &hours);
}

#[test]
fn looking_back_finds_the_slots_that_looking_ahead_finds() {
    for (expression, zone) in [
        ("30 2 * * *", "Europe/Berlin"),
        ("*/20 1-3 * * *", "Europe/Berlin"),
        ("0 * * * *", "Europe/Berlin"),
        ("15 2 * * *", "Australia/Lord_Howe"),
        ("30 0 * * *", "America/Sao_Paulo"),
        ("0 3 * * SUN", "America/New_York"),
        ("0 4 L * *", "Asia/Kolkata"),
    ] {
        let schedule = schedule(expression, zone);
        for from in ["2026-03-27T00:00:00Z", "2026-10-02T00:00:00Z", "2026-10-23T00:00:00Z", "2026-10-30T00:00:00Z"] {
            let mut expect = schedule.latest(at(from)).expect("a slot before");
            let mut next = schedule.next_after(at(from)).expect("a slot after");
            // Seven minutes meet every slot of these from near by, also those that are not on a whole hour.
            for n in 0..1200 {
                let now = at(from).plus(seconds(n * 420));
                if next <= now {
                    expect = next;
                    next = schedule.next_after(next).expect("a slot after");
                }
                assert_eq!(schedule.latest(now), Some(expect), "{expression} in {zone} at {now}");
            }
        }
    }
}

#[track_caller]
fn check_refused(expression: &str, zone: &str, expect: &str) {
    let error = Schedule::parse(expression, zone).expect_err("refused");
    assert_eq!((error.to_string().as_str(), error.kind()), (expect, ErrorKind::Usage));
    assert!(error.hint().is_some());
}

#[test]
fn what_is_no_schedule_is_refused() {
    check_refused(
        "every day",
        "UTC",
        "\"every day\" is not a cron expression (Invalid pattern: Pattern must have 5 or 6 fields when years are disallowed.)",
    );
    check_refused(
        "0 25 * * *",
        "UTC",
        "\"0 25 * * *\" is not a cron expression (Component error: Number out of bounds.)",
    );
    check_refused("0 3 30 2 *", "UTC", "\"0 3 30 2 *\" names no time that will ever come");
    check_refused("0 3 * * *", "Berlin", "\"Berlin\" is not a time zone");
    check_refused(
        "0 0 3 * * * 2031",
        "UTC",
        "\"0 0 3 * * * 2031\" is not a cron expression (Invalid pattern: Pattern must have 5 or 6 fields when years are disallowed.)",
    );
    for fine in ["@daily", "0 3 * * MON-FRI", "*/2 * * * * *", "0 3 29 2 *", "0 3 * * 7"] {
        schedule(fine, "Europe/Berlin");
    }
}

#[test]
fn times_beyond_the_calendar_are_no_slots() {
    let daily = schedule("0 3 * * *", "Europe/Berlin");
    for millis in [i64::MIN, i64::MAX] {
        assert_eq!(daily.latest(Timestamp::from_millis(millis)), None);
        assert_eq!(daily.next_after(Timestamp::from_millis(millis)), None);
        let memory = Memory { since: Timestamp::from_millis(0), run: None };
        let step = daily.step(seconds(5), &memory, Timestamp::from_millis(millis));
        assert!(matches!(step, Step::Wait { .. }), "{step:?}");
    }
}

#[test]
fn the_shift_is_the_same_each_time_and_spreads_names() {
    let jitter = seconds(600);
    let shifts: Vec<u64> = (0..200).map(|n| shift(&format!("shop-{n}/0 snapshot"), jitter).as_secs()).collect();
    assert!(shifts.iter().all(|shift| *shift < 600));
    let in_minute = |minute: u64| shifts.iter().filter(|shift| *shift / 60 == minute).count();
    assert!((0..10).all(|minute| (8..=35).contains(&in_minute(minute))), "{shifts:?}");
    // Kept over versions: a run must not move because urtext was replaced.
    assert_eq!(shift("orders/0 snapshot", jitter), seconds(139));
    assert_eq!(shift("orders/0 snapshot", Duration::ZERO), Duration::ZERO);
    assert_eq!(shift("orders/0 snapshot", Duration::from_millis(999)), Duration::ZERO);
}

/// Daily at 3, 100 s later by jitter, known since the 20th at noon.
#[track_caller]
fn check_step(run: Option<(&str, u32, RunState)>, now: &str, expect: &str) {
    let daily = schedule("0 3 * * *", "UTC");
    let run = run.map(|(slot, attempts, state)| Run { slot: at(slot), attempts, state });
    let memory = Memory { since: at("2026-11-20T12:00:00Z"), run };
    let said = match daily.step(seconds(100), &memory, at(now)) {
        Step::Begin { slot, attempt, why } => format!("{} {attempt}: {why}", &slot.to_string()[8..16]),
        Step::Wait { until } => format!("wait {}", &until.to_string()[8..19]),
        Step::UnderWay => "under way".to_owned(),
    };
    assert_eq!(said, expect, "{run:?} at {now}");
}

#[test]
fn a_run_comes_once_for_the_newest_slot() {
    use RunState::{Done, Failed, Interrupted, Running};
    // Slots from before the schedule was there are nobody's.
    check_step(None, "2026-11-20T12:00:00Z", "wait 21T03:01:40");
    check_step(None, "2026-11-21T03:01:39Z", "wait 21T03:01:40");
    check_step(None, "2026-11-21T03:01:40Z", "21T03:00 1: it is due");
    check_step(Some(("2026-11-21T03:00:00Z", 1, Running)), "2026-11-25T00:00:00Z", "under way");
    check_step(Some(("2026-11-21T03:00:00Z", 1, Done)), "2026-11-21T03:05:00Z", "wait 22T03:01:40");
    check_step(Some(("2026-11-21T03:00:00Z", 1, Done)), "2026-11-22T03:02:00Z", "22T03:00 1: it is due");
    // A coordinator that was down for days makes up for one.
    let caught_up = "25T03:00 1: it was missed, and is made up for once";
    check_step(Some(("2026-11-21T03:00:00Z", 1, Done)), "2026-11-25T17:00:00Z", caught_up);
    check_step(Some(("2026-11-25T03:00:00Z", 1, Done)), "2026-11-25T17:00:01Z", "wait 26T03:01:40");
    // What failed is tried again, less and less often, until the next slot takes over.
    let failed = |attempts, at_text| Some(("2026-11-21T03:00:00Z", attempts, Failed { at: at(at_text) }));
    check_step(failed(1, "2026-11-21T03:02:00Z"), "2026-11-21T03:02:29Z", "wait 21T03:02:30");
    check_step(failed(1, "2026-11-21T03:02:00Z"), "2026-11-21T03:02:30Z", "21T03:00 2: the attempt before failed");
    check_step(failed(3, "2026-11-21T03:02:00Z"), "2026-11-21T03:02:30Z", "wait 21T03:04:00");
    check_step(failed(900, "2026-11-21T04:00:00Z"), "2026-11-21T04:01:00Z", "wait 21T04:15:00");
    check_step(failed(900, "2026-11-22T03:00:00Z"), "2026-11-22T03:01:40Z", "22T03:00 1: it is due");
    check_step(failed(900, "2026-11-22T03:00:00Z"), "2026-11-22T03:00:01Z", "wait 22T03:01:40");
    let interrupted = Some(("2026-11-21T03:00:00Z", 2, Interrupted));
    check_step(interrupted, "2026-11-21T07:00:00Z", "21T03:00 2: the attempt before was interrupted");
    check_step(interrupted, "2026-11-22T03:02:00Z", "22T03:00 1: it is due");
}

#[test]
fn a_clock_that_is_put_back_repeats_nothing() {
    check_step(Some(("2026-11-25T03:00:00Z", 1, RunState::Done)), "2026-11-21T09:00:00Z", "wait 26T03:01:40");
}

#[test]
fn a_run_that_does_not_end_well_is_overdue_after_a_while() {
    let check = |expression: &str, run: Option<(&str, RunState)>, now: &str, expect: Option<&str>| {
        let run = run.map(|(slot, state)| Run { slot: at(slot), attempts: 1, state });
        let memory = Memory { since: at("2026-11-20T12:00:00Z"), run };
        let overdue = schedule(expression, "UTC").overdue(seconds(100), &memory, at(now));
        assert_eq!(overdue, expect.map(at), "{expression} {run:?} at {now}");
    };
    let (daily, hourly) = ("0 3 * * *", "0 * * * *");
    check(daily, None, "2026-11-20T23:00:00Z", None);
    check(daily, None, "2026-11-21T04:01:40Z", None);
    check(daily, None, "2026-11-21T04:01:41Z", Some("2026-11-21T03:01:40Z"));
    check(daily, Some(("2026-11-21T03:00:00Z", RunState::Done)), "2026-11-22T03:01:00Z", None);
    let running = Some(("2026-11-21T03:00:00Z", RunState::Running));
    check(daily, running, "2026-11-21T03:30:00Z", None);
    check(daily, running, "2026-11-21T05:00:00Z", Some("2026-11-21T03:01:40Z"));
    check(hourly, running, "2026-11-21T03:31:41Z", Some("2026-11-21T03:01:40Z"));
    check(hourly, running, "2026-11-21T03:31:40Z", None);
}
