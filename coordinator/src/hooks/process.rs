//! One program, run to its end or to its limit.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Of each output so much of the end is kept: what a program says last is why it stopped.
const KEPT_BYTES: usize = 4096;

/// Once the program has ended, what it started may hold its output open: nobody waits for that.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Where programs are looked for if the coordinator itself does not know.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What came of it.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) end: End,
    pub(super) took: Duration,
    /// The last line of its standard error, else of its output.
    pub(super) last_line: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit code; `None` if a signal ended it.
    Exited(Option<i32>),
    /// Killed, with all of its process group.
    OutOfTime,
    /// Killed as well, because the coordinator stops.
    Stopped,
    NotStarted(String),
}

/// Runs `command` in a process group of its own, with `variables` and little else in its environment.
pub(super) async fn run(
    command: &[String],
    variables: &[(&str, String)],
    limit: Duration,
    stop: &CancellationToken,
) -> Ran {
    let begun = Instant::now();
    let own = |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let Some((program, arguments)) = command.split_first() else {
        return Ran { end: End::Exited(Some(0)), took: Duration::ZERO, last_line: None };
    };
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", own("PATH", PATH))
        .env("LANG", own("LANG", "C.UTF-8"))
        .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Ran { end: End::NotStarted(error.to_string()), took: begun.elapsed(), last_line: None },
    };
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let mut reads = Box::pin(async { tokio::join!(drain(stdout, &mut output), drain(stderr, &mut errors)) });
        let mut is_read = false;
        let status = tokio::select! {
            status = child.wait() => status,
            _ = &mut reads => { is_read = true; child.wait().await }
        };
        if !is_read {
            let _ = timeout(LAST_WORDS, reads).await;
        }
        status
    };
    let ended = tokio::select! {
        ended = timeout(limit, ended) => ended.map_err(|_| End::OutOfTime),
        () = stop.cancelled() => Err(End::Stopped),
    };
    let end = match ended {
        Ok(Ok(status)) => {
            group.0 = None;
            End::Exited(status.code())
        }
        Ok(Err(error)) => End::NotStarted(error.to_string()),
        Err(end) => {
            group.kill();
            // Reaped, so that its number is free. A killed process ends at once.
            let _ = timeout(LAST_WORDS, child.wait()).await;
            end
        }
    };
    let last_line = last_line(&errors).or_else(|| last_line(&output));
    Ran { end, took: begun.elapsed(), last_line }
}

/// A process group that ends with us, unless its leader has ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(leader) = self.0.take() {
            // It may have ended just now.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads to the end, keeping the last [`KEPT_BYTES`]: a program that says much is not held up.
async fn drain(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..length]);
        let excess = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..excess);
    }
}

/// The last line that says something, fit for a terminal.
fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Ran {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let variables = [("URTEXT_NODE", "fra-1".to_owned())];
        run(&command, &variables, limit, &CancellationToken::new()).await
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_programs_end_and_its_last_words_are_told() {
        let check = |ran: Ran, end: End, line: Option<&str>| {
            assert_eq!((ran.end, ran.last_line.as_deref()), (end, line));
        };
        check(shell("exit 0", LONG).await, End::Exited(Some(0)), None);
        check(shell("echo out; echo why >&2; echo >&2; exit 3", LONG).await, End::Exited(Some(3)), Some("why"));
        check(shell("kill -9 $$", LONG).await, End::Exited(None), None);
        // What it says does not fill memory, and does not hold it up.
        let much = shell("head -c 3000000 /dev/zero; echo; printf 'the \\033[2J end'", LONG).await;
        check(much, End::Exited(Some(0)), Some("the  [2J end"));
        let missing = run(&["/nonexistent/hook".to_owned()], &[], LONG, &CancellationToken::new()).await;
        assert!(matches!(&missing.end, End::NotStarted(why) if why.contains("No such file")), "{missing:?}");
    }

    #[tokio::test]
    async fn the_environment_is_clean() {
        let ran = shell("env | cut -d= -f1 | grep -v '^_$' | sort | tr '\\n' ' '", LONG).await;
        assert_eq!(ran.last_line.as_deref(), Some("LANG PATH PWD URTEXT_NODE"));
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; echo begun >&2; wait", file.display());
        let ran = shell(&script, Duration::from_millis(500)).await;
        assert_eq!((&ran.end, ran.last_line.as_deref()), (&End::OutOfTime, Some("begun")));
        assert!(ran.took < Duration::from_secs(10), "{ran:?}");
        let pid: u32 = std::fs::read_to_string(file).expect("written").trim().parse().expect("a number");
        // Gone, or a zombie that nobody has waited for yet.
        for _ in 0..100 {
            match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) if !stat.contains(") Z") => tokio::time::sleep(Duration::from_millis(20)).await,
                _ => return,
            }
        }
        panic!("process {pid} is still there");
    }

    #[tokio::test]
    async fn a_process_that_is_left_behind_does_not_hold_us() {
        let ran = shell("sleep 5 & exit 0", LONG).await;
        assert_eq!(ran.end, End::Exited(Some(0)));
        assert!(ran.took < Duration::from_secs(3), "{ran:?}");
    }
}
