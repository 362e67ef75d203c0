//! What operators do from the command line.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};
use urtext_planner::{Detail, Picture, Until, Wish};
use urtext_proto::{
    model::{InvalidField, parse},
    pb,
};
use urtext_repository::CaptureMethod;
use urtext_types::{BackupId, ByteRate, DeploymentName, Offset, Position, ShardName, Timestamp};

use super::{
    messages::{audit_entry, canonical, plan, rebuilt, summary_in},
    peers,
};
use crate::{
    Fault,
    app::App,
    capture::SnapshotRequest,
    catalog::Wanted,
    following,
    prune::PruneAsk,
    restoring::{Choice, RestoreRequest},
    shard::ShardKey,
    verdict::{Ask, HistoryPrefix},
};

pub(super) struct Service(pub(super) Arc<App>);

/// Events that wait for a command line that does not read: it is gone then, and what it watched goes on.
const EVENTS_WAITING: usize = 16;

/// Pages of a long list that wait to be sent, below 1 MB each.
const PAGES_WAITING: usize = 2;

impl Service {
    fn shard(&self, deployment: &str, shard: Option<&str>) -> Result<ShardKey, Fault> {
        let shard = shard.map(|shard| parse("shard", shard)).transpose()?;
        self.0.shard(&parse("deployment", deployment)?, shard)
    }
}

impl Service {
    /// What is wished, its history resolved among those of the shard.
    async fn wish(&self, shard: &ShardKey, wish: Option<pb::Wish>) -> Result<Wish, Fault> {
        match wish.unwrap_or_default() {
            pb::Wish { as_of_ms: Some(_), at: Some(_) } => {
                Err(InvalidField::wrong("wish", "a time or a position, not both").into())
            }
            pb::Wish { as_of_ms: Some(millis), at: None } => {
                Ok(Wish::until(Until::Time(Timestamp::from_millis(millis))))
            }
            pb::Wish { as_of_ms: None, at: Some(pb::HistoryOffset { history, offset }) } => {
                let prefix = HistoryPrefix::new(history.to_vec())?;
                let judgement = self.0.judge(shard, &Ask::default()).await?;
                let history = self.0.resolve_history(&judgement, &prefix)?;
                let offset =
                    Offset::new(offset).ok_or_else(|| InvalidField::wrong("wish.at.offset", "beyond 2^63 - 1"))?;
                Ok(Wish::until(Until::Position(Position::new(history, offset))))
            }
            pb::Wish { as_of_ms: None, at: None } => Ok(Wish::default()),
        }
    }
}

fn optional_deployment(name: Option<&str>) -> Result<Option<DeploymentName>, Fault> {
    Ok(name.map(|name| parse("deployment", name)).transpose()?)
}

#[async_trait]
impl pb::control_server::Control for Service {
    async fn status(&self, request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        peers::person(&request, "ask for the status")?;
        let deployment = optional_deployment(request.into_inner().deployment.as_deref())?;
        Ok(Response::new(super::status::status(&self.0, deployment).await?))
    }

    type ListBackupsStream = ReceiverStream<Result<pb::ListBackupsResponse, Status>>;

