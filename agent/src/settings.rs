//! `agent.toml`: what one agent knows of its server and its coordinator.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use urtext_identity::{IdentityError, read_text, redis_client_config, replace_public};
use urtext_repository::SLOWEST_UPLOAD;
use urtext_types::{ByteRate, ErrorKind, Explain, Secret};

use crate::server::{InvalidAddress, Password, Server, ServerAddress, Transport};

/// The file inside the agent's directory.
pub const SETTINGS_FILE: &str = "agent.toml";

/// Where Debian, Ubuntu and others keep the authorities that everybody trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A password in the environment, for where no file is wanted. It is not inherited by any child.
pub const PASSWORD_VARIABLE: &str = "URTEXT_REDIS_PASSWORD";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub coordinator: CoordinatorSettings,
    pub redis: RedisSettings,
    #[serde(default)]
    pub capture: CaptureSettings,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorSettings {
    /// `host:port`, tried in this order.
    pub endpoints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdb_file: Option<PathBuf>,
    /// What this agent uploads, all in all, is no faster than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_limit: Option<ByteRate>,
}

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: IdentityError,
    },
    #[error("{} is not what it must be: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },
    #[error("the URL of the server in {} holds a password", path.display())]
    PasswordInUrl { path: PathBuf },
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    #[error("TLS to the server needs an authority to trust, and neither ca_file nor {SYSTEM_AUTHORITIES} is there")]
    NoAuthority,
    #[error("client_certificate_file and client_key_file need each other")]
    HalfACertificate,
    #[error("a file for TLS to the server cannot be used")]
    Tls(#[from] IdentityError),
}

impl Explain for SettingsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } => source.kind(),
            Self::Malformed { .. } | Self::PasswordInUrl { .. } | Self::NoAuthority | Self::HalfACertificate => {
                ErrorKind::Usage
            }
            Self::Address(error) => error.kind(),
            Self::Tls(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == ErrorKind::NotFound => {
                Some("make the directory with `urtext-agent join`".to_owned())
            }
            Self::Read { source, .. } => source.hint(),
            Self::Malformed { .. } | Self::HalfACertificate => None,
            Self::PasswordInUrl { .. } => {
                Some("move the password into a file of its own, mode 0600, and name it as password_file".to_owned())
            }
            Self::Address(error) => error.hint(),
            Self::NoAuthority => Some(
                "name the authority of the server's certificate with --redis-ca (ca_file in the settings)".to_owned(),
            ),
            Self::Tls(error) => error.hint(),
        }
    }
}

impl Settings {
    /// Reads `agent.toml` in `dir`. Relative paths in it are relative to `dir`.
    pub fn load(dir: &Path) -> Result<Self, SettingsError> {
        let path = dir.join(SETTINGS_FILE);
        let text = read_text(&path).map_err(|source| SettingsError::Read { path: path.clone(), source })?;
        Self::parse(&text, dir, &path)
    }

    fn parse(text: &str, dir: &Path, path: &Path) -> Result<Self, SettingsError> {
        let malformed = |problem: String| SettingsError::Malformed { path: path.to_owned(), problem };
        let deserializer = toml::Deserializer::parse(text).map_err(|error| malformed(error.to_string()))?;
        let mut settings: Self = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let field = error.path().to_string();
            malformed(format!("{field}: {}", error.into_inner().message()))
        })?;
        if settings.coordinator.endpoints.is_empty() {
            return Err(malformed("coordinator.endpoints is empty".to_owned()));
        }
        if settings.capture.upload_limit.is_some_and(|limit| limit < SLOWEST_UPLOAD) {
            let problem = format!("must be at least {SLOWEST_UPLOAD}: the server waits while its backup is uploaded");
            return Err(malformed(format!("capture.upload_limit: {problem}")));
        }
        let (_, password) = ServerAddress::parse(&settings.redis.url)?;
        if password.is_some() {
            return Err(SettingsError::PasswordInUrl { path: path.to_owned() });
        }
        let redis = &mut settings.redis;
        let files = [
            &mut redis.password_file,
            &mut redis.ca_file,
            &mut redis.client_certificate_file,
            &mut redis.client_key_file,
        ];
        for file in files.into_iter().flatten() {
            *file = dir.join(&*file);
        }
        Ok(settings)
    }

    /// Writes `agent.toml`, with a word on each setting.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        replace_public(&dir.join(SETTINGS_FILE), &self.annotated())
    }

    fn annotated(&self) -> String {
        // Strings as TOML and JSON spell them alike.
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let path = |path: &Path| quoted(&path.to_string_lossy());
        let line = |name: &str, value: &Option<PathBuf>, example: &str| match value {
            Some(value) => format!("{name} = {}\n", path(value)),
            None => format!("# {name} = {}\n", quoted(example)),
        };
        let endpoints = self.coordinator.endpoints.iter().map(|endpoint| quoted(endpoint)).collect::<Vec<_>>();
        let RedisSettings { url, password_file, ca_file, client_certificate_file, client_key_file } = &self.redis;
        let CaptureSettings { rdb_file, upload_limit } = &self.capture;
        let upload_limit = upload_limit.map(|rate| PathBuf::from(String::from(rate)));
        [
            "# One Urtext agent. Read at its start; paths may be relative to this directory.\n\n[coordinator]\n",
            "# Where `urtext serve` listens, tried in this order.\n",
            &format!("endpoints = [{}]\n", endpoints.join(", ")),
            "\n[redis]\n# The server beside this agent: redis://[user@]host:port, rediss:// for TLS, or\n",
            "# unix:///path/to/socket. Never with a password.\n",
            &format!("url = {}\n", quoted(url)),
            "# A file that holds the password alone. It is read again at each connection.\n",
            &line("password_file", password_file, "redis-password"),
            "# For rediss://: the authority of the server's certificate; by default those of the system.\n",
            &line("ca_file", ca_file, "redis-ca.pem"),
            "# For a server with tls-auth-clients: the agent's certificate for it.\n",
            &line("client_certificate_file", client_certificate_file, "redis-client.pem"),
            &line("client_key_file", client_key_file, "redis-client.key"),
            "\n[capture]\n# Where this host finds the file that the server's BGSAVE writes, if CONFIG GET dir tells\n",
            "# another path, as it does for a server in a container.\n",
            &line("rdb_file", rdb_file, "/var/lib/redis/dump.rdb"),
            "# What this agent uploads is no faster than this, so that a link keeps room for replication. The server's\n",
            "# save lasts as long as the upload does.\n",
            &line("upload_limit", &upload_limit, "20 MiB/s"),
        ]
        .concat()
    }
}

