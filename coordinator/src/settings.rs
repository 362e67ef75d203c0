//! `urtext.toml`: parsed once, into types. Unknown keys are errors that name key and file.

mod hooks;
mod rehearse;
mod repositories;
mod retention;
mod schedule;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use self::retention::RetentionFile;
use serde::Deserialize;
use thiserror::Error;
use urtext_planner::RetentionPolicy;
use urtext_types::{DeploymentName, ErrorKind, Explain, RepositoryName};

use self::{
    hooks::HooksFile,
    rehearse::RehearseFile,
    repositories::{RepositoryFile, all_repositories},
    schedule::ScheduleFile,
};

pub use hooks::Hooks;
pub use rehearse::RehearseSettings;
pub use repositories::RepositorySettings;
pub use schedule::SchedulePolicy;

/// The annotated example, from which `init` makes the real one.
pub const EXAMPLE: &str = include_str!("urtext.example.toml");

/// Everything that an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub listen: SocketAddr,
    /// `host:port`, at least one.
    pub advertise: Vec<String>,
    /// Where backups are kept: one at least, the one of the key `repository` first.
    pub repositories: Vec<RepositorySettings>,
    pub observe_every: Duration,
    /// How old what no manifest names must be before it is deleted.
    pub grace: Duration,
    /// Where backups are rehearsed by schedule at all.
    pub rehearse: Option<RehearseSettings>,
    default_policy: DeploymentPolicy,
    policies: BTreeMap<DeploymentName, DeploymentPolicy>,
}

/// What holds for one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentPolicy {
    pub on_fork: OnFork,
    pub max_link_down: Duration,
    /// The target, not the measurement.
    pub data_loss_window: Duration,
    pub retention: RetentionPolicy,
    pub schedule: SchedulePolicy,
    pub hooks: Hooks,
}

/// Who decides between the branches of a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFork {
    Refuse,
    FollowMaster,
}

/// A settings file that cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{key} in {}: {problem}", path.display())]
    Invalid { path: PathBuf, key: String, problem: String },
}

impl Explain for SettingsError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("point --dir at the directory that `urtext init` made".to_owned()),
            Self::Invalid { .. } => None,
        }
    }
}

impl Settings {
    /// Reads `path`; relative paths in it are relative to it.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The settings in `text`, which was read from `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let invalid = |key: String, problem: String| SettingsError::Invalid { path: path.to_owned(), key, problem };
        let file: File = serde_path_to_error::deserialize(
            toml::Deserializer::parse(text).map_err(|error| invalid("the text".to_owned(), one_line(&error)))?,
        )
        .map_err(|error| invalid(key_of(&error), one_line(error.inner())))?;
        let File {
            listen,
            advertise,
            repository,
            repositories,
            observe_every,
            on_fork,
            max_link_down,
            data_loss_window,
            mut retention,
            schedule,
            rehearse,
            deployments,
        } = file;

        if listen.port() == 0 {
            return Err(invalid("listen".to_owned(), "the port must not be 0: agents have to know it".to_owned()));
        }
        if advertise.is_empty() {
            return Err(invalid("advertise".to_owned(), "name at least one host:port".to_owned()));
        }
        for endpoint in &advertise {
            split_endpoint(endpoint).map_err(|problem| invalid("advertise".to_owned(), problem))?;
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let repositories =
            all_repositories(repository, repositories, folder).map_err(|(key, why)| invalid(key, why))?;
        let observe_every = observe_every.map_or(Ok(Duration::from_secs(1)), |text| {
            duration(&text).map_err(|problem| invalid("observe_every".to_owned(), problem))
        })?;
        if !(Duration::from_millis(100)..=Duration::from_secs(3)).contains(&observe_every) {
            // Above that, a healthy agent would be taken for a silent one (`fleet::SILENT_AFTER`).
            return Err(invalid("observe_every".to_owned(), "must lie between 100ms and 3s".to_owned()));
        }

        let grace = retention.take_grace().map_err(|(key, problem)| invalid(key, problem))?;
        let schedule = schedule.unwrap_or_default();
        let built_in = DeploymentPolicy {
            on_fork: OnFork::Refuse,
            max_link_down: Duration::from_secs(30),
            data_loss_window: Duration::from_secs(24 * 3600),
            retention: RetentionPolicy::default(),
            schedule: schedule.resolve().map_err(|(key, problem)| invalid(key.to_owned(), problem))?,
            hooks: Hooks::default(),
        };
        let policy = PolicyFile { on_fork, max_link_down, data_loss_window, retention, schedule: None, hooks: None };
        let default_policy = policy.over(&built_in, &schedule).map_err(|(key, problem)| invalid(key, problem))?;
        let policies = deployments
            .into_iter()
            .map(|(name, policy)| {
                let policy = policy
                    .over(&default_policy, &schedule)
                    .map_err(|(key, problem)| invalid(format!("deployments.{name}.{key}"), problem))?;
                Ok((name, policy))
            })
            .collect::<Result<BTreeMap<_, _>, SettingsError>>()?;
        let rehearse = rehearse.map(|file| file.resolve(folder));
        let is_wanted = |policy: &DeploymentPolicy| policy.schedule.rehearse.is_some();
        if rehearse.is_none() && (is_wanted(&default_policy) || policies.values().any(is_wanted)) {
            let problem =
                "the age identity that opens the backups is needed here: name its file as `identity` in [rehearse]";
            return Err(invalid("schedule.rehearse".to_owned(), problem.to_owned()));
        }
        Ok(Self { listen, advertise, repositories, observe_every, grace, rehearse, default_policy, policies })
    }

