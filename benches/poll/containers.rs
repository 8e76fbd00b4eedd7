//! Containers, polled.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use barograph::model::Timestamp;
use barograph::provider::containerd::{Config, ContainerdCollector, ContainerdProvider};
use barograph::provider::{Collector, InstanceSpec, Provider, SizeSpec, Token, Window};

use super::meter::Meter;
use super::number;

struct Rig(PathBuf);

impl Rig {
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/containerd.sh"));
        let output = command.arg(arguments[0]).arg(&self.0).args(&arguments[1..]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

pub async fn run() {
    let (containers, rounds) = (number("POLL_CONTAINERS", 50), number("POLL_ROUNDS", 20));
    let rig = Rig("/tmp/barograph-poll-ctr".into());
    rig.run(&["start"]);
    let config = Config { socket: rig.run(&["socket"]).trim().into(), ..Config::default() };
    let provider = Arc::new(ContainerdProvider::new(&config).unwrap());
    let archive = rig.0.join("image.tar").display().to_string();
    let image = "poll.local/busybox:1";
    provider.images().unwrap().import(&archive, Some("poll"), Some(image), Token::random()).await.unwrap();
    for number in 0..containers {
        let spec = InstanceSpec {
            name: format!("container-{number}"),
            location: Some("poll".into()),
            image: Some(image.into()),
            command: vec!["/bin/sh".into(), "-c".into(), "while :; do sleep 5; done".into()],
            size: SizeSpec { memory_bytes: Some(32 << 20), ..SizeSpec::default() },
            ..InstanceSpec::default()
        };
        let lifecycle = provider.lifecycle().unwrap();
        let made = lifecycle.create(&spec, Token::random()).await.unwrap().made.unwrap();
        lifecycle.start(&made, Token::random()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("{containers} containers, {rounds} polls");
    let daemon = std::fs::read_to_string(rig.0.join("containerd.pid")).ok();
    let daemon = daemon.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0);
    let collector = ContainerdCollector::new(&config).unwrap();
    let shards = collector.discover().await.unwrap();
    let ours = std::process::id();
    let mut meter =
        Meter::new("barograph, all tables").process("barograph", ours).process("containerd", daemon);
    let mut rows = 0;
    for round in 0..=rounds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let end = Timestamp::now().0;
        let window = Window { start: end - 1_000_000_000, end };
        let all = async {
            let mut rows = 0;
            for shard in &shards {
                rows += collector.collect(shard, window).await.unwrap().rows();
            }
            rows
        };
        // The first poll connects.
        rows = if round == 0 { all.await } else { meter.measure(all).await };
    }
    meter.print();
    println!("  {:32} {rows} rows", "");
    collector.close().await;
}
