//! Where the bytes of an RDB come from: a file, stdin, a backup that is fetched and opened part by part, or a
//! live server.

use std::{
    future::pending,
    io::{self, IsTerminal},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
    task::JoinSet,
};
use urtext_proto::pb;
use urtext_rdb::RdbError;
use urtext_repository::{Manifest, RdbReader};
use urtext_types::{BackupId, ErrorKind};

use super::{
    Context, Stop,
    args::{Alone, Named},
    client::refused,
    live::{LiveServer, LiveStream},
    output::Progress,
};
use crate::Fault;

/// Pieces between the reader and the parser: few, since a part of a backup stays in memory until its last piece
/// was used.
const PIECES_IN_FLIGHT: usize = 2;
const PIECE_BYTES: usize = 512 * 1024;

/// An RDB that can be read once, from its beginning to its end.
pub(super) struct Source {
    /// How messages call it.
    pub(super) name: String,
    /// Its length, where that is known beforehand.
    pub(super) length: Option<u64>,
    /// What is known of a backup without opening it.
    pub(super) manifest: Option<Box<Manifest>>,
    bytes: Reader,
}

enum Reader {
    Stream {
        from: Box<dyn AsyncRead + Send + Unpin>,
        buffer: BytesMut,
    },
    Backup {
        parts: Box<RdbReader>,
        part: Bytes,
    },
    /// Attached to when it is read: no server waits for us to be done with another one.
    Server(LiveServer),
    Live(Box<LiveStream>),
}

/// What takes the bytes, on a thread of its own.
pub(super) trait Consumer: Send + 'static {
    type Output: Send + 'static;
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault>;
    fn finish(self) -> Result<Self::Output, Fault>;
}

impl Context {
    /// Opens what was named. Of a backup only the manifest is fetched yet, and it is known that it can be opened.
    pub(super) async fn open_source(
        &self,
        named: &Named,
        identity: Option<&Path>,
        alone: &Alone,
    ) -> Result<Source, Fault> {
        match named {
            Named::Stdin => open_stdin(),
            Named::File(path) => open_file(path),
            Named::Backup(id) => self.open_backup(*id, identity, alone).await,
            Named::Server(url) => {
                let server = LiveServer::parse(url)?;
                server.look().await?;
                let name = server.name();
                Ok(Source { name, length: None, manifest: None, bytes: Reader::Server(server) })
            }
        }
    }

    async fn open_backup(&self, id: BackupId, identity: Option<&Path>, alone: &Alone) -> Result<Source, Fault> {
        let client = self.connect_or_stand_in(alone).await?;
        let request = pb::GetBackupRequest { id: id.to_string() };
        let found = client.control().get_backup(request).await.map_err(refused)?.into_inner();
        let reader = client.open_backup(found.summary.unwrap_or_default().key.unwrap_or_default(), None).await?;
        let manifest = reader.manifest().clone();
        let recipients: Vec<String> = manifest.recipients.iter().map(ToString::to_string).collect();
        let identities = self.identities(&client, identity, &recipients).await?;
        let parts = reader.rdb(identities).map_err(Fault::while_doing("open the backup"))?;
        Ok(Source {
            name: format!("backup {id}"),
            length: Some(manifest.rdb.bytes),
            manifest: Some(Box::new(manifest)),
            bytes: Reader::Backup { parts: Box::new(parts), part: Bytes::new() },
        })
    }
}

fn open_stdin() -> Result<Source, Fault> {
    let failed = |error: io::Error| Fault::new(ErrorKind::Unavailable, format!("read stdin: {error}"));
    let file = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    Ok(Source::stream("stdin".to_owned(), None, Box::new(tokio::fs::File::from_std(file))))
}

/// A file, at its beginning.
pub(super) fn open_file(path: &Path) -> Result<Source, Fault> {
    let failed = |error: io::Error| file_fault(path, &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Fault::new(ErrorKind::Usage, format!("{} is a directory", path.display()))
            .with_hint("name the RDB file in it; servers call it dump.rdb (CONFIG GET dbfilename)"));
    }
    // What is no plain file has no length that says anything.
    let length = metadata.is_file().then_some(metadata.len());
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(PIECE_BYTES);
    Ok(Source::stream(path.display().to_string(), length, Box::new(file)))
}

