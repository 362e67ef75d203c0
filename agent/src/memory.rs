//! Keeping the process small with the C library's own allocator.
//!
//! Parts of 16 MiB are made and dropped for as long as a capture lasts. glibc takes the first ones from the
//! system and gives them back, but then learns to keep blocks of that size in its heaps
//! (`malloc.c:M_MMAP_THRESHOLD`, which is dynamic), where they tear holes: measured over four captures of
//! 500 MiB, 126 MiB and growing, against 68 MiB and 15 MiB between them once the threshold is fixed.
//! The setting is read from the environment when a process starts, so that it has to be started with it.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// Blocks from here on are given back to the system when they are freed. An operator who sets it is obeyed.
const THRESHOLD: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "1048576");
/// Heaps for small blocks: one for each of the runtime's workers.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

/// Replaces the process by itself, with the allocator's settings. Returns if that is done already, or if it
/// cannot be done, in which case the agent works and is larger.
pub fn bound() -> io::Result<()> {
    if env::var_os(THRESHOLD.0).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    Err(command.args(arguments).env(THRESHOLD.0, THRESHOLD.1).env(ARENAS.0, ARENAS.1).exec())
}
