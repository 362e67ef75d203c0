//! How far the histories have come, and when: high-water marks, marks of when which offset was reached, runs that have ended.

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt;
use sqlx::{Row, any::AnyRow};
use urtext_planner::{HeadSeen, Mark, RunSeen};
use urtext_types::{Position, Timestamp};

use super::{
    Catalog, CatalogError, decode, json,
    lineage::{KnownLineage, position, shard},
    millis, parsed, to_json,
};
use crate::shard::ShardKey;

impl Catalog {
    /// What came in since the last call, in one transaction.
    pub async fn put_progress(
        &self,
        heads: &[(ShardKey, HeadSeen)],
        marks: &[(ShardKey, Mark)],
        ended: &[(ShardKey, RunSeen)],
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
        for (shard, mark) in marks {
            sqlx::query(
                "INSERT INTO marks (deployment, shard, history, seen_offset, complete_ms, reached_ms, within_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (deployment, shard, history, seen_offset) \
                 DO UPDATE SET complete_ms = $5, reached_ms = $6, within_ms = $7",
            )
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string())
            .bind(mark.position.history.to_string())
            .bind(mark.position.offset.get() as i64)
            .bind(mark.complete_up_to.map(Timestamp::as_millis))
            .bind(mark.reached_by.map(Timestamp::as_millis))
            .bind(i64::try_from(mark.within.as_millis()).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        for (shard, run) in ended {
            sqlx::query(
                "INSERT INTO ended_runs (deployment, shard, node, run) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (deployment, shard, node) DO UPDATE SET run = $4",
            )
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string())
            .bind(run.node.to_string())
            .bind(to_json(run))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    /// Drops marks of a shard.
    pub async fn drop_marks(&self, shard: &ShardKey, gone: &[Position]) -> Result<(), CatalogError> {
        let failed = self.failed("thin out old marks");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for position in gone {
            sqlx::query("DELETE FROM marks WHERE deployment = $1 AND shard = $2 AND history = $3 AND seen_offset = $4")
                .bind(shard.deployment.to_string())
                .bind(shard.shard.to_string())
                .bind(position.history.to_string())
                .bind(position.offset.get() as i64)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    /// Adds all of it to what is known of each shard.
    pub(super) async fn progress(&self, known: &mut BTreeMap<ShardKey, KnownLineage>) -> Result<(), CatalogError> {
        let failed = self.failed("read how far the nodes have come");
        for row in sqlx::query("SELECT * FROM high_water").fetch_all(&self.pool).await.map_err(&failed)? {
            let head = HeadSeen {
                position: position(&row, "history", "seen_offset").map_err(&failed)?,
                node: parsed(&row, "node").map_err(&failed)?,
                seen_at: millis(&row, "seen_ms").map_err(&failed)?,
            };
            known.entry(shard(&row).map_err(&failed)?).or_default().heads.push(head);
        }
        // There are as many as there are backups, and more: read as they come.
        let mut marks = sqlx::query("SELECT * FROM marks ORDER BY seen_offset").fetch(&self.pool);
        while let Some(row) = marks.try_next().await.map_err(&failed)? {
            let mark = mark(&row).map_err(&failed)?;
            known.entry(shard(&row).map_err(&failed)?).or_default().marks.push(mark);
        }
        // The only connection is free again.
        drop(marks);
        for row in sqlx::query("SELECT * FROM ended_runs").fetch_all(&self.pool).await.map_err(&failed)? {
            let run = json(&row, "run").map_err(&failed)?;
            known.entry(shard(&row).map_err(&failed)?).or_default().ended.push(run);
        }
        Ok(())
    }
}

fn mark(row: &AnyRow) -> Result<Mark, sqlx::Error> {
    let within: i64 = row.try_get("within_ms")?;
    let within = u64::try_from(within).map_err(|_| decode("within_ms", "not a span of time"))?;
    let time = |name: &str| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(name)?.map(Timestamp::from_millis));
    Ok(Mark {
        position: position(row, "history", "seen_offset")?,
        complete_up_to: time("complete_ms")?,
        reached_by: time("reached_ms")?,
        within: Duration::from_millis(within),
    })
}
