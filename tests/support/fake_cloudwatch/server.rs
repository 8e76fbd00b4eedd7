//! What happens to a request, from its headers to its answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use parking_lot::{Mutex, RwLock};

use super::cbor::{self, Item, Writer};
use super::clock::Clock;
use super::fault::{Counters, Faults};
use super::get::Getting;
use super::quota::{Buckets, Measured, Quotas};
use super::request::{Request, What};
use super::wire::{self, Refusal};
use super::world::World;
use super::{list, put};

pub struct Server {
    pub clock: Clock,
    pub accounts: RwLock<HashMap<String, String>>,
    pub world: RwLock<World>,
    pub quotas: RwLock<Quotas>,
    pub buckets: Mutex<Buckets>,
    pub faults: RwLock<Faults>,
    pub random: Mutex<fastrand::Rng>,
    pub counters: Mutex<Counters>,
    pub on_their_way: AtomicUsize,
}

/// A call from its beginning to its end.
struct OnItsWay<'a>(&'a Server);

impl<'a> OnItsWay<'a> {
    fn begin(server: &'a Server) -> Self {
        let calls = server.on_their_way.fetch_add(1, Ordering::SeqCst) + 1;
        let mut counters = server.counters.lock();
        counters.most_at_once = counters.most_at_once.max(calls);
        Self(server)
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.on_their_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who calls what.
struct Call {
    operation: &'static str,
    account: String,
    region: String,
}

impl Call {
    fn count(&self, counts: &mut super::fault::PerCaller) {
        let key = (self.operation.to_owned(), self.account.clone(), self.region.clone());
        *counts.entry(key).or_default() += 1;
    }
}

/// Whether the caller gets an answer at all.
enum Broken {
    Refused(Refusal),
    Throttled,
    Status(u16),
    Dropped,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub async fn answer(
    State(server): State<Arc<Server>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let _on_its_way = OnItsWay::begin(&server);
    let latency = server.faults.read().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let call = match server.call(&uri, &headers) {
        Ok(call) => call,
        Err(refusal) => return refusal.response(&headers),
    };
    call.count(&mut server.counters.lock().calls);
    if server.faults.read().hanging.contains(&call.region) {
        std::future::pending::<()>().await;
    }
    let broken = match server.checked(&call, &headers, &body) {
        Ok(body) => return wire::response(200, body),
        Err(broken) => broken,
    };
    let mut counters = server.counters.lock();
    match broken {
        Broken::Refused(refusal) => {
            call.count(&mut counters.refused);
            refusal.response(&headers)
        }
        Broken::Throttled => {
            call.count(&mut counters.throttled);
            Refusal::throttled().response(&headers)
        }
        Broken::Status(status) => {
            call.count(&mut counters.broken);
            Refusal::internal(status).response(&headers)
        }
        Broken::Dropped => {
            call.count(&mut counters.broken);
            wire::dropped()
        }
    }
}

impl Server {
    fn call(&self, uri: &Uri, headers: &HeaderMap) -> Result<Call, Refusal> {
        let signed = wire::signed(headers).ok_or_else(Refusal::unsigned)?;
        let account = self.accounts.read().get(&signed.key).cloned().ok_or_else(Refusal::unknown_key)?;
        let name = uri.path().strip_prefix(wire::OPERATIONS).unwrap_or_default();
        let known =
            ["GetMetricData", "ListMetrics", "PutMetricData"].into_iter().find(|known| *known == name);
        let operation = known.ok_or_else(|| Refusal::unknown_operation(name))?;
        Ok(Call { operation, account, region: signed.region })
    }

    fn checked(&self, call: &Call, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Broken> {
        let faults = self.faults.read().clone();
        let happens = |part: f64| part > 0.0 && self.random.lock().f64() < part;
        if happens(faults.drop) {
            return Err(Broken::Dropped);
        }
        if happens(faults.http_500) {
            return Err(Broken::Status(500));
        }
        if happens(faults.http_503) {
            return Err(Broken::Status(503));
        }
        let quotas = self.quotas.read().clone();
        let rate = match call.operation {
            "GetMetricData" => quotas.get_metric_data,
            "ListMetrics" => quotas.list_metrics,
            _ => quotas.put_metric_data,
        };
        let throttled = happens(faults.throttle) || faults.throttled_accounts.contains(&call.account);
        if throttled || !self.take(call, &quotas, Measured::Calls(call.operation), rate, 1.0) {
            return Err(Broken::Throttled);
        }
        if faults.denied.contains(call.operation) || faults.denied.contains(&call.account) {
            return Err(Refusal::denied(&call.account, call.operation).into());
        }
        let protocol = headers.get("smithy-protocol").is_some_and(|protocol| protocol == "rpc-v2-cbor");
        let body = wire::plain(headers, body).filter(|_| protocol).ok_or_else(Refusal::unreadable)?;
        let item = cbor::parse(&body).ok_or_else(Refusal::unreadable)?;
        match call.operation {
            "GetMetricData" => self.get(call, &quotas, &faults, &item),
            "ListMetrics" => self.list(call, &quotas, &item),
            _ => self.put(call, &item),
        }
    }

    fn take(&self, call: &Call, quotas: &Quotas, what: Measured, rate: f64, cost: f64) -> bool {
        let mut buckets = self.buckets.lock();
        let time = buckets.time(quotas.pace, self.clock.now());
        buckets.take((&call.account, &call.region), what, rate, cost, time)
    }

    fn get(&self, call: &Call, quotas: &Quotas, faults: &Faults, item: &Item<'_>) -> Result<Vec<u8>, Broken> {
        let request = Request::read(item, quotas.queries)?;
        for query in &request.queries {
            if let What::Expression(text) = query.what
                && faults.wrong_words.iter().any(|word| text.contains(word))
            {
                return Err(Refusal::validation(format!("Error in expression '{}'", query.id)).into());
            }
        }
        let now = self.clock.now();
        // No page asks for more than a page, so that a long range is slow and not impossible.
        let limit = request.limit.unwrap_or(quotas.datapoints).min(quotas.datapoints);
        let cost = request.estimate().min(limit as f64);
        let (what, rate) = match now - request.start <= quotas.recent {
            true => (Measured::RecentDatapoints, quotas.recent_datapoints),
            false => (Measured::OldDatapoints, quotas.old_datapoints),
        };
        if !self.take(call, quotas, what, rate, cost) {
            return Err(Broken::Throttled);
        }
        // A generator of its own: the shared one is not held while the answer is made.
        let mut random = fastrand::Rng::with_seed(self.random.lock().u64(..));
        let world = self.world.read();
        let (account, region) = (call.account.as_str(), call.region.as_str());
        let (request, random) = (&request, &mut random);
        let page = Getting { world: &world, quotas, faults, random, account, region, request, now }.page()?;
        drop(world);
        self.bill(call, request, page.datapoints);
        Ok(page.body)
    }

    fn bill(&self, call: &Call, request: &Request<'_>, datapoints: usize) {
        let mut statistics = BTreeMap::<_, u64>::new();
        for query in &request.queries {
            if let What::Metric(metric) = &query.what {
                let of = (query.account, metric.namespace, metric.name, &metric.dimensions);
                *statistics.entry(of).or_default() += 1;
            }
        }
        let each: u64 = statistics.values().sum();
        let by_five: u64 = statistics.values().map(|count| count.div_ceil(5)).sum();
        let mut counters = self.counters.lock();
        *counters.billed_pages.entry(call.account.clone()).or_default() += each;
        if request.token.is_none() {
            *counters.billed.entry(call.account.clone()).or_default() += each;
            *counters.billed_by_five.entry(call.account.clone()).or_default() += by_five;
        }
        counters.datapoints += datapoints as u64;
        counters.largest_call = counters.largest_call.max(request.queries.len());
        counters.largest_answer = counters.largest_answer.max(datapoints);
    }

    fn list(&self, call: &Call, quotas: &Quotas, item: &Item<'_>) -> Result<Vec<u8>, Broken> {
        let world = self.world.read();
        let page = list::page(&world, quotas, (&call.account, &call.region), item, self.clock.now())?;
        self.counters.lock().listed += page.metrics as u64;
        Ok(page.body)
    }

    fn put(&self, call: &Call, item: &Item<'_>) -> Result<Vec<u8>, Broken> {
        put::store(&mut self.world.write(), (&call.account, &call.region), item, self.clock.now())?;
        let mut body = Writer::with_capacity(1);
        body.map(0);
        Ok(body.finish())
    }
}