    /// The policy that holds for `deployment`.
    pub fn policy(&self, deployment: &DeploymentName) -> &DeploymentPolicy {
        self.policies.get(deployment).unwrap_or(&self.default_policy)
    }
}

/// The file as it is written. Conversion to [`Settings`] takes it apart exhaustively.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: SocketAddr,
    advertise: Vec<String>,
    repository: Option<String>,
    #[serde(default)]
    repositories: BTreeMap<RepositoryName, RepositoryFile>,
    observe_every: Option<String>,
    on_fork: Option<OnFork>,
    max_link_down: Option<String>,
    data_loss_window: Option<String>,
    schedule: Option<ScheduleFile>,
    rehearse: Option<RehearseFile>,
    #[serde(default)]
    retention: RetentionFile,
    #[serde(default)]
    deployments: BTreeMap<DeploymentName, PolicyFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    on_fork: Option<OnFork>,
    max_link_down: Option<String>,
    data_loss_window: Option<String>,
    #[serde(default)]
    retention: RetentionFile,
    schedule: Option<ScheduleFile>,
    hooks: Option<HooksFile>,
}

impl PolicyFile {
    fn over(
        self,
        default: &DeploymentPolicy,
        default_schedule: &ScheduleFile,
    ) -> Result<DeploymentPolicy, (String, String)> {
        let Self { on_fork, max_link_down, data_loss_window, retention, schedule, hooks } = self;
        let named = |(key, problem): (&'static str, String)| (key.to_owned(), problem);
        let or = |key: &str, text: Option<String>, default: Duration| {
            text.map_or(Ok(default), |text| duration(&text).map_err(|problem| (key.to_owned(), problem)))
        };
        Ok(DeploymentPolicy {
            on_fork: on_fork.unwrap_or(default.on_fork),
            max_link_down: or("max_link_down", max_link_down, default.max_link_down)?,
            data_loss_window: or("data_loss_window", data_loss_window, default.data_loss_window)?,
            retention: retention.over(&default.retention)?,
            schedule: schedule
                .map_or(Ok(default.schedule.clone()), |own| own.over(default_schedule).resolve())
                .map_err(named)?,
            hooks: hooks.map_or(Ok(default.hooks.clone()), HooksFile::resolve).map_err(named)?,
        })
    }
}

/// What is wrong, and what would be right.
fn with_hint(error: &impl Explain) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

/// Host and port of `host:port` or `[v6]:port`.
pub fn split_endpoint(endpoint: &str) -> Result<(&str, u16), String> {
    let problem = || format!("{endpoint:?} is not host:port");
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(problem)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().map_err(|_| problem())?;
    if host.is_empty() || port == 0 || host.contains(['/', ' ', '@']) {
        return Err(problem());
    }
    Ok((host, port))
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{text:?} is not a duration ({error}): write like \"30s\""))
}

fn key_of<E>(error: &serde_path_to_error::Error<E>) -> String {
    let path = error.path().to_string();
    if path == "." { "the text".to_owned() } else { path }
}