impl RedisSettings {
    /// The server that these settings describe. `environment` is [`PASSWORD_VARIABLE`], if it is set.
    pub fn server(&self, environment: Option<Secret<String>>) -> Result<Server, SettingsError> {
        let (address, in_url) = ServerAddress::parse(&self.url)?;
        let password = match (&self.password_file, environment, in_url) {
            (Some(path), _, _) => Password::File(path.clone()),
            (None, Some(password), _) | (None, None, Some(password)) => Password::Known(password),
            (None, None, None) => Password::None,
        };
        let tls = match address.transport {
            Transport::Tls { .. } => Some(self.tls()?),
            Transport::Tcp { .. } | Transport::Unix { .. } => None,
        };
        Ok(Server::new(address, password, tls))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, SettingsError> {
        let authorities = match &self.ca_file {
            Some(path) => read_text(path)?,
            None => std::fs::read_to_string(SYSTEM_AUTHORITIES).map_err(|_: io::Error| SettingsError::NoAuthority)?,
        };
        let client = match (&self.client_certificate_file, &self.client_key_file) {
            (Some(certificate), Some(key)) => Some((read_text(certificate)?, Secret::new(read_text(key)?))),
            (None, None) => None,
            _ => return Err(SettingsError::HalfACertificate),
        };
        let client = client.as_ref().map(|(certificate, key)| (certificate.as_str(), key));
        Ok(redis_client_config(&authorities, client)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            coordinator: CoordinatorSettings { endpoints: vec!["coordinator.example:7443".to_owned()] },
            redis: RedisSettings {
                url: "redis://urtext@127.0.0.1:6379".to_owned(),
                password_file: Some("/etc/urtext/redis \"password\"".into()),
                ca_file: None,
                client_certificate_file: None,
                client_key_file: None,
            },
            capture: CaptureSettings {
                rdb_file: Some("/data/dump.rdb".into()),
                upload_limit: ByteRate::new(1_500_001),
            },
        }
    }

    fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(text, Path::new("/etc/urtext"), Path::new("/etc/urtext/agent.toml"))
    }

    #[test]
    fn settings_read_back_as_written() {
        let dir = tempfile::tempdir().expect("a directory");
        settings().save(dir.path()).expect("to write");
        assert_eq!(Settings::load(dir.path()).expect("to read"), settings());
    }

    #[test]
    fn paths_are_relative_to_the_directory() {
        let text = settings().annotated().replace("# ca_file", "ca_file");
        let read = parse(&text).expect("settings");
        assert_eq!(read.redis.ca_file.as_deref(), Some(Path::new("/etc/urtext/redis-ca.pem")));
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(String) -> String, expect: &str) {
        let error = parse(&change(settings().annotated())).expect_err(expect);
        assert!(error.to_string().contains(expect), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn what_is_wrong_is_named() {
        check_refused(|text| text.replace("password_file", "pasword_file"), "pasword_file");
        check_refused(|text| text.replace("[redis]", "[redis"), "/etc/urtext/agent.toml");
        check_refused(|text| text.replace("[\"coordinator.example:7443\"]", "[]"), "coordinator.endpoints is empty");
        check_refused(|text| text.replace("urtext@", "urtext:hunter2@"), "holds a password");
        check_refused(|text| text.replace("1500001 B/s", "1 MB/s"), "capture.upload_limit: must be at least 1.0 MiB/s");
        check_refused(|text| text.replace("1500001 B/s", "1 MB"), "\"1 MB\" is not a rate");
        check_refused(|text| text.replace("redis://", "http://"), "the server's URL cannot be used");
    }

    #[test]
    fn half_a_client_certificate_is_refused() {
        let redis = RedisSettings {
            url: "rediss://127.0.0.1:6380".to_owned(),
            ca_file: Some("/nowhere".into()),
            ..settings().redis
        };
        assert_eq!(redis.server(None).expect_err("no such file").kind(), ErrorKind::NotFound);
    }
}
