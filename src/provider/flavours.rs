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
use crate::{Error, ErrorKind, Result, yaml};

const GIB: u64 = 1 << 30;

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

    /// All sizes with names.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn sizes(&self) -> Result<Vec<Size>> {
        let sizes = self.read_sizes()?.into_iter();
        Ok(sizes.map(|(name, flavour)| flavour.size(name)).collect())
    }

    /// The size in its parts: those that are written win over those of the name.
    ///
    /// # Errors
    /// The file cannot be read, or has no size of that name.
    pub fn resolved(&self, wanted: &SizeSpec) -> Result<SizeSpec> {
        let Some(name) = &wanted.name else { return Ok(wanted.clone()) };
        let sizes = self.read_sizes()?;
        let flavour = sizes.get(name).ok_or_else(|| {
            let known: Vec<_> = sizes.keys().map(String::as_str).collect();
            let reason = match known[..] {
                [] => "no sizes have names here; write a file of them, or processors and memory".to_owned(),
                _ => format!("there is no such size; there are {}", known.join(", ")),
            };
            Error::invalid("use the size", reason).with_resource(name)
        })?;
        Ok(SizeSpec {
            name: Some(name.clone()),
            vcpus: wanted.vcpus.or(flavour.vcpus),
            memory_bytes: wanted.memory_bytes.or(flavour.memory.map(|size| size.0)),
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
            id: scope.id(location, Kind::Price, item),
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

    fn rates(&self) -> Result<Option<Rates>> {
        let Some(path) = &self.prices else { return Ok(None) };
        let rates: Rates = read(path, "read prices")?;
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
        let memory = size.memory_bytes.map(|bytes| Decimal::from(bytes) / Decimal::from(GIB));
        // A part without a limit has no amount, so that its price cannot be known.
        let parts = [(self.vcpu_hour, size.vcpus), (self.memory_gib_hour, memory)];
        let priced: Vec<_> =
            parts.into_iter().filter_map(|(rate, amount)| rate?.checked_mul(amount?)).collect();
        let per_hour = priced.iter().copied().reduce(|sum, part| sum + part)?;
        Some(Cost { per_hour, currency, unpriced: parts.len() - priced.len() })
    }
}

fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let time = if text.contains('T') { text } else { format!("{text}T00:00:00Z") };
    time.parse().map(Some).map_err(de::Error::custom)
}

fn read<T: DeserializeOwned>(path: &Path, operation: &str) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(operation, path, error))?;
    yaml::from_str(&text).map_err(|error| {
        Error::new(ErrorKind::Invalid, operation, error.to_string()).with_resource(path.display().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(flavours.resolved(&more).unwrap().memory_bytes, Some(1));
        assert!(flavours.resolved(&named("big")).unwrap_err().reason().contains("there are small"));
        assert!(Flavours::default().resolved(&named("big")).unwrap_err().reason().contains("write a file"));
        assert_eq!(flavours.sizes().unwrap().len(), 1);
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
        std::fs::write(folder.path().join("prices.yaml"), "currency: EUR\nvcpu_hour: -1\n").unwrap();
        assert_eq!(flavours.cost(&size(None, None, None)).unwrap_err().kind(), ErrorKind::Invalid);
        std::fs::write(folder.path().join("prices.yaml"), "currency: EUR\nvcpu_our: 1\n").unwrap();
        assert_eq!(flavours.cost(&size(None, None, None)).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
