//! Join tokens and what became of them.

use urtext_identity::{TokenId, TokenRecord};
use urtext_types::Timestamp;

use super::{Catalog, CatalogError, Enrolment, json, optional_millis, to_json};

/// How the race for a token ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redeemed {
    /// The token is spent, and the enrolment is recorded: both or neither.
    Now,
    /// Somebody else was faster.
    Already { at: Timestamp },
}

impl Catalog {
    pub async fn add_token(&self, record: &TokenRecord) -> Result<(), CatalogError> {
        sqlx::query("INSERT INTO tokens (id, record) VALUES ($1, $2)")
            .bind(record.id.to_string())
            .bind(to_json(record))
            .execute(&self.pool)
            .await
            .map_err(self.failed("record a join token"))?;
        Ok(())
    }

    pub async fn token(&self, id: TokenId) -> Result<Option<TokenRecord>, CatalogError> {
        let failed = self.failed("look up a join token");
        let row = sqlx::query("SELECT record, redeemed_ms FROM tokens WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let mut record: TokenRecord = json(&row, "record").map_err(&failed)?;
        record.used_at = optional_millis(&row, "redeemed_ms").map_err(&failed)?;
        Ok(Some(record))
    }

    /// Tokens that could still be redeemed.
    pub async fn open_tokens(&self, now: Timestamp) -> Result<Vec<TokenRecord>, CatalogError> {
        let failed = self.failed("list join tokens");
        let rows = sqlx::query("SELECT record FROM tokens WHERE redeemed_ms IS NULL")
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        let records: Result<Vec<TokenRecord>, _> = rows.iter().map(|row| json(row, "record")).collect();
        Ok(records.map_err(&failed)?.into_iter().filter(|record| record.expires_at > now).collect())
    }

    /// Spends a token and enrols its holder, in one transaction. Earlier enrolments of the same node are
    /// replaced from then on.
    pub async fn redeem_token(&self, id: TokenId, enrolment: &Enrolment) -> Result<Redeemed, CatalogError> {
        let failed = self.failed("redeem a join token");
        let now = enrolment.enrolled_at;
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let spent = sqlx::query("UPDATE tokens SET redeemed_ms = $2 WHERE id = $1 AND redeemed_ms IS NULL")
            .bind(id.to_string())
            .bind(now.as_millis())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        if spent.rows_affected() == 0 {
            drop(transaction);
            let at = self.token(id).await?.and_then(|record| record.used_at).unwrap_or(now);
            return Ok(Redeemed::Already { at });
        }
        sqlx::query(
            "UPDATE enrolments SET replaced_ms = $3 WHERE deployment = $1 AND node = $2 AND replaced_ms IS NULL",
        )
        .bind(enrolment.identity.deployment.to_string())
        .bind(enrolment.identity.node.to_string())
        .bind(now.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        enrolment.insert(&mut transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(Redeemed::Now)
    }
}
