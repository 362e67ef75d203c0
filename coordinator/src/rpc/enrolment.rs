//! How an agent becomes one.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use urtext_proto::pb;

use super::peers;
use crate::app::App;

pub(super) struct Service(pub(super) Arc<App>);

#[async_trait]
impl pb::enrolment_server::Enrolment for Service {
    async fn enrol(&self, request: Request<pb::EnrolRequest>) -> Result<Response<pb::EnrolResponse>, Status> {
        let pb::EnrolRequest { token_id, token_secret, csr_pem, recipient, agent_version: _ } = request.into_inner();
        let (issued, identity) = self.0.enrol(&token_id, &token_secret, &csr_pem, &recipient).await?;
        Ok(Response::new(pb::EnrolResponse {
            certificate_pem: issued.certificate_pem,
            ca_pem: self.0.authority.certificate_pem(),
            deployment: identity.deployment.to_string(),
            shard: identity.shard.to_string(),
            site: identity.site.to_string(),
            node: identity.node.to_string(),
        }))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::RenewResponse>, Status> {
        let agent = peers::agent(&self.0, &request, "renew an agent's certificate").await?;
        let issued = self.0.renew(&agent.identity, &request.into_inner().csr_pem).await?;
        let (certificate_pem, ca_pem) = (issued.certificate_pem, self.0.authority.certificate_pem());
        Ok(Response::new(pb::RenewResponse { certificate_pem, ca_pem }))
    }
}
