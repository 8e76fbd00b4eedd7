//! What a source will cost, from the inventory, which is free to read, or from what is assumed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::config::{Account, Config};
use super::super::cost::{Assumed, Estimate, Line};
use super::super::wanted::Metric;
use super::billing::{MONTH, USD_PER_METRIC, billed};
use super::budget::stretched;
use super::collector::AwsCollector;
use super::machine::Monitoring;
use super::mapping::{Mapping, Resource};
use super::pack::pack;
use super::part::{Part, Rhythm, Wanted, own_ask, parts};
use super::shard::Asked;
use super::target::Ask;
use super::types::Facts;
use crate::model::Span;
use crate::provider::Collector as _;
use crate::{Error, Result};

/// Seconds between two collections beyond which a budget is hardly meant.
const DAY: i64 = 86_400;

/// What one collection of a part asks for.
#[derive(Debug, Default)]
struct Load {
    /// Queries of each target.
    queries: Vec<usize>,
    metrics: u64,
    resources: u64,
}

/// What a source that is asked `every` so often costs in 30 days. Without `assumed`, AWS is asked what there is.
///
/// # Errors
/// No account can be signed in to, or the configuration is wrong.
pub async fn estimate(config: &Config, every: Duration, assumed: Option<Assumed>) -> Result<Estimate> {
    let every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
    let mut estimate = match assumed {
        Some(assumed) => offline(config, every, assumed)?,
        None => online(config, every).await?,
    };
    let limit = config.budget.map(|budget| budget.usd_per_month);
    estimate.stretch = limit.map_or(1.0, |limit| (estimate.usd() / limit).max(1.0));
    for line in &mut estimate.lines {
        #[expect(clippy::cast_possible_truncation, reason = "seconds of at most some years")]
        let every = stretched(line.every, estimate.stretch).round() as i64;
        line.every = every;
        line.calls /= estimate.stretch;
        line.usd /= estimate.stretch;
    }
    // What is listed is remembered, and nobody lists between two collections.
    let listed = config.list_every.0.as_secs_f64().max(stretched(every, estimate.stretch)).max(1.0);
    estimate.listings *= MONTH / listed;
    if let Some(line) = estimate.lines.iter().max_by_key(|line| line.every).filter(|line| line.every > DAY) {
        let every = Span::seconds(line.every.unsigned_abs());
        let hint = format!("the budget means one collection in {every}; raise it, or leave groups out");
        estimate.hints.push(hint);
    }
    Ok(estimate)
}

fn line(account: &str, region: &str, part: &Part, every: i64, load: &Load) -> Line {
    let every = every.max(part.period).max(1);
    // Each collection reads again what is not final yet.
    let points = usize::try_from((every + 900) / part.period).unwrap_or(1);
    let times = MONTH / every as f64;
    Line {
        account: account.to_owned(),
        region: region.to_owned(),
        namespace: part.namespace.clone(),
        period: part.period,
        every,
        targets: load.resources,
        metrics: load.metrics,
        calls: pack(&load.queries, points).len() as f64 * times,
        usd: load.metrics as f64 * times * USD_PER_METRIC,
    }
}

/// With one round of ListMetrics for the listings.
async fn online(config: &Config, every: i64) -> Result<Estimate> {
    let collector = AwsCollector::new(config)?;
    collector.discover().await?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut estimate = Estimate { faults: collector.faults(), ..Estimate::default() };
    for shard in collector.states() {
        let Asked::Metrics(part) = &shard.what else { continue };
        let found = match collector.found(&shard, part, now).await {
            Ok(found) => found,
            Err(error) => {
                estimate.faults.push(error);
                continue;
            }
        };
        let place = &shard.place;
        estimate.faults.extend(found.faults);
        estimate.hints.extend(found.missed.iter().map(|metric| {
            format!(
                "no series is of {metric} in {}; CloudWatch lists new ones after some minutes",
                place.name()
            )
        }));
        let mut load = Load::default();
        let mut resources = HashSet::new();
        for target in found.targets.iter().filter(|target| target.ended.is_none_or(|ended| ended > now)) {
            add(&mut load, config, &target.ask, 1);
            resources.insert((target.owner.clone(), Arc::clone(&target.dimensions)));
        }
        load.resources = u64::try_from(resources.len()).unwrap_or(u64::MAX);
        if load.resources > 0 || !found.missed.is_empty() {
            estimate.lines.push(line(place.session.id(), &place.region, part, every, &load));
        }
    }
    estimate.listings = collector.spent().listings as f64;
    Ok(estimate)
}

