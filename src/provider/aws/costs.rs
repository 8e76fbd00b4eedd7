//! What a plan costs, or saves. All of it is asked for side by side and for a short time: a price that cannot be read is no
//! reason against a change, and what is not known is not guessed.

use std::time::Duration;

use aws_sdk_ec2::types::{self, Tenancy};
use futures::future::join_all;
use rust_decimal::Decimal;

use super::AwsProvider;
use super::instances::type_of;
use super::price_list::{Sold, System};
use super::pricing::HOURS_PER_MONTH;
use crate::Result;
use crate::model::resource::Cost;
use crate::provider::Plan;

/// How long a plan waits for its prices.
const PATIENCE: Duration = Duration::from_secs(3);
/// Operations per second and MiB per second that every gp3 volume has; what is above is paid for apart.
const INCLUDED: (i32, i32) = (3_000, 125);

/// Something that is paid for by the hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Paid {
    /// An instance that runs; without a system, one that is not sold at the prices that are asked for here.
    Instance { kind: String, system: Option<System> },
    /// A volume, attached or not.
    Volume(Disk),
}

/// What the price of a volume depends on, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) class: Option<String>,
    pub(super) gib: Option<i32>,
    pub(super) iops: Option<i32>,
    pub(super) throughput: Option<i32>,
}

impl AwsProvider {
    /// A plan with what is paid more and what is paid no more by it, for an hour.
    pub(super) async fn priced(&self, plan: Plan, region: &str, more: &[Paid], less: &[Paid]) -> Plan {
        let all = join_all(more.iter().chain(less).map(|paid| self.cost_of(region, paid)));
        let Ok(costs) = tokio::time::timeout(PATIENCE, all).await else {
            self.prices.failed();
            return plan.note(UNREAD);
        };
        let plan = if costs.iter().any(Result::is_err) { plan.note(UNREAD) } else { plan };
        let mut costs = costs.into_iter().map(|cost| {
            cost.unwrap_or_else(|error| {
                tracing::debug!(account = self.session.id(), error = %error.chain(), "reading a price");
                None
            })
        });
        let then = sum(costs.by_ref().take(more.len()));
        let now = sum(costs);
        let price_delta = match (more, less) {
            (_, []) => then,
            ([], _) => minus(now),
            _ => difference(now, then),
        };
        Plan { price_delta, ..plan }
    }

    /// What something costs for an hour; `None` where it has no price.
    ///
    /// # Errors
    /// Those of `GetProducts`.
    pub(super) async fn cost_of(&self, region: &str, paid: &Paid) -> Result<Option<Cost>> {
        match paid {
            Paid::Instance { kind, system: Some(system) } => {
                let row = self.prices.of(&self.session, Sold::Compute(*system), region, kind).await?;
                Ok(row.map(|row| Cost { per_hour: row.amount, currency: row.currency, unpriced: 0 }))
            }
            Paid::Volume(disk @ Disk { class: Some(class), gib: Some(gib), .. }) => {
                let row = self.prices.of(&self.session, Sold::Volumes, region, class).await?;
                Ok(row.map(|row| Cost {
                    per_hour: (row.amount * Decimal::from(*gib) / Decimal::from(HOURS_PER_MONTH)).round_dp(6),
                    currency: row.currency,
                    unpriced: usize::from(disk.has_more()),
                }))
            }
            Paid::Instance { system: None, .. } | Paid::Volume(_) => Ok(None),
        }
    }
}

const UNREAD: &str = "what it costs is not known: the Price List could not be read";

impl Paid {
    /// An instance as it is: on demand and on shared hardware, or without a price.
    pub(super) fn instance(instance: &types::Instance) -> Self {
        let tenancy = instance.placement.as_ref().and_then(|placement| placement.tenancy.as_ref());
        let other = instance.instance_lifecycle.is_some()
            || tenancy.is_some_and(|tenancy| *tenancy != Tenancy::Default);
        let platform = instance.platform.as_ref().map(types::PlatformValues::as_str);
        let system = System::of(instance.platform_details.as_deref().or(platform));
        Self::Instance {
            kind: type_of(instance).unwrap_or_default().to_owned(),
            system: system.filter(|_| !other),
        }
    }

