//! What crosses the network between coordinator, agents and the command line.
//!
//! [`pb`] is generated from `api/urtext/v1/*.proto`; [`model`] turns its messages into the types of
//! `urtext-types` and back. Validation happens on the receiving side only, in `TryFrom`: a missing
//! or malformed field becomes an [`InvalidField`] that names it. [`status`] is the one place where
//! error kinds become gRPC codes and codes become kinds again.
//!
//! Never opens a connection, never reads a file.

pub mod model;
pub mod status;

/// Generated messages, clients and servers.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod pb {
    tonic::include_proto!("urtext.v1");
}

pub use model::InvalidField;
pub use status::RpcError;

/// Largest gRPC message either side accepts. Objects travel in pieces, so only lists of backups come
/// near it: 100,000 summaries are about 25 MiB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Largest piece of an object in one message.
pub const MAX_PIECE_BYTES: usize = 1024 * 1024;
