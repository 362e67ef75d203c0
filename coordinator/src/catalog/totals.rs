//! How much each repository holds.

use std::collections::BTreeMap;

use urtext_types::{RepositoryName, Timestamp};

use super::{Catalog, CatalogError};

/// Backups that are in memory at the same time while they are added up.
const ADDED_AT_ONCE: usize = 500;

/// What one repository holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub backups: u64,
    pub stored_bytes: u64,
    /// When the newest was received.
    pub newest: Option<Timestamp>,
}

impl Catalog {
    /// Of each repository that holds anything.
    pub async fn totals(&self) -> Result<BTreeMap<RepositoryName, Totals>, CatalogError> {
        let mut totals: BTreeMap<RepositoryName, Totals> = BTreeMap::new();
        let mut last = None;
        loop {
            let page = self.page(None, last.as_ref(), ADDED_AT_ONCE).await?;
            for entry in &page {
                for repository in entry.copies.keys() {
                    let of = match totals.get_mut(repository) {
                        Some(of) => of,
                        None => totals.entry(repository.clone()).or_default(),
                    };
                    of.backups += 1;
                    of.stored_bytes = of.stored_bytes.saturating_add(entry.stored_bytes);
                    of.newest = of.newest.max(Some(entry.received_at));
                }
            }
            if page.len() < ADDED_AT_ONCE {
                return Ok(totals);
            }
            last = page.last().map(super::BackupEntry::key);
        }
    }
}
