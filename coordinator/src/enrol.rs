//! Who is an agent: enrolment, renewal, and whether a certificate still counts.

use std::time::Duration;

use tracing::{info, warn};
use urtext_identity::{AGENT_LIFETIME, AgentIdentity, IssuedCertificate, JoinToken, PeerCertificate, TokenId, redeem};
use urtext_types::{DeploymentName, ErrorKind, NodeName, Secret, SiteName, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{Enrolment, Redeemed},
    clock::entropy,
    shard::NodeKey,
};

/// Tokens are made for somebody who is at the other host now.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// A token to hand out.
#[derive(Debug)]
pub struct Invitation {
    pub token: Secret<String>,
    pub node: NodeName,
    pub expires_at: Timestamp,
}

impl App {
    /// Makes a join token for the agent of one node; without a name it is the site's with the next free
    /// number.
    pub async fn invite(
        &self,
        deployment: DeploymentName,
        shard: urtext_types::ShardName,
        site: SiteName,
        node: Option<NodeName>,
        ttl: Duration,
    ) -> Result<Invitation, Fault> {
        if ttl.is_zero() || ttl > LONGEST_TTL {
            return Err(Fault::new(ErrorKind::Usage, "--ttl must be more than nothing and at most 30 days"));
        }
        let node = match node {
            Some(node) => node,
            None => self.free_name(&deployment, &site).await?,
        };
        let now = self.clock.now();
        let identity = AgentIdentity { deployment, shard, site, node: node.clone() };
        let endpoints = self.settings.advertise.clone();
        let secret = Secret::new(entropy::<40>());
        let (token, record) = JoinToken::invite(identity, self.authority.fingerprint(), endpoints, now, ttl, &secret)
            .map_err(Fault::while_doing("make a join token"))?;
        self.catalog.add_token(&record).await.map_err(Fault::while_doing("keep a join token"))?;
        Ok(Invitation { token: token.to_line(), node, expires_at: token.expires_at })
    }

    async fn free_name(&self, deployment: &DeploymentName, site: &SiteName) -> Result<NodeName, Fault> {
        let mut taken: Vec<NodeName> =
            self.fleet.nodes(Some(deployment)).into_iter().map(|node| node.identity.node).collect();
        let invited =
            self.catalog.open_tokens(self.clock.now()).await.map_err(Fault::while_doing("list join tokens"))?;
        taken.extend(invited.into_iter().filter(|t| t.identity.deployment == *deployment).map(|t| t.identity.node));
        (1_u32..)
            .map(|number| format!("{site}-{number}"))
            .map(|name| name.parse::<NodeName>())
            .find(|name| name.as_ref().map_or(true, |name| !taken.contains(name)))
            .expect("the numbers do not end")
            .map_err(|error| {
                Fault::new(ErrorKind::Usage, format!("no name for a node of site {site}: {error}"))
                    .with_hint("name it with --node")
            })
    }

    /// Redeems a join token: the certificate is for the identity in the token's record.
    pub async fn enrol(
        &self,
        token_id: &str,
        secret: &[u8],
        csr_pem: &str,
        recipient: &str,
    ) -> Result<(IssuedCertificate, AgentIdentity), Fault> {
        let attempt = || "enrol".to_owned();
        let malformed =
            |problem: String| Fault::new(ErrorKind::Usage, format!("the join token is malformed: {problem}"));
        let id: TokenId = token_id.parse().map_err(malformed)?;
        let secret: [u8; 32] =
            secret.try_into().map_err(|_| malformed(format!("its secret has {} bytes", secret.len())))?;
        let recipient = checked_recipient(recipient)?;
        let now = self.clock.now();
        let record = self.catalog.token(id).await.map_err(Fault::while_doing(attempt()))?;
        let grant = redeem(record.as_ref(), &Secret::new(secret), now).map_err(Fault::while_doing(attempt()))?;
        let issued = self
            .authority
            .issue_agent(&grant.identity, csr_pem, now, AGENT_LIFETIME)
            .map_err(Fault::while_doing(attempt()))?;
        let enrolment = enrolment(&issued, &grant.identity, recipient, now);
        match self.catalog.redeem_token(id, &enrolment).await.map_err(Fault::while_doing(attempt()))? {
            Redeemed::Now => {}
            Redeemed::Already { at } => {
                return Err(Fault::while_doing(attempt())(urtext_identity::TokenRefused::AlreadyUsed { at }));
            }
        }
        info!(agent = %grant.identity, serial = %issued.serial, "an agent has joined");
        self.fleet.know(&grant.identity);
        self.fleet.end_others(&NodeKey::of(&grant.identity), &issued.serial);
        Ok((issued, grant.identity))
    }

