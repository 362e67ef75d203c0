//! The command line.

use std::{env, io::IsTerminal, path::PathBuf, process::ExitCode};

use anstream::{eprintln, println};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use tracing_subscriber::EnvFilter;
use urtext_identity::JoinToken;
use urtext_types::{Chain, Explain, Secret};

use crate::{
    check::check,
    home::Home,
    join::{JoinRequest, join},
    memory,
    run::run,
    settings::{PASSWORD_VARIABLE, RedisSettings, Settings},
};

/// The agent of Urtext: stands beside one Redis or Valkey server, observes it, captures backups of it, and
/// restores to it.
#[derive(Debug, Parser)]
#[command(name = "urtext-agent", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol with the coordinator, once, with a token from `urtext invite`
    Join(JoinArgs),
    /// Run until SIGTERM or SIGINT
    Run {
        /// The directory that `join` made
        #[arg(long, env = "URTEXT_AGENT_DIR")]
        dir: PathBuf,
    },
    /// Test whether the server can be observed, captured and restored to; changes nothing
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct JoinArgs {
    /// The line that `urtext invite` printed
    #[arg(long, env = "URTEXT_JOIN_TOKEN", hide_env_values = true)]
    token: String,
    /// The server: redis://[user@]host:port, rediss:// for TLS, unix:///path/to/socket
    #[arg(long)]
    redis: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Where the agent's key, certificate and settings go
    #[arg(long, env = "URTEXT_AGENT_DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The directory that `join` made
    #[arg(long, env = "URTEXT_AGENT_DIR", required_unless_present = "redis", conflicts_with = "redis")]
    dir: Option<PathBuf>,
    /// A server, without having joined
    #[arg(long)]
    redis: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// A file that holds the server's password alone; or set URTEXT_REDIS_PASSWORD
    #[arg(long, value_name = "FILE")]
    redis_password_file: Option<PathBuf>,
    /// For rediss://: the authority of the server's certificate
    #[arg(long, value_name = "FILE")]
    redis_ca: Option<PathBuf>,
}

/// Reads the arguments, does what they say, and gives the exit code.
pub async fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    match command {
        Command::Join(arguments) => join_command(arguments).await,
        Command::Run { dir } => run_command(dir).await,
        Command::Check(arguments) => check_command(arguments).await,
    }
}

async fn join_command(arguments: JoinArgs) -> ExitCode {
    let JoinArgs { token, redis, server: ServerArgs { redis_password_file, redis_ca }, dir } = arguments;
    let token: JoinToken = match Secret::new(token).expose().parse() {
        Ok(token) => token,
        Err(error) => return failed(&error),
    };
    let request = JoinRequest {
        token,
        redis_url: Secret::new(redis),
        redis_password_file,
        redis_ca_file: redis_ca,
        redis_password: password_in_environment(),
        home: Home::new(&dir),
    };
    match join(request).await {
        Ok(joined) => {
            match joined.server {
                Ok(seen) => println!("server answers: {} {}", seen.server.engine, seen.server.version),
                Err(error) => {
                    eprintln!("warning: the server cannot be observed yet: {}", Chain(&error));
                    print_hint(&error);
                }
            }
            println!("joined as {}", joined.identity);
            println!("start it with: urtext-agent run --dir {}", dir.display());
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

async fn run_command(dir: PathBuf) -> ExitCode {
    let bounded = memory::bound();
    start_log();
    if let Err(error) = bounded {
        warn!(%error, "the allocator keeps its defaults: the agent may use twice the memory");
    }
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("error: listen for signals: {error}");
            return ExitCode::from(1);
        }
    };
    let running = run(Home::new(dir), password_in_environment(), stop.clone());
    tokio::pin!(running);
    let ended = tokio::select! {
        ended = &mut running => ended,
        _ = terminate.recv() => { stop.cancel(); running.await }
        _ = interrupt.recv() => { stop.cancel(); running.await }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn check_command(arguments: CheckArgs) -> ExitCode {
    let CheckArgs { dir, redis, server: ServerArgs { redis_password_file, redis_ca } } = arguments;
    let (redis, rdb_file) = match (dir, redis) {
        (Some(dir), _) => match Settings::load(&dir) {
            Ok(settings) => (settings.redis, settings.capture.rdb_file),
            Err(error) => return failed(&error),
        },
        (None, url) => {
            let redis = RedisSettings {
                url: url.unwrap_or_default(),
                password_file: redis_password_file,
                ca_file: redis_ca,
                client_certificate_file: None,
                client_key_file: None,
            };
            (redis, None)
        }
    };
    let server = match redis.server(password_in_environment()) {
        Ok(server) => server,
        Err(error) => return failed(&error),
    };
    match check(&server, rdb_file.as_deref()).await {
        Ok(report) => {
            println!("{}", report.to_text().trim_end());
            if report.is_good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(urtext_types::ErrorKind::Refused.exit_code())
            }
        }
        Err(error) => failed(&error),
    }
}

/// One sentence, its causes, and what to do.
fn failed<E: Explain + 'static>(error: &E) -> ExitCode {
    eprintln!("error: {}", Chain(error));
    print_hint(error);
    ExitCode::from(error.kind().exit_code())
}

fn print_hint<E: Explain>(error: &E) {
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
}

fn password_in_environment() -> Option<Secret<String>> {
    env::var(PASSWORD_VARIABLE).ok().filter(|password| !password.is_empty()).map(Secret::new)
}

/// To standard error; `URTEXT_LOG` takes filters such as `debug` or `urtext_agent=debug,info`.
fn start_log() {
    let filter =
        EnvFilter::try_from_env("URTEXT_LOG").unwrap_or_else(|_| EnvFilter::new("info,h2=warn,hyper=warn,tower=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
