//! What is known of the histories: edges, decisions, findings, high-water marks, offset-time samples.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use urtext_planner::{AcceptedLineage, HeadSeen, Sample};
use urtext_types::{Evidence, ForkEdge, Offset, Position, RecordId, Timestamp};

use super::{Catalog, CatalogError, decode, json, millis, parsed, to_json};
use crate::shard::ShardKey;

/// An edge, and whether the repository has its record.
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
    pub edges: Vec<KnownEdge>,
    pub decisions: Vec<Decision>,
    pub findings: Vec<String>,
    pub heads: Vec<HeadSeen>,
    pub samples: Vec<Sample>,
}

/// The spelling of an evidence is that of its JSON.
fn evidence_text(evidence: Evidence) -> String {
    to_json(&evidence)
}

impl Catalog {
    /// Adds an edge, or improves the one with the same child.
    pub async fn put_edge(&self, shard: &ShardKey, known: KnownEdge) -> Result<(), CatalogError> {
        sqlx::query(
            "INSERT INTO edges (deployment, shard, child, parent, parent_offset, evidence, recorded) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (deployment, shard, child) \
             DO UPDATE SET parent = $4, parent_offset = $5, evidence = $6, recorded = $7",
        )
        .bind(shard.deployment.to_string())
        .bind(shard.shard.to_string())
        .bind(known.edge.child.to_string())
        .bind(known.edge.parent.history.to_string())
        .bind(known.edge.parent.offset.get() as i64)
        .bind(evidence_text(known.edge.evidence))
        .bind(i16::from(known.recorded))
        .execute(&self.pool)
        .await
        .map_err(self.failed("record a fork"))?;
        Ok(())
    }

    /// Edges of which the repository has no record yet.
    pub async fn unrecorded_edges(&self) -> Result<Vec<(ShardKey, ForkEdge)>, CatalogError> {
        let failed = self.failed("look for edges without a record");
        let rows =
            sqlx::query("SELECT * FROM edges WHERE recorded = 0").fetch_all(&self.pool).await.map_err(&failed)?;
        rows.iter().map(|row| Ok((shard(row)?, edge(row)?))).collect::<Result<_, _>>().map_err(&failed)
    }

    pub async fn put_decision(&self, shard: &ShardKey, decision: &Decision) -> Result<(), CatalogError> {
        sqlx::query(
            "INSERT INTO accepted (deployment, shard, record_id, decision) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (deployment, shard, record_id) DO NOTHING",
        )
        .bind(shard.deployment.to_string())
        .bind(shard.shard.to_string())
        .bind(decision.record.to_string())
        .bind(to_json(decision))
        .execute(&self.pool)
        .await
        .map_err(self.failed("record an accepted lineage"))?;
        Ok(())
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

    /// High-water marks and samples that came in since the last call, in one transaction.
    pub async fn put_progress(
        &self,
        heads: &[(ShardKey, HeadSeen)],
        samples: &[(ShardKey, Sample)],
    ) -> Result<(), CatalogError> {
        let failed = self.failed("record how far the nodes have come");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for (shard, head) in heads {
            sqlx::query(
                "INSERT INTO high_water (deployment, shard, history, seen_offset, node, seen_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (deployment, shard, history) \
                 DO UPDATE SET seen_offset = $4, node = $5, seen_ms = $6 WHERE high_water.seen_offset <= $4",
            )
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string())
            .bind(head.position.history.to_string())
            .bind(head.position.offset.get() as i64)
            .bind(head.node.to_string())
            .bind(head.seen_at.as_millis())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        for (shard, sample) in samples {
            sqlx::query(
                "INSERT INTO samples (deployment, shard, history, at_ms, seen_offset) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (deployment, shard, history, at_ms) DO NOTHING",
            )
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string())
            .bind(sample.position.history.to_string())
            .bind(sample.at.as_millis())
            .bind(sample.position.offset.get() as i64)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    /// Drops every second sample that is older than `before`, again and again as they age: recent times
    /// stay exact, old ones become coarse.
    pub async fn thin_samples(&self, before: Timestamp, keep_every: std::time::Duration) -> Result<(), CatalogError> {
        sqlx::query(
            "DELETE FROM samples WHERE at_ms < $1 AND EXISTS (SELECT 1 FROM samples AS earlier \
             WHERE earlier.deployment = samples.deployment AND earlier.shard = samples.shard \
             AND earlier.history = samples.history AND earlier.at_ms < samples.at_ms \
             AND earlier.at_ms / $2 = samples.at_ms / $2)",
        )
        .bind(before.as_millis())
        .bind(keep_every.as_millis().max(1) as i64)
        .execute(&self.pool)
        .await
        .map_err(self.failed("thin out old samples"))?;
        Ok(())
    }

    /// Everything, for the start.
    pub async fn lineages(&self) -> Result<BTreeMap<ShardKey, KnownLineage>, CatalogError> {
        let failed = self.failed("read what is known of the histories");
        let mut known: BTreeMap<ShardKey, KnownLineage> = BTreeMap::new();
        for row in sqlx::query("SELECT * FROM edges").fetch_all(&self.pool).await.map_err(&failed)? {
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
        for row in sqlx::query("SELECT * FROM high_water").fetch_all(&self.pool).await.map_err(&failed)? {
            let head = HeadSeen {
                position: position(&row, "history", "seen_offset").map_err(&failed)?,
                node: parsed(&row, "node").map_err(&failed)?,
                seen_at: millis(&row, "seen_ms").map_err(&failed)?,
            };
            known.entry(shard(&row).map_err(&failed)?).or_default().heads.push(head);
        }
        for row in sqlx::query("SELECT * FROM samples ORDER BY at_ms").fetch_all(&self.pool).await.map_err(&failed)? {
            let sample = Sample {
                position: position(&row, "history", "seen_offset").map_err(&failed)?,
                at: millis(&row, "at_ms").map_err(&failed)?,
            };
            known.entry(shard(&row).map_err(&failed)?).or_default().samples.push(sample);
        }
        Ok(known)
    }
}

fn shard(row: &sqlx::any::AnyRow) -> Result<ShardKey, sqlx::Error> {
    Ok(ShardKey::new(parsed(row, "deployment")?, parsed(row, "shard")?))
}

fn edge(row: &sqlx::any::AnyRow) -> Result<ForkEdge, sqlx::Error> {
    Ok(ForkEdge {
        child: parsed(row, "child")?,
        parent: position(row, "parent", "parent_offset")?,
        evidence: json(row, "evidence")?,
    })
}

fn position(row: &sqlx::any::AnyRow, history: &'static str, offset: &'static str) -> Result<Position, sqlx::Error> {
    let bytes: i64 = row.try_get(offset)?;
    let offset = u64::try_from(bytes).ok().and_then(Offset::new).ok_or_else(|| decode(offset, "not an offset"))?;
    Ok(Position::new(parsed(row, history)?, offset))
}
