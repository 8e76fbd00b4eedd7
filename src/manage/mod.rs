//! Changes to resources, from a wish to its end: select, plan, guard, execute, and go on after an interruption.
//!
//! ```text
//! names or a selector ─ prepare ─> plans ─ guard ─> Approved ─ execute ─> provider steps, one after the other
//!                                                                │
//!                                                                └─ journal: written before and after every step
//! an operation of the journal ─ rest ─> what is left ─ guard ─> Approved ─ execute
//! ```
//!
//! Only [`guard`] makes an [`Approved`] plan, and only that can be executed, so no way leads around the limits.

mod execute;
pub mod gather;
pub mod guard;
pub mod journal;
mod open;
pub mod operation;
pub mod prepare;
mod rest;
pub mod select;
mod settle;
#[cfg(test)]
mod tests;
mod unopened;
mod unwind;
mod wait;

pub use execute::{Executor, Progress};
pub use gather::{Inventoried, Places};
pub use guard::{Approved, Guard};
pub use journal::Journal;
pub use open::{Managed, from_file, from_kind};
pub use operation::{Operation, Phase, StepRecord, StepState};
pub use prepare::{Prepared, prepare};
pub use rest::{Rest, rest};
pub use select::Subject;
pub use wait::Waiting;
