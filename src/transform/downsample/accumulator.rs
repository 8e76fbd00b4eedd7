//! The values of one field of one series in one interval.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};

use super::Aggregate;
use crate::model::FieldType;

/// One value.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(String),
}

/// What is kept of all values so far; nothing while there was none.
#[derive(Debug, Clone)]
pub(super) struct Accumulator {
    aggregate: Aggregate,
    count: u64,
    /// Mean and sum.
    sum: f64,
    /// Exact sum of integers, as long as it fits.
    integers: i128,
    /// Minimum, maximum, first or last.
    kept: Option<(i64, Value)>,
}

impl Accumulator {
    pub(super) fn new(aggregate: Aggregate, kind: FieldType) -> Self {
        let ordered = matches!(kind, FieldType::Float | FieldType::Integer);
        let aggregate = match aggregate {
            Aggregate::Mean | Aggregate::Sum | Aggregate::Min | Aggregate::Max | Aggregate::Count
                if !ordered =>
            {
                Aggregate::Last
            }
            other => other,
        };
        Self { aggregate, count: 0, sum: 0.0, integers: 0, kept: None }
    }

    /// Takes the value in one row of a column; null is none.
    pub(super) fn add(&mut self, column: &ArrayRef, row: usize, time: i64) {
        let Some(value) = read(column, row) else { return };
        self.count += 1;
        match &value {
            Value::Float(value) => self.sum += value,
            Value::Integer(value) => self.integers += i128::from(*value),
            Value::Boolean(_) | Value::Text(_) => {}
        }
        let replaces = match (&self.kept, self.aggregate) {
            (_, Aggregate::Mean | Aggregate::Sum | Aggregate::Count) => false,
            (None, _) => true,
            (Some((_, kept)), Aggregate::Min) => less(&value, kept),
            (Some((_, kept)), Aggregate::Max) => less(kept, &value),
            (Some((at, _)), Aggregate::First) => time < *at,
            // Of two values at one time the later one replaces the earlier one everywhere.
            (Some((at, _)), Aggregate::Last) => time >= *at,
        };
        if replaces {
            self.kept = Some((time, value));
        }
    }

    fn number(&self, kind: FieldType) -> Option<f64> {
        let sum = if kind == FieldType::Integer { self.integers as f64 } else { self.sum };
        let count = self.count as f64;
        match (self.aggregate, &self.kept) {
            (_, _) if self.count == 0 => None,
            (Aggregate::Mean, _) => Some(sum / count),
            (Aggregate::Sum, _) => Some(sum),
            (Aggregate::Count, _) => Some(count),
            (_, Some((_, Value::Float(value)))) => Some(*value),
            (_, Some((_, Value::Integer(value)))) => Some(*value as f64),
            _ => None,
        }
    }

    fn integer(&self) -> Option<i64> {
        match (self.aggregate, &self.kept) {
            (_, Some((_, Value::Integer(value)))) => Some(*value),
            (Aggregate::Sum, _) if self.count > 0 => i64::try_from(self.integers).ok(),
            // An integer field stays one: the mean is rounded.
            _ => self.number(FieldType::Integer).map(|number| number.round() as i64),
        }
    }
}

/// The column of some accumulators' results, in the type of the field; null where there was no value.
pub(super) fn column<'a>(kind: FieldType, rows: impl Iterator<Item = Option<&'a Accumulator>>) -> ArrayRef {
    let kept = |row: Option<&'a Accumulator>| row.and_then(|row| row.kept.as_ref()).map(|(_, value)| value);
    match kind {
        FieldType::Float => std::sync::Arc::new(rows.map(|row| row?.number(kind)).collect::<Float64Array>()),
        FieldType::Integer => std::sync::Arc::new(rows.map(|row| row?.integer()).collect::<Int64Array>()),
        FieldType::Boolean => std::sync::Arc::new(
            rows.map(|row| match kept(row) {
                Some(Value::Boolean(value)) => Some(*value),
                _ => None,
            })
            .collect::<BooleanArray>(),
        ),
        FieldType::String => std::sync::Arc::new(
            rows.map(|row| match kept(row) {
                Some(Value::Text(value)) => Some(value.as_str()),
                _ => None,
            })
            .collect::<StringArray>(),
        ),
    }
}

fn read(column: &ArrayRef, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    Some(match FieldType::from_arrow(column.data_type())? {
        FieldType::Float => Value::Float(column.as_primitive::<Float64Type>().value(row)),
        FieldType::Integer => Value::Integer(column.as_primitive::<Int64Type>().value(row)),
        FieldType::Boolean => Value::Boolean(column.as_boolean().value(row)),
        FieldType::String => Value::Text(column.as_string::<i32>().value(row).to_owned()),
    })
}

fn less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a < b,
        (Value::Integer(a), Value::Integer(b)) => a < b,
        _ => false,
    }
}
