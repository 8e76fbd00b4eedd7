//! Native figures by their dotted names: `vcpu.0.time`, `memory.usage.limit` and the like.

use std::collections::BTreeMap;

/// One native value.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// All unsigned integers, and booleans as 0 and 1.
    Unsigned(u64),
    /// All signed integers.
    Signed(i64),
    /// Floating point.
    Float(f64),
    /// Text.
    Text(String),
}

/// The figures of one resource by the provider's names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params(BTreeMap<String, Param>);

impl Params {
    /// A counter or amount; a negative value is how some say "not known".
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Param::Unsigned(number) => Some(*number),
            Param::Signed(number) => u64::try_from(*number).ok(),
            Param::Float(_) | Param::Text(_) => None,
        }
    }

    /// A value that may be measured in fractions.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.0.get(name)? {
            Param::Unsigned(number) => Some(*number as f64),
            Param::Signed(number) => Some(*number as f64),
            Param::Float(number) => Some(*number),
            Param::Text(_) => None,
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Param::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The indexes that occur as `<group>.<index>.`, rising: numbers by their value, others by their letters.
    pub fn indexes(&self, group: &str) -> Vec<&str> {
        let prefix = format!("{group}.");
        let mut indexes: Vec<&str> = self
            .0
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&prefix))
            .filter_map(|(name, _)| Some(name[prefix.len()..].split_once('.')?.0))
            .collect();
        // What a group says of itself, as in `vcpu.halted.now`, is no index of it where others are numbers.
        if indexes.iter().any(|index| number(index).is_some()) {
            indexes.retain(|index| number(index).is_some());
        }
        indexes.sort_by_key(|index| (number(index), *index));
        indexes.dedup();
        indexes
    }

    /// A counter, or with `*` in its name the sum over all indexes there.
    pub fn total(&self, name: &str) -> Option<u64> {
        let Some((group, rest)) = name.split_once(".*.") else { return self.number(name) };
        let parts =
            self.indexes(group).into_iter().map(|index| self.total(&format!("{group}.{index}.{rest}")));
        parts.flatten().reduce(u64::saturating_add)
    }

    /// An amount, or with `*` in its name the sum over all indexes there.
    pub fn amount(&self, name: &str) -> Option<f64> {
        let Some((group, rest)) = name.split_once(".*.") else { return self.float(name) };
        let parts =
            self.indexes(group).into_iter().map(|index| self.amount(&format!("{group}.{index}.{rest}")));
        parts.flatten().reduce(|a, b| a + b)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds or replaces a value.
    pub fn insert(&mut self, name: impl Into<String>, value: Param) {
        self.0.insert(name.into(), value);
    }

    /// Reads lines of `name=value`, as `virsh domstats` prints them.
    #[cfg(test)]
    pub(crate) fn from_text(text: &str) -> Self {
        text.lines()
            .filter_map(|line| line.trim().split_once('='))
            .map(|(name, value)| {
                (name, value.parse().map_or_else(|_| Param::Text(value.into()), Param::Unsigned))
            })
            .collect()
    }
}

fn number(index: &str) -> Option<u64> {
    index.parse().ok()
}

impl<N: Into<String>> FromIterator<(N, Param)> for Params {
    fn from_iter<I: IntoIterator<Item = (N, Param)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_those_of_the_group_alone_in_numeric_order() {
        let params =
            Params::from_text("vcpu.current=2\nvcpu.10.time=1\nvcpu.2.time=1\nvcpu.2.wait=1\nvcpux.3.time=1");
        assert_eq!(params.indexes("vcpu"), ["2", "10"]);
        assert_eq!(params.indexes("net"), [""; 0]);
        assert_eq!(params.total("vcpu.*.time"), Some(2));
        let pages = Params::from_text("hugetlb.2MB.usage=5\nhugetlb.1GB.usage=7");
        assert_eq!(pages.indexes("hugetlb"), ["1GB", "2MB"]);
        assert_eq!((pages.total("hugetlb.*.usage"), pages.amount("none.*.usage")), (Some(12), None));
    }

    #[test]
    fn a_negative_number_and_a_text_are_no_counter() {
        let params: Params =
            [("a", Param::Signed(-1)), ("b", Param::Signed(7)), ("c", Param::Text("vda".into()))]
                .into_iter()
                .collect();
        assert_eq!((params.number("a"), params.number("b"), params.number("c")), (None, Some(7), None));
        assert_eq!((params.text("c"), params.float("b")), (Some("vda"), Some(7.0)));
    }
}
