//! The RDB library from outside: files of real servers, made-up files, damaged files.

mod content;
mod corpus;
mod made_up;
mod memory;
mod support;
mod writing;
