//! `urtext rehearse`: a backup is loaded into a real server, which is thrown away afterwards.
//!
//! What a checksum cannot prove, a server does: it reads the file to its end, drops what has expired, and writes down
//! what it holds. That is compared with the backup, key by key in the sense of the content digest. The server runs
//! in a private folder, is reached over a socket there and nowhere else, and is stopped by its process id
//! ([`sandbox`]). Which of the installed servers is used is decided from their versions ([`servers`]).
//!
//! Both sides are compared as of one moment, after the server has written its file: a key whose time has come by
//! then counts on neither side.

pub mod content;
pub mod memory;
mod run;
pub mod sandbox;
pub mod servers;

pub use run::{Rehearsed, fitting, rehearse};
