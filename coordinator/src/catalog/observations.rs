//! The last look at every node, so that a restart does not forget who was ahead.

use urtext_identity::AgentIdentity;
use urtext_types::{NodeObservation, Timestamp};

use super::{Catalog, CatalogError, json, millis, parsed, to_json};

/// A node and the newest observation of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSeen {
    pub identity: AgentIdentity,
    pub received_at: Timestamp,
    pub observation: NodeObservation,
}

impl Catalog {
    /// Replaces the last observations of these nodes, in one transaction.
    pub async fn put_observations(&self, seen: &[LastSeen]) -> Result<(), CatalogError> {
        let failed = self.failed("record observations");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for LastSeen { identity, received_at, observation } in seen {
            sqlx::query(
                "INSERT INTO observations (deployment, node, shard, site, received_ms, observation) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (deployment, node) \
                 DO UPDATE SET shard = $3, site = $4, received_ms = $5, observation = $6",
            )
            .bind(identity.deployment.to_string())
            .bind(identity.node.to_string())
            .bind(identity.shard.to_string())
            .bind(identity.site.to_string())
            .bind(received_at.as_millis())
            .bind(to_json(observation))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    pub async fn observations(&self) -> Result<Vec<LastSeen>, CatalogError> {
        let failed = self.failed("read the last observations");
        let rows = sqlx::query("SELECT * FROM observations").fetch_all(&self.pool).await.map_err(&failed)?;
        rows.iter()
            .map(|row| {
                Ok(LastSeen {
                    identity: AgentIdentity {
                        deployment: parsed(row, "deployment")?,
                        shard: parsed(row, "shard")?,
                        site: parsed(row, "site")?,
                        node: parsed(row, "node")?,
                    },
                    received_at: millis(row, "received_ms")?,
                    observation: json(row, "observation")?,
                })
            })
            .collect::<Result<_, _>>()
            .map_err(&failed)
    }
}
