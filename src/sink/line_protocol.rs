//! InfluxDB line protocol out of batches: from Arrow columns to bytes, without an allocation per row.
//!
//! measurement = table, tags = tag columns in the byte order of their names as a server reads them (the order that
//! InfluxData's encoders keep and servers take fastest), fields = fields in column order, timestamp in nanoseconds. Equal batches give equal bytes.
//!
//! What line protocol cannot say, or what servers read differently, is decided here. Nothing is lost unseen: a row is a line,
//! or it is [empty](Row::Empty), or it is [refused](Row::Refused), and values that a line leaves out are counted.
//! - A value that is null, not a number or infinite is left out.
//! - A column is left out if its name is empty, nothing but backslashes, or `time` (servers refuse or drop it), or if an
//!   earlier column of the batch is written under the same name. A tag without a text is left out of its row.
//! - A control character (a tab, a line break) in a name or tag becomes a space, because no escape for it is understood by
//!   every reader. In string values it stays.
//! - Of backslashes in a name or tag a row becomes one, and those before a separator or at the end are left out, because
//!   servers differ in what they mean there. In string values they stay.
//! - Rows of a table whose name is empty or starts with `#`, which would make them comments, are refused. So are rows of a time
//!   that is at the very ends of the range, and rows of a series with a longer name than servers take. A table may be called
//!   `time`.

mod fields;
mod series;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashSet;

use arrow::array::ArrayRef;

use self::fields::{Cell, Field, Values};
use self::series::Series;
use self::text::{MEASUREMENT, NAME, escaped, unescaped};
use crate::model::{MetricBatch, Role, TIME, column_role};

/// The longest series with a field's name, in bytes; servers count four bytes between the two.
const LONGEST_KEY: usize = 65_535 - 4;

const NO_TABLE_NAME: &str = "the table's name has no character that line protocol can carry";
const COMMENT: &str = "the table's name starts with #, which makes its lines comments";
const NO_FIELD_NAME: &str =
    "the names of all fields that have a value are empty, `time`, or another column's";
const TIME_RANGE: &str = "the time is not between -9223372036854775806 and 9223372036854775806";
const KEY_LENGTH: &str = "measurement, tags and a field's name are longer than 65535 bytes together";

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// A line, which ends there in the buffer; its line break is in.
    Line {
        /// Length of the buffer with this line.
        end: usize,
    },
    /// The row has no value but such as are no numbers or infinite, and so no line.
    Empty,
    /// The row has a value and can have no line, for this reason.
    Refused(&'static str),
}

/// Appends a line for each row that can have one, and tells of every row in turn what became of it.
///
/// Returns how many values are in no line although their row is not refused: those that are not finite, and those of columns
/// that are left out.
pub fn encode(batch: &MetricBatch, into: &mut Vec<u8>, mut tell: impl FnMut(usize, Row)) -> u64 {
    let mut columns = Columns::new(batch);
    let mut stamp = Stamp::default();
    let mut left_out = 0;
    for (row, time) in batch.times().iter().enumerate() {
        let start = into.len();
        let (became, left) = columns.write(row, stamp.of(*time), into);
        if let Row::Line { .. } = became {
            left_out += left;
        } else {
            into.truncate(start);
            columns.series.forget();
            left_out += if became == Row::Empty { left } else { 0 };
        }
        tell(row, became);
    }
    left_out
}

/// The columns of a batch, ready to be written.
struct Columns<'a> {
    series: Series<'a>,
    fields: Vec<Field<'a>>,
    /// Length of the longest name of a field.
    longest: usize,
    /// Fields that cannot be written for their name.
    nameless: Vec<Values<'a>>,
    /// Why no row can be written.
    unsayable: Option<&'static str>,
}

impl<'a> Columns<'a> {
    fn new(batch: &'a MetricBatch) -> Self {
        let measurement = escaped(batch.table(), MEASUREMENT);
        let unsayable = match measurement.first() {
            None => Some(NO_TABLE_NAME),
            Some(b'#') => Some(COMMENT),
            Some(_) => None,
        };
        let (mut tags, mut fields, mut nameless): (Vec<(Vec<u8>, &ArrayRef)>, _, _) =
            (Vec::new(), Vec::new(), Vec::new());
        let mut names = HashSet::from([TIME.as_bytes().to_vec(), Vec::new()]);
        let records = batch.records();
        for (field, column) in records.schema_ref().fields().iter().zip(records.columns()) {
            let name = escaped(field.name(), NAME);
            match column_role(field) {
                Some(Role::Tag) => {
                    if names.insert(name.clone()) {
                        tags.push((name, column));
                    }
                }
                Some(Role::Field) => {
                    let Some(values) = Values::new(column) else { continue };
                    if unsayable.is_none() && names.insert(name.clone()) {
                        fields.push(Field::new(&name, values));
                    } else {
                        nameless.push(values);
                    }
                }
                Some(Role::Time) | None => {}
            }
        }
        tags.sort_by_cached_key(|(name, _)| unescaped(name));
        let longest = fields.iter().map(Field::name_len).max().unwrap_or_default();
        Self { series: Series::new(&measurement, tags), fields, longest, nameless, unsayable }
    }

    /// Appends the line of a row; what is appended is only good if the row became a line. Also tells how many values are left
    /// out.
    #[inline]
    fn write(&mut self, row: usize, stamp: Option<&[u8]>, into: &mut Vec<u8>) -> (Row, u64) {
        let start = into.len();
        self.series.write(row, into);
        let series = into.len();
        let mut left = 0;
        for field in &self.fields {
            left += u64::from(field.write(row, into) == Cell::NotFinite);
        }
        let mut nameless = 0;
        for values in &self.nameless {
            match values.cell(row) {
                Cell::Null => {}
                Cell::NotFinite => left += 1,
                Cell::Value => nameless += 1,
            }
        }
        if into.len() == series {
            let row = if nameless == 0 {
                Row::Empty
            } else {
                Row::Refused(self.unsayable.unwrap_or(NO_FIELD_NAME))
            };
            return (row, left);
        }
        if series - start + self.longest > LONGEST_KEY && series - start + self.longest_in(row) > LONGEST_KEY
        {
            return (Row::Refused(KEY_LENGTH), left);
        }
        let Some(stamp) = stamp else {
            return (Row::Refused(TIME_RANGE), left);
        };
        // Every field starts with a comma; the first is to start with the space behind the series.
        if let Some(separator) = into.get_mut(series) {
            *separator = b' ';
        }
        into.extend_from_slice(stamp);
        (Row::Line { end: into.len() }, left + nameless)
    }

    /// Length of the longest name among the fields that have a value in this row.
    fn longest_in(&self, row: usize) -> usize {
        let written = self.fields.iter().filter(|field| field.values().cell(row) == Cell::Value);
        written.map(Field::name_len).max().unwrap_or_default()
    }
}

/// The end of a line, kept for the next: many rows in turn have the same time.
#[derive(Default)]
struct Stamp {
    time: Option<i64>,
    text: Vec<u8>,
}

impl Stamp {
    /// A space, the time and a line break, or `None` if servers do not take the time.
    fn of(&mut self, time: i64) -> Option<&[u8]> {
        if self.time != Some(time) {
            self.time = Some(time);
            self.text.clear();
            // Servers keep the first two and the last nanosecond for themselves.
            if time > i64::MIN + 1 && time < i64::MAX {
                self.text.push(b' ');
                self.text.extend_from_slice(itoa::Buffer::new().format(time).as_bytes());
                self.text.push(b'\n');
            }
        }
        (!self.text.is_empty()).then_some(&self.text)
    }
}
