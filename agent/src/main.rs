use std::process::ExitCode;

/// Blocking threads: one parses, one seals, and files are read on others. Each thread may hold on to memory
/// that it freed, so that few of them are part of keeping the agent small.
const BLOCKING_THREADS: usize = 6;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(urtext_agent::cli::main()),
        Err(error) => {
            anstream::eprintln!("error: start the runtime: {error}");
            ExitCode::FAILURE
        }
    }
}
