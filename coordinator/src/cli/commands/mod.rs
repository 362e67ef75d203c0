//! One file for each verb.

pub(super) mod agents;
pub(super) mod backups;
pub(super) mod canonical;
pub(super) mod catalog;
pub(super) mod decisions;
pub(super) mod diff;
pub(super) mod events;
pub(super) mod export;
pub(super) mod init;
pub(super) mod inspect;
pub(super) mod invite;
pub(super) mod lineage;
pub(super) mod rehearse;
pub(super) mod rekey;
pub(super) mod repository;
pub(super) mod restore;
pub(super) mod retention;
pub(super) mod schedule;
pub(super) mod serve;
pub(super) mod snapshot;
pub(super) mod status;
mod to_dir;
pub(super) mod verify;
mod words;