    /// The same instance with another type.
    pub(super) fn of_kind(self, kind: &str) -> Self {
        match self {
            Self::Instance { system, .. } => Self::Instance { kind: kind.to_owned(), system },
            volume @ Self::Volume(_) => volume,
        }
    }
}

impl Disk {
    /// A volume as it is.
    pub(super) fn of(volume: &types::Volume) -> Self {
        Self {
            class: volume.volume_type.as_ref().map(|class| class.as_str().to_owned()),
            gib: volume.size,
            iops: volume.iops,
            throughput: volume.throughput,
        }
    }

    /// Whether operations or throughput of it are paid for beside its size.
    fn has_more(&self) -> bool {
        match self.class.as_deref() {
            Some("io1" | "io2") => true,
            Some("gp3") => {
                let (iops, throughput) = INCLUDED;
                self.iops.is_some_and(|own| own > iops) || self.throughput.is_some_and(|own| own > throughput)
            }
            _ => false,
        }
    }
}

/// All of it together, with how much of it has no price; nothing if nothing has one.
fn sum(parts: impl IntoIterator<Item = Option<Cost>>) -> Option<Cost> {
    let mut sum: Option<Cost> = None;
    let mut unpriced = 0;
    for part in parts {
        match (part, &mut sum) {
            (None, _) => unpriced += 1,
            (Some(part), None) => sum = Some(part),
            (Some(part), Some(sum)) if part.currency == sum.currency => {
                sum.per_hour += part.per_hour;
                sum.unpriced += part.unpriced;
            }
            (Some(_), Some(_)) => unpriced += 1,
        }
    }
    sum.map(|sum| Cost { unpriced: sum.unpriced + unpriced, ..sum })
}

/// What is not paid any more.
fn minus(cost: Option<Cost>) -> Option<Cost> {
    cost.map(|cost| Cost { per_hour: -cost.per_hour, ..cost })
}

/// The difference; unknown if either is.
fn difference(now: Option<Cost>, then: Option<Cost>) -> Option<Cost> {
    let (now, then) = (now?, then?);
    sum([Some(then), minus(Some(now))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(amount: &str) -> Option<Cost> {
        Some(Cost { per_hour: amount.parse().unwrap(), currency: "USD".into(), unpriced: 0 })
    }

    #[test]
    fn what_has_no_price_is_counted_and_never_zero() {
        assert_eq!(sum([None, None]), None);
        let part = sum([cost("0.5"), None, cost("0.25")]).unwrap();
        assert_eq!((part.per_hour, part.unpriced), ("0.75".parse().unwrap(), 1));
        assert_eq!(difference(cost("1"), None), None);
        assert_eq!(difference(cost("1"), cost("1.5")), cost("0.5"));
        assert_eq!(minus(None), None);
    }

    #[test]
    fn what_is_sold_in_another_way_has_no_price() {
        let system = |instance: types::builders::InstanceBuilder| match Paid::instance(&instance.build()) {
            Paid::Instance { system, .. } => system,
            Paid::Volume(_) => unreachable!(),
        };
        let instance = types::Instance::builder;
        let on = |tenancy| instance().placement(types::Placement::builder().tenancy(tenancy).build());
        assert_eq!(system(instance()), Some(System::Linux));
        assert_eq!(system(on(Tenancy::Default)), Some(System::Linux));
        assert_eq!(system(on(Tenancy::Dedicated)), None);
        assert_eq!(system(on(Tenancy::Host)), None);
        assert_eq!(system(instance().instance_lifecycle(types::InstanceLifecycleType::Spot)), None);
    }

    #[test]
    fn what_is_paid_beside_the_size_is_counted() {
        let disk = |class: &str, iops, throughput| Disk {
            class: Some(class.into()),
            gib: Some(1),
            iops,
            throughput,
        };
        assert!(!disk("gp3", Some(3_000), Some(125)).has_more());
        assert!(disk("gp3", Some(4_000), None).has_more() && disk("gp3", None, Some(250)).has_more());
        assert!(disk("io2", None, None).has_more() && !disk("gp2", Some(100), None).has_more());
    }
}
