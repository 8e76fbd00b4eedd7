//! AWS's Price List: what is asked of it, and what its answers mean. It is one service for all regions, and each product
//! says itself where it is sold; so the region of a price is never that of the endpoint.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use aws_sdk_pricing::types::{Filter, FilterType};
use parking_lot::Mutex;
use rust_decimal::Decimal;
use serde_json::Value;
use tokio::time::Instant;

use super::connect::Session;
use super::error::{Answered, failed};
use crate::model::Timestamp;
use crate::{ErrorKind, Result};

/// Prices change a few times a year.
const FRESH: Duration = Duration::from_secs(6 * 3_600);
/// How long a list that could not be read is not asked again.
const AGAIN: Duration = Duration::from_secs(60);
/// One price more or less costs one call; a process that lives long asks for few sizes.
const KEPT: usize = 4_096;

/// What prices are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sold {
    /// Instances without a commitment, on shared hardware, with this system.
    Compute(System),
    /// Volumes of EBS.
    Volumes,
    /// Snapshots of EBS.
    Snapshots,
}

/// A system whose licence is in the price, or needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum System {
    Linux,
    Windows,
}

/// A price as the list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The instance type, or the volume type.
    pub(super) item: String,
    pub(super) amount: Decimal,
    /// ISO 4217.
    pub(super) currency: String,
    pub(super) since: Option<Timestamp>,
}

/// What was asked: of what, in which region, for which item.
type Asked = (Sold, String, String);

/// Prices that were asked for, also those that there are not.
#[derive(Debug, Default)]
pub(super) struct PriceList {
    known: Mutex<HashMap<Asked, (Instant, Option<Row>)>>,
    /// When the list could not be read.
    failed: Mutex<Option<Instant>>,
}

impl PriceList {
    /// The price of an item; `None` if the list has none, or several that differ.
    ///
    /// # Errors
    /// Those of `GetProducts`.
    pub(super) async fn of(
        &self,
        session: &Session,
        sold: Sold,
        region: &str,
        item: &str,
    ) -> Result<Option<Row>> {
        let asked = (sold, region.to_owned(), item.to_owned());
        let known = self.known.lock().get(&asked).filter(|(read, _)| read.elapsed() < FRESH).cloned();
        if let Some((_, known)) = known {
            return Ok(known);
        }
        if self.failed.lock().is_some_and(|failed| failed.elapsed() < AGAIN) {
            let reason = "the Price List could not be read a moment ago; it is asked again in a minute";
            return Err(failed(ErrorKind::Unavailable, "read the prices of", region, reason));
        }
        let rows = all(session, sold, region, item).await;
        let one = only(rows.inspect_err(|_| self.failed())?);
        let mut known = self.known.lock();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(asked, (Instant::now(), one.clone()));
        Ok(one)
    }

    /// Remembers that the list could not be read, or not in time: whoever plans many changes waits once.
    pub(super) fn failed(&self) {
        *self.failed.lock() = Some(Instant::now());
    }
}

/// All prices of an item.
async fn all(session: &Session, sold: Sold, region: &str, item: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut token = None;
    loop {
        let (more, next) = page(session, sold, region, Some(item), token).await?;
        rows.extend(more);
        token = next;
        if token.is_none() {
            return Ok(rows);
        }
    }
}

/// A page of the list.
///
/// # Errors
/// Those of `GetProducts`.
pub(super) async fn page(
    session: &Session,
    sold: Sold,
    region: &str,
    item: Option<&str>,
    token: Option<String>,
) -> Result<(Vec<Row>, Option<String>)> {
    let mut filters = Vec::new();
    for (field, value) in sold.filters(region, item) {
        let filter = Filter::builder().r#type(FilterType::TermMatch).field(field).value(value).build();
        filters.push(filter.map_err(|error| {
            failed(ErrorKind::Invalid, "read the prices of", region, "the question cannot be made")
                .with_source(error)
        })?);
    }
    let request = session.pricing().get_products().service_code("AmazonEC2").format_version("aws_v1");
    let request = request.set_filters(Some(filters)).max_results(100).set_next_token(token);
    let answer = request.send().await.answered("read the prices of", region)?;
    let rows = answer.price_list.unwrap_or_default();
    let rows = rows.iter().filter_map(|text| sold.read(text));
    Ok((rows.collect(), answer.next_token.filter(|token| !token.is_empty())))
}

/// The price that all rows agree on.
fn only(rows: Vec<Row>) -> Option<Row> {
    let mut rows = rows.into_iter();
    let first = rows.next()?;
    rows.all(|row| (row.amount, &row.currency) == (first.amount, &first.currency)).then_some(first)
}

impl Sold {
    /// What a product has to be: without all of these, the list has dozens of prices for one instance type.
    fn filters(self, region: &str, item: Option<&str>) -> Vec<(&'static str, String)> {
        let mut all = vec![("regionCode", region.to_owned())];
        let mut and = |field, value: &str| all.push((field, value.to_owned()));
        match self {
            Self::Compute(system) => {
                and("operatingSystem", system.word());
                and("tenancy", "Shared");
                and("preInstalledSw", "NA");
                and("capacitystatus", "Used");
                and("licenseModel", "No License required");
                and("marketoption", "OnDemand");
            }
            Self::Volumes => and("productFamily", "Storage"),
            Self::Snapshots => and("productFamily", "Storage Snapshot"),
        }
        match (self, item) {
            (Self::Compute(_), Some(item)) => and("instanceType", item),
            (Self::Volumes, Some(item)) => and("volumeApiName", item),
            _ => {}
        }
        all
    }

