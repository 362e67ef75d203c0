//! What is known of the histories: statements about forks, decisions, findings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row};
use urtext_planner::{AcceptedLineage, HeadSeen, Mark, RunSeen};
use urtext_types::{Evidence, ForkEdge, Offset, Position, RecordId, Timestamp};

use super::{Catalog, CatalogError, decode, json, parsed, to_json};
use crate::shard::ShardKey;

/// A statement about a fork, and whether the repository has its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownEdge {
    pub edge: ForkEdge,
    pub recorded: bool,
}

/// An operator's decision under the id of its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub record: RecordId,
    pub accepted: AcceptedLineage,
}

/// Everything of one shard.
#[derive(Debug, Clone, Default)]
pub struct KnownLineage {
    /// In the order in which they were learned, those that contradict an earlier one among them.
    pub edges: Vec<KnownEdge>,
    pub decisions: Vec<Decision>,
    pub findings: Vec<String>,
    pub heads: Vec<HeadSeen>,
    pub marks: Vec<Mark>,
    /// For each node whose server was started anew, the last that was seen of the run before.
    pub ended: Vec<RunSeen>,
}

/// The spelling of an evidence is that of its JSON.
fn evidence_text(evidence: Evidence) -> String {
    to_json(&evidence)
}

impl Catalog {
    /// Keeps a statement about a fork, after all that were kept before. One that is kept already may become
    /// recorded, and stays so.
    pub async fn put_edge(&self, shard: &ShardKey, known: KnownEdge) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(self.failed("keep a statement about a fork"))?;
        Self::insert_edge(&mut connection, shard, known).await.map_err(self.failed("keep a statement about a fork"))
    }

    pub(super) async fn insert_edge(
        connection: &mut AnyConnection,
        shard: &ShardKey,
        known: KnownEdge,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO statements (deployment, shard, child, parent, parent_offset, evidence, recorded, sequence) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT COALESCE(MAX(sequence), 0) + 1 FROM statements)) \
             ON CONFLICT (deployment, shard, child, parent, parent_offset, evidence) \
             DO UPDATE SET recorded = CASE WHEN $7 = 1 THEN 1 ELSE statements.recorded END",
        )
        .bind(shard.deployment.to_string())
        .bind(shard.shard.to_string())
        .bind(known.edge.child.to_string())
        .bind(known.edge.parent.history.to_string())
        .bind(known.edge.parent.offset.get() as i64)
        .bind(evidence_text(known.edge.evidence))
        .bind(i16::from(known.recorded))
        .execute(connection)
        .await
        .map(|_| ())
    }

    /// Statements of which the repository has no record yet, in the order in which they were learned.
    pub async fn unrecorded_edges(&self) -> Result<Vec<(ShardKey, ForkEdge)>, CatalogError> {
        let failed = self.failed("look for forks without a record");
        let rows = sqlx::query("SELECT * FROM statements WHERE recorded = 0 ORDER BY sequence")
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter().map(|row| Ok((shard(row)?, edge(row)?))).collect::<Result<_, _>>().map_err(&failed)
    }

    pub async fn put_decision(&self, shard: &ShardKey, decision: &Decision) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(self.failed("record an accepted lineage"))?;
        Self::insert_decision(&mut connection, shard, decision).await.map_err(self.failed("record an accepted lineage"))
    }

    pub(super) async fn insert_decision(
        connection: &mut AnyConnection,
        shard: &ShardKey,
        decision: &Decision,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO accepted (deployment, shard, record_id, decision) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (deployment, shard, record_id) DO NOTHING",
        )
        .bind(shard.deployment.to_string())
        .bind(shard.shard.to_string())
        .bind(decision.record.to_string())
        .bind(to_json(decision))
        .execute(connection)
        .await
        .map(|_| ())
    }

    pub async fn put_finding(&self, shard: &ShardKey, sentence: &str, now: Timestamp) -> Result<(), CatalogError> {
        sqlx::query(
            "INSERT INTO findings (deployment, shard, sentence, first_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (deployment, shard, sentence) DO NOTHING",
        )
        .bind(shard.deployment.to_string())
        .bind(shard.shard.to_string())
        .bind(sentence.to_owned())
        .bind(now.as_millis())
        .execute(&self.pool)
        .await
        .map_err(self.failed("record a finding"))?;
        Ok(())
    }

    /// Everything, for the start.
    pub async fn lineages(&self) -> Result<BTreeMap<ShardKey, KnownLineage>, CatalogError> {
        let failed = self.failed("read what is known of the histories");
        let mut known: BTreeMap<ShardKey, KnownLineage> = BTreeMap::new();
        let statements = sqlx::query("SELECT * FROM statements ORDER BY sequence").fetch_all(&self.pool).await;
        for row in statements.map_err(&failed)? {
            let recorded = row.try_get::<i64, _>("recorded").map_err(&failed)? != 0;
            let edge = KnownEdge { edge: edge(&row).map_err(&failed)?, recorded };
            known.entry(shard(&row).map_err(&failed)?).or_default().edges.push(edge);
        }
        for row in sqlx::query("SELECT * FROM accepted").fetch_all(&self.pool).await.map_err(&failed)? {
            let decision = json(&row, "decision").map_err(&failed)?;
            known.entry(shard(&row).map_err(&failed)?).or_default().decisions.push(decision);
        }
        for row in
            sqlx::query("SELECT * FROM findings ORDER BY first_ms").fetch_all(&self.pool).await.map_err(&failed)?
        {
            let sentence = row.try_get("sentence").map_err(&failed)?;
            known.entry(shard(&row).map_err(&failed)?).or_default().findings.push(sentence);
        }
        self.progress(&mut known).await?;
        Ok(known)
    }
}

pub(super) fn shard(row: &sqlx::any::AnyRow) -> Result<ShardKey, sqlx::Error> {
    Ok(ShardKey::new(parsed(row, "deployment")?, parsed(row, "shard")?))
}

fn edge(row: &sqlx::any::AnyRow) -> Result<ForkEdge, sqlx::Error> {
    Ok(ForkEdge {
        child: parsed(row, "child")?,
        parent: position(row, "parent", "parent_offset")?,
        evidence: json(row, "evidence")?,
    })
}

pub(super) fn position(
    row: &sqlx::any::AnyRow,
    history: &'static str,
    offset: &'static str,
) -> Result<Position, sqlx::Error> {
    let bytes: i64 = row.try_get(offset)?;
    let offset = u64::try_from(bytes).ok().and_then(Offset::new).ok_or_else(|| decode(offset, "not an offset"))?;
    Ok(Position::new(parsed(row, history)?, offset))
}
