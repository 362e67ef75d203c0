//! The server that is restored to: what speaks against it when the plan is made, and again before it is carried out.

use urtext_identity::AgentIdentity;
use urtext_proto::RpcError;
use urtext_rdb::{RdbHeader, ServerVersion, loadable_by};
use urtext_repository::Manifest;
use urtext_types::{ErrorKind, Explain, NodeName, NodeObservation, Timestamp};

use super::words::target_warnings;
use crate::{
    Fault,
    app::App,
    catalog::TaskWork,
    fleet::Node,
    shard::{NodeKey, ShardKey},
};

/// The server that is restored to.
#[derive(Debug, Clone)]
pub struct Target {
    pub agent: AgentIdentity,
    /// To seal the repository's identity to.
    pub recipient: String,
    pub boot_id: String,
    /// The run of the server that the plan was made for.
    pub run_id: String,
    /// The keys that it held then. More than none of them mean a safety backup first.
    pub keys: u64,
    pub overwrite: bool,
}

impl App {
    pub(super) fn target_node(&self, shard: &ShardKey, name: &NodeName) -> Result<Node, Fault> {
        let nodes = self.fleet.nodes(Some(&shard.deployment));
        nodes.into_iter().find(|node| node.identity.node == *name).ok_or_else(|| self.unknown_node(shard, name))
    }

    /// Everything that speaks against restoring to this node, the hardest first.
    pub(super) fn check_target(
        &self,
        node: &Node,
        manifest: &Manifest,
        overwrite: bool,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Result<Target, Fault> {
        let name = &node.identity.node;
        let session = self.session_of(node, now)?;
        if let Some(trouble) = &node.trouble {
            let error = RpcError::from(trouble.clone());
            return Err(Fault::while_doing(format!("restore to {name}: its server is in trouble"))(error));
        }
        let Some(seen) = node.fresh(now) else {
            let message = format!("restore to {name}: its server has not been seen just now");
            return Err(Fault::new(ErrorKind::Unavailable, message).with_hint("try again in some seconds"));
        };
        let observation = &seen.observation;
        check_loadable(manifest, observation)
            .map_err(|fault| Fault::while_doing(format!("restore to {name}"))(fault))?;
        let keys = observation.keys();
        if keys > 0 && !overwrite {
            let message = format!("restore to {name}: its server holds {keys} keys");
            return Err(Fault::new(ErrorKind::Refused, message)
                .with_hint("--overwrite replaces them, after a safety backup of what is there now"));
        }
        warnings.extend(target_warnings(name, observation, &manifest.server.run_id));
        Ok(Target {
            agent: node.identity.clone(),
            recipient: session.recipient.clone(),
            boot_id: session.boot_id.clone(),
            run_id: observation.server.run_id.clone(),
            keys,
            overwrite,
        })
    }

    /// Whether the target still is what the plan was made for.
    pub fn check_plan(&self, target: &Target) -> Result<(), Fault> {
        let moved_on = |what: String| {
            Fault::new(ErrorKind::Refused, format!("the plan is out of date: {what}"))
                .with_hint("nothing was changed; make a new plan: run `urtext restore` again")
        };
        let now = self.clock.now();
        let key = NodeKey::of(&target.agent);
        let under_way = self.tasks.open_for(&key);
        if let Some(other) = under_way.iter().find(|task| matches!(task.stored.work, TaskWork::Restore { .. })) {
            return Err(moved_on(format!("the {} to node {} is under way", other.what(), target.agent.node)));
        }
        let node = self.fleet.node(&key);
        let node = node.ok_or_else(|| moved_on(format!("node {} is gone", target.agent.node)))?;
        let session = self.session_of(&node, now)?;
        if session.boot_id != target.boot_id || session.recipient != target.recipient {
            return Err(moved_on(format!("the agent of {} has been restarted", target.agent.node)));
        }
        let Some(seen) = node.fresh(now) else {
            return Err(moved_on(format!("the server of {} does not answer", target.agent.node)));
        };
        if seen.observation.server.run_id != target.run_id {
            return Err(moved_on(format!("the server of {} has been restarted", target.agent.node)));
        }
        let keys = seen.observation.keys();
        if target.keys == 0 && keys > 0 {
            return Err(moved_on(format!("the server of {} holds {keys} keys now", target.agent.node)));
        }
        Ok(())
    }
}

fn check_loadable(manifest: &Manifest, target: &NodeObservation) -> Result<(), Fault> {
    let Some(server) = ServerVersion::parse(target.server.engine, &target.server.version) else {
        let message = format!("its version {:?} is not one that is known", target.server.version);
        return Err(Fault::new(ErrorKind::Refused, message));
    };
    let header = RdbHeader { engine: manifest.rdb.magic, version: manifest.rdb.version };
    loadable_by(header, [], server).map_err(|error| {
        let fault = Fault::new(error.kind(), error.to_string());
        match error.hint() {
            Some(hint) => fault.with_hint(hint),
            None => fault,
        }
    })
}