/// TOML's messages have a caret line below; the first two lines say where and what.
fn one_line(error: &toml::de::Error) -> String {
    error.message().trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("/etc/urtext/urtext.toml")).map_err(|error| error.to_string())
    }

    const MINIMAL: &str = "listen = '0.0.0.0:7400'\nadvertise = ['backup.example.com:7400']\nrepository = 'r'\n";

    #[test]
    fn the_annotated_example_is_what_the_defaults_are() {
        let example = parse(EXAMPLE).expect("the example");
        let minimal = parse(MINIMAL).expect("minimal");
        assert_eq!(example.default_policy, minimal.default_policy);
        assert_eq!(example.observe_every, minimal.observe_every);
        assert_eq!(example.repositories[0].address.directory(), Some(Path::new("/etc/urtext/repository")));
        let (above, commented) = EXAMPLE.split_once("# [repositories.nyc]").expect("an example of a repository");
        let uncommented = format!("{above}[repositories.nyc]{}", commented.replace("\n# ", "\n"));
        let uncommented = parse(&uncommented).expect("uncommented");
        let names: Vec<&str> = uncommented.repositories.iter().map(|repository| repository.name.as_str()).collect();
        assert_eq!(names, ["main", "nyc"]);
        let nyc = &uncommented.repositories[1];
        assert_eq!(nyc.direct.as_deref(), Some("s3://backups/redis?region=us-east-1"));
        assert_eq!(nyc.upload_limit.map(|rate| rate.to_string()).as_deref(), Some("50.0 MiB/s"));
        let policy = uncommented.policy(&"orders".parse().expect("a name"));
        assert_eq!(policy.on_fork, OnFork::FollowMaster);
        assert_eq!(policy.data_loss_window, Duration::from_secs(900));
        assert_eq!((uncommented.grace, minimal.grace), (Duration::from_secs(86_400), Duration::from_secs(86_400)));
        assert_eq!(uncommented.default_policy, minimal.default_policy);
        let expected = RetentionPolicy { daily: 30, monthly: 12, ..RetentionPolicy::default() };
        let pulls: Vec<&str> = nyc.pulls.iter().map(|name| name.as_str()).collect();
        assert_eq!(pulls, ["main"]);
        let rehearse = uncommented.rehearse.as_ref().expect("an example of a rehearsal");
        assert_eq!(rehearse.identity, Path::new("/etc/urtext/rehearsal/identity.txt"));
        assert_eq!(policy.retention, expected, "what a deployment does not name is as it is for all");
        assert_eq!(policy.schedule.copies, 2);
        assert_eq!(policy.schedule.snapshot.as_ref().map(ToString::to_string).as_deref(), Some(EVERY_6_HOURS));
        assert_eq!(policy.hooks.before, ["/usr/local/bin/quiesce", "orders"]);
        assert_eq!(policy.hooks.limit, Duration::from_secs(30));
    }

    const EVERY_6_HOURS: &str = "0 */6 * * * Europe/Berlin";

    #[test]
    fn snapshots_are_taken_by_default_and_not_where_the_settings_say_never() {
        let daily = parse(MINIMAL).expect("valid").default_policy.schedule;
        assert_eq!(daily.snapshot.map(|schedule| schedule.to_string()).as_deref(), Some("0 3 * * * UTC"));
        assert_eq!((daily.copies, daily.jitter), (1, Duration::from_secs(600)));
        let text = format!(
            "{MINIMAL}[schedule]\nsnapshot = 'never'\ntime_zone = 'Asia/Tokyo'\n[deployments.orders.schedule]\n\
             snapshot = '@hourly'\n"
        );
        let settings = parse(&text).expect("valid");
        let of = |name: &str| settings.policy(&name.parse().expect("a name")).schedule.snapshot.clone();
        assert_eq!(of("orders").map(|schedule| schedule.to_string()).as_deref(), Some("@hourly Asia/Tokyo"));
        assert_eq!(of("carts"), None);
    }

    #[test]
    fn a_deployment_overrides_only_what_it_names() {
        let text = format!("{MINIMAL}max_link_down = '7s'\n[deployments.orders]\non_fork = 'follow-master'\n");
        let settings = parse(&text).expect("valid");
        let orders = settings.policy(&"orders".parse().expect("a name"));
        assert_eq!((orders.on_fork, orders.max_link_down), (OnFork::FollowMaster, Duration::from_secs(7)));
        assert_eq!(settings.policy(&"carts".parse().expect("a name")).on_fork, OnFork::Refuse);
    }

    #[track_caller]
    fn check_refused(line: &str, expect: &str) {
        let key = line.split([' ', '=']).next().expect("a key");
        let rest: String =
            MINIMAL.lines().filter(|other| !other.starts_with(key)).flat_map(|line| [line, "\n"]).collect();
        assert_eq!(parse(&format!("{rest}{line}\n")).expect_err("refused"), expect);
    }

    #[test]
    fn errors_name_key_and_file() {
        check_refused(
            "max_link_dwon = '1s'",
            "max_link_dwon in /etc/urtext/urtext.toml: unknown field `max_link_dwon`, expected one of `listen`, \
             `advertise`, `repository`, `repositories`, `observe_every`, `on_fork`, `max_link_down`, `data_loss_window`, \
             `schedule`, `rehearse`, `retention`, `deployments`",
        );
        check_refused(
            "repository = 'ftp://host/prefix'",
            "repository in /etc/urtext/urtext.toml: \"ftp://host/prefix\" is no place for a repository: nothing is known of \
             ftp://; write an absolute path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
        );
        check_refused(
            "repositories.main = { url = '/b' }",
            "repositories.main in /etc/urtext/urtext.toml: the key `repository` gives the one of the name main: leave \
             one of the two out",
        );
        check_refused(
            "repositories.nyc = { url = 'r' }",
            "repositories.nyc.url in /etc/urtext/urtext.toml: repository main is in the same place",
        );
        check_refused(
            "repositories = { a = { url = 'a', sites = ['fra'] }, b = { url = 'b', sites = ['fra'] } }",
            "repositories.b.sites in /etc/urtext/urtext.toml: site fra puts its backups into a already",
        );
        check_refused(
            "repositories.nyc = { url = 'nyc', pulls = ['nyc'] }",
            "repositories.nyc.pulls in /etc/urtext/urtext.toml: names itself",
        );
        check_refused(
            "repositories.nyc = { url = 'nyc', pulls = ['main', 'fra'] }",
            "repositories.nyc.pulls in /etc/urtext/urtext.toml: there is no repository fra; there are: main, nyc",
        );
        check_refused(
            "deployments.orders.schedule.rehearse = '@weekly'",
            "schedule.rehearse in /etc/urtext/urtext.toml: the age identity that opens the backups is needed here: name \
             its file as `identity` in [rehearse]",
        );
        check_refused(
            "repositories.nyc = { url = 'nyc', direct = true }",
            "repositories.nyc.direct in /etc/urtext/urtext.toml: agents reach buckets by themselves, not the \
             coordinator's directories",
        );
        check_refused(
            "repositories.nyc = { url = 's3://b', upload_limit = '20 Mbit/s' }",
            "repositories.nyc.upload_limit in /etc/urtext/urtext.toml: \"20 Mbit/s\" is not a rate: write like \"20 \
             MiB/s\" or \"500 kB/s\"",
        );
        check_refused(
            "repositories.nyc = { url = 's3://b', upload_limit = '500 kB/s' }",
            "repositories.nyc.upload_limit in /etc/urtext/urtext.toml: must be at least 1.0 MiB/s: a server waits while \
             its backup is uploaded",
        );
        check_refused(
            "listen = '127.0.0.1:0'",
            "listen in /etc/urtext/urtext.toml: the port must not be 0: agents have to know it",
        );
        check_refused(
            "observe_every = '1h'",
            "observe_every in /etc/urtext/urtext.toml: must lie between 100ms and 3s",
        );
        check_refused(
            "retention.grace = '5m'",
            "retention.grace in /etc/urtext/urtext.toml: must be at least 1h: what is being written would be deleted",
        );
        check_refused(
            "deployments.orders.retention.grace = '24h'",
            "deployments.orders.retention.grace in /etc/urtext/urtext.toml: holds for whole repositories: write it into \
             [retention]",
        );
        check_refused("advertise = ['nowhere']", "advertise in /etc/urtext/urtext.toml: \"nowhere\" is not host:port");
        check_refused(
            "schedule.snapshot = 'daily'",
            "schedule.snapshot in /etc/urtext/urtext.toml: \"daily\" is not a cron expression (Invalid pattern: Pattern \
             must have 5 or 6 fields when years are disallowed.); write minute, hour, day of month, month and day of \
             week: \"0 3 * * *\" is every day at 3, or \"never\"",
        );
        check_refused(
            "deployments.orders.schedule.time_zone = 'Berlin'",
            "deployments.orders.schedule.time_zone in /etc/urtext/urtext.toml: \"Berlin\" is not a time zone; write a \
             name like Europe/Berlin or UTC",
        );
        check_refused("schedule.copies = 0", "schedule.copies in /etc/urtext/urtext.toml: must lie between 1 and 16");
        check_refused(
            "schedule.jitter = '25h'",
            "schedule.jitter in /etc/urtext/urtext.toml: must not be more than a day",
        );
        check_refused(
            "deployments.orders.hooks.after = ['notify']",
            "deployments.orders.hooks.after in /etc/urtext/urtext.toml: \"notify\" is no absolute path: hooks are run \
             without a shell",
        );
        check_refused(
            "deployments.orders.hooks.limit = '2h'",
            "deployments.orders.hooks.limit in /etc/urtext/urtext.toml: must be more than 0 and at most an hour",
        );
        check_refused(
            "deployments.orders.max_link_down = 'soon'",
            "deployments.orders.max_link_down in /etc/urtext/urtext.toml: \"soon\" is not a duration (expected number \
             at 0): write like \"30s\"",
        );
    }
}
