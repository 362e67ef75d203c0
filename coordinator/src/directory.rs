//! The coordinator's directory: what lies where, and who may use it.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use urtext_types::ErrorKind;

use crate::Fault;

/// Names inside the directory that `init` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn settings(&self) -> PathBuf {
        self.root.join("urtext.toml")
    }

    /// The authority's key: whoever holds it can be anybody.
    pub fn authority(&self) -> PathBuf {
        self.root.join("ca")
    }

    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog.sqlite")
    }

    /// What the command line needs, and all that it needs; may be copied elsewhere.
    pub fn operator(&self) -> OperatorDirectory {
        OperatorDirectory { root: self.root.join("operator") }
    }

    /// Makes sure that one coordinator uses the directory. The lock goes with the process, however it ends.
    pub fn lock(&self) -> Result<DirectoryLock, Fault> {
        let path = self.root.join("lock");
        let failed = |error: io::Error| {
            let kind =
                if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Unavailable };
            Fault::new(kind, format!("lock {}: {error}", path.display()))
                .with_hint("point --dir at the directory that `urtext init` made")
        };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(DirectoryLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Fault::new(
                ErrorKind::Refused,
                format!("another `urtext serve` is running on {}", self.root.display()),
            )
            .with_hint("one directory has one coordinator: stop the other one first")),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// Held while the coordinator runs.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// `operator/`: endpoint, certificate, key, and the age identity until it is moved elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorDirectory {
    root: PathBuf,
}

impl OperatorDirectory {
    /// The `operator/` part of `dir`, or `dir` itself if it is a copy of one.
    pub fn find(dir: &Path) -> Result<Self, Fault> {
        for root in [dir.join("operator"), dir.to_owned()] {
            let found = Self { root };
            if found.endpoints().exists() {
                return Ok(found);
            }
        }
        Err(Fault::new(ErrorKind::NotFound, format!("{} is no coordinator's directory", dir.display())).with_hint(
            "point --dir or URTEXT_DIR at the directory that `urtext init` made, or a copy of its operator/",
        ))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One `host:port` a line.
    pub fn endpoints(&self) -> PathBuf {
        self.root.join("endpoint")
    }

    /// The age identity that opens the repository.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity.txt")
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::Explain;

    use super::*;

    #[test]
    fn a_directory_has_one_coordinator_at_a_time() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let directory = Directory::new(dir.path());
        let held = directory.lock().expect("the first");
        let refused = directory.lock().expect_err("the second");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        drop(held);
        directory.lock().expect("after the first has gone");
    }

    #[test]
    fn a_copy_of_the_operators_part_is_enough_for_the_command_line() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let operator = Directory::new(dir.path()).operator();
        assert_eq!(OperatorDirectory::find(dir.path()).expect_err("nothing there").kind(), ErrorKind::NotFound);
        std::fs::create_dir(operator.root()).expect("a folder");
        std::fs::write(operator.endpoints(), "127.0.0.1:7400\n").expect("a file");
        assert_eq!(OperatorDirectory::find(dir.path()).expect("the whole"), operator);
        assert_eq!(OperatorDirectory::find(operator.root()).expect("the part").root(), operator.root());
    }
}
