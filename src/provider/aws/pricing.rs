//! What things cost: on demand by the Price List, spot by EC2's own history. What has no price is unknown, never zero.

use async_trait::async_trait;
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::SpotPrice;
use rust_decimal::Decimal;

use super::AwsProvider;
use super::calls::at;
use super::costs::Paid;
use super::error::Answered;
use super::inventory::{MOST, Paged};
use super::price_list::{self, Row, Sold, System};
use crate::Result;
use crate::model::resource::{Cost, Kind, Price, PriceUnit, Purchase, Size};
use crate::provider::{Page, Pricing};

/// Hours of a month: a year's 8,760 in twelve parts.
pub(super) const HOURS_PER_MONTH: u32 = 730;
const SOURCE: &str = "AWS Price List";

/// The parts of the list of prices, in their order; spot prices come after them.
const PARTS: [Sold; 4] =
    [Sold::Compute(System::Linux), Sold::Compute(System::Windows), Sold::Volumes, Sold::Snapshots];

#[async_trait]
impl Pricing for AwsProvider {
    async fn cost(&self, size: &Size, location: &str) -> Result<Option<Cost>> {
        let Some(name) = &size.name else { return Ok(None) };
        let paid = Paid::Instance { kind: name.clone(), system: Some(System::Linux) };
        self.cost_of(location, &paid).await
    }
}

impl AwsProvider {
    /// The list of prices goes through its parts one after the other; a token says in which it is.
    pub(super) async fn prices_page(&self, region: &str, token: Option<String>) -> Paged<Price> {
        let (part, token) = match token.as_deref().and_then(|token| token.split_once(':')) {
            Some((part, rest)) => {
                (part.parse().unwrap_or(0), Some(rest.to_owned()).filter(|rest| !rest.is_empty()))
            }
            None => (0, None),
        };
        let (items, next) = match PARTS.get(part) {
            Some(sold) => {
                let (rows, next) = price_list::page(&self.session, *sold, region, None, token).await?;
                (rows.into_iter().map(|row| self.price_of(region, *sold, row)).collect(), next)
            }
            None => self.spot_page(region, token).await?,
        };
        let next = match next {
            Some(next) => Some(format!("{part}:{next}")),
            None if part < PARTS.len() => Some(format!("{}:", part + 1)),
            None => None,
        };
        Ok((Page::from(items), next))
    }

    fn price_of(&self, region: &str, sold: Sold, row: Row) -> Price {
        let (unit, os, name) = match sold {
            Sold::Compute(system) => {
                let word = system.word();
                (PriceUnit::InstanceHour, Some(word.to_owned()), format!("on-demand/{word}/{}", row.item))
            }
            Sold::Volumes => (PriceUnit::VolumeGibMonth, None, format!("volume/{}", row.item)),
            Sold::Snapshots => (PriceUnit::SnapshotGibMonth, None, format!("snapshot/{}", row.item)),
        };
        Price {
            id: self.id(region, Kind::Price, name),
            item: row.item,
            amount: row.amount,
            currency: row.currency,
            unit,
            region: region.to_owned(),
            os,
            purchase: Purchase::OnDemand,
            as_of: row.since,
            source: SOURCE.into(),
        }
    }

    async fn spot_page(&self, region: &str, token: Option<String>) -> Result<(Vec<Price>, Option<String>)> {
        let now = DateTime::from(std::time::SystemTime::now());
        let request =
            self.session.ec2(region).describe_spot_price_history().start_time(now).max_results(MOST);
        let request = request.product_descriptions("Linux/UNIX").product_descriptions("Windows");
        let answer =
            request.set_next_token(token).send().await.answered("read the spot prices of", region)?;
        let prices = answer.spot_price_history.unwrap_or_default();
        let prices = prices.iter().filter_map(|price| self.spot_price(region, price)).collect();
        Ok((prices, answer.next_token.filter(|token| !token.is_empty())))
    }

    /// A spot price holds in one zone.
    fn spot_price(&self, region: &str, price: &SpotPrice) -> Option<Price> {
        let item = price.instance_type.as_ref()?.as_str();
        let zone = price.availability_zone.as_deref()?;
        let amount: Decimal = price.spot_price.as_deref()?.parse().ok()?;
        let product = price.product_description.as_ref()?.as_str();
        let os = if product.starts_with("Windows") { "Windows" } else { "Linux" };
        Some(Price {
            id: self.id(region, Kind::Price, format!("spot/{os}/{item}/{zone}")),
            item: item.to_owned(),
            amount: amount.normalize(),
            currency: "USD".into(),
            unit: PriceUnit::InstanceHour,
            region: zone.to_owned(),
            os: Some(os.into()),
            purchase: Purchase::Spot,
            as_of: at(price.timestamp.as_ref()),
            source: "EC2 spot price history".into(),
        })
    }
}
