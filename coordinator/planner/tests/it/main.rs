//! The planner as its callers see it.

mod fleet;
mod oracle;
mod picture;
mod properties;
mod retention;
mod scale;
mod scenarios;
mod times;
