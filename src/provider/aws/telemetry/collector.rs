//! Measures instances and volumes by CloudWatch: one shard for each namespace and period of each region of each account, so
//! that each has a durable mark of its own, and one for the inventory of each region.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::{self, BoxStream};
use parking_lot::RwLock;

use super::super::config::{Account, Config};
use super::super::connect::Session;
use super::super::error::failed;
use super::billing::{Meter, Spent};
use super::budget::Purse;
use super::mapping::Mapping;
use super::part::{Part, parts, settle};
use super::place::Place;
use super::ranges::LONGEST;
use super::read::{Context, Reading};
use super::shard::{Asked, ShardState};
use super::targets::{Found, Maker};
use crate::provider::{Collection, Collector, Shard, Window};
use crate::telemetry::Telemetry;
use crate::{Error, ErrorKind, Result};

/// How long the answer to which regions there are is good.
const REGIONS: Duration = Duration::from_secs(3_600);
/// How much of the past one window may be: what a request may ask for, because each window is billed.
const LONGEST_WINDOW: Duration = Duration::from_secs(LONGEST.unsigned_abs());

/// Measures the instances and volumes of the accounts of one source.
#[derive(Debug)]
pub struct AwsCollector {
    config: Arc<Config>,
    context: Context,
    accounts: Vec<tokio::sync::Mutex<SignedIn>>,
    shards: RwLock<BTreeMap<String, Arc<ShardState>>>,
    /// What went wrong while looking for shards, until a collection tells of it.
    faults: parking_lot::Mutex<Vec<Error>>,
    /// The time that it is, in nanoseconds since 1970, as far as was heard.
    now: AtomicI64,
}

#[derive(Debug)]
struct SignedIn {
    account: Account,
    session: Option<Session>,
    regions: Option<(Instant, Vec<String>)>,
    places: HashMap<String, Arc<Place>>,
}

impl AwsCollector {
    /// A collector for the accounts that `config` names; nobody is asked yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what cannot be.
    pub fn new(config: &Config) -> Result<Self> {
        if let Some((key, reason)) = config.wrong().into_iter().next() {
            return Err(failed(ErrorKind::Invalid, "measure", key, reason));
        }
        let signed_in = |account| {
            tokio::sync::Mutex::new(SignedIn {
                account,
                session: None,
                regions: None,
                places: HashMap::new(),
            })
        };
        Ok(Self {
            context: Context {
                mapping: Arc::new(Mapping::new(config)?),
                meter: Meter::default(),
                purse: Arc::new(Purse::new(config.budget.map(|budget| budget.usd_per_month), "")),
                columns: config.tags.iter().map(|tag| Config::column(tag).into()).collect(),
                every: 0,
            },
            accounts: config.all_accounts().into_iter().map(signed_in).collect(),
            config: Arc::new(config.clone()),
            shards: RwLock::default(),
            faults: parking_lot::Mutex::default(),
            now: AtomicI64::new(0),
        })
    }

    /// As the source of this name, asked every so often: what it costs is among the self-metrics.
    #[must_use]
    pub fn of_source(mut self, name: &str, every: Duration, telemetry: &Telemetry) -> Self {
        self.context.every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
        let limit = self.config.budget.map(|budget| budget.usd_per_month);
        self.context.purse = Arc::new(Purse::new(limit, name));
        self.context.meter.show(telemetry, name);
        self
    }

    /// What was asked of AWS so far, and what it costs.
    pub fn spent(&self) -> Spent {
        self.context.meter.spent()
    }

    /// All shards as they are known.
    pub(super) fn states(&self) -> Vec<Arc<ShardState>> {
        self.shards.read().values().cloned().collect()
    }

    /// What went wrong while looking for shards.
    pub(super) fn faults(&self) -> Vec<Error> {
        std::mem::take(&mut *self.faults.lock())
    }

    /// What a shard asks for, at a time in seconds since 1970.
    ///
    /// # Errors
    /// AWS does not say what there is.
    pub(super) async fn found(&self, shard: &ShardState, part: &Part, now: i64) -> Result<Found> {
        Maker::look(&self.context, &shard.place, part, now, now).await?.targets().await
    }