fn file_fault(path: &Path, error: &io::Error) -> Fault {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::NotFound => {
            let hint = "name a file, - for stdin, or the id of a backup, which `urtext backups` lists";
            (ErrorKind::NotFound, Some(hint))
        }
        io::ErrorKind::PermissionDenied => (ErrorKind::Denied, Some("read it as its owner, or as root")),
        _ => (ErrorKind::Unavailable, None),
    };
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    };
    let fault = Fault::new(kind, format!("open {}: {reason}", path.display()));
    match hint {
        Some(hint) => fault.with_hint(hint),
        None => fault,
    }
}

impl Source {
    fn stream(name: String, length: Option<u64>, from: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { name, length, manifest: None, bytes: Reader::Stream { from, buffer: BytesMut::new() } }
    }

    /// Reads all of it into `consumer`, with a progress bar.
    ///
    /// # Cancel safety
    /// Dropping the future ends the consumer at its next piece, without an answer.
    pub(super) async fn read_into<C: Consumer>(mut self, mut consumer: C) -> Result<C::Output, Stop> {
        let (pieces, mut incoming) = mpsc::channel::<Bytes>(PIECES_IN_FLIGHT);
        let mut parser = JoinSet::new();
        parser.spawn_blocking(move || {
            while let Some(piece) = incoming.blocking_recv() {
                consumer.feed(&piece)?;
            }
            consumer.finish()
        });
        // A bar where somebody watches it; a line for each file would be noise.
        let mut progress = io::stderr().is_terminal().then(Progress::new);
        let mut done = 0;
        while let Some(piece) = self.next().await? {
            done += piece.len() as u64;
            // The consumer has given up: it says why.
            if pieces.send(piece).await.is_err() {
                break;
            }
            if let Some(progress) = &mut progress {
                let phase = format!("reading {}", self.name);
                progress.update(&pb::TaskPhase { phase, bytes_done: done, bytes_total: self.length })?;
            }
        }
        drop(pieces);
        match parser.join_next().await {
            Some(Ok(output)) => Ok(output?),
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime shuts down: nobody waits for an answer.
                Err(_) => pending().await,
            },
            None => unreachable!("one consumer was started"),
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Reader::Server(server) = &self.bytes {
            let stream = server.attach().await?;
            self.length = stream.length();
            self.bytes = Reader::Live(Box::new(stream));
        }
        match &mut self.bytes {
            Reader::Stream { from, buffer } => {
                buffer.reserve(PIECE_BYTES);
                let read = from.read_buf(buffer).await;
                let read =
                    read.map_err(|error| Fault::new(ErrorKind::Unavailable, format!("read {}: {error}", self.name)))?;
                Ok((read > 0).then(|| buffer.split().freeze()))
            }
            Reader::Server(_) => unreachable!("it was attached to above"),
            Reader::Live(stream) => stream.next().await.map_err(Fault::while_doing(format!("read {}", self.name))),
            Reader::Backup { parts, part } => {
                if part.is_empty() {
                    match parts.next().await.map_err(Fault::while_doing("fetch the backup"))? {
                        Some(next) => *part = next,
                        None => return Ok(None),
                    }
                }
                Ok(Some(part.split_to(part.len().min(PIECE_BYTES))))
            }
        }
    }
}

/// An RDB that cannot be read, with what else the bytes may be.
pub(super) fn rdb_fault(attempt: String, error: RdbError) -> Fault {
    let RdbError::NotRdb { found } = &error else { return Fault::while_doing(attempt)(error) };
    let hint = match found.as_slice() {
        [0x1f, 0x8b, ..] => Some("this is gzip: zcat FILE | urtext … -"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("this is zstd: zstd -dc FILE | urtext … -"),
        [b'a', b'g', b'e', b'-', ..] => {
            Some("this is encrypted: name the backup by its id, or age -d -i IDENTITY FILE | zstd -dc | urtext … -")
        }
        [b'*', b'0'..=b'9', ..] => {
            Some("this is an append-only file without an RDB at its head: redis-check-aof reads it")
        }
        [b'f', b'i', b'l', b'e', b' ', ..] => {
            Some("this seems to be the manifest of a multi-part append-only file: name the base file in it, *.base.rdb")
        }
        [b'{', ..] => Some("this is JSON: of a stored backup, name the id"),
        _ => None,
    };
    let fault = Fault::while_doing(attempt)(error);
    match hint {
        Some(hint) => fault.with_hint(hint),
        None => fault,
    }
}

/// How a path of the command line is meant.
pub(super) fn named_file(path: PathBuf) -> Named {
    if path.as_os_str() == "-" { Named::Stdin } else { Named::File(path) }
}
