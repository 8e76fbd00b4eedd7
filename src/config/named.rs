//! A mapping from names to parts of a pipeline that keeps the order of the file.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What a name looks like, for the JSON Schema; [`is_name`] says the same.
pub(super) const NAME_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";

/// What a name looks like, for people.
pub(super) const NAME_RULE: &str =
    "a name has 1 to 64 letters, digits, `_`, `-` or `.`, and begins with a letter or digit";

/// Whether a text can be a name: names become metric labels and parts of file names.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.len() <= 64 && text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Parts of a pipeline by name, in the order of the file; names are unique.
#[derive(Clone, PartialEq)]
pub struct Named<T>(Vec<(String, T)>);

impl<T> Named<T> {
    /// The part of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, part)| part)
    }

    /// Names and parts in the order of the file.
    pub fn iter(&self) -> Iter<'_, T> {
        self.into_iter()
    }

    /// The parts in the order of the file, to be changed.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|(_, part)| part)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Goes over names and parts.
pub type Iter<'a, T> =
    std::iter::Map<std::slice::Iter<'a, (String, T)>, fn(&'a (String, T)) -> (&'a String, &'a T)>;

impl<'a, T> IntoIterator for &'a Named<T> {
    type Item = (&'a String, &'a T);
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, part)| (name, part))
    }
}

impl<T> FromIterator<(String, T)> for Named<T> {
    /// The first of two parts with one name stays.
    fn from_iter<I: IntoIterator<Item = (String, T)>>(parts: I) -> Self {
        let mut named = Self(Vec::new());
        for (name, part) in parts {
            if named.get(&name).is_none() {
                named.0.push((name, part));
            }
        }
        named
    }
}

impl<T: fmt::Debug> fmt::Debug for Named<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = map.next_entry()? {
                    parts.push(part);
                }
                Ok(parts.into_iter().collect())
            }
        }

        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": NAME_PATTERN },
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_file_stays() {
        let named: Named<u8> = serde_json::from_str(r#"{ "z": 1, "a": 2, "m": 3 }"#).unwrap();
        assert_eq!(named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["z", "a", "m"]);
        assert_eq!(named.get("a"), Some(&2));
        assert_eq!((named.len(), named.is_empty()), (3, false));
    }

    #[test]
    fn names_can_be_labels_and_file_names() {
        for good in ["host", "eu-west-1", "A.b_c", "7"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
