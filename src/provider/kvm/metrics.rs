//! Statistics into rows. Nothing here talks to libvirt.

use std::collections::BTreeMap;
use std::time::Duration;

use super::mapping::{Conversion, Field, Mapping, Rule, TagFrom};
use super::params::Params;
use super::sys::Outside;
use crate::Result;
use crate::model::{BatchBuilder, Identity, MetricBatch};
use crate::provider::rates::Rates;

/// Nanoseconds in a second, as a ratio's denominator.
const NANOS: f64 = 1e9;
const KIBI: f64 = 1024.0;

/// Statistics read in one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    /// The statistics.
    pub(super) params: &'a Params,
    /// When they were read, in nanoseconds on a clock that is never set.
    pub(super) at: i64,
}

/// All that one collection read about a running guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured<'a> {
    /// What never waits for the guest's monitor.
    pub(super) fast: Reading<'a>,
    /// What may have waited; `None` when no answer came in time.
    pub(super) slow: Option<Reading<'a>>,
    /// What needs no monitor at all.
    pub(super) outside: Outside,
    /// Seconds since 1970, for the age of the balloon statistics.
    pub(super) now: f64,
}

/// The rows of one collection, by table.
pub(super) struct Rows {
    builders: BTreeMap<String, BatchBuilder>,
    tick: i64,
    max_balloon_age: Duration,
}

impl Rows {
    /// Rows that will all carry the time `tick`. Balloon statistics older than `max_balloon_age` are left out.
    pub(super) fn new(tick: i64, max_balloon_age: Duration) -> Self {
        Self { builders: BTreeMap::new(), tick, max_balloon_age }
    }

    /// Adds the rows of one running guest. `rates` are the counters of its present run.
    ///
    /// # Errors
    /// Mapping and tables do not fit, which the tests rule out.
    pub(super) fn guest(
        &mut self,
        identity: &Identity,
        rates: &mut Rates<String>,
        measured: Measured<'_>,
    ) -> Result<()> {
        for rule in &Mapping::builtin()?.rules {
            match &rule.each {
                None => {
                    let mut values = self.whole(rule, rates, measured);
                    match rule.table.as_str() {
                        "cpu" => from_outside(&mut values, rates, measured),
                        "memory" => self.balloon(&mut values, measured),
                        _ => {}
                    }
                    self.row(&rule.table, identity, None, &values)?;
                }
                Some(group) => self.each(rule, group, identity, rates, measured)?,
            }
        }
        Ok(())
    }

    /// Adds a row of the table `status`.
    ///
    /// # Errors
    /// As [`Self::guest`].
    pub(super) fn status(
        &mut self,
        identity: &Identity,
        state: &str,
        up: bool,
        uptime: Option<Duration>,
        stuck: Option<bool>,
    ) -> Result<()> {
        let tick = self.tick;
        let builder = self.builder("status", identity)?;
        let mut row = builder.row(tick);
        row.set("state", state)?
            .set("up", up)?
            .set("uptime_seconds", uptime.map(|uptime| uptime.as_secs_f64()))?
            .set("stuck", stuck)?;
        Ok(())
    }

    /// The batches; tables without rows are left out.
    ///
    /// # Errors
    /// An identity lacked a required tag.
    pub(super) fn finish(self) -> Result<Vec<MetricBatch>> {
        self.builders.into_values().map(BatchBuilder::finish).collect()
    }

    fn whole(&self, rule: &'static Rule, rates: &mut Rates<String>, measured: Measured<'_>) -> Values {
        let Some(reading) = measured.slow else { return Vec::new() };
        let fresh = self.is_fresh(reading.params, measured.now);
        let cores = reading.params.float("vcpu.current").or(measured.outside.cores.map(f64::from));
        let fields = rule.fields.iter().filter(|field| fresh || !field.fresh);
        fields
            .filter_map(|field| {
                let value = converted(field, "", reading, rates, cores)?;
                Some((field.field.as_str(), value))
            })
            .collect()
    }

    fn each(
        &mut self,
        rule: &'static Rule,
        group: &str,
        identity: &Identity,
        rates: &mut Rates<String>,
        measured: Measured<'_>,
    ) -> Result<()> {
        let reading = if group == "net" { Some(measured.fast) } else { measured.slow };
        let (Some(reading), Some(tag)) = (reading, &rule.tag) else { return Ok(()) };
        for index in reading.params.indexes(group) {
            let prefix = format!("{group}.{index}.");
            let number = index.to_string();
            let which = match tag.from {
                TagFrom::Index => Some(number.as_str()),
                TagFrom::Name => reading.params.text(&format!("{prefix}name")),
            };
            // Without its name the row would overwrite another device's.
            let Some(which) = which.filter(|which| !which.is_empty()) else { continue };
            let values: Values = rule
                .fields
                .iter()
                .filter_map(|field| {
                    Some((field.field.as_str(), converted(field, &prefix, reading, rates, None)?))
                })
                .collect();
            self.row(&rule.table, identity, Some((&tag.column, which)), &values)?;
        }
        Ok(())
    }

