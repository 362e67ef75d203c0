//! Which certificate is whose, and which one has been replaced.

use sqlx::{AnyConnection, Row, any::AnyRow};
use urtext_identity::{AgentIdentity, CertificateSerial};
use urtext_types::{DeploymentName, NodeName, Timestamp};

use super::{Catalog, CatalogError, millis, optional_millis, parsed};

/// One certificate that was issued to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    pub serial: CertificateSerial,
    pub identity: AgentIdentity,
    /// The agent's own age recipient; empty until it has said so.
    pub recipient: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub enrolled_at: Timestamp,
    /// When a later enrolment of the same node took its place: from then on it opens nothing.
    pub replaced_at: Option<Timestamp>,
}

impl Enrolment {
    pub(super) async fn insert(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO enrolments (serial, deployment, shard, site, node, recipient, not_before_ms, not_after_ms, \
             enrolled_ms, replaced_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (serial) DO NOTHING",
        )
        .bind(self.serial.to_string())
        .bind(self.identity.deployment.to_string())
        .bind(self.identity.shard.to_string())
        .bind(self.identity.site.to_string())
        .bind(self.identity.node.to_string())
        .bind(self.recipient.clone())
        .bind(self.not_before.as_millis())
        .bind(self.not_after.as_millis())
        .bind(self.enrolled_at.as_millis())
        .bind(self.replaced_at.map(Timestamp::as_millis))
        .execute(connection)
        .await?;
        Ok(())
    }

    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            serial: parsed(row, "serial")?,
            identity: AgentIdentity {
                deployment: parsed(row, "deployment")?,
                shard: parsed(row, "shard")?,
                site: parsed(row, "site")?,
                node: parsed(row, "node")?,
            },
            recipient: row.try_get("recipient")?,
            not_before: millis(row, "not_before_ms")?,
            not_after: millis(row, "not_after_ms")?,
            enrolled_at: millis(row, "enrolled_ms")?,
            replaced_at: optional_millis(row, "replaced_ms")?,
        })
    }
}

impl Catalog {
    pub async fn enrolment(&self, serial: &CertificateSerial) -> Result<Option<Enrolment>, CatalogError> {
        let failed = self.failed("look up a certificate");
        let row = sqlx::query("SELECT * FROM enrolments WHERE serial = $1")
            .bind(serial.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(&failed)?;
        row.map(|row| Enrolment::from_row(&row)).transpose().map_err(&failed)
    }

    /// The certificates of one node, the newest first.
    pub async fn enrolments_of(
        &self,
        deployment: &DeploymentName,
        node: &NodeName,
    ) -> Result<Vec<Enrolment>, CatalogError> {
        let failed = self.failed("look up a node's certificates");
        let rows = sqlx::query(
            "SELECT * FROM enrolments WHERE deployment = $1 AND node = $2 ORDER BY enrolled_ms DESC, serial",
        )
        .bind(deployment.to_string())
        .bind(node.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        rows.iter().map(Enrolment::from_row).collect::<Result<_, _>>().map_err(&failed)
    }

    /// Every certificate that has not been replaced.
    pub async fn current_enrolments(&self) -> Result<Vec<Enrolment>, CatalogError> {
        let failed = self.failed("list certificates");
        let rows = sqlx::query("SELECT * FROM enrolments WHERE replaced_ms IS NULL ORDER BY enrolled_ms, serial")
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter().map(Enrolment::from_row).collect::<Result<_, _>>().map_err(&failed)
    }

    /// Records a certificate that was issued before the catalog was lost, and takes the ones that are older
    /// for replaced: of two that are both not known any more, the older one may have been.
    pub async fn add_found_enrolment(&self, enrolment: &Enrolment) -> Result<(), CatalogError> {
        let failed = self.failed("record a certificate");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        sqlx::query(
            "UPDATE enrolments SET replaced_ms = $4 \
             WHERE deployment = $1 AND node = $2 AND not_before_ms < $3 AND replaced_ms IS NULL",
        )
        .bind(enrolment.identity.deployment.to_string())
        .bind(enrolment.identity.node.to_string())
        .bind(enrolment.not_before.as_millis())
        .bind(enrolment.enrolled_at.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        enrolment.insert(&mut transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    /// Records a certificate beside the others of its node: a renewal.
    pub async fn add_enrolment(&self, enrolment: &Enrolment) -> Result<(), CatalogError> {
        let failed = self.failed("record a certificate");
        let mut connection = self.pool.acquire().await.map_err(&failed)?;
        enrolment.insert(&mut connection).await.map_err(&failed)
    }

    /// What the agent said of itself when it connected.
    pub async fn set_recipient(&self, serial: &CertificateSerial, recipient: &str) -> Result<(), CatalogError> {
        sqlx::query("UPDATE enrolments SET recipient = $2 WHERE serial = $1 AND recipient <> $2")
            .bind(serial.to_string())
            .bind(recipient.to_owned())
            .execute(&self.pool)
            .await
            .map_err(self.failed("record an agent's recipient"))?;
        Ok(())
    }
}
