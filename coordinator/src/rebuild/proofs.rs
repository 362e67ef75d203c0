//! What verifications and rehearsals found, of each copy the last of it.

use std::collections::HashMap;

use urtext_repository::{BackupKey, Proof, RecordBody, RecordKind};
use urtext_types::{BackupId, Chain, RepositoryId, Timestamp};

use crate::{Fault, app::App, catalog::CopyState, shard::ShardKey};

/// For each repository and shard, what the records say of its backups. Some 100 bytes for each backup, however often
/// it was verified.
#[derive(Debug, Default)]
pub(super) struct Proofs(HashMap<(RepositoryId, ShardKey), HashMap<BackupId, Found>>);

/// What was found of one copy. `Some(None)` is that it was found damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    broken: Option<Box<str>>,
    verified_at: Option<Option<Timestamp>>,
    rehearsed_at: Option<Option<Timestamp>>,
}

impl Proofs {
    /// One finding, later than those before it.
    fn add(&mut self, of: &(RepositoryId, ShardKey), id: BackupId, how: Proof, at: Timestamp, damaged: Option<String>) {
        let backups = match self.0.get_mut(of) {
            Some(backups) => backups,
            None => self.0.entry(of.clone()).or_default(),
        };
        let found = backups.entry(id).or_default();
        let proved_at = damaged.is_none().then_some(at);
        match how {
            Proof::Stored => found.verified_at = Some(proved_at),
            Proof::Rehearsed => found.rehearsed_at = Some(proved_at),
        }
        found.broken = damaged.map(String::into_boxed_str);
    }

    /// Brings the state of a copy up to what was proved of it.
    pub(super) fn apply(&self, repository: RepositoryId, key: &BackupKey, state: &mut CopyState) {
        let of = (repository, ShardKey::new(key.deployment.clone(), key.shard.clone()));
        let Some(found) = self.0.get(&of).and_then(|backups| backups.get(&key.id)) else { return };
        state.broken = found.broken.as_deref().map(str::to_owned);
        state.verified_at = found.verified_at.unwrap_or(state.verified_at);
        state.rehearsed_at = found.rehearsed_at.unwrap_or(state.rehearsed_at);
    }
}

impl App {
    /// Reads what was proved. A record that cannot be read does not hide the others.
    pub(super) async fn read_proofs(&self, unreadable: &mut Vec<String>) -> Result<Proofs, Fault> {
        let mut proofs = Proofs::default();
        for deployment in self.recorded_deployments().await? {
            for record in self.records(&deployment, RecordKind::Verified).await? {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => {
                        unreadable.push(Chain(&error).to_string());
                        continue;
                    }
                };
                let RecordBody::Verified { shard, repository, how, good, damaged } = record.body else { continue };
                let of = (repository, ShardKey::new(record.deployment, shard));
                let good = good.into_iter().map(|id| (id, None));
                for (id, reason) in good.chain(damaged.into_iter().map(|(id, reason)| (id, Some(reason)))) {
                    proofs.add(&of, id, how, record.at, reason);
                }
            }
        }
        Ok(proofs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_finding_counts_and_each_kind_has_its_own_time() {
        let at = |second: i64| Timestamp::from_millis(1_800_000_000_000 + second * 1000);
        let repository = RepositoryId::new(at(0), [7; 10]);
        let key = BackupKey {
            deployment: "orders".parse().expect("a name"),
            shard: "0".parse().expect("a name"),
            id: BackupId::new(at(0), [1; 10]),
        };
        let of = (repository, ShardKey::new(key.deployment.clone(), key.shard.clone()));
        let mut proofs = Proofs::default();
        let state = |proofs: &Proofs| {
            let mut state = CopyState::default();
            proofs.apply(repository, &key, &mut state);
            state
        };
        assert_eq!(state(&proofs), CopyState::default());
        proofs.add(&of, key.id, Proof::Rehearsed, at(1), None);
        proofs.add(&of, key.id, Proof::Stored, at(2), Some("part 0 is gone".to_owned()));
        let (broken, rehearsed_at) = (Some("part 0 is gone".to_owned()), Some(at(1)));
        assert_eq!(state(&proofs), CopyState { broken, rehearsed_at, ..CopyState::default() });
        proofs.add(&of, key.id, Proof::Stored, at(3), None);
        assert_eq!(state(&proofs), CopyState { verified_at: Some(at(3)), rehearsed_at, ..CopyState::default() });
        // Of another repository's copy nothing was said.
        let mut other = CopyState::default();
        proofs.apply(RepositoryId::new(at(0), [8; 10]), &key, &mut other);
        assert_eq!(other, CopyState::default());
    }
}
