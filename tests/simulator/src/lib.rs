//! Random deployments with ground truth, which try to make the planner choose wrongly.
//!
//! - [`story`]: what happens, one event after the other. [`script`]: the same as lines of text. [`words`]: the
//!   same for a person. [`generate`]: one seed makes one story.
//! - [`world`], [`server`], [`info`]: replication as Redis and Valkey do it, stepped event by event, with what
//!   `INFO` shows after each. [`truth`]: the writes that every data set holds.
//! - [`watch`]: agents that look late or not at all, and a coordinator that makes of it what the product makes.
//! - [`oracle`]: holds every answer of the planner against the truth.
//! - [`run`], [`campaign`], [`summary`]: one story, many, and what came of them. [`shrink`]: a story that goes wrong,
//!   cut down to what it takes.
//!
//! Never: sockets, files or clocks. Chance is in [`generate`] alone.

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
