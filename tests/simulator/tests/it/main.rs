//! The model is held against what real servers do, and the planner against the model.

mod model;
mod mutations;
mod stories;
