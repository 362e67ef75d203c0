//! The one stream that an agent holds.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};
use tracing::info;
use urtext_proto::pb;
use urtext_types::Chain;

use super::peers;
use crate::{
    app::App,
    fleet::OUTBOX_MESSAGES,
    sessions::{OpenSession, hello},
};

pub(super) struct Service(pub(super) Arc<App>);

#[async_trait]
impl pb::agent_session_server::AgentSession for Service {
    type SessionStream = ReceiverStream<Result<pb::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let agent = peers::agent(&self.0, &request, "open an agent's session").await?;
        let remote = peers::remote(&request);
        let mut inbound = request.into_inner();
        let hello = hello(&mut inbound).await?;
        let (outbox, messages) = mpsc::channel(OUTBOX_MESSAGES);
        let peers::Agent { identity, certificate } = agent;
        let opened = OpenSession::open(self.0.clone(), identity.clone(), certificate, remote, hello, outbox).await;
        let opened = opened.inspect_err(|fault| info!(agent = %identity, why = %Chain(fault), "refused a session"))?;
        self.0.background.spawn(opened.run(inbound));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}
