//! The plan of a restore, in words.

use urtext_types::{ByteRate, Engine, NodeName, NodeObservation, Role};

use super::Target;
use crate::catalog::BackupEntry;

pub(super) fn target_warnings(name: &NodeName, target: &NodeObservation, origin_run: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    match &target.replication.role {
        Role::Master { replicas } if !replicas.is_empty() => warnings.push(format!(
            "{name} has {} replicas: they lose their data as well and follow the restored one",
            replicas.len()
        )),
        Role::Master { .. } => {}
        Role::Replica { master, .. } => warnings.push(format!(
            "{name} is a replica of {master}: it becomes a master of its own; whatever manages the replication \
             (Sentinel, a controller) may turn it back"
        )),
    }
    if target.server.cluster_enabled {
        warnings.push(format!("{name} runs in cluster mode: only this shard is restored"));
    }
    if target.persistence.aof_enabled {
        warnings.push(format!("{name} writes an append-only file, which is rewritten after the restore"));
    }
    if target.server.run_id == origin_run && !origin_run.is_empty() {
        warnings.push(format!("{name} is the very server that the backup was taken from, still running"));
    }
    warnings
}

pub(super) fn steps(backup: &BackupEntry, target: Option<&Target>, limit: Option<ByteRate>) -> Vec<String> {
    let what = format!("backup {} of node {} (site {})", backup.id, backup.node, backup.site);
    let position = backup.position.map_or(String::new(), |at| format!(", at {}:{}", at.history.short(), at.offset));
    let engine = match backup.engine {
        Engine::Redis => "Redis",
        Engine::Valkey => "Valkey",
    };
    let size = urtext_types::ByteCount::new(backup.rdb_bytes);
    let pace = limit.map_or(String::new(), |rate| format!(", at {rate} at most"));
    let Some(Target { agent, keys, .. }) = target else {
        return vec![
            format!("Fetch {what}{position}, {size}{pace}, and verify its signature and every hash."),
            "Decrypt it here and write dump.rdb.".to_owned(),
            format!("Parse it completely: {} keys as written by {engine} {}.", backup.keys, backup.server_version),
        ];
    };
    let mut steps = Vec::new();
    if *keys > 0 {
        steps.push(format!("Take a safety backup of {} as it is now ({keys} keys).", agent.node));
    }
    steps.push(format!("Fetch {what}{position}{pace}, and verify every hash on the host of {}.", agent.node));
    steps.push(format!(
        "Replace the data set of {} by replication: {} keys, {size}, as written by {engine} {}.",
        agent.node, backup.keys, backup.server_version
    ));
    steps.push(format!("Promote {}, so that it goes on under a history of its own.", agent.node));
    steps.push("Compare the keys of every database and the position with the backup's.".to_owned());
    steps
}
