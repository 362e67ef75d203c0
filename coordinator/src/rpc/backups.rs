//! The list of backups, in pages.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;
use tonic::Status;
use urtext_planner::{DataAsOf, ShardHistories};
use urtext_proto::pb;
use urtext_types::DeploymentName;

use super::{messages::summary_of, status::unreadable};
use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, Vouch},
    shard::ShardKey,
};

/// Backups of one page: some 200 KB.
const BACKUPS_ON_A_PAGE: usize = 500;

type Pages = mpsc::Sender<Result<pb::ListBackupsResponse, Status>>;

/// Whether there is anything to list; compares with the repositories if that is due.
pub(super) async fn prepare(app: &App, deployment: Option<&DeploymentName>) -> Result<(), Fault> {
    if let Some(name) = deployment
        && app.shards(Some(name)).is_empty()
    {
        app.shard(name, None)?;
    }
    app.reconcile_lately(deployment).await
}

/// Sends page after page until all is said or nobody listens.
pub(super) async fn send(app: Arc<App>, deployment: Option<DeploymentName>, pages: Pages) {
    if let Err(fault) = send_pages(&app, deployment.as_ref(), &pages).await {
        // Nobody listens any more, then.
        let _ = pages.send(Err(fault.into())).await;
    }
}

async fn send_pages(app: &App, deployment: Option<&DeploymentName>, pages: &Pages) -> Result<(), Fault> {
    let mut shards = BTreeMap::new();
    for shard in app.shards(deployment) {
        let vouches = app.catalog.vouches(&shard).await;
        let vouches = vouches.map_err(Fault::while_doing("read what operators vouch for"))?;
        shards.insert(shard.clone(), Known { histories: app.histories.of(&shard), vouches });
    }
    let times: BTreeMap<&ShardKey, (&Known, DataAsOf<'_>)> =
        shards.iter().map(|(shard, known)| (shard, (known, known.times()))).collect();
    let nothing = Known::default();
    let now = app.clock.now();
    let mut last: Option<BackupEntry> = None;
    loop {
        let after = last.as_ref().map(BackupEntry::key);
        let page = app.catalog.page(deployment, after.as_ref(), BACKUPS_ON_A_PAGE).await;
        let page = page.map_err(Fault::while_doing("list the backups"))?;
        let summary = |entry: &BackupEntry| {
            let shard = ShardKey::new(entry.deployment.clone(), entry.shard.clone());
            match times.get(&shard) {
                Some((known, times)) => summary_of(entry, times, &known.vouches, now),
                None => summary_of(entry, &nothing.times(), &[], now),
            }
        };
        let is_last = page.len() < BACKUPS_ON_A_PAGE;
        let message = pb::ListBackupsResponse {
            backups: page.iter().map(summary).collect(),
            unreadable: if is_last { unreadable(app, deployment) } else { Vec::new() },
        };
        if pages.send(Ok(message)).await.is_err() || is_last {
            return Ok(());
        }
        last = page.into_iter().next_back();
    }
}

/// What is known of one shard beside its backups.
#[derive(Default)]
struct Known {
    histories: ShardHistories,
    vouches: Vec<Vouch>,
}

impl Known {
    fn times(&self) -> DataAsOf<'_> {
        DataAsOf::new(&self.histories.lineage, &self.histories.timeline)
    }
}
