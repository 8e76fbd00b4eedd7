//! Sizes and prices of guests: libvirt knows neither, so an operator writes them into files. What is not in them is not
//! known, and never zero.

use async_trait::async_trait;

use super::KvmProvider;
use super::definition::Amount;
use crate::Result;
use crate::model::resource::{Cost, Size};
use crate::provider::flavours::{Flavours, name_of};
use crate::provider::{Pricing, SizeSpec};

/// Refuses files of sizes and prices that no guest could have.
///
/// # Errors
/// A file cannot be read or understood, or has a size without processors or memory, or with too little room to grow.
pub(super) fn check(flavours: &Flavours) -> Result<()> {
    flavours.check()?;
    for size in flavours.sizes()? {
        Amount::of(&size, size.name.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

impl KvmProvider {
    /// What a spec asks for. A guest has the size whose figures it has, whoever gave them to it.
    pub(super) fn resolved(&self, spec: &SizeSpec) -> Result<Size> {
        let spec = self.flavours.resolved(spec)?;
        Ok(Size {
            name: name_of(&self.flavours.sizes()?, spec.vcpus, spec.memory_bytes),
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            max_vcpus: spec.max_vcpus,
            max_memory_bytes: spec.max_memory_bytes,
            ..Size::default()
        })
    }

    /// What a volume costs, where its size and prices are known.
    pub(super) fn cost_of_volume(&self, bytes: Option<u64>) -> Result<Option<Cost>> {
        bytes.map_or(Ok(None), |bytes| self.flavours.cost_of_volume(bytes))
    }
}

#[async_trait]
impl Pricing for KvmProvider {
    async fn cost(&self, size: &Size, _location: &str) -> Result<Option<Cost>> {
        // One connection has one host, and one file of prices is for it.
        self.flavours.cost(size)
    }
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

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;

    #[test]
    fn a_sum_counts_what_it_lacks() {
        let cost =
            |amount| Some(Cost { per_hour: Decimal::new(amount, 2), currency: "EUR".into(), unpriced: 0 });
        let total = sum([cost(5), None, less(cost(2))]).unwrap();
        assert_eq!((total.per_hour, total.unpriced), (Decimal::new(3, 2), 1));
        assert_eq!(sum([None, None]), None, "nothing is known, which is not zero");
    }

    #[test]
    fn a_size_that_no_guest_can_have_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sizes.yaml");
        for wrong in [
            "small: { vcpus: 0, memory: 1GiB }",
            "small: { vcpus: 0.5, memory: 1GiB }",
            "small: { vcpus: 2 }",
            "small: { vcpus: 2, memory: 1GiB, max_vcpus: 1 }",
        ] {
            std::fs::write(&path, wrong).unwrap();
            let error = check(&Flavours::new(Some(path.clone()), None)).unwrap_err();
            assert!(error.to_string().contains("small"), "{wrong}: {error}");
        }
    }
}
