//! Into real servers, beside a client that has nothing to do but post: what the server itself can take.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use barograph::model::MetricBatch;
use barograph::sink::influxdb::{BatchLimits, Config};
use barograph::sink::lines::Lines;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::fleet::Fleet;
use crate::influxd::{self, Influxd};
use crate::pipeline::Pipeline;
use crate::victoria::Victoria;
use crate::{counting, machines, process, rows, setting};

enum Server {
    Influx(Influxd),
    Victoria(Victoria),
}

/// One load of all rows.
struct Load {
    took: Duration,
    /// Processor time of this process and of the server, in seconds.
    own: f64,
    server: f64,
    arrived: usize,
    requests: u64,
}

pub async fn run() {
    let machines = machines();
    let ticks = setting("DELIVERY_THROUGHPUT_ROWS", 1_000_000) / machines;
    let rows = ticks * machines;
    let mut fleet = Fleet::new(machines, 7);
    // VictoriaMetrics takes nothing that is older than a month.
    let start = rows::recent() - ticks as i64 * counting::EVERY;
    let batches: Vec<_> = (0..ticks).map(|tick| fleet.tick(start + tick as i64 * counting::EVERY)).collect();
    println!("throughput: {rows} rows of {machines} machines, 5 fields each, in memory before the start");
    let (bodies, encode, gzip) = bodies(&batches);
    let lanes = Config::new("").in_flight;

    println!(
        "  {:<22} {:>9} {:>8} {:>10} {:>7} {:>12} {:>12}",
        "", "requests", "s", "rows/s", "ratio", "own CPU s/M", "its CPU s/M"
    );
    let million = |seconds: f64| seconds * 1e6 / rows as f64;
    for name in ["influxdb", "victoria-metrics"] {
        let mut costs = Vec::new();
        for round in 0..setting("DELIVERY_ROUNDS", 2) {
            // What else the machine does changes with time: neither is always the first.
            let mut ceiling = None;
            if round % 2 == 0 {
                ceiling = Some(post(Server::start(name).await, &bodies, lanes).await);
            }
            let pipeline = deliver(Server::start(name).await, batches.clone()).await;
            let ceiling = match ceiling {
                Some(ceiling) => ceiling,
                None => post(Server::start(name).await, &bodies, lanes).await,
            };
            let ratio = ceiling.took.as_secs_f64() / pipeline.took.as_secs_f64();
            for (who, load, ratio) in [
                ("bodies made before", &ceiling, String::new()),
                ("pipeline", &pipeline, format!("{ratio:.2}")),
            ] {
                println!(
                    "  {:<22} {:>9} {:>8.2} {:>10.0} {ratio:>7} {:>12.2} {:>12.2}",
                    format!("{}, {who}", &name[..8]),
                    load.requests,
                    load.took.as_secs_f64(),
                    rows as f64 / load.took.as_secs_f64(),
                    million(load.own),
                    million(load.server),
                );
                if load.arrived != rows {
                    println!("    {} ROWS ARRIVED and not {rows}", load.arrived);
                }
            }
            costs.push(million(pipeline.own));
        }
        let cost = costs.iter().sum::<f64>() / costs.len() as f64;
        println!(
            "    of {cost:.2} CPU s per million rows, encoding is {:.2} ({:.0} %) and gzip {:.2} ({:.0} %)",
            million(encode),
            million(encode) * 100.0 / cost,
            million(gzip),
            million(gzip) * 100.0 / cost
        );
    }
}

