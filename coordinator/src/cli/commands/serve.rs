//! `urtext serve`

use std::io::{IsTerminal, Write};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use urtext_types::ErrorKind;

use crate::{
    Fault,
    cli::{Context, Ended, Stop},
    clock::Clock,
    directory::Directory,
    serve::serve,
};

/// What is said unless RUST_LOG says otherwise: our own words, and of the libraries only what went wrong.
const DEFAULT_FILTER: &str = "info,h2=warn,hyper=warn,tower=warn,tonic=warn,sqlx=warn,rustls=warn";

pub(in crate::cli) async fn run(context: &Context) -> Result<Ended, Stop> {
    let directory = Directory::new(context.dir()?);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let stop = CancellationToken::new();
    let failed = |error| Fault::new(ErrorKind::Internal, format!("listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let serving = serve(directory, Clock::system(), stop.clone(), |address| {
        // Whoever started us may not read; serving does not depend on it.
        let _ = writeln!(std::io::stdout().lock(), "listening on {address}");
    });
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        served = &mut serving => served?,
        _ = terminate.recv() => { stop.cancel(); serving.await?; }
        _ = interrupt.recv() => { stop.cancel(); serving.await?; }
    }
    Ok(Ended::Well)
}
