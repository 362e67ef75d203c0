//! The gRPC services: who asks, what is asked, the answer. Decisions are made elsewhere.

mod backups;
mod control;
mod enrolment;
mod keys;
mod messages;
mod peers;
mod proving;
mod repositories;
mod retention;
mod schedule;
mod session;
mod status;
mod storage;
mod streams;

use std::sync::Arc;

use tonic::service::Routes;
use urtext_proto::pb::{
    agent_session_server::AgentSessionServer, control_server::ControlServer, enrolment_server::EnrolmentServer,
    storage_server::StorageServer,
};

use crate::app::App;

pub(crate) use messages::{event, summary};
pub(crate) use peers::InProcess;

/// Largest request: a piece of an object, or an observation of a server with thousands of replicas.
const MAX_REQUEST_BYTES: usize = 2 * urtext_proto::MAX_PIECE_BYTES;

/// All services of one coordinator.
pub(crate) fn services(app: &Arc<App>) -> Routes {
    let mut routes = Routes::builder();
    let limit = urtext_proto::MAX_MESSAGE_BYTES;
    routes
        .add_service(EnrolmentServer::new(enrolment::Service(app.clone())).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(
            AgentSessionServer::new(session::Service(app.clone())).max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(StorageServer::new(storage::Service(app.clone())).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(
            ControlServer::new(control::Service(app.clone()))
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .max_encoding_message_size(limit),
        );
    routes.routes()
}
