//! The end-to-end suites: real servers, real processes, a module per promise.

mod bad_days;
mod buckets;
mod damage;
mod events;
mod failover;
mod first_backup;
mod guard;
mod harmless;
mod harness;
mod honest_model;
mod identity;
mod inspect_diff;
mod memory;
mod outages;
mod rdb_contents;
mod rdb_digest;
mod rdb_live;
mod rdb_sightings;
mod rdb_written;
mod selection;
mod split_brain;
mod stale_replica;
mod stored_format;
mod verify_sync;
