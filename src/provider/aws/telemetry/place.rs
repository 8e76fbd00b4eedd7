//! A region of an account: what there is in it, remembered between collections and shared by the shards of the region.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::config::{Account, Config};
use super::super::connect::Session;
use super::super::error::failed;
use super::billing::Meter;
use super::inventory::{Reader, Snapshot};
use super::listing::{Lister, Question, Series};
use super::machine::Machine;
use super::pace::Pace;
use super::status::{Event, events};
use super::types::Facts;
use crate::{Error, ErrorKind, Result};

/// While something passes from one state to another it is looked again this soon, in seconds.
const SOON: i64 = 60;
/// Events that wait for a collection; of more the oldest are dropped.
const EVENTS: usize = 10_000;

/// A region of an account.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) session: Session,
    pub(super) region: String,
    pub(super) config: Arc<Config>,
    /// The account sees the metrics of others.
    pub(super) linked: bool,
    /// The pace of GetMetricData.
    pub(super) pace: Arc<Pace>,
    reader: Reader,
    lister: Lister,
    known: tokio::sync::Mutex<Known>,
    listings: tokio::sync::Mutex<HashMap<Question, Listed>>,
    events: Mutex<Vec<Event>>,
}

#[derive(Debug, Default)]
struct Known {
    snapshot: Option<Arc<Snapshot>>,
    types: HashMap<Arc<str>, Facts>,
    /// When it is to be looked again, in seconds since 1970.
    next: i64,
    /// A look that failed, and when: the other shards of that time need not try it again.
    failed: Option<(i64, ErrorKind, String)>,
}

#[derive(Debug)]
struct Listed {
    at: i64,
    series: Arc<Vec<Series>>,
}

impl Place {
    pub(super) fn new(
        session: &Session,
        region: &str,
        config: &Arc<Config>,
        account: &Account,
        meter: &Meter,
    ) -> Self {
        let shared = |interface: &str, endpoint: &Option<String>| {
            let address = endpoint.as_deref().unwrap_or_default();
            Pace::shared(&format!("{}/{region}/{interface}/{address}", session.id()))
        };
        let cloudwatch = &config.endpoints.cloudwatch;
        Self {
            session: session.clone(),
            region: region.to_owned(),
            config: Arc::clone(config),
            linked: account.linked_accounts,
            pace: shared("GetMetricData", cloudwatch),
            reader: Reader {
                session: session.clone(),
                region: region.to_owned(),
                config: Arc::clone(config),
                pace: shared("Describe", &config.endpoints.ec2),
            },
            lister: Lister {
                session: session.clone(),
                region: region.to_owned(),
                pace: shared("ListMetrics", cloudwatch),
                calls: config.quotas.list_metrics * config.quota_share,
                meter: meter.clone(),
            },
            known: tokio::sync::Mutex::default(),
            listings: tokio::sync::Mutex::default(),
            events: Mutex::default(),
        }
    }

    /// What there is, as of lately. `since` is from when on it is of interest what happened before the first look.
    ///
    /// # Errors
    /// EC2 cannot be asked, and was never. Once it was, an error is only a fault beside what was known.
    pub(super) async fn snapshot(&self, now: i64, since: i64) -> Result<(Arc<Snapshot>, Vec<Error>)> {
        let mut known = self.known.lock().await;
        if let Some(snapshot) = &known.snapshot
            && (now < known.next && now >= snapshot.at
                || known.failed.as_ref().is_some_and(|(at, ..)| *at == now))
        {
            return Ok((Arc::clone(snapshot), Vec::new()));
        }
        if let Some((at, kind, reason)) = &known.failed
            && *at == now
        {
            return Err(failed(*kind, "look into", &self.name(), reason.clone()));
        }
        match self.look(&mut known, now, since).await {
            Ok((snapshot, faults)) => {
                known.failed = None;
                let passing = snapshot.machines.values().any(|machine| machine.status.state.is_passing());
                let every = i64::try_from(self.config.inventory_every.0.as_secs()).unwrap_or(i64::MAX);
                known.next = now.saturating_add(if passing { every.min(SOON) } else { every });
                known.snapshot = Some(Arc::clone(&snapshot));
                Ok((snapshot, faults))
            }
            Err(error) => {
                known.failed = Some((now, error.kind(), error.reason().to_owned()));
                match &known.snapshot {
                    Some(snapshot) => Ok((Arc::clone(snapshot), vec![error])),
                    None => Err(error),
                }
            }
        }
    }

    async fn look(&self, known: &mut Known, now: i64, since: i64) -> Result<(Arc<Snapshot>, Vec<Error>)> {
        let mut machines = self.reader.machines().await?;
        let mut faults = Vec::from_iter(self.reader.types(&mut machines, &mut known.types).await);
        let before = known.snapshot.as_deref();
        carry_over(&mut machines, before, now);
        let happened = events(before, &machines, since);
        let wants_volumes =
            self.config.groups.iter().any(|group| group.starts_with("ebs") && group != "ebs_balance");
        let volumes = match wants_volumes {
            true => self.reader.volumes().await,
            false => Ok(Vec::new()),
        };
        // Instances are measured though volumes may not be listed.
        let volumes = volumes.unwrap_or_else(|error| {
            faults.push(error);
            before.map(|before| before.volumes.clone()).unwrap_or_default()
        });
        let mut waiting = self.events.lock();
        waiting.extend(happened);
        let too_many = waiting.len().saturating_sub(EVENTS);
        waiting.drain(..too_many);
        Ok((Arc::new(Snapshot { at: now, machines, volumes }), faults))
    }

    /// What happened since it was asked last.
    pub(super) fn happened(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock())
    }

    /// The series that answer a question, as of lately.
    ///
    /// # Errors
    /// Those of ListMetrics, where there is nothing from before.
    pub(super) async fn listed(
        &self,
        question: &Question,
        now: i64,
    ) -> Result<(Arc<Vec<Series>>, Option<Error>)> {
        let mut listings = self.listings.lock().await;
        let every = i64::try_from(self.config.list_every.0.as_secs()).unwrap_or(i64::MAX);
        let known = listings.get(question);
        if let Some(listed) = known.filter(|listed| (0..every).contains(&(now - listed.at))) {
            return Ok((Arc::clone(&listed.series), None));
        }
        match self.lister.list(question).await {
            Ok(series) => {
                let series = Arc::new(series);
                // What was asked for once, as after a long stop, need not be kept.
                listings.retain(|_, listed| now - listed.at < 4 * every);
                listings.insert(question.clone(), Listed { at: now, series: Arc::clone(&series) });
                Ok((series, None))
            }
            Err(error) => match known {
                Some(listed) => Ok((Arc::clone(&listed.series), Some(error))),
                None => Err(error),
            },
        }
    }

    /// Account and region.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.session.id(), self.region)
    }
}

/// What a description does not say and earlier ones showed: since when.
fn carry_over(machines: &mut BTreeMap<Arc<str>, Machine>, before: Option<&Snapshot>, now: i64) {
    for machine in machines.values_mut() {
        let known = before.and_then(|before| before.machines.get(&machine.id));
        if !machine.lives() && machine.ended.is_none() {
            machine.ended = Some(known.and_then(|known| known.ended).unwrap_or(now));
        }
        machine.detailed_since = match known {
            Some(known) if known.detailed == machine.detailed => known.detailed_since,
            Some(_) => Some(now),
            None => None,
        };
    }
}
