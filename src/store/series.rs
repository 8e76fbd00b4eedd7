//! Series: the distinct tag sets of some batches, as small numbers.
//!
//! Strings are looked at once per dictionary entry; rows are told apart by comparing integers.

use std::collections::HashMap;
use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray};
use arrow::datatypes::Int32Type;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Numbers for tag sets of `width` tags.
#[derive(Debug)]
pub(super) struct SeriesTable {
    tags: Vec<Strings>,
    /// `width` string numbers for each series.
    sets: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// The distinct values of one tag; number 0 is null.
#[derive(Debug, Default)]
struct Strings {
    numbers: HashMap<Box<str>, u32>,
    /// The dictionary seen last and its numbers: collectors send the same one again and again.
    last: Option<(StringArray, Vec<u32>)>,
}

const NULL: u32 = 0;

impl SeriesTable {
    pub(super) fn new(width: usize) -> Self {
        Self {
            tags: (0..width).map(|_| Strings::default()).collect(),
            sets: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// The series of each row; `columns` are the tags in order, dictionary arrays of `rows` rows.
    pub(super) fn number(&mut self, columns: &[ArrayRef], rows: usize) -> Vec<u32> {
        let width = self.tags.len();
        // Column by column, so that each dictionary is in the cache while its keys are read.
        let mut sets = vec![NULL; rows * width];
        for (place, (column, strings)) in columns.iter().zip(&mut self.tags).enumerate() {
            let Some(column) = column.as_dictionary_opt::<Int32Type>() else { continue };
            let numbers = strings.number(column);
            for row in 0..rows {
                if let Some(key) = column.key(row) {
                    sets[row * width + place] = numbers[key];
                }
            }
        }
        let mut series = Vec::with_capacity(rows);
        let mut previous: Option<(usize, u32)> = None;
        for row in 0..rows {
            let set = &sets[row * width..(row + 1) * width];
            let number = match previous {
                Some((before, number)) if sets[before * width..(before + 1) * width] == *set => number,
                _ => self.intern(set),
            };
            previous = Some((row, number));
            series.push(number);
        }
        series
    }

    fn intern(&mut self, set: &[u32]) -> u32 {
        let Self { sets, index, hasher, .. } = self;
        let width = set.len();
        let of = |sets: &[u32], number: u32| {
            let start = number as usize * width;
            start..start + width.min(sets.len() - start)
        };
        let hash = hasher.hash_one(set);
        let entry = index.entry(
            hash,
            |number| sets[of(sets, *number)] == *set,
            |number| hasher.hash_one(&sets[of(sets, *number)]),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => *entry.get(),
            hashbrown::hash_table::Entry::Vacant(entry) => {
                // Rows are counted in 32 bits, so series fit too. Without tags the one series has an empty set.
                let number = sets.len().checked_div(width).unwrap_or(0) as u32;
                entry.insert(number);
                sets.extend_from_slice(set);
                number
            }
        }
    }

    /// The series in sorted order.
    pub(super) fn ranked(&self) -> Ranked {
        let width = self.tags.len();
        let mut dictionaries = Vec::with_capacity(width);
        let mut ranks = Vec::with_capacity(width);
        for strings in &self.tags {
            let mut sorted: Vec<(&str, u32)> = strings.numbers.iter().map(|(s, n)| (&**s, *n)).collect();
            sorted.sort_unstable();
            let mut rank = vec![0_u32; sorted.len() + 1];
            for (place, (_, number)) in (1..).zip(&sorted) {
                rank[*number as usize] = place;
            }
            dictionaries.push(StringArray::from_iter_values(sorted.iter().map(|(text, _)| text)));
            ranks.push(rank);
        }
        let count = self.sets.len().checked_div(width).unwrap_or(1);
        let mut keys: Vec<u32> = Vec::with_capacity(self.sets.len());
        for number in 0..count {
            let set = &self.sets[number * width..(number + 1) * width];
            keys.extend(set.iter().zip(&ranks).map(|(string, rank)| rank[*string as usize]));
        }
        let mut order: Vec<u32> = (0..count as u32).collect();
        let key = |number: u32| &keys[number as usize * width..(number as usize + 1) * width];
        order.sort_unstable_by(|a, b| key(*a).cmp(key(*b)));
        Ranked { width, order, keys, dictionaries }
    }
}

impl Strings {
    /// The number of each dictionary entry.
    fn number(&mut self, column: &DictionaryArray<Int32Type>) -> &[u32] {
        let Some(values) = column.values().as_string_opt::<i32>() else { return &[] };
        let same = self.last.as_ref().is_some_and(|(last, _)| same_memory(last, values));
        if !same {
            let numbers = (0..values.len()).map(|i| self.intern(values, i)).collect();
            self.last = Some((values.clone(), numbers));
        }
        self.last.as_ref().map_or(&[], |(_, numbers)| numbers)
    }

    fn intern(&mut self, values: &StringArray, index: usize) -> u32 {
        if values.is_null(index) {
            return NULL;
        }
        let text = values.value(index);
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.numbers.len() as u32 + 1;
        self.numbers.insert(text.into(), number);
        number
    }
}

/// Whether two arrays are views of the same memory, nulls included; compares no strings.
fn same_memory(a: &StringArray, b: &StringArray) -> bool {
    let nulls = |array: &StringArray| array.nulls().map(|nulls| (nulls.validity().as_ptr(), nulls.offset()));
    a.len() == b.len()
        && a.offsets().as_ptr() == b.offsets().as_ptr()
        && a.values().as_ptr() == b.values().as_ptr()
        && nulls(a) == nulls(b)
}

/// Series in sorted order, with their tags as keys into sorted dictionaries.
#[derive(Debug)]
pub(super) struct Ranked {
    width: usize,
    /// Series numbers, sorted by their tags.
    pub(super) order: Vec<u32>,
    /// `width` keys for each series number: 0 is null, otherwise one more than the dictionary key.
    keys: Vec<u32>,
    /// The distinct values of each tag, sorted.
    pub(super) dictionaries: Vec<StringArray>,
}

impl Ranked {
    /// The dictionary key of one tag of a series, `None` if it is null.
    pub(super) fn key(&self, series: u32, tag: usize) -> Option<i32> {
        let key = self.keys[series as usize * self.width + tag];
        key.checked_sub(1).map(|key| key as i32)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayData, Int32Array};
    use arrow::buffer::NullBuffer;

    use super::*;

    fn tag(values: StringArray) -> Vec<ArrayRef> {
        let keys = Int32Array::from(vec![0, 1, 1]);
        vec![Arc::new(DictionaryArray::new(keys, Arc::new(values)))]
    }

    #[test]
    fn equal_tag_sets_get_one_number_whatever_their_dictionaries() {
        let mut table = SeriesTable::new(1);
        assert_eq!(table.number(&tag(StringArray::from(vec!["b", "a"])), 3), [0, 1, 1]);
        assert_eq!(table.number(&tag(StringArray::from(vec!["a", "b"])), 3), [1, 0, 0]);
        let ranked = table.ranked();
        assert_eq!(ranked.order, [1, 0]);
        assert_eq!(ranked.key(0, 0), Some(1));
    }

    #[test]
    fn a_dictionary_with_the_same_bytes_and_other_nulls_is_another_one() {
        let values = |valid: [bool; 2]| {
            let text = StringArray::from(vec!["a", "b"]);
            move |shared: Option<&StringArray>| {
                let data: ArrayData = shared.unwrap_or(&text).to_data();
                let nulls = Some(NullBuffer::from(valid.to_vec()));
                StringArray::from(data.into_builder().nulls(nulls).build().unwrap())
            }
        };
        let first = values([false, true])(None);
        let second = values([true, false])(Some(&first));
        let mut table = SeriesTable::new(1);
        let before = table.number(&tag(first), 3);
        let after = table.number(&tag(second), 3);
        assert_eq!(before[0], after[1], "null");
        assert_ne!(before[1], after[0], "b and a");
    }

    #[test]
    fn without_tags_all_rows_are_one_series() {
        let mut table = SeriesTable::new(0);
        assert_eq!(table.number(&[], 3), [0, 0, 0]);
        assert_eq!(table.ranked().order, [0]);
    }
}
