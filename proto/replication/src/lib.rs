//! Both ends of Redis replication, as far as backup and restore need them.
//!
//! - **Replica side**, for capture: [`request_snapshot`] attaches to a server as a replica that wants
//!   only the RDB, and yields its bytes with the exact position they were taken at. It never stays
//!   attached: after the last byte it closes the connection.
//! - **Master side**, for restore: [`serve_snapshot`] plays master to one target that was told
//!   `REPLICAOF` us, gives it an RDB at a chosen position, and keeps the link up until the target is
//!   promoted. It never sends a command, so the position does not move.
//!
//! The protocol itself is state machines without I/O: [`replica::Handshake`], [`payload::Payload`],
//! [`master::Peer`]. Sockets occur in one file, `driver.rs`, generic over `AsyncRead + AsyncWrite`,
//! so that TLS and plain connections are the same code. This package never looks inside an RDB.

mod driver;
mod error;
mod line;

pub mod command;
pub mod master;
pub mod payload;
pub mod replica;

pub use driver::{SnapshotStream, request_snapshot, serve_snapshot};
pub use error::{Quoted, ReplicationError};
pub use master::{Offering, ServeEvent};
pub use replica::{AnnouncePort, Credentials, SnapshotRequest};