    /// A new certificate for who has a good one. The old one goes on to count: the agent may never see
    /// our answer.
    pub async fn renew(&self, agent: &AgentIdentity, csr_pem: &str) -> Result<IssuedCertificate, Fault> {
        let attempt = || format!("renew the certificate of {agent}");
        let now = self.clock.now();
        let issued =
            self.authority.issue_agent(agent, csr_pem, now, AGENT_LIFETIME).map_err(Fault::while_doing(attempt()))?;
        let recipient = self.fleet.node(&NodeKey::of(agent)).and_then(|node| Some(node.session?.recipient));
        self.catalog
            .add_enrolment(&enrolment(&issued, agent, recipient.unwrap_or_default(), now))
            .await
            .map_err(Fault::while_doing(attempt()))?;
        info!(%agent, serial = %issued.serial, "renewed an agent's certificate");
        Ok(issued)
    }

    /// Whether the certificate of an agent still counts. Asked at every request, so that a replacement
    /// takes effect on connections that are open.
    ///
    /// A serial that is not known is from before the catalog was lost, since nothing else issues under our
    /// authority: it is accepted, unless the node has a newer one, and ends the older ones.
    pub async fn check_agent(&self, certificate: &PeerCertificate, agent: &AgentIdentity) -> Result<(), Fault> {
        let attempt = || "check a certificate".to_owned();
        let known = self.catalog.enrolment(&certificate.serial).await.map_err(Fault::while_doing(attempt()))?;
        let replaced = |at: Timestamp| {
            let message = format!("the certificate of {agent} was replaced at {at}, when another agent joined for it");
            Fault::new(ErrorKind::Denied, message)
                .with_hint("if this is the right one, enrol it again with a new token from `urtext invite`")
        };
        match known {
            Some(Enrolment { replaced_at: Some(at), .. }) => Err(replaced(at)),
            Some(_) => Ok(()),
            None => {
                let others = self
                    .catalog
                    .enrolments_of(&agent.deployment, &agent.node)
                    .await
                    .map_err(Fault::while_doing(attempt()))?;
                if let Some(newer) = others.iter().find(|other| other.not_before > certificate.not_before) {
                    return Err(replaced(newer.not_before));
                }
                warn!(%agent, serial = %certificate.serial, "accepted a certificate from before the catalog was lost");
                let enrolment = Enrolment {
                    serial: certificate.serial.clone(),
                    identity: agent.clone(),
                    recipient: String::new(),
                    not_before: certificate.not_before,
                    not_after: certificate.not_after,
                    enrolled_at: self.clock.now(),
                    replaced_at: None,
                };
                self.catalog.add_found_enrolment(&enrolment).await.map_err(Fault::while_doing(attempt()))?;
                self.fleet.end_others(&NodeKey::of(agent), &certificate.serial);
                Ok(())
            }
        }
    }
}

fn enrolment(issued: &IssuedCertificate, identity: &AgentIdentity, recipient: String, now: Timestamp) -> Enrolment {
    Enrolment {
        serial: issued.serial.clone(),
        identity: identity.clone(),
        recipient,
        not_before: issued.not_before,
        not_after: issued.not_after,
        enrolled_at: now,
        replaced_at: None,
    }
}

/// What an agent says is its own age recipient.
pub fn checked_recipient(text: &str) -> Result<String, Fault> {
    text.parse::<urtext_repository::Recipient>()
        .map(|recipient| recipient.to_string())
        .map_err(Fault::while_doing("read the agent's recipient"))
}
