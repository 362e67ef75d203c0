//! Waits for a state, with a limit; never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How often a state is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Long enough for any state of a healthy machine, also with every core busy.
pub const SOON: Duration = Duration::from_secs(30);

/// Calls `look` until it gives a value. Panics with `what` and the last obstacle when `limit` has passed.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let give_up = Instant::now() + limit;
    loop {
        let obstacle = match look() {
            Ok(value) => return value,
            Err(obstacle) => obstacle,
        };
        assert!(Instant::now() < give_up, "waited {limit:?} for: {what}; last seen: {obstacle}");
        thread::sleep(LOOK_EVERY);
    }
}

/// [`eventually`], for a plain condition.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    eventually(what, limit, || if holds() { Ok(()) } else { Err("not yet".to_owned()) });
}
