//! The coordinator: sessions, tasks, catalog, gRPC services and the command line `urtext`.
//!
//! Reading order: what it is made of ([`settings`], [`directory`], [`app`]); what it knows ([`catalog`],
//! [`fleet`], [`histories`], [`learn`], [`repositories`], [`reconcile`], [`records`],
//! [`rebuild`]); what it does
//! ([`enrol`], [`sessions`], [`tasks`], [`capture`], [`objects`], [`verdict`], [`retention`], [`prune`], [`proving`],
//! [`locking`], [`syncing`], [`exporting`], [`advice`], [`alarms`], [`restoring`], [`following`], [`hooks`], [`scheduler`]);
//! how it is asked (`rpc`, [`serve`], [`cli`]).
//!
//! The coordinator never talks to a Redis server and never sees the plaintext of a backup. It deletes one only where
//! [`prune`] says so, by rules or by a person's word, and on record. It does not hold the key that opens backups: that is the operator's. The command line does, on the operator's
//! machine: it opens backups, tells what is in them ([`inspect`]) and what differs between two ([`compare`]).

pub mod adding;
pub mod advice;
pub mod alarms;
pub mod alone;
pub mod app;
mod bandwidth;
pub mod capture;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod directory;
pub mod enrol;
pub mod exporting;
mod fault;
pub mod fleet;
pub mod following;
pub mod histories;
pub mod hooks;
pub mod init;
pub mod inspect;
pub mod keys;
pub mod learn;
pub mod locking;
pub mod manifests;
pub mod objects;
pub mod proving;
pub mod prune;
pub mod rebuild;
pub mod reconcile;
pub mod records;
pub mod rehearsing;
pub mod repositories;
pub mod restoring;
pub mod retention;
mod rpc;
pub mod scheduler;
pub mod serve;
pub mod sessions;
pub mod settings;
pub mod shard;
pub mod shown;
pub mod syncing;
pub mod tasks;
pub mod verdict;
pub mod verifier;

pub use fault::Fault;
