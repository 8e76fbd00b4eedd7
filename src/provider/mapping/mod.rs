//! Which native figure goes into which column, for every provider whose figures have dotted names: as data that ships
//! with a provider, and as custom metrics that a pipeline file adds.

pub mod convert;
pub mod params;
mod rule;

pub use rule::{Conversion, FieldRule, Rule, Tag, TagFrom, Wrong, check, tables};
