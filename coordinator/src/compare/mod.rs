//! What differs between two data sets, key by key. Pure: no I/O.
//!
//! Each side is read once and becomes [`Fingerprint`]s of bounded size. Those of one part of the key space,
//! small enough for memory, are compared at a time ([`compare`]); who keeps them meanwhile is for the caller.

mod differences;
mod fingerprint;

pub use self::{
    differences::{Change, Difference, SameKeyTwice, Tally, compare},
    fingerprint::{Fingerprint, Fingerprinter, Functions, MAX_RECORD_BYTES},
};
