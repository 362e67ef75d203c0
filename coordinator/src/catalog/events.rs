//! What is wrong at this moment, and when each of it came and went.

use std::collections::BTreeMap;

use sqlx::{Row, any::AnyRow};
use urtext_types::{DeploymentName, Timestamp};

use super::{Catalog, CatalogError, lineage::shard, millis, parsed};
use crate::shard::ShardKey;

/// So many events of each shard are kept: of one that changes every minute, more than a week.
pub const EVENTS_KEPT: i64 = 10_000;

/// So many are read at once.
pub const EVENTS_PAGE: u32 = 1000;

/// Something that is wrong, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The stable name of its kind.
    pub kind: String,
    /// What it is about: with the kind, what tells one from another.
    pub subject: String,
    pub sentence: String,
    pub hint: String,
    /// When it was first noticed, by the coordinator's clock.
    pub since: Timestamp,
}

/// An alarm came, or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts up over all shards.
    pub sequence: i64,
    pub shard: ShardKey,
    /// The coordinator's clock.
    pub at: Timestamp,
    pub what: What,
    pub kind: String,
    pub subject: String,
    pub sentence: String,
    pub hint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Raised,
    Cleared,
}

impl What {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
        }
    }
}

impl std::str::FromStr for What {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "raised" => Ok(Self::Raised),
            "cleared" => Ok(Self::Cleared),
            other => Err(format!("{other:?} is not what happens to an alarm")),
        }
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub deployment: Option<DeploymentName>,
    /// Not earlier than this.
    pub since: Option<Timestamp>,
    /// After this one.
    pub after: i64,
}

impl Catalog {
    /// Replaces the alarms of a shard, and tells what came and went, in one transaction.
    pub async fn put_alarms(
        &self,
        shard: &ShardKey,
        present: &[Present],
        changes: &[(What, Present)],
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let failed = self.failed("keep what is wrong");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        sqlx::query("DELETE FROM alarms WHERE deployment = $1 AND shard = $2")
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        for alarm in present {
            sqlx::query(
                "INSERT INTO alarms (deployment, shard, kind, subject, sentence, hint, since_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string())
            .bind(alarm.kind.clone())
            .bind(alarm.subject.clone())
            .bind(alarm.sentence.clone())
            .bind(alarm.hint.clone())
            .bind(alarm.since.as_millis())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        for (what, alarm) in changes {
            sqlx::query(
                "INSERT INTO events (sequence, deployment, shard, at_ms, what, kind, subject, sentence, hint) \
                 VALUES ((SELECT COALESCE(MAX(sequence), 0) + 1 FROM events), $1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string())
            .bind(now.as_millis())
            .bind(what.as_str())
            .bind(alarm.kind.clone())
            .bind(alarm.subject.clone())
            .bind(alarm.sentence.clone())
            .bind(alarm.hint.clone())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        sqlx::query(
            "DELETE FROM events WHERE deployment = $1 AND shard = $2 AND sequence <= (SELECT sequence FROM events \
             WHERE deployment = $1 AND shard = $2 ORDER BY sequence DESC LIMIT 1 OFFSET $3)",
        )
        .bind(shard.deployment.to_string())
        .bind(shard.shard.to_string())
        .bind(EVENTS_KEPT)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    /// What was wrong when it was last looked at, of all shards.
    pub async fn alarms(&self) -> Result<BTreeMap<ShardKey, Vec<Present>>, CatalogError> {
        let failed = self.failed("read what is wrong");
        let mut all: BTreeMap<ShardKey, Vec<Present>> = BTreeMap::new();
        for row in sqlx::query("SELECT * FROM alarms").fetch_all(&self.pool).await.map_err(&failed)? {
            let present = present(&row).map_err(&failed)?;
            all.entry(shard(&row).map_err(&failed)?).or_default().push(present);
        }
        Ok(all)
    }

    /// Up to [`EVENTS_PAGE`] events, oldest first.
    pub async fn events(&self, wanted: &Wanted) -> Result<Vec<Event>, CatalogError> {
        let failed = self.failed("read the events");
        let since = wanted.since.map_or(i64::MIN, Timestamp::as_millis);
        let rows = match &wanted.deployment {
            Some(deployment) => {
                sqlx::query(
                    "SELECT * FROM events WHERE sequence > $1 AND at_ms >= $2 AND deployment = $3 \
                     ORDER BY sequence LIMIT $4",
                )
                .bind(wanted.after)
                .bind(since)
                .bind(deployment.to_string())
                .bind(i64::from(EVENTS_PAGE))
                .fetch_all(&self.pool)
                .await
            }
            None => {
                sqlx::query("SELECT * FROM events WHERE sequence > $1 AND at_ms >= $2 ORDER BY sequence LIMIT $3")
                    .bind(wanted.after)
                    .bind(since)
                    .bind(i64::from(EVENTS_PAGE))
                    .fetch_all(&self.pool)
                    .await
            }
        };
        rows.map_err(&failed)?.iter().map(event).collect::<Result<_, _>>().map_err(&failed)
    }
}

fn present(row: &AnyRow) -> Result<Present, sqlx::Error> {
    Ok(Present {
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        sentence: row.try_get("sentence")?,
        hint: row.try_get("hint")?,
        since: millis(row, "since_ms")?,
    })
}

fn event(row: &AnyRow) -> Result<Event, sqlx::Error> {
    Ok(Event {
        sequence: row.try_get("sequence")?,
        shard: shard(row)?,
        at: millis(row, "at_ms")?,
        what: parsed(row, "what")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        sentence: row.try_get("sentence")?,
        hint: row.try_get("hint")?,
    })
}
