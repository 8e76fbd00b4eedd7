//! `barograph run` as a child process that does not outlive its test.
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running `barograph run`, ended with the test.
pub struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    pub fn start(folder: &Path, pipeline: &str, more: &[&str]) -> Self {
        let stdout = std::fs::File::create(folder.join("stdout")).unwrap();
        Self::spawn(folder, pipeline, more, stdout.into())
    }

    /// With a standard output whose reader has stopped to read, so that it fills up.
    pub fn start_stalled(folder: &Path, pipeline: &str, more: &[&str]) -> Self {
        Self::spawn(folder, pipeline, more, Stdio::piped())
    }

    /// With a standard output whose reader has gone.
    pub fn start_unread(folder: &Path, pipeline: &str, more: &[&str]) -> Self {
        let mut run = Self::spawn(folder, pipeline, more, Stdio::piped());
        drop(run.child.stdout.take());
        run
    }

    fn spawn(folder: &Path, pipeline: &str, more: &[&str], stdout: Stdio) -> Self {
        let (file, log) = (folder.join("pipeline.yaml"), folder.join("log"));
        std::fs::write(&file, pipeline).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_barograph"))
            .arg("run")
            .arg(&file)
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(more)
            .current_dir(folder)
            .stdout(stdout)
            .stderr(std::fs::File::create(&log).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The log as soon as it holds the words.
    pub fn wait_for(&mut self, words: &str) -> String {
        self.until(words, |run| Some(run.log()).filter(|log| log.contains(words)))
    }

    pub fn until<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?} before {what:?}:\n{}", self.log());
            assert!(began.elapsed() < PATIENCE, "no {what:?} in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it listens: the system chose the port, and the log tells.
    pub fn address(&mut self) -> SocketAddr {
        let log = self.wait_for("\"listening\"");
        let line = log.lines().find(|line| line.contains("\"listening\"")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The exit code, once it has ended.
    pub fn code(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < PATIENCE, "does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Run {
    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The sum of all series of a metric that carry the component.
pub fn metric(text: &str, name: &str, component: &str) -> f64 {
    let label = format!("component=\"{component}\"");
    text.lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}
