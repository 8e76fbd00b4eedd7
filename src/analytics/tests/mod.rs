//! The engine against snapshots made by hand.

mod correctness;
mod limits;
mod plans;
mod refusals;
mod support;
mod writer;
