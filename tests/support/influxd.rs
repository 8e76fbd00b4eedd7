//! A real InfluxDB 1.x of its own for each test: some malformed lines end the process, so that tests must not share one.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// What differs from test to test.
pub struct Settings {
    /// User `admin` with the password `secret` is needed.
    pub auth: bool,
    /// Largest body of a request in bytes.
    pub max_body: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { auth: false, max_body: 25_000_000 }
    }
}

/// A running `influxd`, ended with the test.
pub struct Influxd {
    pub url: String,
    child: Child,
    folder: tempfile::TempDir,
    auth: bool,
}

impl Influxd {
    /// Starts it and waits until it answers. A test without it fails: it is never skipped.
    pub async fn start(settings: Settings) -> Self {
        // Another process may take a port between our look and its start.
        for _ in 0..3 {
            if let Some(influxd) = Self::try_start(&settings).await {
                if settings.auth {
                    influxd.query("", "CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES").await;
                }
                return influxd;
            }
        }
        panic!("influxd does not start; scripts/setup rigs installs it");
    }

    async fn try_start(settings: &Settings) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (http, rpc) = (free_port(), free_port());
        let file = folder.path().join("influxdb.conf");
        std::fs::write(&file, configuration(folder.path(), http, rpc, settings)).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        // The kernel ends it with the thread that started it, also if the test is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "influxd", "-config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("influxd can be started");
        let mut influxd =
            Self { url: format!("http://127.0.0.1:{http}"), child, folder, auth: settings.auth };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if influxd.child.try_wait().unwrap().is_some() {
                eprintln!("influxd ended:\n{}", influxd.log());
                return None;
            }
            let ping = super::http().get(format!("{}/ping", influxd.url)).send().await;
            if ping.is_ok_and(|answer| answer.status() == 204) {
                return Some(influxd);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        eprintln!("influxd does not answer:\n{}", influxd.log());
        None
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What InfluxQL answers, as JSON with times in nanoseconds.
    pub async fn query(&self, database: &str, statement: &str) -> serde_json::Value {
        let url = reqwest::Url::parse_with_params(
            &format!("{}/query", self.url),
            [("db", database), ("q", statement), ("epoch", "ns")],
        );
        let mut request = super::http().post(url.unwrap());
        if self.auth && !statement.starts_with("CREATE USER") {
            request = request.basic_auth("admin", Some("secret"));
        }
        let text = request.send().await.unwrap().text().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(answer.pointer("/results/0/error").is_none(), "{statement}: {answer}");
        answer
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn configuration(folder: &Path, http: u16, rpc: u16, settings: &Settings) -> String {
    let folder = folder.display();
    let Settings { auth, max_body } = settings;
    format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
         [meta]\ndir = \"{folder}/meta\"\n\
         [data]\ndir = \"{folder}/data\"\nwal-dir = \"{folder}/wal\"\n\
         [monitor]\nstore-enabled = false\n\
         [http]\nbind-address = \"127.0.0.1:{http}\"\nauth-enabled = {auth}\nlog-enabled = false\n\
         max-body-size = {max_body}\n\
         [ifql]\nenabled = false\n[continuous_queries]\nenabled = false\n[subscriber]\nenabled = false\n"
    )
}
