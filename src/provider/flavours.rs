//! Sizes with names and prices, of providers that have none of their own: two small files that the operator writes.
//!
//! ```yaml
//! small: { vcpus: 0.5, memory: 256MiB }
//! ```
//!
//! ```yaml
//! currency: EUR
//! as_of: 2026-01-01
//! sizes: { small: 0.01 }
//! vcpu_hour: 0.012
//! memory_gib_hour: 0.003
//! ```
//!
//! They are read anew each time, so that a change of them needs no restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rust_decimal::Decimal;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};

use super::{Scope, SizeSpec};
use crate::model::Timestamp;
use crate::model::resource::{Cost, Kind, Price, PriceUnit, Purchase, Size};
use crate::{Error, Result, yaml};

const GIB: u64 = 1 << 30;
/// Hours of a month: a year's 8,760 in twelve parts.
const HOURS_PER_MONTH: u32 = 730;

/// The operator's files.
#[derive(Debug, Clone, Default)]
pub struct Flavours {
    sizes: Option<PathBuf>,
    prices: Option<PathBuf>,
}

/// A size with a name.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flavour {
    /// Virtual processors.
    pub vcpus: Option<Decimal>,
    /// Memory.
    pub memory: Option<crate::model::Size>,
    /// Room to grow while it runs.
    pub max_vcpus: Option<Decimal>,
    /// Room to grow while it runs.
    pub max_memory: Option<crate::model::Size>,
}

/// What things cost for an hour.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// ISO 4217: `EUR`.
    pub currency: String,
    /// Since when they hold: a day or a time.
    #[serde(default, deserialize_with = "day")]
    pub as_of: Option<Timestamp>,
    /// Of a size with a name.
    #[serde(default)]
    pub sizes: BTreeMap<String, Decimal>,
    /// Of a processor.
    #[serde(default)]
    pub vcpu_hour: Option<Decimal>,
    /// Of a GiB of memory.
    #[serde(default)]
    pub memory_gib_hour: Option<Decimal>,
    /// Of a GiB of disk for a month, where there are disks.
    #[serde(default)]
    pub volume_gib_month: Option<Decimal>,
}

impl Flavours {
    /// Reads these files when they are needed.
    pub fn new(sizes: Option<PathBuf>, prices: Option<PathBuf>) -> Self {
        Self { sizes, prices }
    }

    /// Whether sizes have names.
    pub fn has_sizes(&self) -> bool {
        self.sizes.is_some()
    }

    /// Whether prices are known.
    pub fn has_prices(&self) -> bool {
        self.prices.is_some()
    }

    /// Reads both files, so that what is wrong with them is said before anything depends on them.
    ///
    /// # Errors
    /// A file cannot be read or understood.
    pub fn check(&self) -> Result<()> {
        self.read_sizes()?;
        self.rates().map(drop)
    }

