//! Times and what is not known, as every verb says them.

use std::time::Duration;

use urtext_types::Timestamp;

/// What is not known is a dash.
pub(super) fn optional(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// How long ago, to the precision that helps.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.since(at)))
}

/// The two largest units.
pub(super) fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let check = |seconds: f64, expect: &str| assert_eq!(duration(Duration::from_secs_f64(seconds)), expect);
        check(0.25, "0.2 s");
        check(59.9, "59 s");
        check(150.0, "2 min");
        check(7260.0, "2 h 1 min");
        check(260_000.0, "3 d 0 h");
    }
}
