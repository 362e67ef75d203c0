//! The catalog: an index of the repository, and what was seen in the last minutes.
//!
//! One SQL schema through sqlx's `Any` driver; embedded, it is SQLite in the coordinator's directory. The
//! repository is the truth: whatever is lost with this file (but for unused join tokens and recent
//! observations) comes back when the next coordinator starts ([`crate::reconcile`]).
//!
//! A commit is durable when its call returns (`synchronous = FULL`), so a backup that was acknowledged and
//! a token that was redeemed stay so across a crash. Observations come in batches, a few seconds apart.

mod backups;
mod copies;
mod enrolments;
mod events;
mod lineage;
mod observations;
mod progress;
mod rebuild;
mod scheduled;
mod tasks;
mod tokens;
mod totals;
mod vouches;

use std::path::{Path, PathBuf};

use sqlx::{
    AnyConnection, AnyPool, Connection, Row,
    any::{AnyPoolOptions, AnyRow},
};
use thiserror::Error;
use urtext_types::{ErrorKind, Explain};

pub use backups::BackupEntry;
pub use copies::{Copies, CopyState, ListedCopies, ListedCopy};
pub use enrolments::Enrolment;
pub use events::{EVENTS_KEPT, EVENTS_PAGE, Event, Present, Wanted, What};
pub use lineage::{Decision, KnownEdge, KnownLineage};
pub use observations::LastSeen;
pub use rebuild::{Index, Replaced, StagedBackup, StagedCopy};
pub use scheduled::{Job, JobKey, RunCapture, StoredMemory, StoredRun};
pub use tasks::{StoredTask, TaskWork};
pub use tokens::Redeemed;
pub use totals::Totals;
pub use vouches::Vouch;

/// SQLite has one writer; with one connection nobody ever waits for a lock inside a transaction.
const SQLITE_CONNECTIONS: u32 = 1;

/// The open catalog. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Catalog {
    pool: AnyPool,
    path: PathBuf,
}

/// What can go wrong with the catalog.
#[derive(Debug, Error)]
pub enum CatalogError {
    #[error("open the catalog {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("the catalog {} is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("bring the tables of the catalog {} up to date", path.display())]
    Migrate {
        path: PathBuf,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    #[error("{attempt} in the catalog {}", path.display())]
    Query {
        path: PathBuf,
        attempt: &'static str,
        #[source]
        source: sqlx::Error,
    },
}

impl Explain for CatalogError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { .. } | Self::Damaged { .. } | Self::Migrate { .. } => ErrorKind::Integrity,
            Self::Query { source, .. } => match source {
                sqlx::Error::Database(error) if error.message().contains("full") => ErrorKind::Exhausted,
                sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => ErrorKind::Unavailable,
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ErrorKind::Integrity,
                _ => ErrorKind::Internal,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Open { path, .. } | Self::Damaged { path, .. } | Self::Migrate { path, .. } => Some(format!(
                "the catalog is only an index: move {0} and {0}-wal away and start again; it is rebuilt from the repository",
                path.display()
            )),
            Self::Query { path, .. } if self.kind() == ErrorKind::Exhausted => {
                Some(format!("make room on the disk of {}", path.display()))
            }
            Self::Query { .. } => None,
        }
    }
}

impl Catalog {
    /// Opens the SQLite catalog at `path`, making it if it is not there.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}?mode=rwc", percent_encode(path));
        check(&url, path).await?;
        let pool = AnyPoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS)
            .after_connect(|connection, _| Box::pin(prepare(connection)))
            .connect(&url)
            .await
            .map_err(|source| CatalogError::Open { path: path.to_owned(), source })?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|source| CatalogError::Migrate { path: path.to_owned(), source })?;
        Ok(Self { pool, path: path.to_owned() })
    }

    /// Waits for what is under way and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn failed(&self, attempt: &'static str) -> impl Fn(sqlx::Error) -> CatalogError {
        let path = self.path.clone();
        move |source| CatalogError::Query { path: path.clone(), attempt, source }
    }
}

/// What every connection begins with.
async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 5000"] {
        sqlx::query(pragma).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Refuses a damaged file at once: a pool would try for half a minute to connect to it.
async fn check(url: &str, path: &Path) -> Result<(), CatalogError> {
    let mut connection =
        AnyConnection::connect(url).await.map_err(|source| CatalogError::Open { path: path.to_owned(), source })?;
    let damaged = |problem: String| CatalogError::Damaged { path: path.to_owned(), problem };
    let checked = async {
        prepare(&mut connection).await?;
        sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection).await?.try_get::<String, _>(0)
    };
    let verdict = checked.await.map_err(|error| damaged(error.to_string()))?;
    if verdict != "ok" {
        return Err(damaged(verdict));
    }
    connection.close().await.map_err(|source| CatalogError::Open { path: path.to_owned(), source })
}

/// A path inside a URL.
fn percent_encode(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A column of text, parsed into what it says.
fn parsed<T>(row: &AnyRow, column: &'static str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text: String = row.try_get(column)?;
    text.parse().map_err(|error: T::Err| decode(column, error))
}

/// A column of JSON.
fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T, sqlx::Error> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|error| decode(column, error))
}

fn decode(column: &str, error: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.to_string().into() }
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("our own structs have string keys and no failing serializer")
}

fn millis(row: &AnyRow, column: &'static str) -> Result<urtext_types::Timestamp, sqlx::Error> {
    row.try_get(column).map(urtext_types::Timestamp::from_millis)
}

fn optional_millis(row: &AnyRow, column: &'static str) -> Result<Option<urtext_types::Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(urtext_types::Timestamp::from_millis))
}

#[cfg(test)]
mod tests;
