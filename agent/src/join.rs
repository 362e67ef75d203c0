//! `urtext-agent join`: an invitation becomes a certificate.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use tokio::time::timeout;
use urtext_identity::{
    AgentIdentity, CertificateRequest, Credentials, IdentityError, InvalidToken, JoinToken, Joining, replace_private,
};
use urtext_proto::{RpcError, pb, pb::enrolment_client::EnrolmentClient};
use urtext_types::{ErrorKind, Explain, NodeObservation, Secret};

use crate::{
    clock,
    home::{Home, HomeError, PASSWORD_FILE},
    server::{InvalidAddress, ServerAddress, ServerError},
    settings::{CaptureSettings, CoordinatorSettings, RedisSettings, SETTINGS_FILE, Settings, SettingsError},
    uplink,
};

/// For the whole exchange with the coordinator.
const ENROL_LIMIT: Duration = Duration::from_secs(30);

/// What `join` is told.
#[derive(Debug)]
pub struct JoinRequest {
    pub token: JoinToken,
    /// May hold a password, which is then stored apart.
    pub redis_url: Secret<String>,
    pub redis_password_file: Option<PathBuf>,
    pub redis_ca_file: Option<PathBuf>,
    /// From the environment; stored in the agent's directory.
    pub redis_password: Option<Secret<String>>,
    pub home: Home,
}

/// What came of it.
#[derive(Debug)]
pub struct Joined {
    pub identity: AgentIdentity,
    /// The server, or why it could not be observed: joining works all the same.
    pub server: Result<NodeObservation, ServerError>,
}

/// Why the agent did not join.
#[derive(Debug, Error)]
pub enum JoinError {
    #[error(transparent)]
    Token(#[from] InvalidToken),
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{} is not empty, and is not an agent's directory", path.display())]
    ForeignDirectory { path: PathBuf },
    #[error("use {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} belongs to the agent {has}, and the token is for {granted}", path.display())]
    OtherNode { path: PathBuf, has: Box<AgentIdentity>, granted: Box<AgentIdentity> },
    #[error("enrol")]
    Enrol(#[source] RpcError),
    #[error("enrol: the coordinator did not answer within {} s", ENROL_LIMIT.as_secs())]
    Timeout,
    #[error("the coordinator gave a certificate that names no agent")]
    NotAnAgent,
}

impl Explain for JoinError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Token(error) => error.kind(),
            Self::Address(error) => error.kind(),
            Self::Settings(error) => error.kind(),
            Self::Home(error) => error.kind(),
            Self::Identity(error) => error.kind(),
            Self::Enrol(error) => error.kind(),
            Self::ForeignDirectory { .. } | Self::OtherNode { .. } => ErrorKind::Conflict,
            Self::File { .. } => ErrorKind::Usage,
            Self::Timeout => ErrorKind::Unavailable,
            Self::NotAnAgent => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Token(error) => error.hint(),
            Self::Address(error) => error.hint(),
            Self::Settings(error) => error.hint(),
            Self::Home(error) => error.hint(),
            Self::Identity(error) => error.hint(),
            Self::Enrol(error) => error.hint(),
            Self::ForeignDirectory { .. } => Some("give a directory of the agent's own with --dir".to_owned()),
            Self::OtherNode { .. } => Some(
                "nothing was changed here, but the token is spent: make another one, and give another --dir".to_owned(),
            ),
            Self::Timeout => Some("the token may be spent: see `urtext agents list`".to_owned()),
            Self::File { .. } | Self::NotAnAgent => None,
        }
    }
}