    /// The shards of one account.
    async fn account(&self, signed_in: &tokio::sync::Mutex<SignedIn>) -> Result<Vec<Arc<ShardState>>> {
        let mut signed_in = signed_in.lock().await;
        let SignedIn { account, session, regions, places } = &mut *signed_in;
        let session = match session {
            Some(session) => session,
            None => session.insert(Session::sign_in(&self.config, account).await?),
        };
        let fresh = regions.as_ref().is_some_and(|(at, _)| at.elapsed() < REGIONS);
        if !fresh {
            match session.regions().await {
                Ok(found) => *regions = Some((Instant::now(), found)),
                Err(error) if regions.is_some() => self.faults.lock().push(error),
                Err(error) => return Err(error),
            }
        }
        let names = regions.as_ref().map(|(_, names)| names.as_slice()).unwrap_or_default();
        places.retain(|name, _| names.contains(name));
        let parts = parts(&self.config, &self.context.mapping);
        let mut shards = Vec::new();
        for region in names {
            let place = places.entry(region.clone()).or_insert_with(|| {
                Arc::new(Place::new(session, region, &self.config, account, &self.context.meter))
            });
            shards.push(Arc::new(ShardState::new(place, Asked::Inventory, 0)));
            let metrics = parts.iter().map(|part| {
                let settle = settle(&self.context.mapping, part);
                Arc::new(ShardState::new(place, Asked::Metrics(part.clone()), settle))
            });
            shards.extend(metrics);
        }
        Ok(shards)
    }

    /// The shards of an account that cannot be asked now, as they were.
    async fn as_before(&self, signed_in: &tokio::sync::Mutex<SignedIn>) -> Vec<Arc<ShardState>> {
        let signed_in = signed_in.lock().await;
        let Some(session) = &signed_in.session else { return Vec::new() };
        let of_account = |shard: &&Arc<ShardState>| shard.place.session.id() == session.id();
        self.shards.read().values().filter(of_account).cloned().collect()
    }
}

#[async_trait]
impl Collector for AwsCollector {
    /// One account that cannot be signed in to costs only itself: it is told of as a fault, and tried again.
    async fn discover(&self) -> Result<Vec<Shard>> {
        let all = join_all(self.accounts.iter().map(|account| self.account(account))).await;
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        let mut names = HashSet::new();
        for (account, shards) in self.accounts.iter().zip(all) {
            let mut shards = match shards {
                Ok(shards) => shards,
                Err(error) => {
                    errors.push(error);
                    self.as_before(account).await
                }
            };
            let count = shards.len();
            shards.retain(|shard| names.insert(shard.name.clone()));
            if shards.len() < count {
                let account = account.lock().await;
                let (label, session) = (account.account.label(), account.session.as_ref());
                let id = session.map_or("", |session| session.id());
                let reason =
                    format!("it is account {id}, as one before it; it is measured once, take one out");
                errors.push(failed(ErrorKind::Conflict, "measure all of", label, reason));
            }
            found.extend(shards);
        }
        if found.is_empty()
            && let Some(error) = errors.pop()
        {
            return Err(error);
        }
        self.faults.lock().extend(errors);
        let mut shards = self.shards.write();
        let before = std::mem::take(&mut *shards);
        for shard in found {
            let known = before.get(&shard.name).filter(|known| Arc::ptr_eq(&known.place, &shard.place));
            let shard = known.cloned().unwrap_or(shard);
            shards.insert(shard.name.clone(), shard);
        }
        self.context.purse.forget(|name| shards.contains_key(name));
        Ok(shards.keys().cloned().map(Shard).collect())
    }

    async fn collect(&self, shard: &Shard, window: Window) -> Result<Collection> {
        let mut whole = Collection::default();
        let mut pieces = self.pieces(shard, window);
        while let Some(piece) = pieces.next().await {
            let Collection { batches, faults, reached } = piece?;
            whole.batches.extend(batches);
            whole.faults.extend(faults);
            whole.reached = reached.or(whole.reached);
        }
        Ok(whole)
    }

    fn pieces<'a>(&'a self, shard: &'a Shard, window: Window) -> BoxStream<'a, Result<Collection>> {
        let Some(state) = self.shards.read().get(&shard.0).cloned() else {
            let error = failed(ErrorKind::NotFound, "measure", &shard.0, "there is no such shard any more");
            return stream::iter([Err(error)]).boxed();
        };
        let now = self.now.load(Ordering::Relaxed).max(window.end);
        let reading = Reading { context: self.context.clone(), shard: state, window, now };
        let faults = self.faults();
        let of_looking = (!faults.is_empty()).then(|| Ok(Collection { faults, ..Collection::default() }));
        stream::iter(of_looking).chain(reading.pieces()).boxed()
    }

    fn longest_window(&self) -> Option<Duration> {
        Some(LONGEST_WINDOW)
    }

    fn told(&self, now: i64) {
        self.now.store(now, Ordering::Relaxed);
    }
}
