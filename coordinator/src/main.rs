//! `urtext`: see [`urtext_coordinator::cli`].

use std::process::ExitCode;

use clap::Parser;
use urtext_coordinator::cli::{self, args::Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
