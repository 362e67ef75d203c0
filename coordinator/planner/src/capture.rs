//! Which nodes to take a snapshot of.
//!
//! The most up to date first; replicas before masters, which have clients to serve; at most one per
//! site. Where nodes stand on different branches, one of every branch is taken, however few copies
//! are wanted: what only one server holds is exactly what a backup is for.

use std::{cmp::Reverse, collections::BTreeSet};

use urtext_types::{NodeName, SiteName, may_capture};

use crate::{
    chart::{Chart, Extents, Place},
    data_as_of::DataAsOf,
    view::{NodeSeen, Policy, ShardView},
    wording::{bytes, bytes_and_time, sentence, silence},
};

/// A replica that lacks less than this many seconds of writes is up to date: two observations, a
/// second apart each, and a slow round trip.
const UP_TO_DATE_SECONDS: f64 = 10.0;

/// The same where no master was observed: what the default backlog of Redis can still bridge
/// (`CONFIG_DEFAULT_REPL_BACKLOG_SIZE`, `repl-backlog-size` 1mb).
const UP_TO_DATE_BYTES: u64 = 1024 * 1024;

/// One node, with the reason why it was or was not chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub node: NodeName,
    pub site: SiteName,
    pub chosen: bool,
    /// A whole sentence.
    pub reason: String,
}

/// What earlier attempts at the same backup came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Nodes that were captured: their sites have their copies.
    pub captured: BTreeSet<NodeName>,
    /// Nodes whose captures failed: others go before them.
    pub failed: BTreeSet<NodeName>,
}

/// Chooses up to `copies` nodes, and one more for every branch that would go without. Every node of
/// the view is in the answer exactly once, the chosen ones first and in the order of preference.
pub fn choose_nodes(view: &ShardView, policy: &Policy, copies: usize) -> Vec<Choice> {
    choose_copies(view, policy, copies, &Tried::default())
}

/// [`choose_nodes`], when some of the copies have been taken, or have failed, already.
pub fn choose_copies(view: &ShardView, policy: &Policy, copies: usize, tried: &Tried) -> Vec<Choice> {
    let lineage = view.lineage.trusted(&view.contradictions);
    let mut refused = Vec::new();
    let mut fit = Vec::new();
    let (mut captured, mut sites) = (Vec::new(), BTreeSet::new());
    for seen in &view.nodes {
        if tried.captured.contains(&seen.node) {
            sites.insert(&seen.site);
            captured.push(seen);
            refused.push(Choice::new(seen, false, "It has been captured.".to_owned()));
            continue;
        }
        match refusal(seen, policy) {
            Some(reason) => refused.push(Choice::new(seen, false, reason)),
            None => fit.push(seen),
        }
    }
    let missing = copies.saturating_sub(sites.len());
    let fits = fit.len();
    fit.extend(captured);
    let positions: Vec<_> = fit.iter().map(|seen| seen.observation.position()).collect();
    let known = lineage.edges().map(|edge| edge.child);
    let chart = Chart::new(&lineage, known.chain(positions.iter().flatten().map(|position| position.history)));
    let places: Vec<_> = positions.iter().map(|position| position.and_then(|position| chart.place(position))).collect();
    let extents = Extents::of(&chart, places.iter().copied().flatten());
    let data_as_of = DataAsOf::on(&chart, &view.timeline);

    let mut ranked: Vec<Ranked<'_>> = fit
        .into_iter()
        .zip(places)
        .map(|(seen, place)| Ranked::new(seen, place, &extents, &data_as_of, tried.failed.contains(&seen.node)))
        .collect();
    // What has been captured holds its branch.
    let mut tips: BTreeSet<Option<Place>> = ranked.split_off(fits).iter().map(|node| node.tip).collect();
    ranked.sort_unstable_by_key(Ranked::order);
    let mut choices = Vec::new();
    let mut others = Vec::new();
    for node in &ranked {
        if sites.contains(&node.seen.site) {
            others.push((node, format!("Site {} has a node that is chosen.", node.seen.site)));
        } else if choices.len() >= missing {
            others.push((node, "Enough others are chosen.".to_owned()));
        } else {
            sites.insert(&node.seen.site);
            tips.insert(node.tip);
            choices.push(Choice::new(node.seen, true, node.praise()));
        }
    }
    for (node, reason) in others {
        if copies > 0 && node.tip.is_some() && tips.insert(node.tip) {
            let reason = "Holds writes of a branch that no other chosen node holds.".to_owned();
            choices.push(Choice::new(node.seen, true, reason));
        } else {
            refused.push(Choice::new(node.seen, false, reason));
        }
    }
    refused.sort_unstable_by(|a, b| a.node.cmp(&b.node));
    choices.extend(refused);
    choices
}

impl Choice {
    fn new(seen: &NodeSeen, chosen: bool, reason: String) -> Self {
        Self { node: seen.node.clone(), site: seen.site.clone(), chosen, reason }
    }
}

fn refusal(seen: &NodeSeen, policy: &Policy) -> Option<String> {
    if !seen.reachable {
        return Some(sentence(silence(Some(seen))));
    }
    may_capture(&seen.observation, false, policy.max_link_down).err().map(|refusal| sentence(&refusal.to_string()))
}

/// A node that may be captured.
struct Ranked<'a> {
    seen: &'a NodeSeen,
    /// The furthest place of its branch.
    tip: Option<Place>,
    /// What it lacks against that.
    lag: Option<(u64, Option<f64>)>,
    failed: bool,
}

impl<'a> Ranked<'a> {
    fn new(
        seen: &'a NodeSeen,
        place: Option<Place>,
        extents: &Extents,
        data_as_of: &DataAsOf<'_>,
        failed: bool,
    ) -> Self {
        let tip = place.and_then(|place| extents.tip_over(place));
        let lag = place.zip(tip).map(|(place, tip)| {
            let lag = tip.offset.bytes_since(place.offset).get();
            (lag, data_as_of.seconds_from(place, tip))
        });
        Self { seen, tip, lag, failed }
    }

    fn is_up_to_date(&self) -> bool {
        match self.lag {
            Some((0, _)) => true,
            Some((_, Some(seconds))) => seconds <= UP_TO_DATE_SECONDS,
            Some((bytes, None)) => bytes <= UP_TO_DATE_BYTES,
            None => false,
        }
    }

    /// The least comes first.
    fn order(&self) -> impl Ord + use<'a> {
        let observation = &self.seen.observation;
        let is_up_to_date = self.is_up_to_date();
        (
            !is_up_to_date,
            self.failed,
            is_up_to_date && observation.replication.role.is_master(),
            // A second save cannot start before the first has ended.
            observation.persistence.bgsave_in_progress,
            self.lag.map_or(u64::MAX, |(bytes, _)| bytes),
            Reverse(self.seen.received_at),
            &self.seen.node,
        )
    }

    fn praise(&self) -> String {
        let role = if self.seen.observation.replication.role.is_master() { "A master" } else { "A replica" };
        match self.lag {
            Some((0, _)) => format!("{role}, as far as any node of its branch."),
            Some((lag, seconds)) if self.is_up_to_date() => {
                format!("{role}, up to date: {} behind.", bytes_and_time(lag, seconds))
            }
            Some((lag, _)) => format!("{role}, {} behind; nothing better can be captured now.", bytes(lag)),
            None => format!("{role} whose writes have no positions."),
        }
    }
}
