//! What operators do from the command line.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};
use urtext_planner::draw_lineage;
use urtext_proto::{
    model::{InvalidField, parse},
    pb,
};
use urtext_repository::CaptureMethod;
use urtext_types::{BackupId, DeploymentName, Offset, ShardName};

use super::{
    messages::{canonical, nothing_known, plan, summary, summary_in},
    peers,
};
use crate::{Fault, app::App, capture::SnapshotRequest, following, shard::ShardKey, verdict::HistoryPrefix};

pub(super) struct Service(pub(super) Arc<App>);

/// Events that wait for a command line that does not read: it is gone then, and what it watched goes on.
const EVENTS_WAITING: usize = 16;

impl Service {
    fn shard(&self, deployment: &str, shard: Option<&str>) -> Result<ShardKey, Fault> {
        let shard = shard.map(|shard| parse("shard", shard)).transpose()?;
        self.0.shard(&parse("deployment", deployment)?, shard)
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

    async fn list_backups(
        &self,
        request: Request<pb::ListBackupsRequest>,
    ) -> Result<Response<pb::ListBackupsResponse>, Status> {
        peers::person(&request, "list backups")?;
        let deployment = optional_deployment(request.into_inner().deployment.as_deref())?;
        Ok(Response::new(super::status::backups(&self.0, deployment).await?))
    }

    async fn get_backup(
        &self,
        request: Request<pb::GetBackupRequest>,
    ) -> Result<Response<pb::GetBackupResponse>, Status> {
        peers::person(&request, "look at a backup")?;
        let id: BackupId = parse("id", &request.into_inner().id).map_err(Fault::from)?;
        let shown = self.0.show_backup(id).await?;
        Ok(Response::new(pb::GetBackupResponse {
            summary: Some(summary(&shown.entry, nothing_known())),
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
        let asked = SnapshotRequest {
            shard: self.shard(&deployment, shard.as_deref())?,
            node: node.map(|node| parse("node", &node)).transpose().map_err(Fault::from)?,
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
        let pb::CanonicalRequest { deployment, shard } = request.into_inner();
        let shard = self.shard(&deployment, shard.as_deref())?;
        Ok(Response::new(canonical(&self.0.judge(&shard, None).await?)))
    }

    async fn show_lineage(
        &self,
        request: Request<pb::ShowLineageRequest>,
    ) -> Result<Response<pb::ShowLineageResponse>, Status> {
        peers::person(&request, "look at the lineage")?;
        let pb::ShowLineageRequest { deployment, shard } = request.into_inner();
        let shard = self.shard(&deployment, shard.as_deref())?;
        let judgement = self.0.judge(&shard, None).await?;
        Ok(Response::new(pb::ShowLineageResponse {
            deployment: shard.deployment.to_string(),
            shard: shard.shard.to_string(),
            drawing: draw_lineage(&judgement.view),
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
        peers::operator(&request, "plan a restore")?;
        let pb::PlanRestoreRequest { deployment, shard, backup_id, to_node, overwrite } = request.into_inner();
        let shard = self.shard(&deployment, shard.as_deref())?;
        let backup = backup_id.map(|id| parse("backup_id", &id)).transpose().map_err(Fault::from)?;
        let to_node = to_node.map(|node| parse("to_node", &node)).transpose().map_err(Fault::from)?;
        let made = self.0.plan_restore(&shard, backup, to_node.as_ref(), overwrite).await?;
        let judgement = self.0.judge_known(&shard, None).await?;
        let data_as_of = judgement.data_as_of(made.backup.position);
        let mut message = plan(&made, data_as_of);
        message.backup = Some(summary_in(&judgement, &made.backup));
        Ok(Response::new(message))
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
