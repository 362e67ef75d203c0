//! Who asks, from the certificate of the TLS session, and whether that role may.

use tonic::{
    Request,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use urtext_identity::{AgentIdentity, PeerCertificate, PeerId};
use urtext_types::{ErrorKind, UserName};

use crate::{Fault, app::App};

/// An agent whose certificate counts.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) identity: AgentIdentity,
    pub(super) certificate: PeerCertificate,
}

/// Who may look; an operator may also act.
#[derive(Debug)]
pub(super) enum Person {
    Operator(UserName),
    Viewer(UserName),
}

/// Put into the requests of the command line whose process this is. What comes over a network never has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InProcess;

impl InProcess {
    fn asks<T>(request: &Request<T>) -> bool {
        request.extensions().get::<Self>().is_some()
    }

    fn name() -> UserName {
        "alone".parse().expect("a valid name")
    }
}

fn certificate<T>(request: &Request<T>) -> Result<Option<PeerCertificate>, Fault> {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let Some(chain) = info.and_then(TlsConnectInfo::peer_certs) else { return Ok(None) };
    let Some(leaf) = chain.first() else { return Ok(None) };
    PeerCertificate::from_der(leaf).map(Some).map_err(Fault::while_doing("read the caller's certificate"))
}

/// Where the caller connects from.
pub(super) fn remote<T>(request: &Request<T>) -> String {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    info.and_then(|info| info.get_ref().remote_addr()).map_or("an unknown address".to_owned(), |at| at.to_string())
}

/// The certificate of whoever is somebody. `what` completes "may not".
fn somebody<T>(request: &Request<T>, what: &str) -> Result<PeerCertificate, Fault> {
    certificate(request)?.ok_or_else(|| {
        Fault::new(ErrorKind::Denied, format!("a caller without a certificate may only enrol, not {what}"))
            .with_hint("use the directory that `urtext init` or `urtext-agent join` made")
    })
}

/// The caller, who must be an agent. `what` completes "may not".
pub(super) async fn agent<T>(app: &App, request: &Request<T>, what: &str) -> Result<Agent, Fault> {
    let certificate = somebody(request, what)?;
    match certificate.peer.clone() {
        PeerId::Agent(identity) => {
            app.check_agent(&certificate, &identity).await?;
            Ok(Agent { identity, certificate })
        }
        other => Err(Fault::new(
            ErrorKind::Denied,
            format!("agent call with an {}'s certificate: only agents may {what}", other.role()),
        )),
    }
}

/// The caller, who must be a person: an operator or a viewer. `what` completes "may not".
pub(super) fn person<T>(request: &Request<T>, what: &str) -> Result<Person, Fault> {
    if InProcess::asks(request) {
        return Ok(Person::Operator(InProcess::name()));
    }
    match somebody(request, what)?.peer {
        PeerId::Operator(name) => Ok(Person::Operator(name)),
        PeerId::Viewer(name) => Ok(Person::Viewer(name)),
        PeerId::Agent(agent) => Err(Fault::new(
            ErrorKind::Denied,
            format!("operator call with the certificate of agent {agent}: agents may not {what}"),
        )
        .with_hint("use the operator/ directory that `urtext init` made")),
        PeerId::Coordinator => {
            Err(Fault::new(ErrorKind::Denied, format!("a coordinator's certificate may not {what}")))
        }
    }
}

/// The caller, who must be an operator.
pub(super) fn operator<T>(request: &Request<T>, what: &str) -> Result<UserName, Fault> {
    match person(request, what)? {
        Person::Operator(name) => Ok(name),
        Person::Viewer(name) => Err(Fault::new(ErrorKind::Denied, format!("viewer {name} may look, but not {what}"))),
    }
}

/// Whoever may read stored objects: an operator, or an agent for what it restores.
#[derive(Debug)]
pub(super) enum Reader {
    Operator,
    Agent(AgentIdentity),
}

pub(super) async fn reader<T>(app: &App, request: &Request<T>) -> Result<Reader, Fault> {
    let what = "read stored objects";
    if InProcess::asks(request) {
        return Ok(Reader::Operator);
    }
    match somebody(request, what)?.peer {
        PeerId::Agent(_) => agent(app, request, what).await.map(|agent| Reader::Agent(agent.identity)),
        PeerId::Operator(_) | PeerId::Viewer(_) | PeerId::Coordinator => {
            operator(request, what).map(|_| Reader::Operator)
        }
    }
}
