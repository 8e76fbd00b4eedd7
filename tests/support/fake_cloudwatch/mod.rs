//! CloudWatch as far as reading metrics goes: it speaks Smithy RPC v2 CBOR, which is all that aws-sdk-cloudwatch speaks,
//! publishes late, revises points in place, keeps the quotas of AWS and counts what AWS would bill. No emulator does, and
//! what a client loses in production it loses there.
//!
//! Samples are computed from a seed, the name of the series and the minute, so that a test can ask [`Fake::truth`] what
//! a datapoint has to be in the end and compare it with what a client has stored.

#![allow(unused_imports, reason = "tests use parts of what is exported here")]

pub mod cbor;
mod clock;
mod fault;
mod fleet;
mod get;
mod list;
mod math;
mod put;
mod quota;
mod request;
mod series;
mod server;
mod stat;
mod wire;
mod world;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::serve::ListenerExt as _;
use parking_lot::RwLock;

pub use clock::Clock;
pub use fault::{Counters, Faults};
pub use fleet::{Fleet, METRICS, Monitoring};
pub use quota::{Grid, Pace, Quotas};
pub use series::{SeriesKey, SeriesSpec, Shape};

use series::Series;
use server::Server;
use stat::Stat;
use world::{Span, World};

/// What differs from test to test.
#[derive(Debug, Clone)]
pub struct Settings {
    pub clock: Clock,
    /// Of all samples, lags and faults.
    pub seed: u64,
    pub quotas: Quotas,
    /// Lag of fleets, in seconds after the end of a minute.
    pub lag: RangeInclusive<i64>,
}

impl Settings {
    pub fn new(clock: Clock) -> Self {
        Self { clock, seed: 1, quotas: Quotas::default(), lag: 30..=150 }
    }
}

/// A running fake, ended with the test.
pub struct Fake {
    pub address: SocketAddr,
    lag: RangeInclusive<i64>,
    server: Arc<Server>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub async fn start(settings: Settings) -> Self {
        let server = Arc::new(Server {
            clock: settings.clock,
            accounts: RwLock::default(),
            world: RwLock::new(World::new(settings.seed)),
            quotas: RwLock::new(settings.quotas),
            buckets: parking_lot::Mutex::default(),
            faults: RwLock::default(),
            random: parking_lot::Mutex::new(fastrand::Rng::with_seed(settings.seed)),
            counters: parking_lot::Mutex::default(),
            on_their_way: std::sync::atomic::AtomicUsize::new(0),
        });
        let app = Router::new().fallback(server::answer).with_state(Arc::clone(&server));
        let app = app.layer(DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // An answer of several segments would otherwise wait for an acknowledgement that the client delays.
        let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, lag: settings.lag, server, task }
    }

