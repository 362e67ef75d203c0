//! `urtext`: see [`urtext_coordinator::cli`].

use std::process::ExitCode;

use clap::Parser;
use urtext_coordinator::cli::{self, args::Cli};

#[tokio::main]
async fn main() -> ExitCode {
    // One command is one large state: on the heap.
    Box::pin(cli::run(Cli::parse())).await
}
