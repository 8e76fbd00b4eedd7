//! The vocabulary everyone shares: measurement tables, batches of rows, and the parcels in which they travel.
//!
//! This room depends on no other. A row is identified by its table, its tags and its `time`; writing it again
//! replaces it field by field, and the last value that is not null wins.

mod batch;
mod builder;
mod parcel;
mod quantity;
pub mod resource;
mod secret;
mod table;
mod timestamp;

pub use batch::{MetricBatch, column_role, empty_schema};
pub use builder::{BatchBuilder, Identity, RowBuilder, Value};
pub use parcel::{Ack, Outcome, Parcel};
pub use quantity::{Size, Span};
pub use secret::Secret;
pub use table::{
    CLOUD_TAG, COMMON_TAGS, Catalog, Column, ColumnKind, FieldType, REQUIRED_TAGS, Role, TIME, Table,
    tag_type, time_type,
};
pub use timestamp::Timestamp;