    /// For `endpoint_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn now(&self) -> i64 {
        self.server.clock.now()
    }

    /// Who signs with this access key is this account.
    pub fn add_account(&self, access_key: &str, account: &str) {
        self.server.accounts.write().insert(access_key.into(), account.into());
    }

    /// The monitoring account reads the metrics of the source account from now on.
    pub fn link(&self, monitoring: &str, source: &str) {
        self.server.world.write().link(monitoring, source);
    }

    /// Adds a series; panics if it is there.
    pub fn add(&self, spec: SeriesSpec) {
        self.server.world.write().add(spec);
    }

    /// Adds the metrics of instances; the prefix is hexadecimal and begins their ids.
    pub fn add_fleet(
        &self,
        account: &str,
        region: &str,
        size: usize,
        monitoring: Monitoring,
        prefix: &str,
    ) -> Fleet {
        let fleet = Fleet::new(account, region, size, prefix);
        fleet.add(&mut self.server.world.write(), monitoring, &self.lag);
        fleet
    }

    /// Samples begin at a time, or end before one.
    pub fn born(&self, key: &SeriesKey, at: i64) {
        self.edit(key, |series| series.born = at);
    }

    pub fn died(&self, key: &SeriesKey, at: i64) {
        self.edit(key, |series| series.died = at);
    }

    /// The metrics of an instance of a fleet begin or end.
    pub fn launched(&self, fleet: &Fleet, instance: &str, at: i64) {
        METRICS.iter().for_each(|(metric, ..)| self.born(&fleet_key(fleet, instance, metric), at));
    }

    pub fn terminated(&self, fleet: &Fleet, instance: &str, at: i64) {
        METRICS.iter().for_each(|(metric, ..)| self.died(&fleet_key(fleet, instance, metric), at));
    }

    /// No samples from a time until before another.
    pub fn gap(&self, key: &SeriesKey, from: i64, to: i64) {
        self.edit(key, |series| series.extra().gaps.push((from, to)));
    }

    /// From `at` on, the sample of a minute (of the unix time that begins it) has another value.
    pub fn revise(&self, key: &SeriesKey, minute: i64, at: i64, value: f64) {
        self.edit(key, |series| {
            let revised = series.extra().revised.entry(minute.div_euclid(60)).or_default();
            revised.push((at, value));
            revised.sort_by_key(|(at, _)| *at);
        });
    }

    fn edit(&self, key: &SeriesKey, change: impl FnOnce(&mut Series)) {
        let mut world = self.server.world.write();
        change(world.by_key_mut(key).unwrap_or_else(|| panic!("there is no series {key:?}")));
    }

    /// What the datapoint at `time` is once all its samples are published. Panics if there is no such series.
    pub fn truth(&self, key: &SeriesKey, time: i64, period: i64, stat: &str) -> Option<f64> {
        self.points(key, time, time + 1, period, stat, i64::MAX, time)
            .into_iter()
            .next()
            .map(|(_, value)| value)
    }

    /// The same of all datapoints that begin in a range, oldest first.
    pub fn truth_points(
        &self,
        key: &SeriesKey,
        from: i64,
        to: i64,
        period: i64,
        stat: &str,
    ) -> impl Iterator<Item = (i64, f64)> + use<> {
        self.points(key, from, to, period, stat, i64::MAX, 0).into_iter()
    }

    /// What can be read now of the datapoints that begin in a range, oldest first, whatever the retention.
    pub fn published_points(
        &self,
        key: &SeriesKey,
        from: i64,
        to: i64,
        period: i64,
        stat: &str,
    ) -> impl Iterator<Item = (i64, f64)> + use<> {
        self.points(key, from, to, period, stat, self.now(), 0).into_iter()
    }

    #[allow(clippy::too_many_arguments, reason = "they are all that names points")]
    fn points(
        &self,
        key: &SeriesKey,
        from: i64,
        to: i64,
        period: i64,
        stat: &str,
        now: i64,
        offset: i64,
    ) -> Vec<(i64, f64)> {
        let stat = Stat::parse(stat).unwrap_or_else(|| panic!("there is no statistic {stat}"));
        let world = self.server.world.read();
        let series = world.by_key(key).unwrap_or_else(|| panic!("there is no series {key:?}"));
        let step = period.max(series.kind.period);
        world.points(series, Span { from, to, step, offset }, stat, now)
    }

    /// Changes what goes wrong from now on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.server.faults.write());
    }

    /// Changes the limits from now on. Rates start with a full second's worth.
    pub fn quotas(&self, change: impl FnOnce(&mut Quotas)) {
        change(&mut self.server.quotas.write());
        *self.server.buckets.lock() = quota::Buckets::default();
    }

    pub fn counters(&self) -> Counters {
        self.server.counters.lock().clone()
    }

    pub fn forget_counters(&self) {
        *self.server.counters.lock() = Counters::default();
    }
}

fn fleet_key(fleet: &Fleet, instance: &str, metric: &str) -> SeriesKey {
    SeriesKey::ec2(&fleet.account, &fleet.region, instance, metric)
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}
