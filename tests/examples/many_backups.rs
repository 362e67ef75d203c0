//! Fills a repository for the bench of scale: `many_backups DIR TOTAL PART`.
//!
//! DIR is a coordinator's directory: its authority signs for the agents, and its first repository takes the backups.
//! TOTAL backups are spread over a year, [`DEPLOYMENTS`] with [`SHARDS`] of three nodes at three sites, whose master
//! changes every month. PART says which of them are put: `tenth` every tenth, `rest` all others. Each is what an agent
//! would have put, by the same code: one sealed part, and a signed manifest. All are on record as verified.

use std::{
    env,
    error::Error,
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt, TryStreamExt, stream};
use urtext_identity::{AgentIdentity, AgentSigner, CertificateAuthority, CertificateRequest};
use urtext_repository::{
    BackupKey, FORMAT_VERSION, Manifest, ManifestSigner, Proof, Record, RecordBody, Repository, Sha256Digest,
    SignatureError, StoreAddress, WriterOptions, Written,
};
use urtext_tests::say;
use urtext_types::{
    BackupId, Evidence, ForkEdge, NodeObservation, Offset, Position, RecordId, ReplicationId, Role, Timestamp,
};

const DEPLOYMENTS: [&str; 4] = ["carts", "orders", "sessions", "stock"];
const SHARDS: u64 = 2;
const NODES: [(&str, &str); 3] = [("fra", "fra-1"), ("nyc", "nyc-1"), ("sin", "sin-1")];
/// Of each shard, one after the other.
const HISTORIES: u64 = 12;
/// What the servers write between two backups of a shard.
const BYTES_BETWEEN: u64 = 4096;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const PUTS_AT_ONCE: usize = 32;
/// As many as a verification puts into one record.
const IN_A_RECORD: usize = 10_000;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [dir, total, part] = arguments.as_slice() else { return Err("usage: many_backups DIR TOTAL PART".into()) };
    let total: u64 = total.parse()?;
    let wanted: Vec<u64> = match part.as_str() {
        "tenth" => (0..total).step_by(10).collect(),
        "rest" => (0..total).filter(|n| n % 10 != 0).collect(),
        _ => return Err("PART is `tenth` or `rest`".into()),
    };
    let fleet = Fleet::new(Path::new(dir), total).await?;
    let done = AtomicU64::new(0);
    let puts = wanted.iter().map(|&n| {
        let (fleet, done) = (&fleet, &done);
        async move {
            fleet.back_up(n).await?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(10_000) {
                say(&format!("{done} backups"));
            }
            Ok::<(), Failure>(())
        }
    });
    stream::iter(puts).buffer_unordered(PUTS_AT_ONCE).try_collect::<()>().await?;
    fleet.record_proofs(&wanted).await?;
    say(&format!("{} backups were put", wanted.len()));
    Ok(())
}

/// Who takes the backups.
struct Fleet {
    repository: Repository,
    example: Manifest,
    signers: Vec<(AgentIdentity, Signer)>,
    total: u64,
    /// When the year began.
    began: Timestamp,
}

struct Signer(AgentSigner);

impl ManifestSigner for Signer {
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.sign(bytes))
    }

    fn certificate_pem(&self) -> &str {
        self.0.certificate_pem()
    }
}

