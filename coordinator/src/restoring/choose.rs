//! Which backup a restore takes, and whether it may.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use urtext_planner::{AcceptedLoss as AcceptedLossBefore, Judged, MayHoldMore, Verdict};
use urtext_types::{BackupId, ErrorKind, SiteName};

use super::{AcceptedLoss, Choice};
use crate::{
    Fault,
    app::App,
    catalog::BackupEntry,
    fleet::{Node, SILENT_AFTER},
    shard::ShardKey,
    verdict::{Ask, Judgement},
};

/// The backup, with what speaks for it.
pub(super) struct Chosen {
    pub(super) entry: BackupEntry,
    pub(super) why: Vec<String>,
    pub(super) accepted_loss: Option<AcceptedLoss>,
}

/// How often somebody who waits for new looks asks whether they are there.
const ASK_EVERY: Duration = Duration::from_millis(20);

impl App {
    /// Waits until every node of the shard that counts as reachable was seen anew, or has proved not to be: a
    /// server that died a moment ago must not pass for one that can still be asked.
    pub(super) async fn look_again(&self, shard: &ShardKey) {
        let asked_at = self.clock.now();
        let has_answered = |node: &Node| node.fresh(self.clock.now()).is_none_or(|seen| seen.received_at > asked_at);
        let all_have = async {
            while !self.fleet.shard(shard).iter().all(has_answered) {
                sleep(ASK_EVERY).await;
            }
        };
        // Who said nothing for so long is silent, and counts as that.
        let _ = timeout(SILENT_AFTER, all_have).await;
    }

    pub(super) async fn choose_backup(
        &self,
        shard: &ShardKey,
        choice: Choice,
        prefer_site: Option<SiteName>,
        accept_loss: Option<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Chosen, Fault> {
        let mut ask = Ask { prefer_site, ..Ask::default() };
        let (judgement, entry) = match choice {
            Choice::Named(id) => {
                let judgement = self.judge(shard, &ask).await?;
                let entry = named_backup(&judgement, id, warnings)?;
                // Nothing that is not here could change this answer.
                warnings.extend(judgement.may_hold_more().into_iter().map(|more| more.sentence));
                let why = vec![format!("Backup {id} of {} was named.", entry.node)];
                return Ok(Chosen { entry, why, accepted_loss: None });
            }
            Choice::Canonical(wish) => {
                ask.wish = wish;
                let judgement = self.judge(shard, &ask).await?;
                let entry = canonical_backup(&judgement)?;
                (judgement, entry)
            }
            Choice::Branch(prefix, wish) => {
                let accepted = self.judge(shard, &ask).await?;
                let history = self.resolve_history(&accepted, &prefix)?;
                ask.wish = wish;
                ask.lineage = Some(history);
                let judgement = self.judge_known(shard, &ask).await?;
                let entry = canonical_backup(&judgement)?;
                if accepted.canonical().map(|canonical| canonical.id) != Some(entry.id) {
                    warnings.push(format!(
                        "this is the branch of {}, which is not the accepted one: do not let clients of {} write to it",
                        history.short(),
                        shard.deployment
                    ));
                }
                (judgement, entry)
            }
        };
        if accept_loss.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            return Err(Fault::new(ErrorKind::Usage, "to accept a loss needs a reason")
                .with_hint("say why with --reason: it is kept for ever"));
        }
        let (before, may_hold_more): (Vec<_>, Vec<_>) =
            judgement.may_hold_more().into_iter().partition(|more| more.accepted.is_some());
        warnings.extend(before.iter().filter_map(|more| {
            let AcceptedLossBefore { by, at, reason, .. } = more.accepted.as_ref()?;
            Some(format!("accepted to be lost by {by} on {at}, with the reason: {reason:?}: {}", more.sentence))
        }));
        let accepted_loss = match (may_hold_more.is_empty(), accept_loss) {
            (true, _) => None,
            (false, Some(reason)) => {
                warnings.extend(may_hold_more.iter().map(|more| format!("accepted to be lost: {}", more.sentence)));
                Some(AcceptedLoss { reason, may_hold_more })
            }
            (false, None) => return Err(may_lose(&entry, &may_hold_more)),
        };
        warnings.extend(judgement.unsaved());
        let why = why(&judgement, &entry);
        Ok(Chosen { entry, why, accepted_loss })
    }
}

