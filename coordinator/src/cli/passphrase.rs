//! A passphrase: from a file that the environment names, or typed on the terminal, unseen.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use urtext_types::{ErrorKind, Secret};

use crate::Fault;

/// Names the file whose first line is the passphrase, where nobody is there to type it.
const FILE: &str = "URTEXT_PASSPHRASE_FILE";

/// A line that is longer is no passphrase. Reserved at once: text that grows leaves copies behind.
const MOST_BYTES: usize = 4096;

/// The passphrase of `what`.
pub(super) fn passphrase(what: &Path) -> Result<Secret<String>, Fault> {
    match std::env::var_os(FILE).filter(|file| !file.is_empty()) {
        Some(file) => from_file(Path::new(&file)),
        None => typed(what),
    }
}

/// A passphrase for something new, typed twice.
pub(super) fn new_passphrase() -> Result<Secret<String>, Fault> {
    let what = Path::new("the new identity");
    let first = passphrase(what)?;
    if first.expose().is_empty() {
        return Err(Fault::new(ErrorKind::Usage, "an empty passphrase protects nothing"));
    }
    match passphrase(what)?.expose() == first.expose() {
        true => Ok(first),
        false => Err(Fault::new(ErrorKind::Usage, "the two passphrases are not the same; nothing was made")),
    }
}

fn from_file(path: &Path) -> Result<Secret<String>, Fault> {
    let failed = |error: io::Error| {
        let message = format!("read the passphrase in {}: {error}", path.display());
        Fault::new(ErrorKind::Unavailable, message).with_hint(format!("{FILE} names it"))
    };
    line(File::open(path).map_err(failed)?).map_err(failed)
}

fn typed(what: &Path) -> Result<Secret<String>, Fault> {
    let failed = |error: io::Error| {
        Fault::new(ErrorKind::Refused, format!("ask for the passphrase of {}: {error}", what.display()))
            .with_hint(format!("where there is no terminal, {FILE} names a file that holds it"))
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let unseen = Unseen::begin(terminal.try_clone().map_err(failed)?).map_err(failed)?;
    write!(terminal, "passphrase of {}: ", what.display()).map_err(failed)?;
    let read = line(terminal.try_clone().map_err(failed)?);
    drop(unseen);
    // The line break that was typed was not shown either.
    writeln!(terminal).map_err(failed)?;
    read.map_err(failed)
}

fn line(from: impl io::Read) -> io::Result<Secret<String>> {
    let mut text = String::with_capacity(MOST_BYTES);
    BufReader::new(from.take(MOST_BYTES as u64)).read_line(&mut text)?;
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(Secret::new(text))
}

/// A terminal that does not show what is typed, until it is dropped.
struct Unseen {
    terminal: File,
    before: Termios,
}

impl Unseen {
    fn begin(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Drain, &unseen)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}
