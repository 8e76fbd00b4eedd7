//! Statistics into rows. Nothing here talks to libvirt.

use std::time::Duration;

use super::mapping::{Mapping, is_fast};
use super::params::Params;
use super::sys::Outside;
use crate::Result;
use crate::model::{Identity, MetricBatch, Value};
use crate::provider::mapping::Rule;
use crate::provider::mapping::convert::{KIBI, NANOS, Reading, converted};
use crate::provider::mapping::rows::{Batches, Pending, Values, add, each, scope};
use crate::provider::rates::Rates;

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
pub(super) struct Rows<'m> {
    mapping: &'m Mapping,
    batches: Batches,
    tick: i64,
    max_balloon_age: Duration,
}

impl<'m> Rows<'m> {
    /// Rows that will all carry the time `tick`. Balloon statistics older than `max_balloon_age` are left out.
    pub(super) fn new(mapping: &'m Mapping, tick: i64, max_balloon_age: Duration) -> Self {
        Self { mapping, batches: Batches::new(&mapping.tables, &[]), tick, max_balloon_age }
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
        let mut pending: Vec<Pending<'m>> = Vec::new();
        for (number, rule) in self.mapping.builtin.iter().enumerate() {
            match &rule.each {
                None => {
                    let mut values = self.whole(rule, &scope(number), rates, measured);
                    match rule.table.as_str() {
                        "cpu" => from_outside(&mut values, rates, measured),
                        "memory" => self.balloon(&mut values, measured),
                        _ => {}
                    }
                    add(&mut pending, &rule.table, None, values);
                }
                Some(group) => {
                    if let Some(reading) = reading_of(group, measured) {
                        each(&mut pending, rule, group, &scope(number), rates, reading);
                    }
                }
            }
        }
        for (number, rule) in self.mapping.custom.iter().enumerate() {
            let scope = scope(self.mapping.builtin.len() + number);
            match &rule.each {
                None => {
                    let values = self.whole(rule, &scope, rates, measured);
                    add(&mut pending, &rule.table, None, values);
                }
                Some(group) => {
                    if let Some(reading) = reading_of(group, measured) {
                        each(&mut pending, rule, group, &scope, rates, reading);
                    }
                }
            }
        }
        self.batches.gathered(&pending, identity, self.tick, &[])
    }

    /// Adds a row of any table that is built in, at any time; what is `Null` is left out.
    ///
    /// # Errors
    /// The table has no such column, which the tests rule out.
    pub(super) fn plain(
        &mut self,
        table: &str,
        identity: &Identity,
        time: i64,
        values: &[(&str, Value<'_>)],
    ) -> Result<()> {
        self.batches.row(table, identity, time, values)
    }

    /// The tick that rows are stamped with.
    pub(super) fn tick(&self) -> i64 {
        self.tick
    }

    /// The batches; tables without rows are left out.
    ///
    /// # Errors
    /// An identity lacked a required tag.
    pub(super) fn finish(self) -> Result<Vec<MetricBatch>> {
        self.batches.finish()
    }

    fn whole(
        &self,
        rule: &'m Rule,
        scope: &str,
        rates: &mut Rates<String>,
        measured: Measured<'_>,
    ) -> Values<'m> {
        let params = measured.slow.map(|slow| slow.params);
        let fresh = params.is_some_and(|params| self.is_fresh(params, measured.now));
        let cores =
            params.and_then(|params| params.float("vcpu.current")).or(measured.outside.cores.map(f64::from));
        let fields = rule.fields.iter().filter(|field| fresh || !field.fresh);
        fields
            .filter_map(|field| {
                let reading = if is_fast(&field.native) { measured.fast } else { measured.slow? };
                let value = converted(field, scope, "", reading, rates, cores)?;
                Some((field.field.as_str(), value))
            })
            .collect()
    }

    /// What follows from the balloon's statistics together: memory in use, and how old the guest's word is.
    fn balloon(&self, values: &mut Values<'m>, measured: Measured<'_>) {
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
}

/// The reading that has a group.
fn reading_of<'r>(group: &str, measured: Measured<'r>) -> Option<Reading<'r>> {
    if is_fast(group) { Some(measured.fast) } else { measured.slow }
}

fn value(values: &[(&str, f64)], field: &str) -> Option<f64> {
    values.iter().find(|(name, _)| *name == field).map(|(_, value)| *value)
}

/// Fills in what the hypervisor knows of a guest whose own statistics are late. Its processor time is that of the
/// whole process and coarser than the statistics', so it serves only where they are missing.
fn from_outside(values: &mut Values<'_>, rates: &mut Rates<String>, measured: Measured<'_>) {
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