/// The loss guard stops.
fn may_lose(entry: &BackupEntry, may_hold_more: &[MayHoldMore]) -> Fault {
    let sentences: Vec<&str> = may_hold_more.iter().map(|more| more.sentence.as_str()).collect();
    let fault = Fault::new(
        ErrorKind::Refused,
        format!(
            "nothing was restored: backup {} is the most complete one at hand, and there may be more. {}",
            entry.id,
            sentences.join(" ")
        ),
    );
    match may_hold_more.first() {
        Some(first) => fault.with_hint(first.hint.clone()),
        None => fault,
    }
}

fn why(judgement: &Judgement, entry: &BackupEntry) -> Vec<String> {
    let mut why: Vec<String> = judgement.selection.explanation.first().cloned().into_iter().collect();
    why.extend(judged(judgement, entry.id).map(|judged| judgement.selection.reason(&judgement.view, judged)));
    why
}

fn judged(judgement: &Judgement, id: BackupId) -> Option<&Judged> {
    let is_it = |judged: &&Judged| judgement.entry_of(judged.candidate).is_some_and(|entry| entry.id == id);
    judgement.selection.candidates.iter().find(is_it)
}

fn named_backup(judgement: &Judgement, id: BackupId, warnings: &mut Vec<String>) -> Result<BackupEntry, Fault> {
    let shard = &judgement.shard;
    let Some(entry) = judgement.backups.iter().find(|entry| entry.id == id) else {
        return Err(Fault::new(ErrorKind::NotFound, format!("{shard} has no backup {id}"))
            .with_hint(format!("`urtext backups {}` lists them", shard.deployment)));
    };
    if let Some(reason) = entry.unreadable() {
        let message = format!("backup {id} cannot be read now: {reason}");
        return Err(Fault::new(ErrorKind::Unavailable, message).with_hint("try again, or restore another one"));
    }
    if let Some(reason) = entry.damaged() {
        return Err(Fault::new(ErrorKind::Integrity, format!("backup {id} cannot be restored: {reason}"))
            .with_hint(format!("`urtext canonical {}` names one that can", shard.deployment)));
    }
    if judgement.canonical().map(|canonical| canonical.id) != Some(id) {
        let reason = judged(judgement, id).map(|judged| judgement.selection.reason(&judgement.view, judged));
        warnings.push(format!("this is not the canonical backup. {}", reason.unwrap_or_default()).trim().to_owned());
    }
    Ok(entry.clone())
}

pub fn canonical_backup(judgement: &Judgement) -> Result<BackupEntry, Fault> {
    if let Some(entry) = judgement.canonical() {
        return Ok(entry.clone());
    }
    let deployment = &judgement.shard.deployment;
    let explanation = judgement.selection.explanation.join(" ");
    match judgement.selection.verdict {
        Verdict::Ambiguous => Err(Fault::new(
            ErrorKind::Ambiguous,
            format!("which backup of {} is the right one is not decided. {explanation}", judgement.shard),
        )
        .with_hint(format!(
            "`urtext canonical {deployment}` shows the branches; `urtext accept-lineage {deployment} HISTORY --reason …` \
             decides, or --backup names one"
        ))),
        Verdict::Canonical | Verdict::None => Err(Fault::new(
            ErrorKind::NotFound,
            format!("{} has no backup that could be restored. {explanation}", judgement.shard),
        )
        .with_hint(format!("`urtext backups {deployment}` lists what there is"))),
    }
}
