//! The Redis or Valkey server beside this agent: how to reach it, and what it says of itself.

mod address;
mod connection;
mod error;
mod permissions;

pub use address::{InvalidAddress, ServerAddress, Transport};
pub use connection::{Connection, Password, Server, Socket};
pub use error::ServerError;
pub use permissions::{Access, CAPTURE_RIGHTS, PermissionReport, RESTORE_RIGHTS, Right, check_permissions};
pub use urtext_replication::{Info, InvalidInfo};
