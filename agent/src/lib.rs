//! The agent beside each server: observe, capture, restore.
//!
//! - [`run`] is everything that an agent does until it is told to stop; [`join`] and [`check`] come before.
//! - [`server`] is the Redis or Valkey server: connections, INFO, rights. [`observe`] looks at it.
//! - [`capture`] makes backups, [`restore`] brings them back; [`worker`] carries out one task at a time, and
//!   [`tasks`] keeps what became of them.
//! - [`session`] is the stream to the coordinator, [`uplink`] the connection below it, [`store`] the
//!   repository behind it, [`direct`] the way past it; [`certificate`] and [`trust`] say who we are and whom we believe.
//! - [`home`] and [`settings`] are the agent's directory and its `agent.toml`; [`memory`] keeps the process small.
//!
//! Nothing listens: the agent dials its server and its coordinator. The one exception is a restore, whose
//! target comes to the agent. It never deletes anything in a repository, and cannot read past backups: it
//! knows only public keys, but for the time of a restore.

pub mod capture;
pub mod certificate;
pub mod check;
pub mod cli;
pub mod clock;
pub mod direct;
pub mod home;
pub mod join;
pub mod memory;
pub mod observe;
pub mod restore;
pub mod run;
pub mod server;
pub mod session;
pub mod settings;
pub mod store;
pub mod tasks;
pub mod trust;
pub mod uplink;
pub mod worker;
