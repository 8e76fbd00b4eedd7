//! The servers that a run can have, and what is in them.

use std::collections::BTreeMap;

use crate::collector::TABLE;
use crate::fake_influx::{Fake, Kind as FakeKind, Settings};
use crate::influxd::Influxd;
use crate::victoria::Victoria;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    RealOne,
    Two,
    Three,
    Victoria,
}

pub enum Server {
    RealOne(Influxd),
    Fake(Fake),
    Victoria(Victoria),
}

/// A row as the server has it: device, time in nanoseconds; and its number.
pub type Rows = BTreeMap<(String, i64), i64>;

impl Server {
    /// Starts it, with a point that fixes the type of the field `v`.
    pub async fn start(kind: Kind) -> Self {
        let seed = format!("{TABLE},device=seed v=1.5 1");
        match kind {
            Kind::RealOne => {
                let influxd = Influxd::start(crate::influxd::Settings::default()).await;
                influxd.query("", "CREATE DATABASE db").await;
                let write = format!("{}/write?db=db", influxd.url);
                assert_eq!(crate::http().post(write).body(seed).send().await.unwrap().status(), 204);
                Self::RealOne(influxd)
            }
            Kind::Two | Kind::Three => {
                let kind = if kind == Kind::Two { FakeKind::Two } else { FakeKind::Three };
                let fake = Fake::start(Settings::new(kind)).await;
                fake.seed(&seed);
                Self::Fake(fake)
            }
            Kind::Victoria => Self::Victoria(Victoria::start().await),
        }
    }

    /// Host and port.
    pub fn address(&self) -> String {
        let url = match self {
            Self::RealOne(influxd) => influxd.url.clone(),
            Self::Fake(fake) => fake.url(),
            Self::Victoria(victoria) => victoria.url.clone(),
        };
        url.trim_start_matches("http://").to_owned()
    }

    /// All rows with a number.
    pub async fn rows(&self) -> Rows {
        match self {
            Self::RealOne(influxd) => {
                let answer = influxd.query("db", &format!("SELECT n FROM {TABLE} GROUP BY device")).await;
                let mut rows = Rows::new();
                for series in
                    answer.pointer("/results/0/series").and_then(|s| s.as_array()).into_iter().flatten()
                {
                    let device = series["tags"]["device"].as_str().unwrap();
                    for value in series["values"].as_array().unwrap() {
                        let key = (device.to_owned(), value[0].as_i64().unwrap());
                        rows.insert(key, value[1].as_i64().unwrap());
                    }
                }
                rows
            }
            Self::Fake(fake) => fake.numbers(TABLE, "device", "n"),
            Self::Victoria(victoria) => {
                let mut rows = Rows::new();
                for device in 0..crate::collector::SERIES {
                    let metric = format!("{TABLE}_n{{device=\"{device}\"}}");
                    for (time, value) in victoria.samples(&metric).await {
                        rows.insert((device.to_string(), time * 1_000_000), value as i64);
                    }
                }
                rows
            }
        }
    }
}