    /// What follows from the balloon's statistics together: memory in use, and how old the guest's word is.
    fn balloon(&self, values: &mut Values, measured: Measured<'_>) {
        let Some(Reading { params, .. }) = measured.slow else { return };
        if let Some(age) = balloon_age(params, measured.now) {
            values.push(("statistics_age_seconds", age));
        }
        if !self.is_fresh(params, measured.now) {
            return;
        }
        // `available` is all the memory that the guest sees, `usable` what new work could get.
        let (Some(total), Some(usable)) = (params.float("balloon.available"), params.float("balloon.usable"))
        else {
            return;
        };
        let used = (total - usable).max(0.0) * KIBI;
        values.push(("used_bytes", used));
        if let Some(limit) = value(values, "limit_bytes").filter(|limit| *limit > 0.0) {
            values.push(("utilization", (used / limit).min(1.0)));
        }
    }

    fn is_fresh(&self, params: &Params, now: f64) -> bool {
        balloon_age(params, now).is_some_and(|age| age <= self.max_balloon_age.as_secs_f64())
    }

    fn row(
        &mut self,
        table: &str,
        identity: &Identity,
        tag: Option<(&str, &str)>,
        values: &[(&str, f64)],
    ) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let tick = self.tick;
        let builder = self.builder(table, identity)?;
        let mut row = builder.row(tick);
        if let Some((column, which)) = tag {
            row.set(column, which)?;
        }
        for (field, value) in values {
            row.set(field, *value)?;
        }
        Ok(())
    }

    fn builder(&mut self, table: &str, identity: &Identity) -> Result<&mut BatchBuilder> {
        if !self.builders.contains_key(table) {
            self.builders.insert(table.to_owned(), BatchBuilder::new(table, identity)?);
        }
        let builder = self.builders.get_mut(table).ok_or_else(|| {
            crate::Error::invalid("build rows", "the table's builder is missing").with_resource(table)
        })?;
        builder.identify(identity);
        Ok(builder)
    }
}

type Values = Vec<(&'static str, f64)>;

fn value(values: &[(&'static str, f64)], field: &str) -> Option<f64> {
    values.iter().find(|(name, _)| *name == field).map(|(_, value)| *value)
}

/// One field's value, or `None` while it is not known.
fn converted(
    field: &Field,
    prefix: &str,
    reading: Reading<'_>,
    rates: &mut Rates<String>,
    cores: Option<f64>,
) -> Option<f64> {
    let name = format!("{prefix}{}", field.native);
    let params = reading.params;
    match field.convert {
        Conversion::Value => params.float(&name),
        Conversion::Kibibytes => Some(params.float(&name)? * KIBI),
        Conversion::Rate => {
            let counter = params.number(&name)?;
            rates.rate(name, reading.at, counter)
        }
        Conversion::KibibyteRate => {
            let counter = params.number(&name)?;
            Some(rates.rate(name, reading.at, counter)? * KIBI)
        }
        Conversion::Share => {
            let counter = params.number(&name)?;
            Some((rates.rate(name, reading.at, counter)? / NANOS).min(1.0))
        }
        Conversion::ShareOfCores => {
            let counter = total(params, &name)?;
            let rate = rates.rate(name, reading.at, counter)?;
            let cores = cores.filter(|cores| *cores > 0.0)?;
            Some((rate / NANOS / cores).min(1.0))
        }
        Conversion::Latency => {
            let per = format!("{prefix}{}", field.per.as_ref()?);
            let (time, operations) = (params.number(&name)?, params.number(&per)?);
            // A key of its own: the operations' rate keeps its reading under the plain name.
            let time = rates.delta(name, reading.at, time);
            let operations = rates.delta(format!("{per} for latency"), reading.at, operations);
            let ((_, nanos), (_, operations)) = (time?, operations?);
            (operations > 0).then(|| nanos as f64 / NANOS / operations as f64)
        }
    }
}

/// A counter, or with `*` the sum over all indexes.
fn total(params: &Params, name: &str) -> Option<u64> {
    let Some((group, rest)) = name.split_once(".*.") else { return params.number(name) };
    let parts =
        params.indexes(group).into_iter().map(|index| params.number(&format!("{group}.{index}.{rest}")));
    parts.flatten().reduce(u64::saturating_add)
}

/// Fills in what the hypervisor knows of a guest whose own statistics are late. Its processor time is that of the
/// whole process and coarser than the statistics', so it serves only where they are missing.
fn from_outside(values: &mut Values, rates: &mut Rates<String>, measured: Measured<'_>) {
    let Some(time) = measured.outside.cpu_time else { return };
    let rate = rates.rate("cpu_time from outside".into(), measured.fast.at, time);
    let Some(cores) = measured.outside.cores.map(f64::from).filter(|cores| *cores > 0.0) else { return };
    if value(values, "cores").is_none() {
        values.push(("cores", cores));
    }
    if let (None, Some(rate)) = (value(values, "utilization"), rate) {
        values.push(("utilization", (rate / NANOS / cores).min(1.0)));
    }
}

/// Seconds since the guest last reported its memory; `None` if it never did.
fn balloon_age(params: &Params, now: f64) -> Option<f64> {
    let updated = params.float("balloon.last-update").filter(|updated| *updated > 0.0)?;
    Some((now - updated).max(0.0))
}

#[cfg(test)]
mod tests;