fn add(load: &mut Load, config: &Config, ask: &Ask, times: u64) {
    let many = if ask.figures.is_empty() { 0 } else { usize::try_from(times).unwrap_or(0) };
    load.queries.extend(std::iter::repeat_n(ask.queries(), many));
    load.metrics += billed(ask.metrics(), config.billed_by) * times;
}

/// All of it in one region of one account.
fn offline(config: &Config, every: i64, assumed: Assumed) -> Result<Estimate> {
    let mapping = Arc::new(Mapping::new(config)?);
    let accounts = config.all_accounts();
    let account = accounts.first().map_or("", Account::label);
    let region = config.regions.first().map_or("all regions", String::as_str);
    let facts = Facts { ebs_burst: false, ..Facts::of_name("m5.large") };
    let mut estimate = Estimate::default();
    for part in parts(config, &mapping) {
        let mut load = Load::default();
        let wanted = Wanted { config, part: &part };
        if let Some(namespace) = mapping.namespaces.iter().find(|known| known.namespace == part.namespace) {
            match namespace.resource {
                Resource::Instance => {
                    let basic = assumed.instances - assumed.detailed;
                    for (rhythm, count) in [
                        (Rhythm::Of(Monitoring::Detailed), assumed.detailed),
                        (Rhythm::Of(Monitoring::Basic), basic),
                        (Rhythm::Own, assumed.instances),
                    ] {
                        let ask = wanted.of_facts(namespace, rhythm, &facts);
                        add(&mut load, config, &ask, count);
                        if !ask.figures.is_empty() {
                            load.resources = (load.resources + count).min(assumed.instances);
                        }
                    }
                }
                Resource::Volume => {
                    add(&mut load, config, &wanted.of_volume(namespace, &facts, "gp3"), assumed.volumes);
                    load.resources += assumed.volumes;
                }
                // One processor, file system, disk and interface.
                Resource::Listed => {
                    add(&mut load, config, &wanted.of_listed(namespace, |_| true), assumed.instances);
                    load.resources += assumed.instances;
                }
            }
        }
        for metric in config.metrics.iter().filter(|metric| wanted.has(metric)) {
            add(&mut load, config, &own_ask(&[metric], config.settle_by), 1);
            load.resources += 1;
            if let Some(fault) = unknown(metric) {
                estimate.faults.push(fault);
            }
        }
        if load.metrics > 0 {
            estimate.lines.push(line(account, region, &part, every, &load));
        }
    }
    Ok(estimate)
}

fn unknown(metric: &Metric) -> Option<Error> {
    let stars = metric.dimensions.values().any(|glob| glob.contains('*'));
    stars.then(|| {
        let reason =
            "how many combinations of dimensions there are is not known without asking; it is counted once";
        Error::invalid("estimate", reason).with_resource(metric.name())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::aws::Budget;

    #[tokio::test]
    async fn a_month_of_a_thousand_instances_costs_what_the_price_page_says() {
        // 6 metrics of basic instances every 300 s of which 5 are of 300 s, and the check of 60 s.
        let assumed = Assumed { instances: 1_000, detailed: 0, volumes: 0 };
        let five_minutes = Duration::from_secs(300);
        let all = estimate(&Config::default(), five_minutes, Some(assumed)).await.unwrap();
        let metrics: u64 = all.lines.iter().map(|line| line.metrics).sum();
        assert_eq!(metrics, 6_000);
        assert!((all.usd() - 518.4).abs() < 0.01, "6,000 x 8,640 x $0.00001 = {}", all.usd());
        let calls: f64 = all.lines.iter().map(|line| line.calls).sum();
        assert!((calls - 12.0 * 8_640.0).abs() < 1.0, "{calls}");

        let budget = Some(Budget { usd_per_month: 51.84 });
        let less =
            estimate(&Config { budget, ..Config::default() }, five_minutes, Some(assumed)).await.unwrap();
        assert!((less.usd() - 51.84).abs() < 0.01 && (less.stretch - 10.0).abs() < 0.001);
        assert!(less.lines.iter().all(|line| line.every == 3_000));
    }

    #[tokio::test]
    async fn basic_monitoring_is_not_asked_more_often_than_it_publishes() {
        let assumed = Assumed { instances: 100, detailed: 50, volumes: 0 };
        let all = estimate(&Config::default(), Duration::from_secs(60), Some(assumed)).await.unwrap();
        let every: Vec<_> = all.lines.iter().map(|line| (line.period, line.every, line.metrics)).collect();
        assert_eq!(every, [(60, 60, 50 * 6 + 50), (300, 300, 50 * 5)]);
    }
}
