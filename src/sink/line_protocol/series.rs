//! The series of each row: measurement and tags, escaped once per batch and not once per row.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray};
use arrow::datatypes::Int32Type;

use super::text::{NAME, escape, is_plain};

/// A dictionary entry that so many rows use, on average, is escaped once and copied from then on; of others the escaped
/// form would be written twice to be used once.
const USES: usize = 4;

/// Measurement and tags of a batch.
///
/// What no row changes (the measurement, tags with one value in the whole batch) stands in front of the next tag that
/// does change, so that a row costs a copy per changing tag. A row of the same series as the row before is one copy.
pub(super) struct Series<'a> {
    changing: Vec<Tag<'a>>,
    /// What stands behind the last changing tag.
    tail: Vec<u8>,
    /// The row whose series was written last, and where it stands.
    last: Option<(usize, Range<usize>)>,
}

/// A tag whose value changes from row to row.
struct Tag<'a> {
    keys: &'a DictionaryArray<Int32Type>,
    values: &'a StringArray,
    /// What stands before this tag in every row.
    before: Vec<u8>,
    /// The same and `,name=`.
    lead: Vec<u8>,
    entries: Entries,
}

enum Entries {
    /// Lead and value of each dictionary entry, one after another, and where each ends.
    Ready { text: Vec<u8>, ends: Vec<usize> },
    /// Values are escaped when they are written; `plain` if none of them needs it.
    Direct { plain: bool },
}

impl<'a> Series<'a> {
    /// The measurement and the names are escaped already; the tags stand in the order in which they are to be written.
    pub(super) fn new(measurement: &[u8], tags: Vec<(Vec<u8>, &'a ArrayRef)>) -> Self {
        let mut tail = measurement.to_vec();
        let mut changing = Vec::new();
        for (name, column) in tags {
            let Some(keys) = column.as_dictionary_opt::<Int32Type>() else { continue };
            let Some(values) = keys.values().as_string_opt::<i32>() else { continue };
            let before = tail.len();
            tail.push(b',');
            tail.extend_from_slice(&name);
            tail.push(b'=');
            let lead = tail.len();
            if let Some(same) = same_in_all_rows(keys) {
                if let Some(value) = same.and_then(|key| value(values, key)) {
                    escape(value, NAME, &mut tail);
                }
                if tail.len() == lead {
                    tail.truncate(before);
                }
                continue;
            }
            let lead = std::mem::take(&mut tail);
            let before = lead.get(..before).unwrap_or_default().to_vec();
            let entries = Entries::new(keys, values, &before, &lead);
            changing.push(Tag { keys, values, before, lead, entries });
        }
        Self { changing, tail, last: None }
    }

    /// Appends the series of a row. What was appended before must still stand there, unless [`Self::forget`] was called.
    #[inline]
    pub(super) fn write(&mut self, row: usize, into: &mut Vec<u8>) {
        let start = into.len();
        match &self.last {
            Some((last, place)) if self.changing.iter().all(|tag| tag.key(row) == tag.key(*last)) => {
                into.extend_from_within(place.clone());
            }
            _ => {
                for tag in &self.changing {
                    tag.write(row, into);
                }
                into.extend_from_slice(&self.tail);
            }
        }
        self.last = Some((row, start..into.len()));
    }

    /// The series written last does not stay.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

impl Tag<'_> {
    fn key(&self, row: usize) -> Option<usize> {
        self.keys.key(row)
    }

    #[inline]
    fn write(&self, row: usize, into: &mut Vec<u8>) {
        let Some(key) = self.key(row) else {
            into.extend_from_slice(&self.before);
            return;
        };
        match &self.entries {
            Entries::Ready { text, ends } => {
                let start = if key == 0 { 0 } else { ends.get(key - 1).copied().unwrap_or_default() };
                let end = ends.get(key).copied().unwrap_or_default();
                into.extend_from_slice(text.get(start..end).unwrap_or_default());
            }
            Entries::Direct { plain } => {
                let text = value(self.values, key).unwrap_or_default();
                let start = into.len();
                into.extend_from_slice(&self.lead);
                let lead = into.len();
                if *plain {
                    into.extend_from_slice(text.as_bytes());
                } else {
                    escape(text, NAME, into);
                }
                // The protocol has no empty tags.
                if into.len() == lead {
                    into.truncate(start + self.before.len());
                }
            }
        }
    }
}

impl Entries {
    fn new(keys: &DictionaryArray<Int32Type>, values: &StringArray, before: &[u8], lead: &[u8]) -> Self {
        let (rows, entries) = (keys.len(), values.len());
        if entries.saturating_mul(USES) > rows {
            // A short slice of a large batch keeps the whole dictionary, which is not worth a look then.
            let plain = entries <= rows.saturating_mul(2) && {
                let offsets = values.value_offsets();
                let range =
                    offsets.first().zip(offsets.last()).map(|(from, to)| *from as usize..*to as usize);
                range.and_then(|range| values.value_data().get(range)).is_some_and(is_plain)
            };
            return Self::Direct { plain };
        }
        let mut text = Vec::with_capacity(entries * (lead.len() + 16));
        let mut ends = Vec::with_capacity(entries);
        for value in values {
            let start = text.len();
            text.extend_from_slice(lead);
            escape(value.unwrap_or_default(), NAME, &mut text);
            if text.len() == start + lead.len() {
                text.truncate(start + before.len());
            }
            ends.push(text.len());
        }
        Self::Ready { text, ends }
    }
}

/// The key that all rows have, if they have the same; a null is the same as another.
fn same_in_all_rows(keys: &DictionaryArray<Int32Type>) -> Option<Option<usize>> {
    let all = keys.keys();
    if all.null_count() > 0 {
        return (all.null_count() == all.len()).then_some(None);
    }
    let first = all.values().first()?;
    all.values().iter().all(|key| key == first).then(|| keys.key(0))
}

fn value(values: &StringArray, key: usize) -> Option<&str> {
    (key < values.len() && values.is_valid(key)).then(|| values.value(key))
}