/// Redeems the token, and fills the directory.
///
/// The token is spent as soon as the coordinator has answered; everything that can be found wrong here is
/// looked for before.
pub async fn join(request: JoinRequest) -> Result<Joined, JoinError> {
    let JoinRequest { token, redis_url, redis_password_file, redis_ca_file, redis_password, home } = request;
    let (address, url_password) = ServerAddress::parse(redis_url.expose())?;
    let earlier = earlier_identity(&home)?;
    home.create()?;
    let stored_password = match redis_password_file {
        Some(_) => None,
        None => url_password.or(redis_password),
    };
    let password_file = match (&redis_password_file, &stored_password) {
        (Some(path), _) => Some(absolute(path)?),
        (None, Some(_)) => Some(home.path().join(PASSWORD_FILE)),
        (None, None) => None,
    };
    let redis = RedisSettings {
        url: address.to_string(),
        password_file,
        ca_file: redis_ca_file.as_deref().map(absolute).transpose()?,
        client_certificate_file: None,
        client_key_file: None,
    };
    let server = redis.server(None)?;
    let recipient_key = home.recipient_key_or_new()?;
    if let Some(password) = &stored_password {
        replace_private(&home.path().join(PASSWORD_FILE), password.expose())?;
    }
    let observed = match server.connect().await {
        Ok(mut connection) => connection.observe(clock::now).await.map(|(_, observation)| observation),
        Err(error) => Err(error),
    };

    let certificate = CertificateRequest::generate()?;
    let joining = Joining::new(token.ca_sha256)?;
    let enrol = pb::EnrolRequest {
        token_id: token.id.to_string(),
        token_secret: token.secret.expose().to_vec().into(),
        csr_pem: certificate.csr_pem,
        recipient: recipient_key.recipient().to_string(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut client = EnrolmentClient::new(uplink::channel(joining.tls(), token.endpoints.clone()));
    let answer = timeout(ENROL_LIMIT, client.enrol(enrol)).await.map_err(|_| JoinError::Timeout)?;
    let answer = answer.map_err(|status| JoinError::Enrol(uplink::explain(status)))?.into_inner();
    let credentials = Credentials {
        ca_pem: joining.ca_pem().unwrap_or(answer.ca_pem),
        certificate_pem: answer.certificate_pem,
        key_pem: certificate.key_pem,
    };
    let identity = credentials.certificate()?.peer.agent().cloned().ok_or(JoinError::NotAnAgent)?;
    if let Some(has) = earlier.filter(|has| *has != identity) {
        return Err(JoinError::OtherNode {
            path: home.path().to_owned(),
            has: Box::new(has),
            granted: Box::new(identity),
        });
    }
    credentials.save(home.path())?;
    // The settings come last: an agent's directory is whole once they are there. Those that were there
    // already are the operator's, but for where the coordinator and the server are.
    let capture = match Settings::load(home.path()) {
        Ok(settings) => settings.capture,
        Err(_) => CaptureSettings::default(),
    };
    Settings { coordinator: CoordinatorSettings { endpoints: token.endpoints }, redis, capture }.save(home.path())?;
    Ok(Joined { identity, server: observed })
}

/// The node to which the directory belongs already, if it does.
fn earlier_identity(home: &Home) -> Result<Option<AgentIdentity>, JoinError> {
    let path = home.path();
    if Credentials::exist(path) {
        return Ok(Some(home.credentials()?.1));
    }
    let ours = |name: &str| {
        matches!(name, "recipient.key" | "lost+found") || name.starts_with(PASSWORD_FILE) || name == SETTINGS_FILE
    };
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(|source| JoinError::File { path: path.to_owned(), source })?;
                if !entry.file_name().to_str().is_some_and(ours) {
                    return Err(JoinError::ForeignDirectory { path: path.to_owned() });
                }
            }
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JoinError::File { path: path.to_owned(), source }),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, JoinError> {
    fs::canonicalize(path).map_err(|source| JoinError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_other_things_in_it_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::new(dir.path());
        assert_eq!(earlier_identity(&home).expect("an empty directory"), None);
        assert_eq!(earlier_identity(&Home::new(dir.path().join("new"))).expect("none yet"), None);
        fs::write(dir.path().join("recipient.key"), "").expect("to write");
        assert_eq!(earlier_identity(&home).expect("what an earlier attempt left"), None);
        fs::write(dir.path().join("thesis.tex"), "").expect("to write");
        assert!(matches!(earlier_identity(&home), Err(JoinError::ForeignDirectory { .. })));
    }
}