    /// All sizes with names.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn sizes(&self) -> Result<Vec<Size>> {
        let sizes = self.read_sizes()?.into_iter();
        Ok(sizes.map(|(name, flavour)| flavour.size(name)).collect())
    }

    /// The size in its parts: those that are written win over those of the name. One with other processors or other memory
    /// than the name stands for has no name, and no price of it.
    ///
    /// # Errors
    /// The file cannot be read, or has no size of that name.
    pub fn resolved(&self, wanted: &SizeSpec) -> Result<SizeSpec> {
        let Some(name) = &wanted.name else { return Ok(wanted.clone()) };
        let sizes = self.read_sizes()?;
        let flavour = sizes.get(name).ok_or_else(|| {
            let known: Vec<_> = sizes.keys().map(String::as_str).collect();
            let near = crate::suggest::closest(name, known.iter().copied());
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let reason = match known[..] {
                [] => "no sizes have names here; write a file of them, or processors and memory".to_owned(),
                _ => format!("there is no such size{near} (there are {})", known.join(", ")),
            };
            Error::invalid("use the size", reason).with_resource(name)
        })?;
        let (vcpus, memory_bytes) = (flavour.vcpus, flavour.memory.map(|size| size.0));
        let changed = wanted.vcpus.is_some_and(|wanted| Some(wanted) != vcpus)
            || wanted.memory_bytes.is_some_and(|wanted| Some(wanted) != memory_bytes);
        Ok(SizeSpec {
            name: (!changed).then(|| name.clone()),
            vcpus: wanted.vcpus.or(vcpus),
            memory_bytes: wanted.memory_bytes.or(memory_bytes),
            max_vcpus: wanted.max_vcpus.or(flavour.max_vcpus),
            max_memory_bytes: wanted.max_memory_bytes.or(flavour.max_memory.map(|size| size.0)),
        })
    }

    /// All prices, as they hold in a place.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn prices(&self, scope: &Scope, location: &str) -> Result<Vec<Price>> {
        let Some(rates) = self.rates()? else { return Ok(Vec::new()) };
        let source = self.prices.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let price = |item: &str, amount, unit| Price {
            // A size may be called as one of the parts.
            id: scope.id(
                location,
                Kind::Price,
                match unit {
                    PriceUnit::InstanceHour => format!("size/{item}"),
                    _ => item.to_owned(),
                },
            ),
            item: item.to_owned(),
            amount,
            currency: rates.currency.clone(),
            unit,
            region: location.to_owned(),
            os: None,
            purchase: Purchase::OnDemand,
            as_of: rates.as_of,
            source: source.clone(),
        };
        let sizes = rates.sizes.iter();
        let mut prices: Vec<_> =
            sizes.map(|(name, amount)| price(name, *amount, PriceUnit::InstanceHour)).collect();
        prices.extend(rates.vcpu_hour.map(|amount| price("vcpu", amount, PriceUnit::VcpuHour)));
        prices
            .extend(rates.volume_gib_month.map(|amount| price("volume", amount, PriceUnit::VolumeGibMonth)));
        prices.extend(rates.memory_gib_hour.map(|amount| price("memory", amount, PriceUnit::MemoryGibHour)));
        Ok(prices)
    }

    /// What a size costs: by its name, else by its parts; `None` when nothing of it has a price.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn cost(&self, size: &Size) -> Result<Option<Cost>> {
        Ok(self.rates()?.and_then(|rates| rates.cost(size)))
    }

    /// What a volume costs; `None` when that has no price.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn cost_of_volume(&self, bytes: u64) -> Result<Option<Cost>> {
        let Some(rates) = self.rates()? else { return Ok(None) };
        Ok(rates.volume_gib_month.map(|rate| Cost {
            per_hour: gib(bytes) * rate / Decimal::from(HOURS_PER_MONTH),
            currency: rates.currency,
            unpriced: 0,
        }))
    }

    fn rates(&self) -> Result<Option<Rates>> {
        let Some(path) = &self.prices else { return Ok(None) };
        let rates: Rates = read(path, "read prices")?;
        if rates.currency.len() != 3 || !rates.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let reason = format!("{:?} is no currency; write three letters as EUR", rates.currency);
            return Err(Error::invalid("read prices", reason).with_resource(path.display().to_string()));
        }
        let negative = rates.sizes.values().chain(&rates.vcpu_hour).chain(&rates.memory_gib_hour);
        let negative = negative.chain(&rates.volume_gib_month);
        if negative.into_iter().any(|amount| amount.is_sign_negative()) {
            let path = path.display().to_string();
            return Err(Error::invalid("read prices", "a price is below zero").with_resource(path));
        }
        Ok(Some(rates))
    }

    fn read_sizes(&self) -> Result<BTreeMap<String, Flavour>> {
        match &self.sizes {
            Some(path) => read(path, "read sizes"),
            None => Ok(BTreeMap::new()),
        }
    }
}

impl Flavour {
    fn size(self, name: String) -> Size {
        Size {
            name: Some(name),
            vcpus: self.vcpus,
            memory_bytes: self.memory.map(|size| size.0),
            max_vcpus: self.max_vcpus,
            max_memory_bytes: self.max_memory.map(|size| size.0),
            ..Size::default()
        }
    }
}

impl Rates {
    fn cost(&self, size: &Size) -> Option<Cost> {
        let currency = self.currency.clone();
        if let Some(per_hour) = size.name.as_ref().and_then(|name| self.sizes.get(name)) {
            return Some(Cost { per_hour: *per_hour, currency, unpriced: 0 });
        }
        let memory = size.memory_bytes.map(gib);
        // A part without a limit has no amount, so that its price cannot be known.
        let parts = [(self.vcpu_hour, size.vcpus), (self.memory_gib_hour, memory)];
        let priced: Vec<_> =
            parts.into_iter().filter_map(|(rate, amount)| rate?.checked_mul(amount?)).collect();
        let per_hour = priced.iter().copied().reduce(|sum, part| sum + part)?;
        Some(Cost { per_hour, currency, unpriced: parts.len() - priced.len() })
    }
}

fn gib(bytes: u64) -> Decimal {
    Decimal::from(bytes) / Decimal::from(GIB)
}

/// The name of the size that has these processors and this memory.
pub fn name_of(sizes: &[Size], vcpus: Option<Decimal>, memory_bytes: Option<u64>) -> Option<String> {
    let same = |size: &&Size| size.vcpus == vcpus && size.memory_bytes == memory_bytes;
    sizes.iter().find(same).and_then(|size| size.name.clone())
}

fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let time = if text.contains('T') { text } else { format!("{text}T00:00:00Z") };
    time.parse().map(Some).map_err(de::Error::custom)
}

