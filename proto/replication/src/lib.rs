//! Both ends of Redis replication, as far as backup and restore need them.
//!
//! - **Replica side**, for capture: [`request_snapshot`] attaches to a server as a replica that wants
//!   only the RDB, and yields its bytes with the exact position they were taken at. It never stays
//!   attached: after the last byte it closes the connection.
//! - **Master side**, for restore: [`serve_snapshot`] plays master to one target that was told
//!   `REPLICAOF` us, gives it an RDB at a chosen position, and keeps the link up until the target is
//!   promoted. It never sends a command, so the position does not move.
//!
//! - **Before either**: [`ask_info`] asks a server what it says of itself ([`Info`]); whether it may be captured,
//!   and whether attaching would change its history, is decided from that.
//!
//! The protocol itself is state machines without I/O: [`replica::Handshake`], [`payload::Payload`],
//! [`master::Peer`]. Sockets occur in `driver.rs` and `look.rs`, generic over `AsyncRead + AsyncWrite`,
//! so that TLS and plain connections are the same code. This package never looks inside an RDB.

mod driver;
mod error;
mod info;
mod line;
mod look;

pub mod command;
pub mod master;
pub mod payload;
pub mod replica;

pub use driver::{SnapshotStream, request_snapshot, serve_snapshot};
pub use error::{Quoted, ReplicationError};
pub use info::{Info, InvalidInfo};
pub use look::ask_info;
pub use master::{Offering, ServeEvent};
pub use replica::{AnnouncePort, Credentials, SnapshotRequest, attaching_changes_history};
