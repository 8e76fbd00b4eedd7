//! What guests cost: libvirt knows no prices, so an operator writes them into a file. What is not in it is not known, and
//! never zero.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use async_trait::async_trait;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, de};

use super::KvmProvider;
use super::sizes::file;
use crate::model::Timestamp;
use crate::model::resource::{Cost, Kind, Price, PriceUnit, Purchase, ResourceId, Size};
use crate::provider::Pricing;
use crate::{ErrorKind, Result};

/// Hours of a month: a year's 8,760 in twelve parts.
const HOURS_PER_MONTH: u32 = 730;
const GIB: u64 = 1 << 30;

/// The rates of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rates {
    /// ISO 4217.
    pub(super) currency: String,
    /// Since when they hold: a day or a time.
    #[serde(default)]
    as_of: Option<Day>,
    #[serde(default)]
    vcpu_hour: Option<Amount>,
    #[serde(default)]
    memory_gib_hour: Option<Amount>,
    #[serde(default)]
    volume_gib_month: Option<Amount>,
    /// Prices of sizes by name, for an hour; they go before the price of their parts.
    #[serde(default)]
    sizes: BTreeMap<String, Amount>,
    #[serde(skip)]
    source: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Amount(Decimal);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Day(Timestamp);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The digits as they are written, never by way of a binary fraction.
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let amount = Decimal::from_str(&text).ok().filter(|amount| !amount.is_sign_negative());
        amount
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("{text} is no price; write for example 0.0125")))
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let day = || format!("{text}T00:00:00Z").parse();
        text.parse().or_else(|_| day()).map(Self).map_err(|_: String| {
            de::Error::custom(format!("{text:?} is neither a day nor a time; write for example 2026-01-31"))
        })
    }
}

impl Rates {
    /// From the file, if there is one.
    pub(super) fn load(path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let mut rates: Self = file("read the prices in", path)?;
        if rates.currency.len() != 3 || !rates.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let reason = format!("{:?} is no currency; write three letters as EUR", rates.currency);
            let path = path.display().to_string();
            return Err(super::error::refused(ErrorKind::Invalid, "read the prices in", path, reason));
        }
        rates.source = path.display().to_string();
        Ok(Some(rates))
    }

    /// What a size costs while it runs; `None` when nothing of it has a price.
    pub(super) fn cost(&self, size: &Size) -> Option<Cost> {
        let cost = |per_hour, unpriced| Cost { per_hour, currency: self.currency.clone(), unpriced };
        if let Some(Amount(amount)) = size.name.as_ref().and_then(|name| self.sizes.get(name)) {
            return Some(cost(*amount, 0));
        }
        let vcpus = size.vcpus.zip(self.vcpu_hour).map(|(vcpus, rate)| vcpus * rate.0);
        let memory = size.memory_bytes.zip(self.memory_gib_hour).map(|(bytes, rate)| gib(bytes) * rate.0);
        let parts = [vcpus, memory];
        let known: Vec<Decimal> = parts.iter().flatten().copied().collect();
        (!known.is_empty()).then(|| cost(known.iter().sum(), parts.len() - known.len()))
    }

    /// What a volume costs.
    pub(super) fn volume(&self, bytes: u64) -> Option<Cost> {
        let Amount(rate) = self.volume_gib_month?;
        let per_hour = gib(bytes) * rate / Decimal::from(HOURS_PER_MONTH);
        Some(Cost { per_hour, currency: self.currency.clone(), unpriced: 0 })
    }

    /// All prices; `id` makes an id of an item.
    pub(super) fn all(&self, region: &str, id: impl Fn(&str) -> ResourceId) -> Vec<Price> {
        let parts = [
            ("vcpu", self.vcpu_hour, PriceUnit::VcpuHour),
            ("memory", self.memory_gib_hour, PriceUnit::MemoryGibHour),
            ("volume", self.volume_gib_month, PriceUnit::VolumeGibMonth),
        ];
        let parts = parts.into_iter().filter_map(|(item, amount, unit)| Some((item, amount?, unit)));
        let sizes = self.sizes.iter().map(|(name, amount)| (name.as_str(), *amount, PriceUnit::InstanceHour));
        let price = |(item, Amount(amount), unit): (&str, Amount, PriceUnit)| Price {
            id: id(&if unit == PriceUnit::InstanceHour { format!("size/{item}") } else { item.to_owned() }),
            item: item.to_owned(),
            amount,
            currency: self.currency.clone(),
            unit,
            region: region.to_owned(),
            os: None,
            purchase: Purchase::OnDemand,
            as_of: self.as_of.map(|Day(time)| time),
            source: self.source.clone(),
        };
        parts.chain(sizes).map(price).collect()
    }
}

