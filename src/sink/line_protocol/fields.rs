//! Field columns of a batch.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};

use super::text::quote;
use crate::model::FieldType;

/// A field column with `,name=` ready.
pub(super) struct Field<'a> {
    key: Vec<u8>,
    values: Values<'a>,
}

/// The values of a field column.
///
/// The model has no unsigned integers. If it gets them, they are written `1u` to servers that know that (2.x and 3.x);
/// 1.x needs them as signed integers, and has nothing for those that are too large.
pub(super) enum Values<'a> {
    Float(&'a Float64Array),
    Integer(&'a Int64Array),
    Boolean(&'a BooleanArray),
    Text(&'a StringArray),
}

/// What a field holds in one row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// Nothing.
    Null,
    /// Not a number, or infinite.
    NotFinite,
    /// A value.
    Value,
}

impl<'a> Values<'a> {
    pub(super) fn new(column: &'a ArrayRef) -> Option<Self> {
        Some(match FieldType::from_arrow(column.data_type())? {
            FieldType::Float => Self::Float(column.as_primitive_opt()?),
            FieldType::Integer => Self::Integer(column.as_primitive_opt()?),
            FieldType::Boolean => Self::Boolean(column.as_boolean_opt()?),
            FieldType::String => Self::Text(column.as_string_opt()?),
        })
    }

    pub(super) fn cell(&self, row: usize) -> Cell {
        let valid = match self {
            Self::Float(values) if values.is_valid(row) && !values.value(row).is_finite() => {
                return Cell::NotFinite;
            }
            Self::Float(values) => values.is_valid(row),
            Self::Integer(values) => values.is_valid(row),
            Self::Boolean(values) => values.is_valid(row),
            Self::Text(values) => values.is_valid(row),
        };
        if valid { Cell::Value } else { Cell::Null }
    }
}

impl<'a> Field<'a> {
    /// A field under a name that is escaped already.
    pub(super) fn new(name: &[u8], values: Values<'a>) -> Self {
        Self { key: [b",", name, b"="].concat(), values }
    }

    /// Length of the name as it is written.
    pub(super) fn name_len(&self) -> usize {
        self.key.len() - 2
    }

    pub(super) fn values(&self) -> &Values<'a> {
        &self.values
    }

    /// Appends a comma, the name and the value, if there is a value to write.
    #[inline]
    pub(super) fn write(&self, row: usize, into: &mut Vec<u8>) -> Cell {
        match &self.values {
            Values::Float(values) => {
                if !values.is_valid(row) {
                    return Cell::Null;
                }
                let value = values.value(row);
                if !value.is_finite() {
                    return Cell::NotFinite;
                }
                into.extend_from_slice(&self.key);
                // The shortest digits that read back as the same number, with an exponent where plain digits would be
                // many, and always a digit after a point. `Display` writes 1e300 in 301 digits.
                into.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
            }
            Values::Integer(values) => {
                if !values.is_valid(row) {
                    return Cell::Null;
                }
                into.extend_from_slice(&self.key);
                into.extend_from_slice(itoa::Buffer::new().format(values.value(row)).as_bytes());
                into.push(b'i');
            }
            Values::Boolean(values) => {
                if !values.is_valid(row) {
                    return Cell::Null;
                }
                into.extend_from_slice(&self.key);
                into.extend_from_slice(if values.value(row) { b"true" } else { b"false" });
            }
            Values::Text(values) => {
                if !values.is_valid(row) {
                    return Cell::Null;
                }
                into.extend_from_slice(&self.key);
                quote(values.value(row), into);
            }
        }
        Cell::Value
    }
}
