//! Statistics into rows. Nothing here talks to libvirt.

use std::collections::BTreeMap;
use std::time::Duration;

use super::mapping::{Mapping, is_fast};
use super::params::Params;
use super::sys::Outside;
use crate::Result;
use crate::model::{BatchBuilder, Identity, MetricBatch, Value};
use crate::provider::mapping::convert::{KIBI, NANOS, Reading, converted};
use crate::provider::mapping::{Rule, TagFrom};
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
    builders: BTreeMap<String, BatchBuilder>,
    tick: i64,
    max_balloon_age: Duration,
}

/// One row of a guest in the making: metrics of the pipeline file may add to what the built-in rules have of it.
struct Pending<'m> {
    table: &'m str,
    tag: Option<(&'m str, String)>,
    values: Values<'m>,
}

impl<'m> Rows<'m> {
    /// Rows that will all carry the time `tick`. Balloon statistics older than `max_balloon_age` are left out.
    pub(super) fn new(mapping: &'m Mapping, tick: i64, max_balloon_age: Duration) -> Self {
        Self { mapping, builders: BTreeMap::new(), tick, max_balloon_age }
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
                Some(group) => each(&mut pending, rule, group, &scope(number), rates, measured),
            }
        }
        for (number, rule) in self.mapping.custom.iter().enumerate() {
            let scope = scope(self.mapping.builtin.len() + number);
            match &rule.each {
                None => {
                    let values = self.whole(rule, &scope, rates, measured);
                    add(&mut pending, &rule.table, None, values);
                }
                Some(group) => each(&mut pending, rule, group, &scope, rates, measured),
            }
        }
        for row in &pending {
            let tag = row.tag.as_ref().map(|(column, which)| (*column, which.as_str()));
            self.row(row.table, identity, tag, &row.values)?;
        }
        Ok(())
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
        let mut row = self.builder(table, identity)?.row(time);
        for (column, value) in values {
            row.set(column, *value)?;
        }
        Ok(())
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
        self.builders.into_values().map(BatchBuilder::finish).collect()
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
            let builder = match self.mapping.tables.get(table) {
                Some(own) => BatchBuilder::for_table(own, identity),
                None => BatchBuilder::new(table, identity)?,
            };
            self.builders.insert(table.to_owned(), builder);
        }
        let builder = self.builders.get_mut(table).ok_or_else(|| {
            crate::Error::invalid("build rows", "the table's builder is missing").with_resource(table)
        })?;
        builder.identify(identity);
        Ok(builder)
    }
}

type Values<'m> = Vec<(&'m str, f64)>;

/// What tells the counters of one rule from those of another.
fn scope(number: usize) -> String {
    format!("{number}/")
}

/// Adds values to the row that they belong to. What comes later wins.
fn add<'m>(
    pending: &mut Vec<Pending<'m>>,
    table: &'m str,
    tag: Option<(&'m str, String)>,
    values: Values<'m>,
) {
    let Some(row) = pending.iter_mut().find(|row| row.table == table && row.tag == tag) else {
        return pending.push(Pending { table, tag, values });
    };
    row.values.retain(|(name, _)| !values.iter().any(|(other, _)| other == name));
    row.values.extend(values);
}

fn each<'m>(
    pending: &mut Vec<Pending<'m>>,
    rule: &'m Rule,
    group: &str,
    scope: &str,
    rates: &mut Rates<String>,
    measured: Measured<'_>,
) {
    let reading = if is_fast(group) { Some(measured.fast) } else { measured.slow };
    let (Some(reading), Some(tag)) = (reading, &rule.tag) else { return };
    for index in reading.params.indexes(group) {
        let prefix = format!("{group}.{index}.");
        let which = match tag.from {
            TagFrom::Index => Some(index),
            TagFrom::Name => reading.params.text(&format!("{prefix}name")),
        };
        // Without its name the row would overwrite another device's.
        let Some(which) = which.filter(|which| !which.is_empty()) else { continue };
        let values = rule.fields.iter().filter_map(|field| {
            Some((field.field.as_str(), converted(field, scope, &prefix, reading, rates, None)?))
        });
        let values = values.collect();
        add(pending, &rule.table, Some((&tag.column, which.to_owned())), values);
    }
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
