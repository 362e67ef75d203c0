//! The RDB library from outside: files of real servers, made-up files, damaged files.

mod canonical;
mod content;
mod corpus;
mod damage;
mod fuzzed;
mod made_up;
mod memory;
mod portions;
mod support;
mod table;
mod writing;
