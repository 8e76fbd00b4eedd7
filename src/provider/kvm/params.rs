//! libvirt's typed parameters as plain values: `vcpu.0.time` and the like.

use std::collections::BTreeMap;

/// One value of libvirt's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Param {
    /// All unsigned integers, and booleans as 0 and 1.
    Unsigned(u64),
    /// All signed integers.
    Signed(i64),
    /// Floating point.
    Float(f64),
    /// Text.
    Text(String),
}

/// The statistics of one guest by libvirt's names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Params(BTreeMap<String, Param>);

impl Params {
    /// A counter or amount; a negative value is libvirt's way of saying "not known".
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Param::Unsigned(number) => Some(*number),
            Param::Signed(number) => u64::try_from(*number).ok(),
            Param::Float(_) | Param::Text(_) => None,
        }
    }

    /// A value that may be measured in fractions.
    pub(super) fn float(&self, name: &str) -> Option<f64> {
        match self.0.get(name)? {
            Param::Unsigned(number) => Some(*number as f64),
            Param::Signed(number) => Some(*number as f64),
            Param::Float(number) => Some(*number),
            Param::Text(_) => None,
        }
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Param::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The indexes that occur as `<group>.<index>.`, rising.
    pub(super) fn indexes(&self, group: &str) -> Vec<u32> {
        let prefix = format!("{group}.");
        let mut indexes: Vec<u32> = self
            .0
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&prefix))
            .filter_map(|(name, _)| name.strip_prefix(&prefix)?.split_once('.')?.0.parse().ok())
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }
}

impl<N: Into<String>> FromIterator<(N, Param)> for Params {
    fn from_iter<I: IntoIterator<Item = (N, Param)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

#[cfg(test)]
impl Params {
    /// Replaces or adds a number.
    pub(super) fn set(&mut self, name: &str, value: u64) {
        self.0.insert(name.into(), Param::Unsigned(value));
    }

    /// Reads what `virsh domstats` prints.
    pub(super) fn from_text(text: &str) -> Self {
        text.lines()
            .filter_map(|line| line.trim().split_once('='))
            .map(|(name, value)| {
                (name, value.parse().map_or_else(|_| Param::Text(value.into()), Param::Unsigned))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_those_of_the_group_alone_in_numeric_order() {
        let params =
            Params::from_text("vcpu.current=2\nvcpu.10.time=1\nvcpu.2.time=1\nvcpu.2.wait=1\nvcpux.3.time=1");
        assert_eq!(params.indexes("vcpu"), [2, 10]);
        assert_eq!(params.indexes("net"), [0u32; 0]);
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