/// The bodies of the usual requests, and the seconds that encoding and compressing took on one core.
fn bodies(batches: &[MetricBatch]) -> (Vec<Bytes>, f64, f64) {
    let most = BatchLimits::default().rows;
    let parts: Vec<_> = batches
        .iter()
        .flat_map(|batch| {
            let parts = (0..batch.rows()).step_by(most);
            parts.map(|start| batch.slice(start, most.min(batch.rows() - start)))
        })
        .collect();
    let mut lines = Lines::default();
    let (mut encode, mut gzip) = (Duration::ZERO, Duration::ZERO);
    let (mut count, mut before, mut after) = (0, 0, 0);
    let mut bodies = Vec::new();
    for part in &parts {
        let began = Instant::now();
        lines.encode(std::slice::from_ref(part));
        encode += began.elapsed();
        let began = Instant::now();
        let text = lines.bytes(0..lines.count());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        bodies.push(Bytes::from(encoder.finish().unwrap()));
        gzip += began.elapsed();
        count += lines.count();
        before += text.len();
        after += bodies.last().map_or(0, Bytes::len);
    }
    let (encode, gzip) = (encode.as_secs_f64(), gzip.as_secs_f64());
    println!(
        "  one core: encoder {:.0} lines/s, gzip {:.0} lines/s ({:.0} MB/s, {:.1} to {:.1} bytes per line)",
        count as f64 / encode,
        count as f64 / gzip,
        before as f64 / gzip / 1e6,
        before as f64 / count as f64,
        after as f64 / count as f64
    );
    (bodies, encode, gzip)
}

impl Server {
    async fn start(name: &str) -> Self {
        match name {
            "influxdb" => {
                let influx = Influxd::start(influxd::Settings::default()).await;
                influx.query("", "CREATE DATABASE db").await;
                Self::Influx(influx)
            }
            _ => Self::Victoria(Victoria::start().await),
        }
    }

    fn url(&self) -> &str {
        match self {
            Self::Influx(influx) => &influx.url,
            Self::Victoria(victoria) => &victoria.url,
        }
    }

    /// Rows in it.
    async fn rows(&self) -> usize {
        match self {
            Self::Influx(influx) => {
                let answer = influx.query("db", "SELECT count(\"utilization\") FROM \"cpu\"").await;
                let count = answer.pointer("/results/0/series/0/values/0/1").and_then(|count| count.as_u64());
                usize::try_from(count.unwrap_or(0)).unwrap()
            }
            Self::Victoria(victoria) => victoria.samples("cpu_utilization").await.len(),
        }
    }

    /// Ends it after a load that began with this use of the processor.
    async fn end(self, took: Duration, own: f64, before: process::Cpu, requests: u64) -> Load {
        let arrived = self.rows().await;
        drop(self);
        let server = process::cpu().ended - before.ended;
        Load { took, own, server, arrived, requests }
    }
}

/// Posts bodies, so many at once.
async fn post(server: Server, bodies: &[Bytes], lanes: usize) -> Load {
    let bodies: Arc<[Bytes]> = bodies.into();
    let next = Arc::new(AtomicUsize::new(0));
    let url = format!("{}/write?db=db&precision=n", server.url());
    let client = crate::http();
    let (before, began) = (process::cpu(), Instant::now());
    let lanes: Vec<_> = (0..lanes)
        .map(|_| {
            let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
            let (url, client) = (url.clone(), client.clone());
            tokio::spawn(async move {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = client.post(&url).header("content-encoding", "gzip").body(body.clone());
                    let answer = request.send().await.unwrap();
                    assert_eq!(answer.status(), 204);
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let (took, own) = (began.elapsed(), process::cpu().own - before.own);
    server.end(took, own, before, bodies.len() as u64).await
}

/// Through the pipeline.
async fn deliver(server: Server, batches: Vec<MetricBatch>) -> Load {
    let folder = tempfile::tempdir().unwrap();
    let rows: usize = batches.iter().map(MetricBatch::rows).sum();
    let (before, began) = (process::cpu(), Instant::now());
    let pipeline = Pipeline::start(server.url(), "database: db", folder.path(), batches.into_iter()).await;
    pipeline.ended(rows as u64).await;
    let (took, own) = (began.elapsed(), process::cpu().own - before.own);
    let requests = pipeline.requests();
    pipeline.stop().await;
    server.end(took, own, before, requests).await
}
