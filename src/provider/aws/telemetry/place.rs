//! A region of an account: what there is in it, remembered between collections and shared by the shards of the region.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::config::{Account, Config};
use super::super::connect::Session;
use super::super::error::failed;
use super::billing::Meter;
use super::inventory::{Reader, Snapshot};
use super::listing::{Lister, Question, Series};
use super::machine::{Machine, Monitoring, Volume};
use super::pace::Pace;
use super::status::{Event, Events, events};
use super::types::Facts;
use crate::provider::Window;
use crate::{Error, ErrorKind, Result};

/// While something passes from one state to another it is looked again this soon, in seconds.
const SOON: i64 = 60;
/// How long a volume that is detached or deleted is still asked for, in seconds: its last points come late.
const VOLUME_GONE: i64 = 3_600;

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
    events: Mutex<Events>,
    /// Metrics of the pipeline file of which it was told that there are none.
    missed: Mutex<HashSet<String>>,
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
            missed: Mutex::default(),
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
                let passing = snapshot.volumes.is_none()
                    || snapshot.machines.values().any(|machine| machine.status.state.is_passing());
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
        let known_volumes = before.and_then(|before| before.volumes.as_ref());
        let volumes = match wants_volumes {
            true => self.reader.volumes().await,
            false => Ok(Vec::new()),
        };
        let volumes = match volumes {
            Ok(volumes) => Some(with_gone(volumes, known_volumes, now)),
            // Instances are measured though volumes may not be listed.
            Err(error) => {
                faults.push(error);
                known_volumes.cloned()
            }
        };
        self.events.lock().add(happened);
        Ok((Arc::new(Snapshot { at: now, machines, volumes }), faults))
    }

    /// What happened and has not arrived yet, as far as is known from where a window begins.
    pub(super) fn happened(&self, window: Window) -> Vec<Event> {
        self.events.lock().handed_on(window)
    }

    /// Whether it is the first time that a metric of the pipeline file has no series.
    pub(super) fn misses(&self, metric: &str) -> bool {
        self.missed.lock().insert(metric.to_owned())
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
    // Both kinds of points begin then, and no row is of both.
    let cut = (now.div_euclid(Monitoring::Basic.period()) + 1) * Monitoring::Basic.period();
    for machine in machines.values_mut() {
        let known = before.and_then(|before| before.machines.get(&machine.id));
        if !machine.lives() && machine.ended.is_none() {
            machine.ended = Some(known.and_then(|known| known.ended).unwrap_or(now));
        }
        machine.switched = match known {
            Some(known) if known.monitoring == machine.monitoring => known.switched,
            Some(_) => Some(cut),
            None => None,
        };
    }
}

/// Volumes, and those that are gone since lately.
fn with_gone(mut volumes: Vec<Volume>, before: Option<&Vec<Volume>>, now: i64) -> Vec<Volume> {
    let there: HashSet<(Arc<str>, Arc<str>)> = volumes.iter().map(Volume::attachment).collect();
    let gone = before.into_iter().flatten().filter(|volume| !there.contains(&volume.attachment()));
    let gone = gone.map(|volume| {
        let elsewhere = volumes.iter().find(|one| one.id == volume.id).and_then(|one| one.attached);
        Volume { gone: volume.gone.or(elsewhere).or(Some(now)), ..volume.clone() }
    });
    let gone: Vec<Volume> =
        gone.filter(|volume| volume.gone.is_some_and(|at| now - at < VOLUME_GONE)).collect();
    volumes.extend(gone);
    volumes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(id: &str, instance: &str) -> Volume {
        Volume { id: id.into(), instance: instance.into(), kind: "gp3".into(), attached: None, gone: None }
    }

    #[test]
    fn volumes_that_are_gone_are_known_for_a_while() {
        let told = |volumes: &[Volume]| -> Vec<String> {
            volumes.iter().map(|one| format!("{} {} {:?}", one.id, one.instance, one.gone)).collect()
        };
        let both = vec![volume("v-1", "i-1"), volume("v-2", "i-1")];
        let attached = Volume { attached: Some(80), ..volume("v-1", "i-2") };
        let moved = with_gone(vec![attached], Some(&both), 100);
        assert_eq!(told(&moved), ["v-1 i-2 None", "v-1 i-1 Some(80)", "v-2 i-1 Some(100)"]);
        let back = with_gone(vec![volume("v-1", "i-1")], Some(&moved), 200);
        assert_eq!(told(&back), ["v-1 i-1 None", "v-1 i-2 Some(200)", "v-2 i-1 Some(100)"]);
        let none = with_gone(Vec::new(), Some(&back), 3_700);
        assert_eq!(told(&none), ["v-1 i-1 Some(3700)", "v-1 i-2 Some(200)"]);
    }
}
