//! For how long keys have to live.

use urtext_types::Timestamp;

const MINUTE: i64 = 60 * 1000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Keys that expire within the same span, counted from one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What it is called: `within an hour`.
    pub name: &'static str,
    /// Milliseconds from the moment; what is later belongs into the next span. `None`: without end.
    pub until: Option<i64>,
    pub keys: u64,
}

/// How many keys expire when. Fields of hashes, which may have an expiry of their own, are not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiries {
    pub from: Timestamp,
    /// Keys that stay.
    pub never: u64,
    pub spans: [Span; 8],
}

impl Expiries {
    pub fn new(from: Timestamp) -> Self {
        let span = |name, until| Span { name, until, keys: 0 };
        let spans = [
            span("before", Some(0)),
            span("within a minute", Some(MINUTE)),
            span("within an hour", Some(HOUR)),
            span("within a day", Some(DAY)),
            span("within a week", Some(7 * DAY)),
            span("within 30 days", Some(30 * DAY)),
            span("within a year", Some(365 * DAY)),
            span("later", None),
        ];
        Self { from, never: 0, spans }
    }

    pub fn add(&mut self, expires_at: Option<i64>) {
        let Some(at) = expires_at else {
            self.never += 1;
            return;
        };
        let left = at.saturating_sub(self.from.as_millis());
        let span = self.spans.iter_mut().find(|span| span.until.is_none_or(|until| left <= until));
        span.expect("the last span has no end").keys += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_counted_in_the_first_span_that_holds_its_end() {
        let mut expiries = Expiries::new(Timestamp::from_millis(1000));
        for at in
            [None, Some(1000), Some(1001), Some(1000 + MINUTE), Some(1001 + MINUTE), Some(i64::MAX), Some(i64::MIN)]
        {
            expiries.add(at);
        }
        assert_eq!(expiries.never, 1);
        assert_eq!(expiries.spans.map(|span| span.keys), [2, 2, 1, 0, 0, 0, 0, 1]);
    }
}
