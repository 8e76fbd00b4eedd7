//! Named sizes: libvirt has none, so an operator writes them into a file.

use std::collections::BTreeMap;
use std::path::Path;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::domain::Definition;
use super::error::refused;
use crate::model;
use crate::model::resource::Size;
use crate::provider::SizeSpec;
use crate::{Error, ErrorKind, Result, yaml};

/// The sizes of the file, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizes(BTreeMap<String, Entry>);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    vcpus: u32,
    memory: model::Size,
    #[serde(default)]
    max_vcpus: Option<u32>,
    #[serde(default)]
    max_memory: Option<model::Size>,
}

/// Reads a file of the operator's.
pub(super) fn file<T: DeserializeOwned>(operation: &str, path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::io(operation, path, error).with_provider("kvm"))?;
    yaml::from_str(&text).map_err(|error| {
        let reason = format!("line {error}");
        refused(ErrorKind::Invalid, operation, path.display().to_string(), reason)
    })
}

impl Sizes {
    /// From the file, if there is one.
    pub(super) fn load(path: Option<&Path>) -> Result<Self> {
        let sizes: BTreeMap<String, Entry> = match path {
            Some(path) => file("read the sizes in", path)?,
            None => BTreeMap::new(),
        };
        let sizes = Self(sizes);
        for size in sizes.all(&[]) {
            super::definition::Amount::of(&size, size.name.as_deref().unwrap_or_default())?;
        }
        Ok(sizes)
    }

    /// All of them, as there are in these places.
    pub(super) fn all(&self, places: &[String]) -> Vec<Size> {
        let size = |(name, entry): (&String, &Entry)| Size {
            available_in: places.to_vec(),
            name: Some(name.clone()),
            ..entry.size()
        };
        self.0.iter().map(size).collect()
    }

    /// What a spec asks for, the name looked up and its parts put over it.
    pub(super) fn resolve(&self, spec: &SizeSpec) -> Result<Size> {
        let mut size = match &spec.name {
            None => Size::default(),
            Some(name) => self.0.get(name).map(Entry::size).ok_or_else(|| {
                let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                let reason = match crate::suggest::closest(name, known.iter().copied()) {
                    _ if known.is_empty() => "no sizes have names here; name a file in `sizes`".to_owned(),
                    Some(near) => format!("there is no such size; did you mean {near}?"),
                    None => format!("there is no such size; known are: {}", known.join(", ")),
                };
                refused(ErrorKind::NotFound, "find the size", name, reason)
            })?,
        };
        let over = |base: &mut Option<Decimal>, part: Option<Decimal>| *base = part.or(*base);
        over(&mut size.vcpus, spec.vcpus);
        over(&mut size.max_vcpus, spec.max_vcpus);
        size.memory_bytes = spec.memory_bytes.or(size.memory_bytes);
        size.max_memory_bytes = spec.max_memory_bytes.or(size.max_memory_bytes);
        size.name = self.name_of(size.vcpus, size.memory_bytes);
        Ok(size)
    }

    /// What a guest may use.
    pub(super) fn of(&self, guest: &Definition) -> Size {
        let (vcpus, memory) = (Some(guest.vcpus.into()), Some(guest.memory).filter(|bytes| *bytes > 0));
        Size {
            name: self.name_of(vcpus, memory),
            vcpus,
            memory_bytes: memory,
            max_vcpus: Some(guest.max_vcpus.into()),
            max_memory_bytes: Some(guest.max_memory).filter(|bytes| *bytes > 0),
            architecture: guest.architecture.clone(),
            ..Size::default()
        }
    }

    /// A guest has the size whose figures it has, whoever gave them to it.
    fn name_of(&self, vcpus: Option<Decimal>, memory: Option<u64>) -> Option<String> {
        let found = self
            .0
            .iter()
            .find(|(_, entry)| Some(entry.vcpus.into()) == vcpus && Some(entry.memory.0) == memory);
        found.map(|(name, _)| name.clone())
    }
}

impl Entry {
    fn size(&self) -> Size {
        Size {
            vcpus: Some(self.vcpus.into()),
            memory_bytes: Some(self.memory.0),
            max_vcpus: self.max_vcpus.map(Decimal::from),
            max_memory_bytes: self.max_memory.map(|size| size.0),
            ..Size::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn load(text: &str) -> Result<Sizes> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sizes.yaml");
        std::fs::write(&path, text).unwrap();
        Sizes::load(Some(&path))
    }

    #[test]
    fn a_name_stands_for_its_parts_and_parts_go_over_it() {
        let sizes =
            load("small: { vcpus: 1, memory: 512MiB }\nbig: { vcpus: 4, memory: 8GiB, max_vcpus: 8 }\n");
        let sizes = sizes.unwrap();
        let spec = SizeSpec { name: Some("big".into()), memory_bytes: Some(1 << 30), ..SizeSpec::default() };
        let size = sizes.resolve(&spec).unwrap();
        assert_eq!((size.vcpus, size.memory_bytes), (Some(4.into()), Some(1 << 30)));
        assert_eq!((size.max_vcpus, size.name), (Some(8.into()), None), "with other memory it is not big");
        let guest = Definition { vcpus: 1, memory: 512 << 20, ..Definition::default() };
        assert_eq!(sizes.of(&guest).name.as_deref(), Some("small"));
        let unknown = SizeSpec { name: Some("smal".into()), ..SizeSpec::default() };
        assert!(sizes.resolve(&unknown).unwrap_err().to_string().contains("did you mean small?"));
        assert_eq!(sizes.all(&["h".into()])[0].available_in, ["h"]);
    }

    #[test]
    fn a_wrong_file_is_refused_at_the_start() {
        let wrong = load("small: { vcpus: 1, memory: lots }\n").unwrap_err();
        assert!(wrong.to_string().contains("sizes.yaml") && wrong.to_string().contains("512MiB"), "{wrong}");
        assert!(load("small: { vcpus: 0, memory: 1GiB }\n").is_err());
        assert!(load("small: { vcpus: 2, memory: 1GiB, max_vcpus: 1 }\n").is_err());
        let missing = Sizes::load(Some(Path::new("/nonexistent/sizes.yaml"))).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}
