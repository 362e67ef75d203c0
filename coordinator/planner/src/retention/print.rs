//! What stays and what goes, as text.

use urtext_types::ByteCount;

use super::{Retention, RetentionVerdict};
use crate::{
    print::{line, wrap},
    wording::{count, time},
};

/// A heading, then every backup with its reasons, at most a hundred columns wide. Ends with a newline.
pub fn print_retention(retention: &Retention) -> String {
    let mut out = String::new();
    let (keep, gone) = (retention.kept().count(), retention.removed().count());
    let freed: u64 = retention.removed().map(|verdict| verdict.backup.bytes.get()).sum();
    let gone = match gone {
        0 => "nothing goes".to_owned(),
        _ => format!("{gone} go, {}", ByteCount::new(freed)),
    };
    let heading = format!(
        "{} shard {}: {} kept, {gone}",
        retention.deployment,
        retention.shard,
        count(keep, "backup", "backups"),
    );
    wrap(&mut out, "", &format!("{heading}; for each node and branch: {}", retention.policy));
    for verdict in &retention.backups {
        let RetentionVerdict { backup, keep, reasons } = verdict;
        let verb = if *keep { "keep  " } else { "remove" };
        line(&mut out, &format!("{verb} {}  {}  {}", backup.id, time(backup.received_at), backup.node));
        for reason in reasons {
            wrap(&mut out, "         ", &reason.to_string());
        }
    }
    out
}
