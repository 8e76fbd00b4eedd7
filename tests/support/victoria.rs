//! A real VictoriaMetrics of its own for each test.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::influxd::free_port;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running `victoria-metrics`, ended with the test.
pub struct Victoria {
    pub url: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Victoria {
    /// Starts it and waits until it answers. A test without it fails: it is never skipped.
    pub async fn start() -> Self {
        for _ in 0..3 {
            if let Some(victoria) = Self::try_start().await {
                return victoria;
            }
        }
        panic!("victoria-metrics does not start; scripts/setup rigs installs it");
    }

    async fn try_start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "victoria-metrics"])
            .arg(format!("-storageDataPath={}", folder.path().join("data").display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("victoria-metrics can be started");
        let mut victoria = Self { url: format!("http://127.0.0.1:{port}"), child, _folder: folder };
        let began = Instant::now();
        while began.elapsed() < PATIENCE && victoria.child.try_wait().unwrap().is_none() {
            let ping = super::http().get(format!("{}/ping", victoria.url)).send().await;
            if ping.is_ok_and(|answer| answer.status() == 204) {
                return Some(victoria);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// All samples of a metric, also those of times to come: times in milliseconds and values.
    pub async fn samples(&self, metric: &str) -> Vec<(i64, f64)> {
        let get = |path: String| async move {
            super::http().get(format!("{}{path}", self.url)).send().await.unwrap().text().await.unwrap()
        };
        get("/internal/force_flush".into()).await;
        let mut samples = Vec::new();
        for line in get(format!("/api/v1/export?start=0&end=4000000000&match[]={metric}")).await.lines() {
            let series: serde_json::Value = serde_json::from_str(line).unwrap();
            let times = series["timestamps"].as_array().unwrap().iter().map(|time| time.as_i64().unwrap());
            samples.extend(
                times.zip(series["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap())),
            );
        }
        samples.sort_by_key(|(time, _)| *time);
        samples
    }
}

impl Drop for Victoria {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
