//! Harness over real servers and real processes, for the end-to-end suites in `it/`.
//!
//! Nothing here is simulated: [`servers`] starts Redis and Valkey programs of five versions, [`fleet`]
//! runs the built `urtext` and `urtext-agent` against them, [`object_server`] is a real S3 server and
//! [`azure_server`] one of Azure, [`link`] is the network that can be cut.
//! Waits are for a state with a limit ([`eventually`]); everything is stopped by process id on drop.
//! The harness is for tests, so it panics, at the caller's line and with the evidence, where a product
//! would return an error.

pub mod azure_server;
pub mod data;
pub mod encodings;
pub mod eventually;
pub mod fleet;
pub mod liar;
pub mod link;
pub mod mixed;
pub mod object_server;
pub mod ports;
pub mod process;
pub mod road;
pub mod sentinel;
pub mod servers;
pub mod stage;
pub mod tls;

/// Prints a remark into the test's output: what was skipped and why, what was measured.
#[expect(clippy::print_stderr, reason = "a test's output is where a person looks for its remarks")]
pub fn say(remark: &str) {
    eprintln!("{remark}");
}
