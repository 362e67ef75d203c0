//! What stands below a picture: what is canonical, what is accepted and why, what was set aside, and
//! what does not fit together.

use urtext_types::ForkEdge;

use super::{
    Note,
    survey::Survey,
    words::{Words, clean},
};
use crate::{
    selection::{Decided, Standing, Verdict},
    situation::latest_decision,
    view::{AcceptedLineage, Source},
    wording::{bytes, count, how_to_save, name},
};

/// More contradictions than this are counted.
const FINDINGS_SHOWN: usize = 8;

pub(super) fn notes(survey: &Survey<'_>, words: &Words<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    verdict(survey, words, &mut notes);
    ahead(survey, &mut notes);
    decisions(survey, words, &mut notes);
    set_aside(survey, &mut notes);
    findings(survey, words, &mut notes);
    notes
}

fn verdict(survey: &Survey<'_>, words: &Words<'_>, notes: &mut Vec<Note>) {
    let (view, selection) = (survey.view, survey.selection);
    match (selection.verdict, selection.canonical) {
        (Verdict::Canonical, Some(i)) => {
            let candidate = &view.candidates[i];
            let at = candidate.position.map_or_else(String::new, |at| format!(", at {}", words.position(at)));
            let text = format!("{} ({}){at}", name(candidate), candidate.site);
            notes.push(Note { label: "canonical", text });
        }
        (Verdict::Ambiguous, _) => {
            let mut text = selection.explanation.first().map_or_else(String::new, |sentence| clean(sentence));
            if selection.contending().count() > 1 {
                let command = format!("`urtext accept-lineage {} HISTORY --reason TEXT`", view.deployment);
                text.push_str(&format!(" {command} decides."));
            }
            notes.push(Note { label: "undecided", text });
        }
        _ => {
            let text = selection.explanation.first().map_or_else(String::new, |sentence| clean(sentence));
            notes.push(Note { label: "no verdict", text });
        }
    }
}

/// Live nodes that hold more than any backup.
fn ahead(survey: &Survey<'_>, notes: &mut Vec<Note>) {
    let ahead = survey.selection.candidates.iter().filter(|judged| judged.standing == Standing::Ahead);
    let Some(most) = ahead.max_by_key(|judged| judged.excess_bytes) else { return };
    let candidate = &survey.view.candidates[most.candidate];
    let more = most.excess_bytes.map_or_else(String::new, |excess| format!(" {}", bytes(excess)));
    let text = format!("{} holds{more} more: {}", name(candidate), how_to_save(survey.view, candidate));
    notes.push(Note { label: "ahead", text });
}

fn decisions(survey: &Survey<'_>, words: &Words<'_>, notes: &mut Vec<Note>) {
    let (view, selection) = (survey.view, survey.selection);
    let latest = latest_decision(view).map(|(index, _)| index);
    if let Some(Decided::FollowMaster(node)) = &selection.decided {
        let text = format!("the branch of the master {node}, by the policy follow-master");
        notes.push(Note { label: "accepted", text });
    }
    if let Some(index) = latest {
        notes.push(Note { label: "accepted", text: decision(&view.accepted[index], words) });
    } else if selection.decided.is_none() && selection.forks.is_empty() && selection.canonical.is_some() {
        notes.push(Note {
            label: "accepted",
            text: "the only branch that holds anything: no fork to decide".to_owned(),
        });
    }
    let mut earlier: Vec<_> =
        view.accepted.iter().enumerate().filter(|&(index, _)| Some(index) != latest).map(|(_, d)| d).collect();
    earlier.sort_by_key(|decision| (std::cmp::Reverse(decision.at), decision.history, &decision.over));
    notes.extend(earlier.into_iter().map(|earlier| Note { label: "earlier", text: decision(earlier, words) }));
}

fn decision(decision: &AcceptedLineage, words: &Words<'_>) -> String {
    let over: Vec<_> = decision.over.iter().map(|&history| words.name(history)).collect();
    let over = if over.is_empty() { String::new() } else { format!(" over {}", over.join(", ")) };
    let (by, reason) = (clean(&decision.by), clean(&decision.reason));
    format!("{}{over}, by {by} on {}: “{reason}”", words.name(decision.history), words.since(decision.at))
}

fn set_aside(survey: &Survey<'_>, notes: &mut Vec<Note>) {
    let aside = || survey.selection.candidates.iter().filter(|judged| judged.set_aside);
    let is_backup = |i: usize| matches!(survey.view.candidates[i].source, Source::Backup(_));
    let backups = aside().filter(|judged| is_backup(judged.candidate)).count();
    let nodes = aside().count() - backups;
    let counted: Vec<_> = [(backups, "backup", "backups"), (nodes, "live node", "live nodes")]
        .into_iter()
        .filter(|&(n, ..)| n > 0)
        .map(|(n, one, many)| count(n, one, many))
        .collect();
    if !counted.is_empty() {
        let text = format!("{}: kept, and can be restored beside by id", counted.join(" and "));
        notes.push(Note { label: "set aside", text });
    }
}

/// Statements that contradict each other: neither is believed.
fn findings(survey: &Survey<'_>, words: &Words<'_>, notes: &mut Vec<Note>) {
    let key = |edge: &ForkEdge| (edge.child, edge.parent.history, edge.parent.offset, edge.evidence);
    let mut pairs: Vec<_> = survey
        .view
        .contradictions
        .iter()
        .map(|found| {
            let mut pair = [found.known, found.claimed];
            pair.sort_unstable_by_key(key);
            pair
        })
        .collect();
    pairs.sort_unstable_by_key(|pair| pair.map(|edge| key(&edge)));
    pairs.dedup();
    let said = |edge: &ForkEdge| {
        let bound = if edge.evidence.is_exact() { "at" } else { "at or after" };
        format!("{} from {} {bound} {}", words.name(edge.child), words.name(edge.parent.history), edge.parent.offset)
    };
    let more = pairs.len().saturating_sub(FINDINGS_SHOWN);
    notes.extend(pairs.into_iter().take(FINDINGS_SHOWN).map(|[a, b]| {
        let text = format!("contradiction, neither is believed: {}; {}", said(&a), said(&b));
        Note { label: "finding", text }
    }));
    if more > 0 {
        notes.push(Note { label: "finding", text: format!("{more} more contradictions") });
    }
}
