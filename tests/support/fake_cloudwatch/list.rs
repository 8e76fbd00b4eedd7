//! ListMetrics.

use super::cbor::{Item, Writer};
use super::quota::Quotas;
use super::series::Series;
use super::wire::Refusal;
use super::world::{World, pairs};

/// What is asked for.
struct Filter<'a> {
    namespace: Option<&'a str>,
    metric: Option<&'a str>,
    /// Names, and values where it says them.
    dimensions: Vec<(&'a str, Option<&'a str>)>,
    active: bool,
}

impl Filter<'_> {
    fn takes(&self, series: &Series, quotas: &Quotas, now: i64) -> bool {
        let is = |wanted: Option<&str>, have: &str| wanted.is_none_or(|wanted| wanted == have);
        if !is(self.namespace, &series.kind.namespace) || !is(self.metric, &series.kind.metric) {
            return false;
        }
        let has = |(name, value): &(&str, Option<&str>)| {
            pairs(&series.dimensions).any(|(have, of)| have == *name && is(*value, of))
        };
        if !self.dimensions.iter().all(has) {
            return false;
        }
        // A sample is there once its minute and the least lag are over.
        let Some(last) = series.last(now - 60 - *series.kind.lag.start()) else { return false };
        let listed = if self.active { 3 * 3600 + quotas.active_slack } else { quotas.listed };
        now - last <= listed && now.saturating_sub(series.born) >= quotas.unlisted
    }
}

/// A page and how many metrics are on it.
pub struct Page {
    pub body: Vec<u8>,
    pub metrics: usize,
}

pub fn page(
    world: &World,
    quotas: &Quotas,
    (account, region): (&str, &str),
    item: &Item<'_>,
    now: i64,
) -> Result<Page, Refusal> {
    let active = match item.text_at("RecentlyActive") {
        None => false,
        Some("PT3H") => true,
        Some(_) => return Err(Refusal::value("The only value of RecentlyActive is PT3H.")),
    };
    let dimensions = item.list_at("Dimensions").iter();
    let dimensions = dimensions.map(|filter| Some((filter.text_at("Name")?, filter.text_at("Value"))));
    let filter = Filter {
        namespace: item.text_at("Namespace"),
        metric: item.text_at("MetricName"),
        dimensions: dimensions
            .collect::<Option<_>>()
            .ok_or_else(|| Refusal::value("A DimensionFilter needs a Name."))?,
        active,
    };
    let linked = item.get("IncludeLinkedAccounts").and_then(Item::boolean).unwrap_or(false);
    let owner = item.text_at("OwningAccount");
    if owner.is_some() && !linked {
        return Err(Refusal::value("OwningAccount needs IncludeLinkedAccounts."));
    }
    let sources = world.linked(account).filter(|_| linked);
    let accounts =
        std::iter::once(account).chain(sources).filter(|one| owner.is_none_or(|owner| owner == *one));
    let places: Vec<u32> = accounts.filter_map(|account| world.find_place(account, region)).collect();

    let (place, skip) = match item.text_at("NextToken") {
        None => (0, 0),
        Some(token) => read(token).ok_or_else(|| Refusal::value("Invalid nextToken"))?,
    };
    let mut metrics = Vec::new();
    let mut next = None;
    'places: for (number, of) in places.iter().enumerate().skip(place) {
        let (owner, series) = world.of_place(*of);
        let skip = if number == place { skip } else { 0 };
        for (at, series) in series.iter().enumerate().skip(skip) {
            let series = world.get(*series);
            if !filter.takes(series, quotas, now) {
                continue;
            }
            if metrics.len() == quotas.page {
                next = Some(format!("{number:x}.{at:x}"));
                break 'places;
            }
            metrics.push((owner, series));
        }
    }
    Ok(Page { body: encode(&metrics, next.as_deref(), linked), metrics: metrics.len() })
}

fn read(token: &str) -> Option<(usize, usize)> {
    let (place, at) = token.split_once('.')?;
    Some((usize::from_str_radix(place, 16).ok()?, usize::from_str_radix(at, 16).ok()?))
}

fn encode(metrics: &[(&str, &Series)], next: Option<&str>, owners: bool) -> Vec<u8> {
    let mut body = Writer::with_capacity(100 + 150 * metrics.len());
    body.map(1 + usize::from(next.is_some()) + usize::from(owners)).text("Metrics").array(metrics.len());
    for (_, series) in metrics {
        body.map(3).text("Namespace").text(&series.kind.namespace);
        body.text("MetricName").text(&series.kind.metric);
        body.text("Dimensions").array(series.dimensions.len());
        for (name, value) in pairs(&series.dimensions) {
            body.map(2).text("Name").text(name).text("Value").text(value);
        }
    }
    if owners {
        body.text("OwningAccounts").array(metrics.len());
        for (owner, _) in metrics {
            body.text(owner);
        }
    }
    if let Some(next) = next {
        body.text("NextToken").text(next);
    }
    body.finish()
}