impl Fleet {
    async fn new(dir: &Path, total: u64) -> Result<Self, Failure> {
        let format = include_str!("../../proto/repository/FORMAT.md");
        let example = format.split("```json manifest\n").nth(1).and_then(|rest| rest.split("```").next());
        let example = serde_json::from_str(example.ok_or("FORMAT.md shows no manifest")?)?;
        let now = now();
        // Of one day, whichever of the two parts is put: the same number is the same backup.
        let began = Timestamp::from_millis(now.as_millis() / 86_400_000 * 86_400_000).minus(YEAR);
        let settings = fs::read_to_string(dir.join("urtext.toml"))?;
        let address =
            settings.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "repository");
        let address: StoreAddress =
            address.ok_or("urtext.toml names no repository")?.1.trim().trim_matches('"').parse()?;
        let repository = Repository::open(address.open()?).await?;
        let authority = CertificateAuthority::load(&dir.join("ca"))?;
        let mut signers = Vec::new();
        for shard in 0..DEPLOYMENTS.len() as u64 * SHARDS {
            for (site, node) in NODES {
                let identity = AgentIdentity {
                    deployment: DEPLOYMENTS[(shard / SHARDS) as usize].parse()?,
                    shard: (shard % SHARDS).to_string().parse()?,
                    site: site.parse()?,
                    node: node.parse()?,
                };
                let request = CertificateRequest::generate()?;
                let issued = authority.issue_agent(&identity, &request.csr_pem, now, YEAR)?;
                let signer = Signer(AgentSigner::new(&request.key_pem, &issued.certificate_pem)?);
                signers.push((identity, signer));
            }
        }
        Ok(Self { repository, example, signers, total, began })
    }

    /// The node that takes backup `n`.
    fn owner(&self, n: u64) -> &(AgentIdentity, Signer) {
        let (shards, nodes) = (DEPLOYMENTS.len() as u64 * SHARDS, NODES.len() as u64);
        // Each shard has its share of every tenth, too.
        let (shard, node) = ((n + n / 10) % shards, n / shards % nodes);
        &self.signers[(shard * nodes + node) as usize]
    }

    fn key(&self, n: u64) -> BackupKey {
        let (agent, _) = self.owner(n);
        let at = self.began.plus(YEAR / self.total as u32 * n as u32);
        let mut entropy = [0; 10];
        entropy[2..].copy_from_slice(&n.to_be_bytes());
        BackupKey { deployment: agent.deployment.clone(), shard: agent.shard.clone(), id: BackupId::new(at, entropy) }
    }

    /// Writes one backup as an agent does.
    async fn back_up(&self, n: u64) -> Result<(), Failure> {
        let (agent, signer) = self.owner(n);
        let key = self.key(n);
        let mut writer = self.repository.write_backup(key.clone(), WriterOptions::default());
        writer.write(include_bytes!("../corpus/rdbtools-empty_database.rdb")).await?;
        let written = writer.finish().await?;
        let manifest = self.manifest(n, agent, &written)?;
        written.commit(&manifest, signer).await?;
        Ok(())
    }

    fn manifest(&self, n: u64, agent: &AgentIdentity, written: &Written) -> Result<Manifest, Failure> {
        let (key, edges) = (self.key(n), self.edges(agent, n));
        let offset = Offset::new((n + 1) * BYTES_BETWEEN).ok_or("a large offset")?;
        let position = Position::new(history(agent, self.history(n)), offset);
        let started_at = key.id.timestamp();
        let mut manifest = self.example.clone();
        manifest.format_version = FORMAT_VERSION;
        manifest.backup = key.id;
        manifest.deployment = agent.deployment.clone();
        manifest.shard = agent.shard.clone();
        manifest.site = agent.site.clone();
        manifest.node = agent.node.clone();
        manifest.position = Some(position);
        manifest.fork = edges.last().copied();
        manifest.lineage = edges;
        manifest.stale = None;
        if let Some(seen) = &mut manifest.observed_before {
            seen.observed_at = started_at;
            (seen.replication.history, seen.replication.offset) = (position.history, offset);
            seen.replication.parent = manifest.fork.map(|edge| edge.parent);
            if let Role::Replica { link, .. } = &mut seen.replication.role {
                (link.up, link.last_io_seconds, link.down_since_seconds) = (true, Some(0), None);
            }
        }
        manifest.observed_after = manifest
            .observed_before
            .clone()
            .map(|seen| NodeObservation { observed_at: started_at.plus(Duration::from_millis(1800)), ..seen });
        manifest.parts = written.parts.clone();
        (manifest.rdb.bytes, manifest.rdb.sha256) = (written.bytes, written.sha256);
        manifest.settings.object = None;
        manifest.timings.started_at = started_at;
        manifest.timings.finished_at = started_at.plus(Duration::from_millis(1750));
        manifest.recipients = self.repository.header().recipients.clone();
        Ok(manifest)
    }

    /// In which of its shard's histories a backup was taken.
    fn history(&self, n: u64) -> u64 {
        n * HISTORIES / self.total
    }

    /// The changes of the master until then.
    fn edges(&self, agent: &AgentIdentity, n: u64) -> Vec<ForkEdge> {
        let edge = |child: u64| {
            // Before the first backup of the new history.
            let first = (child * self.total).div_ceil(HISTORIES);
            let offset = Offset::new(first * BYTES_BETWEEN + 14).expect("a small offset");
            let parent = Position::new(history(agent, child - 1), offset);
            ForkEdge { child: history(agent, child), parent, evidence: Evidence::FollowingReplica }
        };
        (1..=self.history(n)).map(edge).collect()
    }

    /// What a verification of all of them leaves behind.
    async fn record_proofs(&self, wanted: &[u64]) -> Result<(), Failure> {
        for shard in self.signers.iter().step_by(NODES.len()).map(|(agent, _)| agent) {
            let ids: Vec<BackupId> = wanted
                .iter()
                .map(|&n| self.key(n))
                .filter(|key| (&key.deployment, &key.shard) == (&shard.deployment, &shard.shard))
                .map(|key| key.id)
                .collect();
            for (i, good) in ids.chunks(IN_A_RECORD).enumerate() {
                let at = now();
                let mut entropy = [0; 10];
                entropy[..8].copy_from_slice(&(i as u64).to_be_bytes());
                let body = RecordBody::Verified {
                    shard: shard.shard.clone(),
                    repository: self.repository.header().repository,
                    how: Proof::Stored,
                    good: good.to_vec(),
                    damaged: Vec::new(),
                };
                let record = Record {
                    format_version: FORMAT_VERSION,
                    id: RecordId::new(at, entropy),
                    deployment: shard.deployment.clone(),
                    who: "coordinator".to_owned(),
                    at,
                    reason: None,
                    body,
                };
                self.repository.put_record(&record).await?;
            }
        }
        Ok(())
    }
}

/// The `n`th history of a shard.
fn history(agent: &AgentIdentity, n: u64) -> ReplicationId {
    let digest = Sha256Digest::of(format!("{}/{}/{n}", agent.deployment, agent.shard).as_bytes());
    let bytes = digest.as_bytes()[..20].try_into().expect("20 bytes");
    ReplicationId::from_bytes(bytes).expect("not all zeros")
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
