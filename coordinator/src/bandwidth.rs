//! Upload limits of repositories: what the captures under way may have of them.
//!
//! Bytes may never pass the coordinator, so that the agents keep the limit. Each is told its share when it begins, and
//! again whenever another capture into the same repository begins or ends.

use tracing::warn;
use urtext_proto::pb;
use urtext_repository::SLOWEST_UPLOAD;
use urtext_types::ByteRate;

use crate::{app::App, catalog::TaskWork, repositories::Place, sessions::send, shard::NodeKey, tasks::Task};

/// Equal parts; nobody gets less than what keeps its server from waiting too long, so that very many captures at the
/// same time may exceed a very small limit.
fn share(limit: ByteRate, captures: usize) -> ByteRate {
    ByteRate::new(limit.get() / captures.max(1) as u64).unwrap_or(SLOWEST_UPLOAD).max(SLOWEST_UPLOAD)
}

impl App {
    /// What one more capture into that repository may upload.
    pub fn upload_share(&self, place: &Place) -> Option<ByteRate> {
        let limit = place.settings.upload_limit?;
        Some(share(limit, self.captures_into(place).len() + 1))
    }

    /// Tells every agent that captures into a limited repository its share, as it is now. One that is away is told
    /// when it is back.
    pub fn share_uploads(&self) {
        for place in self.repositories.iter() {
            let Some(limit) = place.settings.upload_limit else { continue };
            let captures = self.captures_into(place);
            let rate = share(limit, captures.len());
            for task in &captures {
                self.tell_rate(task, rate);
            }
        }
    }

    fn captures_into(&self, place: &Place) -> Vec<Task> {
        let mut captures = self.tasks.open();
        captures.retain(|task| {
            matches!(task.stored.work, TaskWork::Capture { .. })
                && self.repositories.for_site(&task.stored.agent.site).is_ok_and(|into| into.name() == place.name())
        });
        captures
    }

    fn tell_rate(&self, task: &Task, rate: ByteRate) {
        let node = self.fleet.node(&NodeKey::of(&task.stored.agent));
        let Some(session) = node.and_then(|node| node.session) else { return };
        let message = pb::UploadRate { task_id: task.stored.id.to_string(), bytes_per_second: rate.get() };
        if let Err(error) = send(&session.outbox, pb::coordinator_message::Message::UploadRate(message)) {
            warn!(agent = %task.stored.agent, %error, "could not tell an agent its share of an upload limit");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shared_equally_and_nobody_starves() {
        let mib = |mib: u64| ByteRate::new(mib * 1024 * 1024).expect("not zero");
        let check = |limit, captures, expect| assert_eq!(share(mib(limit), captures), mib(expect), "{captures}");
        check(20, 0, 20);
        check(20, 1, 20);
        check(20, 4, 5);
        check(20, 100, 1);
        check(1, 1, 1);
    }
}
