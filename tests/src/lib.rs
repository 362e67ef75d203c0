//! Harness over real servers and real processes, and the end-to-end suites.