fn read<T: DeserializeOwned>(path: &Path, operation: &str) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(operation, path, error))?;
    yaml::from_str(&text).map_err(|error| {
        Error::invalid(operation, format!("line {error}")).with_resource(path.display().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn flavours(folder: &Path, sizes: &str, prices: &str) -> Flavours {
        let (first, second) = (folder.join("sizes.yaml"), folder.join("prices.yaml"));
        std::fs::write(&first, sizes).unwrap();
        std::fs::write(&second, prices).unwrap();
        Flavours::new(Some(first), Some(second))
    }

    fn size(name: Option<&str>, vcpus: Option<&str>, memory_bytes: Option<u64>) -> Size {
        let vcpus = vcpus.map(|vcpus| vcpus.parse().unwrap());
        Size { name: name.map(Into::into), vcpus, memory_bytes, ..Size::default() }
    }

    #[test]
    fn a_size_has_a_name_and_parts_of_it_can_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let flavours = flavours(folder.path(), "small: { vcpus: 0.5, memory: 256MiB }", "");
        let named = |name: &str| SizeSpec { name: Some(name.into()), ..SizeSpec::default() };
        let small = flavours.resolved(&named("small")).unwrap();
        assert_eq!((small.vcpus, small.memory_bytes), (Some("0.5".parse().unwrap()), Some(256 << 20)));
        let more = SizeSpec { memory_bytes: Some(1), ..named("small") };
        let more = flavours.resolved(&more).unwrap();
        assert_eq!((more.memory_bytes, more.name), (Some(1), None), "with other memory it is not small");
        assert_eq!(small.name.as_deref(), Some("small"));
        assert!(flavours.resolved(&named("big")).unwrap_err().reason().contains("there are small"));
        assert!(flavours.resolved(&named("smal")).unwrap_err().reason().contains("did you mean small?"));
        assert!(Flavours::default().resolved(&named("big")).unwrap_err().reason().contains("write a file"));
        let sizes = flavours.sizes().unwrap();
        assert_eq!(sizes.len(), 1);
        assert_eq!(name_of(&sizes, small.vcpus, Some(256 << 20)).as_deref(), Some("small"));
        assert_eq!(name_of(&sizes, small.vcpus, Some(1)), None);
    }

    #[test]
    fn a_cost_says_what_it_lacks_and_none_is_not_zero() {
        let folder = tempfile::tempdir().unwrap();
        let rates = "currency: EUR\nas_of: 2026-01-01\nsizes: { small: 0.01 }\nvcpu_hour: 0.02\n";
        let flavours = flavours(folder.path(), "{}", rates);
        let cost =
            |size: &Size| flavours.cost(size).unwrap().map(|cost| (cost.per_hour.to_string(), cost.unpriced));
        assert_eq!(cost(&size(Some("small"), None, None)), Some(("0.01".into(), 0)));
        assert_eq!(cost(&size(None, Some("2"), Some(1 << 30))), Some(("0.04".into(), 1)));
        assert_eq!(cost(&size(None, None, Some(1 << 30))), None);
        assert_eq!(Flavours::default().cost(&size(Some("small"), None, None)).unwrap(), None);
        let scope = Scope { provider: "test", account: "a".into() };
        let prices = flavours.prices(&scope, "here").unwrap();
        assert_eq!((prices.len(), prices[0].as_of), (2, "2026-01-01T00:00:00Z".parse().ok()));
        assert_eq!(
            (prices[0].id.native_id.as_str(), prices[1].id.native_id.as_str()),
            ("size/small", "vcpu")
        );
        assert_eq!(flavours.cost_of_volume(1).unwrap(), None, "volumes have no price here");
        std::fs::write(folder.path().join("prices.yaml"), "currency: EUR\nvolume_gib_month: 0.73\n").unwrap();
        let volume = flavours.cost_of_volume(2 << 30).unwrap().unwrap();
        assert_eq!(volume.per_hour.normalize().to_string(), "0.002");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_found_before_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let wrong = |sizes: &str, prices: &str| {
            let error = flavours(folder.path(), sizes, prices).check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            error.to_string()
        };
        assert!(wrong("small: { vcpus: 1, memory: lots }", "currency: EUR").contains("512MiB"));
        for prices in ["currency: EUR\nvcpu_hour: -1\n", "currency: EUR\nvcpu_our: 1\n", "currency: euro\n"] {
            assert!(wrong("{}", prices).contains("prices.yaml"), "{prices}");
        }
        assert!(wrong("{}", "currency: EUR\nas_of: soon\n").contains("soon"));
        let missing = Flavours::new(Some("/nonexistent/sizes.yaml".into()), None);
        assert_eq!(missing.check().unwrap_err().kind(), ErrorKind::NotFound);
    }
}