fn gib(bytes: u64) -> Decimal {
    Decimal::from(bytes) / Decimal::from(GIB)
}

/// Two costs together; what has no price counts as such.
pub(super) fn sum(costs: impl IntoIterator<Item = Option<Cost>>) -> Option<Cost> {
    let mut unpriced = 0;
    let mut total: Option<Cost> = None;
    for cost in costs {
        match (cost, &mut total) {
            (None, _) => unpriced += 1,
            (Some(cost), None) => total = Some(cost),
            (Some(cost), Some(total)) => {
                total.per_hour += cost.per_hour;
                total.unpriced += cost.unpriced;
            }
        }
    }
    if let Some(total) = &mut total {
        total.unpriced += unpriced;
    }
    total
}

/// The cost with the other sign.
pub(super) fn less(cost: Option<Cost>) -> Option<Cost> {
    cost.map(|cost| Cost { per_hour: -cost.per_hour, ..cost })
}

impl KvmProvider {
    /// What a size costs, where prices are known.
    pub(super) fn cost_of(&self, size: &Size) -> Option<Cost> {
        self.rates.as_ref()?.cost(size)
    }

    /// What a volume costs, where prices are known.
    pub(super) fn cost_of_volume(&self, bytes: Option<u64>) -> Option<Cost> {
        self.rates.as_ref()?.volume(bytes?)
    }

    /// The prices of a host.
    pub(super) fn price_list(&self, host: &str) -> Vec<Price> {
        let id = |item: &str| self.scope.id(host, Kind::Price, item);
        self.rates.as_ref().map(|rates| rates.all(host, id)).unwrap_or_default()
    }
}

#[async_trait]
impl Pricing for KvmProvider {
    async fn cost(&self, size: &Size, _location: &str) -> Result<Option<Cost>> {
        // One connection has one host, and one file of prices is for it.
        Ok(self.cost_of(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Option<Rates>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prices.yaml");
        std::fs::write(&path, text).unwrap();
        Rates::load(Some(&path))
    }

    fn size(vcpus: u32, memory: u64) -> Size {
        Size { vcpus: Some(vcpus.into()), memory_bytes: Some(memory), ..Size::default() }
    }

    #[test]
    fn the_digits_of_the_file_are_kept_and_what_is_not_in_it_is_unknown() {
        let text = "currency: EUR\nas_of: 2026-01-31\nvcpu_hour: 0.1\nmemory_gib_hour: 0.02\nsizes: { small: 0.07 }\n";
        let rates = load(text).unwrap().unwrap();
        let cost = rates.cost(&size(2, 512 << 20)).unwrap();
        assert_eq!((cost.per_hour, cost.unpriced), (Decimal::new(21, 2), 0));
        let named = Size { name: Some("small".into()), ..size(2, 1) };
        assert_eq!(rates.cost(&named).unwrap().per_hour, Decimal::new(7, 2));
        assert_eq!(rates.volume(1), None, "volumes have no price here");
        let id = |item: &str| ResourceId::from_str(&format!("kvm/a/h/price/{item}")).unwrap();
        let all = rates.all("h", id);
        assert_eq!(
            all.iter().map(|price| price.item.as_str()).collect::<Vec<_>>(),
            ["vcpu", "memory", "small"]
        );
        assert_eq!(all[0].as_of.unwrap().to_string(), "2026-01-31T00:00:00Z");
        let part = load("currency: EUR\nvcpu_hour: \"1\"\n").unwrap().unwrap();
        assert_eq!(part.cost(&size(2, 1)).unwrap().unpriced, 1);
        assert_eq!(load("currency: EUR\n").unwrap().unwrap().cost(&size(1, 1)), None);
        let both = sum([rates.cost(&named), None, rates.cost(&named)]).unwrap();
        assert_eq!((both.per_hour, both.unpriced), (Decimal::new(14, 2), 1));
    }

    #[test]
    fn wrong_rates_are_refused_at_the_start() {
        for wrong in [
            "vcpu_hour: 1\n",
            "currency: euro\n",
            "currency: EUR\nvcpu_hour: -1\n",
            "currency: EUR\nvcpu: 1\n",
        ] {
            assert_eq!(load(wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
        }
        assert_eq!(Rates::load(None).unwrap(), None);
    }
}
