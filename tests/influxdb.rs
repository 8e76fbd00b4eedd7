//! The influxdb sink against a real InfluxDB 1.6.7, a real VictoriaMetrics and fakes of 1.x, 2.x and 3.x.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::single_match,
    reason = "a test says what failed by panicking"
)]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "tests use parts of their support")]

#[path = "support/fake_influx.rs"]
mod fake_influx;
#[path = "support/gate.rs"]
mod gate;
#[path = "support/influxd.rs"]
mod influxd;
#[path = "support/rows.rs"]
mod rows;
#[path = "support/victoria.rs"]
mod victoria;

#[path = "influxdb/alike.rs"]
mod alike;
#[path = "influxdb/faults.rs"]
mod faults;
#[path = "influxdb/reach.rs"]
mod reach;

use std::collections::BTreeMap;

use barograph::sink::Written;
use barograph::sink::influxdb::{Config, InfluxSink};
use barograph::telemetry::Telemetry;
use fake_influx::{Fake, Kind};
use influxd::Influxd;

/// A client for looking at servers.
fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

/// Opens a sink called `influx`.
async fn open(config: &Config) -> barograph::Result<InfluxSink> {
    InfluxSink::open("influx", config, &Telemetry::default()).await
}

/// The keys that name database or bucket `db` of a server of this kind.
fn config(kind: Kind, url: &str) -> Config {
    let name = |name: &str| Some(name.to_owned());
    match kind {
        Kind::One | Kind::Three => Config { database: name("db"), ..Config::new(url) },
        Kind::Two => Config { org: name("lab"), bucket: name("db"), ..Config::new(url) },
    }
}

/// The places of rejected rows by batch, and the reasons.
fn rejected(written: &Written) -> (BTreeMap<usize, Vec<usize>>, Vec<String>) {
    let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for rejected in &written.rejected {
        places.entry(rejected.batch).or_default().extend(&rejected.rows);
    }
    places.values_mut().for_each(|rows| rows.sort_unstable());
    let mut reasons: Vec<_> = written.rejected.iter().map(|rejected| rejected.error.to_string()).collect();
    reasons.dedup();
    (places, reasons)
}

/// A server that behaves like InfluxDB.
enum Server {
    Real(Influxd),
    Fake(Kind, Fake),
}

impl Server {
    /// The real one and all fakes, each with the database or bucket `db`.
    async fn all() -> Vec<Self> {
        let real = Influxd::start(influxd::Settings::default()).await;
        real.query("", "CREATE DATABASE db").await;
        let mut servers = vec![Self::Real(real)];
        for kind in [Kind::One, Kind::Two, Kind::Three] {
            servers.push(Self::Fake(kind, Fake::start(fake_influx::Settings::new(kind)).await));
        }
        servers
    }

    fn name(&self) -> String {
        match self {
            Self::Real(_) => "real 1.6.7".into(),
            Self::Fake(kind, _) => format!("fake {kind:?}"),
        }
    }

    fn config(&self) -> Config {
        match self {
            Self::Real(real) => config(Kind::One, &real.url),
            Self::Fake(kind, fake) => config(*kind, &fake.url()),
        }
    }

    /// Another client writes lines into `db`.
    async fn seed(&self, lines: &str) {
        match self {
            Self::Real(real) => {
                let url = format!("{}/write?db=db&precision=n", real.url);
                let answer = http().post(url).body(lines.to_owned()).send().await.unwrap();
                assert_eq!(answer.status(), 204);
            }
            Self::Fake(_, fake) => fake.seed(lines),
        }
    }

    /// The numbers in the field `value` of a table, by time.
    async fn values(&self, table: &str) -> BTreeMap<i64, f64> {
        match self {
            Self::Real(real) => {
                let answer = real.query("db", &format!("SELECT \"value\" FROM \"{table}\"")).await;
                let rows = answer.pointer("/results/0/series/0/values").and_then(|rows| rows.as_array());
                let row = |row: &serde_json::Value| (row[0].as_i64().unwrap(), row[1].as_f64().unwrap());
                rows.into_iter().flatten().map(row).collect()
            }
            Self::Fake(_, fake) => {
                let values = fake.values(table, "value").into_iter();
                values.map(|(time, value)| (time, value.parse().unwrap())).collect()
            }
        }
    }
}