    async fn list_backups(
        &self,
        request: Request<pb::ListBackupsRequest>,
    ) -> Result<Response<Self::ListBackupsStream>, Status> {
        peers::person(&request, "list backups")?;
        let deployment = optional_deployment(request.into_inner().deployment.as_deref())?;
        super::backups::prepare(&self.0, deployment.as_ref()).await?;
        let (pages, stream) = mpsc::channel(PAGES_WAITING);
        self.0.background.spawn(super::backups::send(Arc::clone(&self.0), deployment, pages));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get_backup(
        &self,
        request: Request<pb::GetBackupRequest>,
    ) -> Result<Response<pb::GetBackupResponse>, Status> {
        peers::person(&request, "look at a backup")?;
        let id: BackupId = parse("id", &request.into_inner().id).map_err(Fault::from)?;
        let shown = self.0.show_backup(id).await?;
        let shard = ShardKey::new(shown.entry.deployment.clone(), shown.entry.shard.clone());
        let judgement = self.0.judge_known(&shard, &Ask::default()).await?;
        Ok(Response::new(pb::GetBackupResponse {
            summary: Some(summary_in(&judgement, &judgement.times(), &shown.entry)),
            manifest_json: shown.manifest_json.into(),
            signed_by: shown.signed_by,
        }))
    }

    type SnapshotStream = ReceiverStream<Result<pb::SnapshotEvent, Status>>;

    async fn snapshot(&self, request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        peers::operator(&request, "take backups")?;
        let message = request.into_inner();
        let method = match message.method() {
            pb::CaptureMethod::Unspecified => None,
            pb::CaptureMethod::Replication => Some(CaptureMethod::Replication),
            pb::CaptureMethod::File => Some(CaptureMethod::File),
        };
        let pb::SnapshotRequest { deployment, shard, node, site, method: _, allow_stale, at_least_offset, detach } =
            message;
        let wrong_offset = || InvalidField::wrong("at_least_offset", "beyond 2^63 - 1");
        let deployment = parse("deployment", &deployment).map_err(Fault::from)?;
        let shard = shard.map(|shard| parse("shard", &shard)).transpose().map_err(Fault::from)?;
        let node = node.map(|node| parse("node", &node)).transpose().map_err(Fault::from)?;
        let asked = SnapshotRequest {
            shard: self.0.shard_with(&deployment, shard, node.as_ref())?,
            node,
            site: site.map(|site| parse("site", &site)).transpose().map_err(Fault::from)?,
            method,
            allow_stale,
            at_least: at_least_offset
                .map(|offset| Offset::new(offset).ok_or_else(wrong_offset))
                .transpose()
                .map_err(Fault::from)?,
        };
        let started = self.0.snapshot(asked).await?;
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        self.0.background.spawn(following::snapshot(Arc::clone(&self.0), started, detach, events));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn canonical(
        &self,
        request: Request<pb::CanonicalRequest>,
    ) -> Result<Response<pb::CanonicalResponse>, Status> {
        peers::person(&request, "ask which copy is canonical")?;
        let pb::CanonicalRequest { deployment, shard, wish, for_target, prefer_site } = request.into_inner();
        let shard = self.shard(&deployment, shard.as_deref())?;
        let target = for_target.map(|text| self.0.server_version(&shard.deployment, &text)).transpose()?;
        let ask = Ask {
            prefer_site: prefer_site.map(|site| parse("prefer_site", &site)).transpose().map_err(Fault::from)?,
            wish: self.wish(&shard, wish).await?,
            target,
            lineage: None,
        };
        Ok(Response::new(canonical(&self.0.judge_lately(&shard, &ask).await?)))
    }

    async fn show_lineage(
        &self,
        request: Request<pb::ShowLineageRequest>,
    ) -> Result<Response<pb::ShowLineageResponse>, Status> {
        peers::person(&request, "look at the lineage")?;
        let message = request.into_inner();
        let form = message.form();
        let pb::ShowLineageRequest { deployment, shard, form: _, all } = message;
        let shard = self.shard(&deployment, shard.as_deref())?;
        let judgement = self.0.judge_lately(&shard, &Ask::default()).await?;
        let detail = if all { Detail::All } else { Detail::Folded };
        let picture = Picture::of(&judgement.view, &judgement.selection, detail);
        let drawing = match form {
            pb::LineageForm::Unspecified | pb::LineageForm::Text => picture.text(),
            pb::LineageForm::Dot => picture.dot(),
            pb::LineageForm::Svg => picture.svg(),
        };
        Ok(Response::new(pb::ShowLineageResponse {
            deployment: shard.deployment.to_string(),
            shard: shard.shard.to_string(),
            drawing,
            edges: judgement.view.lineage.edges().map(|edge| (*edge).into()).collect(),
            findings: self.0.histories.of(&shard).findings,
        }))
    }

    async fn accept_lineage(
        &self,
        request: Request<pb::AcceptLineageRequest>,
    ) -> Result<Response<pb::AcceptLineageResponse>, Status> {
        let by = peers::operator(&request, "decide a fork")?;
        let pb::AcceptLineageRequest { deployment, shard, history, reason } = request.into_inner();
        let shard = self.shard(&deployment, shard.as_deref())?;
        let history = HistoryPrefix::new(history.to_vec())?;
        let (history, record) = self.0.accept_lineage(&shard, &history, reason, by.to_string()).await?;
        let history = history.as_bytes().to_vec().into();
        Ok(Response::new(pb::AcceptLineageResponse { history, record_id: record.to_string() }))
    }

    async fn vouch(&self, request: Request<pb::VouchRequest>) -> Result<Response<pb::VouchResponse>, Status> {
        let by = peers::operator(&request, "vouch for backups")?;
        let pb::VouchRequest { deployment, shard, backup_id, reason } = request.into_inner();
        let shard = self.shard(&deployment, shard.as_deref())?;
        let backup = parse("backup_id", &backup_id).map_err(Fault::from)?;
        let record = self.0.vouch(&shard, backup, reason, by.to_string()).await?;
        Ok(Response::new(pb::VouchResponse { record_id: record.to_string() }))
    }

    type EventsStream = ReceiverStream<Result<pb::Event, Status>>;

    async fn events(&self, request: Request<pb::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        peers::person(&request, "look at the events")?;
        let pb::EventsRequest { deployment, since_ms, follow } = request.into_inner();
        let deployment = optional_deployment(deployment.as_deref())?;
        let wanted = Wanted { deployment, since: since_ms.map(Timestamp::from_millis), after: 0 };
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        self.0.background.spawn(following::events(Arc::clone(&self.0), wanted, follow, events));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn audit(&self, request: Request<pb::AuditRequest>) -> Result<Response<pb::AuditResponse>, Status> {
        peers::person(&request, "read the audit")?;
        let deployment = optional_deployment(request.into_inner().deployment.as_deref())?;
        let records = self.0.audit(deployment.as_ref()).await?;
        Ok(Response::new(pb::AuditResponse { entries: records.into_iter().map(audit_entry).collect() }))
    }

    type RetentionStream = ReceiverStream<Result<pb::RetentionResponse, Status>>;

    async fn retention(
        &self,
        request: Request<pb::RetentionRequest>,
    ) -> Result<Response<Self::RetentionStream>, Status> {
        peers::person(&request, "ask what stays")?;
        let deployment = optional_deployment(request.into_inner().deployment.as_deref())?;
        self.0.reconcile_lately(deployment.as_ref()).await?;
        let retained = self.0.retention_known(deployment.as_ref()).await?;
        let (pieces, stream) = mpsc::channel(PAGES_WAITING);
        self.0.background.spawn(super::retention::send_retained(retained, pieces));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type PruneStream = ReceiverStream<Result<pb::PruneResponse, Status>>;

    async fn prune(&self, request: Request<pb::PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        let by = peers::operator(&request, "remove backups")?.to_string();
        let pb::PruneRequest { deployment, dry_run, plan } = request.into_inner();
        let deployment = optional_deployment(deployment.as_deref())?;
        let pruned = self.0.prune(PruneAsk { deployment, dry_run, plan, by }).await?;
        let (pieces, stream) = mpsc::channel(PAGES_WAITING);
        self.0.background.spawn(super::retention::send_pruned(pruned, pieces));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn hold(&self, request: Request<pb::HoldRequest>) -> Result<Response<pb::HoldResponse>, Status> {
        let by = peers::operator(&request, "hold backups")?.to_string();
        let pb::HoldRequest { backup_id, release, reason } = request.into_inner();
        let backup = parse("backup_id", &backup_id).map_err(Fault::from)?;
        let record = self.0.hold(backup, release, reason, &by).await?;
        Ok(Response::new(pb::HoldResponse { record_id: record.to_string() }))
    }

    async fn list_holds(
        &self,
        request: Request<pb::ListHoldsRequest>,
    ) -> Result<Response<pb::ListHoldsResponse>, Status> {
        peers::person(&request, "list what is on hold")?;
        let deployment = optional_deployment(request.into_inner().deployment.as_deref())?;
        let holds = self.0.holds(deployment.as_ref()).await?;
        Ok(Response::new(pb::ListHoldsResponse { holds: holds.into_iter().map(super::retention::held).collect() }))
    }

    async fn let_go(&self, request: Request<pb::LetGoRequest>) -> Result<Response<pb::LetGoResponse>, Status> {
        let by = peers::operator(&request, "let go of branches")?.to_string();
        let pb::LetGoRequest { deployment, shard, history, reason } = request.into_inner();
        let shard = self.shard(&deployment, shard.as_deref())?;
        let history = HistoryPrefix::new(history.to_vec())?;
        let (history, record) = self.0.let_go(&shard, &history, reason, &by).await?;
        let history = history.as_bytes().to_vec().into();
        Ok(Response::new(pb::LetGoResponse { history, record_id: record.to_string() }))
    }

    async fn list_repositories(
        &self,
        request: Request<pb::ListRepositoriesRequest>,
    ) -> Result<Response<pb::ListRepositoriesResponse>, Status> {
        peers::person(&request, "list the repositories")?;
        let check = request.into_inner().check;
        Ok(Response::new(super::repositories::list(&self.0, check).await?))
    }

    type VerifyStream = ReceiverStream<Result<pb::VerifyEvent, Status>>;

    async fn verify(&self, request: Request<pb::VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        let by = peers::operator(&request, "verify backups")?.to_string();
        let asked = super::proving::verify_request(request.into_inner())?;
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        self.0.background.spawn(super::proving::verify(Arc::clone(&self.0), asked, by, events));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn report_rehearsal(
        &self,
        request: Request<pb::ReportRehearsalRequest>,
    ) -> Result<Response<pb::ReportRehearsalResponse>, Status> {
        let by = peers::operator(&request, "report a rehearsal")?.to_string();
        let rehearsal = super::proving::rehearsal(request.into_inner())?;
        let repository = self.0.rehearsed(rehearsal, &by).await?;
        Ok(Response::new(pb::ReportRehearsalResponse { repository: repository.to_string() }))
    }

    async fn extend_locks(
        &self,
        request: Request<pb::ExtendLocksRequest>,
    ) -> Result<Response<pb::ExtendLocksResponse>, Status> {
        peers::operator(&request, "extend locks")?;
        let deployment = optional_deployment(request.into_inner().deployment.as_deref())?;
        let locked = self.0.extend_locks(deployment.as_ref()).await?;
        let repositories = locked.into_iter().map(super::repositories::locked).collect();
        Ok(Response::new(pb::ExtendLocksResponse { repositories }))
    }

    type SyncRepositoriesStream = ReceiverStream<Result<pb::SyncEvent, Status>>;

    async fn sync_repositories(
        &self,
        request: Request<pb::SyncRepositoriesRequest>,
    ) -> Result<Response<Self::SyncRepositoriesStream>, Status> {
        peers::operator(&request, "copy from repository to repository")?;
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        self.0.background.spawn(super::proving::sync(Arc::clone(&self.0), request.into_inner(), events));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type ExportStream = ReceiverStream<Result<pb::StreamPiece, Status>>;

    async fn export(&self, request: Request<pb::ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        peers::operator(&request, "export backups")?;
        let pb::ExportRequest { deployment, backup_id } = request.into_inner();
        let deployment = parse("deployment", &deployment).map_err(Fault::from)?;
        let backup = backup_id.map(|id| parse("backup_id", &id)).transpose().map_err(Fault::from)?;
        let sources = self.0.to_export(&deployment, backup).await?;
        let (pieces, stream) = mpsc::channel(EVENTS_WAITING);
        self.0.background.spawn(super::streams::export(Arc::clone(&self.0), sources, pieces));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn import(
        &self,
        request: Request<Streaming<pb::ImportRequest>>,
    ) -> Result<Response<pb::ImportResponse>, Status> {
        peers::operator(&request, "import backups")?;
        Ok(Response::new(super::streams::import(&self.0, request.into_inner()).await?))
    }

    async fn list_keys(&self, request: Request<pb::ListKeysRequest>) -> Result<Response<pb::ListKeysResponse>, Status> {
        peers::person(&request, "look at the keys")?;
        let name = request.into_inner().repository;
        let name = name.map(|name| parse("repository", &name)).transpose().map_err(Fault::from)?;
        Ok(Response::new(super::keys::list(&self.0, name).await?))
    }

    async fn change_keys(
        &self,
        request: Request<pb::ChangeKeysRequest>,
    ) -> Result<Response<pb::ChangeKeysResponse>, Status> {
        let by = peers::operator(&request, "change the keys")?;
        super::keys::change(&self.0, request.into_inner(), &by).await?;
        Ok(Response::new(pb::ChangeKeysResponse {}))
    }

    async fn rebuild_catalog(
        &self,
        request: Request<pb::RebuildCatalogRequest>,
    ) -> Result<Response<pb::RebuildCatalogResponse>, Status> {
        peers::operator(&request, "rebuild the catalog")?;
        Ok(Response::new(rebuilt(self.0.rebuild_catalog().await?)))
    }

    async fn show_schedule(
        &self,
        request: Request<pb::ShowScheduleRequest>,
    ) -> Result<Response<pb::ShowScheduleResponse>, Status> {
        peers::person(&request, "look at the schedule")?;
        let deployment = optional_deployment(request.into_inner().deployment.as_deref())?;
        Ok(Response::new(super::schedule::schedule(&self.0, deployment).await?))
    }

    async fn invite(&self, request: Request<pb::InviteRequest>) -> Result<Response<pb::InviteResponse>, Status> {
        peers::operator(&request, "invite agents")?;
        let pb::InviteRequest { deployment, shard, site, node, ttl_seconds } = request.into_inner();
        let deployment = parse("deployment", &deployment).map_err(Fault::from)?;
        let shard: ShardName = parse("shard", &shard).map_err(Fault::from)?;
        let site = parse("site", &site).map_err(Fault::from)?;
        let node = (!node.is_empty()).then(|| parse("node", &node)).transpose().map_err(Fault::from)?;
        let invited = self.0.invite(deployment, shard, site, node, Duration::from_secs(ttl_seconds)).await?;
        Ok(Response::new(pb::InviteResponse {
            token: invited.token.expose().clone(),
            expires_at_ms: invited.expires_at.as_millis(),
            node: invited.node.to_string(),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        peers::person(&request, "list agents")?;
        Ok(Response::new(super::status::agents(&self.0).await?))
    }

    async fn plan_restore(
        &self,
        request: Request<pb::PlanRestoreRequest>,
    ) -> Result<Response<pb::PlanRestoreResponse>, Status> {
        let by = peers::operator(&request, "plan a restore")?.to_string();
        let message = request.into_inner();
        let pb::PlanRestoreRequest { deployment, shard, backup_id, to_node, overwrite, .. } = message;
        let pb::PlanRestoreRequest { wish, lineage, accept_loss, dry_run, download_bytes_per_second, .. } = message;
        let shard = self.shard(&deployment, shard.as_deref())?;
        let wish = self.wish(&shard, wish).await?;
        let choice = match (backup_id, lineage) {
            (Some(id), _) => Choice::Named(parse("backup_id", &id).map_err(Fault::from)?),
            (None, Some(history)) => Choice::Branch(HistoryPrefix::new(history.to_vec())?, wish),
            (None, None) => Choice::Canonical(wish),
        };
        let to_node = to_node.map(|node| parse("to_node", &node)).transpose().map_err(Fault::from)?;
        let limit = download_bytes_per_second.and_then(ByteRate::new);
        let asked =
            RestoreRequest { shard: shard.clone(), choice, to_node, overwrite, accept_loss, dry_run, limit, by };
        let made = self.0.plan_restore(asked).await?;
        let judgement = self.0.judge_known(&shard, &Ask::default()).await?;
        let backup = summary_in(&judgement, &judgement.times(), &made.backup);
        Ok(Response::new(plan(&made, backup)))
    }

    type RestoreStream = ReceiverStream<Result<pb::RestoreEvent, Status>>;

    async fn restore(&self, request: Request<pb::RestoreRequest>) -> Result<Response<Self::RestoreStream>, Status> {
        let by = peers::operator(&request, "restore")?;
        let pb::RestoreRequest { plan_id, sealed_identity } = request.into_inner();
        let plan = self.0.plans.take(&plan_id, self.0.clock.now())?;
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        let restore = following::restore(Arc::clone(&self.0), plan, sealed_identity, by, events);
        self.0.background.spawn(restore);
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