    /// A product with its price. One that cannot be read, is of another unit, or costs nothing in some other way than being
    /// free (a reservation that is paid elsewhere) is no price.
    pub(super) fn read(self, text: &str) -> Option<Row> {
        let product: Value = serde_json::from_str(text).ok()?;
        let attributes = product.pointer("/product/attributes")?;
        let attribute = |name: &str| attributes.get(name).and_then(Value::as_str);
        let item = match self {
            Self::Compute(_) => attribute("instanceType")?,
            Self::Volumes => attribute("volumeApiName")?,
            Self::Snapshots => {
                // The archive and fast restores are sold under the same family.
                attribute("usagetype").filter(|kind| kind.ends_with("EBS:SnapshotUsage"))?;
                "standard"
            }
        };
        let unit = match self {
            Self::Compute(_) => "Hrs",
            Self::Volumes | Self::Snapshots => "GB-Mo",
        };
        let terms = product.pointer("/terms/OnDemand")?.as_object()?;
        for term in terms.values() {
            let since = term.get("effectiveDate").and_then(Value::as_str).and_then(|time| time.parse().ok());
            let dimensions = term.get("priceDimensions").and_then(Value::as_object);
            for dimension in dimensions.into_iter().flat_map(serde_json::Map::values) {
                if dimension.get("unit").and_then(Value::as_str) != Some(unit) {
                    continue;
                }
                let per = dimension.get("pricePerUnit").and_then(Value::as_object)?;
                let priced = per.iter().find_map(|(currency, amount)| {
                    let amount = Decimal::from_str(amount.as_str()?).ok()?;
                    (amount > Decimal::ZERO).then(|| (currency.clone(), amount.normalize()))
                });
                let Some((currency, amount)) = priced else { continue };
                return Some(Row { item: item.to_owned(), amount, currency, since });
            }
        }
        None
    }
}

impl System {
    /// The list's word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Windows => "Windows",
        }
    }

    /// From EC2's words for the platform of an instance or an image. One with a licence of somebody else has another price,
    /// which is not asked for.
    pub(super) fn of(details: Option<&str>) -> Option<Self> {
        match details {
            None | Some("Linux/UNIX" | "") => Some(Self::Linux),
            Some("Windows" | "windows") => Some(Self::Windows),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(attributes: &str, unit: &str, price: &str) -> String {
        format!(
            r#"{{"product":{{"attributes":{{{attributes}}}}},"terms":{{"OnDemand":{{"A.B":{{"effectiveDate":"2026-11-01T00:00:00Z",
            "priceDimensions":{{"A.B.C":{{"unit":"{unit}","pricePerUnit":{{{price}}}}}}}}}}}}}}}"#
        )
    }

    #[test]
    fn a_product_is_read_and_nothing_is_not_a_price() {
        let linux = Sold::Compute(System::Linux);
        let of = r#""instanceType":"x1.small""#;
        let row = linux.read(&product(of, "Hrs", r#""USD":"0.2500000000""#)).unwrap();
        assert_eq!(
            (row.item.as_str(), row.amount, row.currency.as_str()),
            ("x1.small", "0.25".parse().unwrap(), "USD")
        );
        assert_eq!(row.since, Some("2026-11-01T00:00:00Z".parse().unwrap()));
        for wrong in [
            product(of, "Hrs", r#""USD":"0.0000000000""#),
            product(of, "Quantity", r#""USD":"100""#),
            product(of, "Hrs", r#""USD":"much""#),
            product("", "Hrs", r#""USD":"0.25""#),
            "no JSON".into(),
        ] {
            assert_eq!(linux.read(&wrong), None, "{wrong}");
        }
        let snapshot = product(r#""usagetype":"EUC1-EBS:SnapshotUsage""#, "GB-Mo", r#""USD":"0.5""#);
        assert_eq!(Sold::Snapshots.read(&snapshot).unwrap().item, "standard");
        let archive = product(r#""usagetype":"EUC1-EBS:SnapshotArchiveStorage""#, "GB-Mo", r#""USD":"0.5""#);
        assert_eq!(Sold::Snapshots.read(&archive), None);
    }

    #[test]
    fn prices_that_differ_are_no_price() {
        let row = |amount: &str| Row {
            item: "x".into(),
            amount: amount.parse().unwrap(),
            currency: "USD".into(),
            since: None,
        };
        assert_eq!(only(vec![row("1"), row("1")]), Some(row("1")));
        assert_eq!(only(vec![row("1"), row("2")]), None);
        assert_eq!(only(Vec::new()), None);
    }

    #[test]
    fn a_question_says_all_that_the_price_depends_on() {
        let filters = Sold::Compute(System::Windows).filters("eu-west-1", Some("t3.micro"));
        for field in
            ["regionCode", "operatingSystem", "tenancy", "preInstalledSw", "capacitystatus", "instanceType"]
        {
            assert!(filters.iter().any(|(name, _)| *name == field), "{field}");
        }
        assert!(filters.contains(&("regionCode", "eu-west-1".into())));
        assert_eq!(System::of(Some("Red Hat Enterprise Linux")), None);
        assert_eq!(System::of(None), Some(System::Linux));
    }
}
