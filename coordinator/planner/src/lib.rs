//! Which copy is canonical, and why: pure functions over values. No clock, no randomness, no I/O.
