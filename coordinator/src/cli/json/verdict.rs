//! `urtext canonical`.

use serde::Serialize;
use urtext_proto::{model, pb};
use urtext_types::{ReplicationId, Timestamp};

use super::{DataAsOf, all, history, position, time};

/// `urtext canonical`
#[derive(Debug, Serialize)]
pub struct Canonical {
    pub deployment: String,
    pub shard: String,
    /// `canonical`, `ambiguous` or `none`.
    pub verdict: String,
    pub canonical: Option<Chosen>,
    pub head: Option<Head>,
    pub missing: Option<Missing>,
    pub candidates: Vec<Candidate>,
    pub forks: Vec<Fork>,
    pub explanation: Vec<String>,
    /// What may hold more and cannot be asked now: a restore stops for each of these that nobody has accepted to be
    /// lost.
    pub may_hold_more: Vec<MayHoldMore>,
    /// What somebody could do, in sentences with the commands.
    pub advice: Vec<String>,
}

/// Something that may hold more than the chosen copy, and cannot be asked.
#[derive(Debug, Serialize)]
pub struct MayHoldMore {
    /// `node` or `repository`.
    pub kind: String,
    pub name: String,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    pub bytes_more: Option<u64>,
    pub seen_at: Option<Timestamp>,
    pub sentence: String,
    pub hint: String,
    /// Who accepted this very loss before; a restore does not stop for it.
    pub accepted: Option<LossAccepted>,
}

#[derive(Debug, Serialize)]
pub struct LossAccepted {
    pub by: String,
    pub at: Timestamp,
    pub reason: String,
}

#[derive(Debug, Serialize)]
pub struct Chosen {
    pub source: String,
    pub id: String,
    pub node: String,
    pub site: String,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    pub data_as_of: DataAsOf,
    pub taken_at: Timestamp,
    pub verified: String,
}

#[derive(Debug, Serialize)]
pub struct Head {
    pub history: ReplicationId,
    pub offset: u64,
    pub node: String,
    pub seen_at: Timestamp,
}

#[derive(Debug, Serialize)]
pub struct Missing {
    pub bytes: u64,
    pub seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Candidate {
    pub source: String,
    pub id: String,
    pub node: String,
    pub site: String,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    /// `canonical`, `equal`, `ahead`, `behind`, `divergent`, `unrelated`, `suspect` or `ineligible`.
    pub standing: String,
    pub reason: String,
    pub missing_bytes: Option<u64>,
    pub excess_bytes: Option<u64>,
    pub data_as_of: DataAsOf,
    pub taken_at: Timestamp,
    pub verified: String,
}

#[derive(Debug, Serialize)]
pub struct Fork {
    pub parent: ReplicationId,
    pub offset: u64,
    pub children: Vec<ReplicationId>,
    pub accepted: Option<ReplicationId>,
}

impl TryFrom<pb::CanonicalResponse> for Canonical {
    type Error = model::InvalidField;
    fn try_from(response: pb::CanonicalResponse) -> Result<Self, model::InvalidField> {
        let pb::CanonicalResponse {
            deployment,
            shard,
            verdict,
            canonical,
            head,
            missing_bytes,
            missing_ms,
            candidates,
            forks,
            explanation,
            printed: _,
            may_hold_more,
            advice,
        } = response;
        Ok(Self {
            deployment,
            shard,
            verdict,
            canonical: canonical.map(Candidate::try_from).transpose()?.map(Chosen::from),
            head: head
                .map(|pb::Head { position: at, node, seen_at_ms }| {
                    let at = position(at)?.ok_or_else(|| model::InvalidField::missing("head.position"))?;
                    Ok(Head { history: at.history, offset: at.offset.get(), node, seen_at: time(seen_at_ms) })
                })
                .transpose()?,
            missing: missing_bytes
                .map(|bytes| Missing { bytes, seconds: missing_ms.map(|millis| millis as f64 / 1000.0) }),
            candidates: all(candidates)?,
            forks: forks
                .into_iter()
                .map(|pb::Fork { parent, offset, children, accepted }| {
                    Ok(Fork {
                        parent: history(&parent)?,
                        offset,
                        children: children.iter().map(|child| history(child)).collect::<Result<_, _>>()?,
                        accepted: accepted.map(|child| history(&child)).transpose()?,
                    })
                })
                .collect::<Result<_, _>>()?,
            explanation,
            may_hold_more: all(may_hold_more)?,
            advice,
        })
    }
}

impl TryFrom<pb::MayHoldMore> for MayHoldMore {
    type Error = model::InvalidField;
    fn try_from(more: pb::MayHoldMore) -> Result<Self, model::InvalidField> {
        let pb::MayHoldMore { kind, name, position: at, bytes_more, seen_at_ms, sentence, hint, accepted } = more;
        let at = position(at)?;
        Ok(Self {
            kind,
            name,
            history: at.map(|at| at.history),
            offset: at.map(|at| at.offset.get()),
            bytes_more,
            seen_at: seen_at_ms.map(time),
            sentence,
            hint,
            accepted: accepted.map(|pb::LossAccepted { by, at_ms, reason }| LossAccepted {
                by,
                at: time(at_ms),
                reason,
            }),
        })
    }
}

impl TryFrom<pb::Candidate> for Candidate {
    type Error = model::InvalidField;
    fn try_from(candidate: pb::Candidate) -> Result<Self, model::InvalidField> {
        let pb::Candidate {
            source,
            id,
            node,
            site,
            position: at,
            standing,
            reason,
            missing_bytes,
            excess_bytes,
            data_as_of_from_ms,
            data_as_of_to_ms,
            taken_at_ms,
            verified,
        } = candidate;
        let at = position(at)?;
        Ok(Self {
            source,
            id,
            node,
            site,
            history: at.map(|at| at.history),
            offset: at.map(|at| at.offset.get()),
            standing,
            reason,
            missing_bytes,
            excess_bytes,
            data_as_of: DataAsOf { from: data_as_of_from_ms.map(time), to: data_as_of_to_ms.map(time) },
            taken_at: time(taken_at_ms),
            verified,
        })
    }
}

impl From<Candidate> for Chosen {
    fn from(candidate: Candidate) -> Self {
        let Candidate { source, id, node, site, history, offset, data_as_of, taken_at, verified, .. } = candidate;
        Self { source, id, node, site, history, offset, data_as_of, taken_at, verified }
    }
}
