//! Random deployments with ground truth, which try to make the planner choose wrongly.
//!
//! - [`story`]: what happens, one event after the other; [`script`]: the same as lines of text.
//! - [`world`], [`server`], [`info`]: a model of replication as Redis and Valkey do it, stepped event by
//!   event, with what `INFO` shows after each. [`truth`]: the writes that every data set holds.
//!
//! Never: sockets, files, threads, clocks in the model. Chance is in [`generate`] alone, so one seed is one story.

pub mod campaign;
pub mod generate;
pub mod info;
pub mod oracle;
pub mod run;
pub mod script;
pub mod server;
pub mod shrink;
pub mod story;
pub mod summary;
pub mod truth;
pub mod watch;
pub mod words;
pub mod world;

pub use world::World;
