//! Tasks that were given to agents, so that a restart of either side loses none and repeats none.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use urtext_identity::AgentIdentity;
use urtext_proto::RpcError;
use urtext_types::{BackupId, DeploymentName, Explain, ShardName, TaskId, Timestamp};

use super::{Catalog, CatalogError, json, millis, parsed, to_json};

/// What an agent is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskWork {
    Capture {
        backup: BackupId,
        /// The deployment's hooks run around it.
        #[serde(default)]
        hooked: bool,
        /// The run of the schedule that it belongs to.
        #[serde(default)]
        slot: Option<Timestamp>,
    },
    /// The sealed identity is not kept: a restore that was not received is planned again.
    Restore {
        deployment: DeploymentName,
        shard: ShardName,
        backup: BackupId,
        /// Who asked.
        by: String,
    },
}

/// One task as it is kept.
#[derive(Debug, Clone)]
pub struct StoredTask {
    pub id: TaskId,
    pub agent: AgentIdentity,
    pub work: TaskWork,
    /// The run of the agent that received it.
    pub boot_id: Option<String>,
    pub given_at: Timestamp,
}

/// For people who look into the catalog.
#[derive(Serialize)]
struct StoredFailure {
    message: String,
    kind: String,
    hint: Option<String>,
}

impl Catalog {
    pub async fn add_task(&self, task: &StoredTask) -> Result<(), CatalogError> {
        sqlx::query(
            "INSERT INTO tasks (id, deployment, shard, site, node, work, boot_id, given_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(task.id.to_string())
        .bind(task.agent.deployment.to_string())
        .bind(task.agent.shard.to_string())
        .bind(task.agent.site.to_string())
        .bind(task.agent.node.to_string())
        .bind(to_json(&task.work))
        .bind(task.boot_id.clone())
        .bind(task.given_at.as_millis())
        .execute(&self.pool)
        .await
        .map_err(self.failed("record a task"))?;
        Ok(())
    }

    /// Records how a task ended. The first ending stands.
    pub async fn end_task(&self, id: TaskId, now: Timestamp, failure: Option<&RpcError>) -> Result<(), CatalogError> {
        let failure = failure.map(|failure| {
            to_json(&StoredFailure {
                message: failure.message.clone(),
                kind: urtext_proto::status::kind_name(failure.kind()).to_owned(),
                hint: failure.hint(),
            })
        });
        sqlx::query("UPDATE tasks SET ended_ms = $2, failure = $3 WHERE id = $1 AND ended_ms IS NULL")
            .bind(id.to_string())
            .bind(now.as_millis())
            .bind(failure)
            .execute(&self.pool)
            .await
            .map_err(self.failed("record the end of a task"))?;
        Ok(())
    }

    /// Tasks that have not ended, oldest first.
    pub async fn open_tasks(&self) -> Result<Vec<StoredTask>, CatalogError> {
        let failed = self.failed("list tasks");
        let rows = sqlx::query("SELECT * FROM tasks WHERE ended_ms IS NULL ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter()
            .map(|row| {
                Ok(StoredTask {
                    id: parsed(row, "id")?,
                    agent: AgentIdentity {
                        deployment: parsed(row, "deployment")?,
                        shard: parsed(row, "shard")?,
                        site: parsed(row, "site")?,
                        node: parsed(row, "node")?,
                    },
                    work: json(row, "work")?,
                    boot_id: row.try_get("boot_id")?,
                    given_at: millis(row, "given_ms")?,
                })
            })
            .collect::<Result<_, _>>()
            .map_err(&failed)
    }
}
