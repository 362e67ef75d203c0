//! Rehearsals by schedule, on the coordinator's own machine.
//!
//! This is the one thing for which a coordinator has a private key, and only if the settings name one.

use std::{env, fs, path::Path};

use urtext_repository::{Identity, IdentityFile, Manifest};
use urtext_types::{Chain, DeploymentName, ErrorKind};
use zeroize::Zeroizing;

use super::upkeep::{BY, STOPPING};
use crate::{
    Fault,
    app::App,
    proving::Rehearsal,
    rehearsing::{Rehearsed, fitting, rehearse, servers::installed},
    restoring::canonical_backup,
    settings::RehearseSettings,
    shard::ShardKey,
    verdict::Ask,
};

impl App {
    /// Loads the canonical backup of each shard into a throw-away server.
    pub(super) async fn rehearse_by_schedule(&self, deployment: &DeploymentName) -> Result<Option<String>, Fault> {
        let settings = self.settings.rehearse.as_ref();
        let settings =
            settings.ok_or_else(|| Fault::new(ErrorKind::Usage, "there is no [rehearse] in the settings"))?;
        let mut outcomes = Vec::new();
        for shard in self.shards(Some(deployment)) {
            let rehearsed = self.stop.run_until_cancelled(self.rehearse_shard(&shard, settings)).await;
            outcomes.push(rehearsed.ok_or_else(|| Fault::new(ErrorKind::Unavailable, STOPPING))??);
        }
        Ok(Some(outcomes.join("; ")))
    }

    async fn rehearse_shard(&self, shard: &ShardKey, settings: &RehearseSettings) -> Result<String, Fault> {
        let judgement = self.judge(shard, &Ask::default()).await?;
        if judgement.backups.is_empty() {
            return Ok("nothing to rehearse yet".to_owned());
        }
        let entry = canonical_backup(&judgement)?;
        let reader = self.open_backup(&entry).await?;
        let identities = self.identities_of(&settings.identity, reader.manifest()).await?;
        let named = settings.servers.clone();
        let installed = tokio::task::spawn_blocking(move || installed(&named, env::var_os("PATH").as_deref())).await;
        let installed =
            installed.map_err(|error| Fault::new(ErrorKind::Internal, format!("look for servers: {error}")))??;
        let server = fitting(reader.manifest(), &installed)?;
        let Rehearsed { server, fetch_ms, load_ms, keys, digest: _, failure } =
            rehearse(&reader, identities, server, &env::temp_dir(), &|_| {}).await?;
        let rehearsal = Rehearsal {
            backup: entry.id,
            server: server.to_string(),
            failure: failure.as_ref().map(|fault| Chain(fault).to_string()),
            fetch_ms,
            load_ms,
            keys,
        };
        self.rehearsed(rehearsal, BY).await?;
        match failure {
            Some(fault) => Err(fault),
            None => Ok(format!("backup {} loads into {server}: {keys} keys", entry.id)),
        }
    }

    /// The identities that open a backup: those of a file, or those that were handed on to them.
    async fn identities_of(&self, file: &Path, manifest: &Manifest) -> Result<Vec<Identity>, Fault> {
        let attempt = || format!("read the age identity in {}", file.display());
        let bytes = fs::read(file).map(Zeroizing::new);
        let bytes = bytes.map_err(|error| Fault::new(ErrorKind::Usage, format!("{}: {error}", attempt())))?;
        let own = match IdentityFile::parse(&bytes).map_err(Fault::while_doing(attempt()))? {
            IdentityFile::Plain(identities) => identities,
            IdentityFile::Sealed(_) => {
                let message = format!("{}: it has a passphrase, and nobody is here to be asked", attempt());
                return Err(Fault::new(ErrorKind::Usage, message)
                    .with_hint("make one for rehearsals alone, and add it with `urtext repository rekey`"));
            }
        };
        let opens = |all: &[Identity]| -> Vec<Identity> {
            all.iter()
                .filter(|one| manifest.recipients.iter().any(|wanted| *wanted == one.recipient()))
                .cloned()
                .collect()
        };
        let found = opens(&own);
        if !found.is_empty() {
            return Ok(found);
        }
        for place in self.repositories.iter() {
            let Ok(keyring) = self.keyring(place).await else { continue };
            let found = opens(&keyring.unlock(&own).0);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let message = format!("the age identity in {} does not open backup {}", file.display(), manifest.backup);
        Err(Fault::new(ErrorKind::Denied, message)
            .with_hint("`urtext repository rekey` adds it to whom backups are sealed, and hands older ones on"))
    }
}
