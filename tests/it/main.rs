//! The end-to-end suites: real servers, real processes, a module per promise.

mod harness;
