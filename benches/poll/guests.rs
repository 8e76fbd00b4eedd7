//! Emulated guests, polled by us and by others.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use barograph::model::Timestamp;
use barograph::provider::kvm::{Config, KvmCollector, KvmProvider};
use barograph::provider::{Collector, InstanceSpec, KernelSpec, Provider, SizeSpec, Token, Window};

use super::meter::Meter;
use super::number;

const EXPORTER: &str = "/usr/bin/prometheus-libvirt-exporter";

struct Rig(PathBuf);

impl Rig {
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/kvm.sh"));
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

/// Ended with the bench.
struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn run() {
    let (guests, rounds) = (number("POLL_GUESTS", 8), number("POLL_ROUNDS", 20));
    let rig = Rig("/tmp/barograph-poll-kvm".into());
    rig.run(&["bare"]);
    let uri = rig.run(&["uri"]).trim().to_owned();
    let config = Config { uri: uri.clone(), ..Config::default() };
    start(&rig, &config, guests).await;
    // They have booted, and their balloons stand still.
    tokio::time::sleep(Duration::from_secs(60)).await;
    println!("{guests} emulated guests, {rounds} polls");
    let daemon = daemon(&rig);
    let second = Duration::from_secs(1);

    let collector = KvmCollector::new(&config).unwrap();
    let shard = collector.discover().await.unwrap().remove(0);
    let window = || {
        let end = Timestamp::now().0;
        Window { start: end - 1_000_000_000, end }
    };
    // The first poll connects.
    collector.collect(&shard, window()).await.unwrap();
    let ours = std::process::id();
    let mut meter =
        Meter::new("barograph, all tables").process("barograph", ours).process("libvirtd", daemon);
    let mut rows = 0;
    for _ in 0..rounds {
        tokio::time::sleep(second).await;
        rows = meter.measure(collector.collect(&shard, window())).await.unwrap().rows();
    }
    meter.print();
    println!("  {:32} {rows} rows", "");
    collector.close().await;

    let mut meter = Meter::new("virsh domstats").process("virsh", ours).process("libvirtd", daemon);
    for _ in 0..rounds {
        tokio::time::sleep(second).await;
        let virsh = tokio::task::spawn_blocking({
            let uri = uri.clone();
            move || Command::new("virsh").args(["-c", &uri, "domstats", "--nowait"]).output().unwrap()
        });
        let output = meter.measure(virsh).await.unwrap();
        assert!(output.status.success());
    }
    meter.print();

    if !PathBuf::from(EXPORTER).exists() {
        println!("  prometheus-libvirt-exporter is not installed");
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(EXPORTER)
        .args([format!("--libvirt.uri={uri}"), format!("--web.listen-address=127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let exporter = Exporter(child);
    let url = format!("http://127.0.0.1:{port}/metrics");
    let http = reqwest::Client::new();
    for _ in 0..50 {
        if http.get(&url).send().await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pid = exporter.0.id();
    let mut meter =
        Meter::new("prometheus-libvirt-exporter").process("exporter", pid).process("libvirtd", daemon);
    let mut series = 0;
    for _ in 0..rounds {
        tokio::time::sleep(second).await;
        let scrape = async { http.get(&url).send().await.unwrap().text().await.unwrap() };
        let text = meter.measure(scrape).await;
        series = text.lines().filter(|line| line.starts_with("libvirt_")).count();
    }
    meter.print();
    println!("  {:32} {series} series", "");
}

async fn start(rig: &Rig, config: &Config, guests: usize) {
    let provider = Arc::new(KvmProvider::new(config).unwrap());
    let file = |name: &str| rig.0.join(name).display().to_string();
    for number in 0..guests {
        let spec = InstanceSpec {
            name: format!("guest-{number}"),
            size: SizeSpec { vcpus: Some(1.into()), memory_bytes: Some(128 << 20), ..SizeSpec::default() },
            kernel: Some(KernelSpec {
                kernel: file("vmlinuz"),
                initrd: Some(file("initrd.gz")),
                arguments: Some("console=ttyS0 quiet panic=5 rig.role=idle".into()),
            }),
            options: [("type".into(), "qemu".into())].into(),
            ..InstanceSpec::default()
        };
        let lifecycle = provider.lifecycle().unwrap();
        let made = lifecycle.create(&spec, Token::random()).await.unwrap().made.unwrap();
        lifecycle.start(&made, Token::random()).await.unwrap();
    }
}

/// libvirtd of the rig: the process that was started with the rig's pid file.
fn daemon(rig: &Rig) -> u32 {
    let state = rig.0.display().to_string();
    let holder = std::fs::read_to_string(rig.0.join("holder.pid")).unwrap();
    let namespace = std::fs::read_link(format!("/proc/{}/ns/mnt", holder.trim())).unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let inside = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|other| other == namespace);
        if name.trim() == "libvirtd" && inside {
            return pid;
        }
    }
    panic!("no libvirtd of {state}");
}
