//! The kvm provider against a real libvirtd and two real guests: see `tests/rigs/kvm.sh`.
//!
//! One test, because its steps share the guests and disturb them one after the other. It uses a rig that is up
//! already and leaves it so; otherwise it brings one up and takes it down.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are worth seeing with --nocapture")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, AsArray};
use barograph::ErrorKind;
use barograph::model::MetricBatch;
use barograph::provider::kvm::{Config, KvmCollector};
use barograph::provider::{Collection, Collector, Shard, Window};

const BUSY: &str = "rig-busy";
const IDLE: &str = "rig-idle";
/// How long the guest stays frozen.
const FROZEN: Duration = Duration::from_secs(20);

/// The rig, taken down at the end if this test brought it up, and healed if not.
struct Rig {
    state: String,
    ours: bool,
}

impl Rig {
    fn up() -> Self {
        let state = std::env::var("BAROGRAPH_KVM_RIG").unwrap_or_else(|_| "/tmp/barograph-kvm".into());
        let ours = !PathBuf::from(&state).join("holder.pid").exists();
        let rig = Self { state, ours };
        rig.run(&["up", &rig.state]);
        rig
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/kvm.sh"));
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "kvm.sh {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn virsh(&self, arguments: &[&str]) -> String {
        self.run(&[&["virsh", &self.state], arguments].concat())
    }

    fn uri(&self) -> String {
        self.run(&["uri", &self.state]).trim().into()
    }

    /// Processor time and processors of a guest as `virsh domstats` prints them, with the time of the reading.
    fn processor(&self, guest: &str) -> (Instant, f64, f64) {
        let text = self.virsh(&["domstats", "--cpu-total", "--vcpu", guest]);
        let at = Instant::now();
        let values: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.trim().split_once('=')).collect();
        (at, values["cpu.time"].parse::<f64>().unwrap() / 1e9, values["vcpu.current"].parse().unwrap())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let command = if self.ours { "down" } else { "up" };
        let _ = self.command(&[command, &self.state]).output();
    }
}

/// A guest whose QEMU process is stopped until this is dropped.
struct Frozen<'a> {
    rig: &'a Rig,
    guest: &'a str,
}

impl<'a> Frozen<'a> {
    fn new(rig: &'a Rig, guest: &'a str) -> Self {
        rig.run(&["freeze", &rig.state, guest]);
        Self { rig, guest }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = self.rig.command(&["thaw", &self.rig.state, self.guest]).output();
    }
}

struct Source {
    collector: KvmCollector,
    shard: Shard,
}

impl Source {
    fn new(rig: &Rig) -> Self {
        let config = Config { uri: rig.uri(), ..Config::default() };
        Self { shard: Shard(config.uri.clone()), collector: KvmCollector::new(&config).unwrap() }
    }

    async fn try_collect(&self) -> barograph::Result<Collection> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let end = i64::try_from(now.as_nanos()).unwrap();
        self.collector.collect(&self.shard, Window { start: 0, end }).await
    }

    async fn collect(&self) -> Collection {
        self.try_collect().await.unwrap()
    }
}

/// The rows of one guest in one table, as batch and row number.
fn rows<'a>(collection: &'a Collection, table: &str, guest: &str) -> Vec<(&'a MetricBatch, usize)> {
    let batch = collection.batches.iter().find(|batch| batch.table() == table);
    batch
        .into_iter()
        .flat_map(|batch| (0..batch.rows()).map(move |row| (batch, row)))
        .filter(|(batch, row)| batch.tag("resource_name", *row) == Some(guest))
        .collect()
}

fn float(collection: &Collection, table: &str, guest: &str, field: &str) -> Option<f64> {
    rows(collection, table, guest).iter().find_map(|(batch, row)| batch.float(field, *row))
}

/// The processor use of the whole guest: the row without a core.
fn utilization(collection: &Collection, guest: &str) -> Option<f64> {
    let rows = rows(collection, "cpu", guest);
    let (batch, row) = rows.into_iter().find(|(batch, row)| batch.tag("core", *row).is_none())?;
    batch.float("utilization", row)
}

fn state(collection: &Collection, guest: &str) -> Option<String> {
    let (batch, row) = *rows(collection, "status", guest).first()?;
    let states = batch.records().column_by_name("state")?.as_string::<i32>();
    states.is_valid(row).then(|| states.value(row).to_owned())
}

fn boolean(collection: &Collection, guest: &str, field: &str) -> Option<bool> {
    let (batch, row) = *rows(collection, "status", guest).first()?;
    let values = batch.records().column_by_name(field)?.as_boolean();
    values.is_valid(row).then(|| values.value(row))
}

async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_on_a_real_hypervisor() {
    let rig = Rig::up();
    let source = Source::new(&rig);
    assert_eq!(source.collector.discover().await.unwrap(), std::slice::from_ref(&source.shard));
    figures_agree_with_virsh(&rig, &source).await;
    polling_costs_no_memory(&source).await;
    a_frozen_guest_stays_alone(&rig, &source).await;
    two_frozen_guests_cost_one_deadline(&rig, &source).await;
    a_restarted_daemon_is_found_again(&rig, &source).await;
    an_ended_guest_ends_its_series(&rig, &source).await;
    source.collector.close().await;
}

async fn figures_agree_with_virsh(rig: &Rig, source: &Source) {
    let first = source.collect().await;
    assert!(first.faults.is_empty(), "{:?}", first.faults);
    let before = [BUSY, IDLE].map(|guest| rig.processor(guest));
    source.collect().await;
    pause(5.0).await;
    let collection = source.collect().await;
    let after = [BUSY, IDLE].map(|guest| rig.processor(guest));
    for ((guest, before), after) in [BUSY, IDLE].iter().zip(before).zip(after) {
        let wall = after.0.duration_since(before.0).as_secs_f64();
        let expected = (after.1 - before.1) / wall / after.2;
        let measured = utilization(&collection, guest).unwrap();
        assert!((measured - expected).abs() <= 0.05, "{guest}: {measured} here, {expected} from virsh");
        println!("{guest}: utilization {measured:.3}, from virsh {expected:.3}");
    }
    assert!(utilization(&collection, BUSY).unwrap() > 2.0 * utilization(&collection, IDLE).unwrap());
    let cores: Vec<_> =
        rows(&collection, "cpu", BUSY).iter().filter_map(|(batch, row)| batch.tag("core", *row)).collect();
    assert_eq!(cores, ["0", "1"]);
    assert_eq!(float(&collection, "cpu", BUSY, "cores"), Some(2.0));
    assert!(float(&collection, "cpu", BUSY, "steal").is_some());

    assert!(float(&collection, "disk", BUSY, "write_bytes_per_second").unwrap() > 0.0);
    assert!(float(&collection, "disk", BUSY, "write_latency_seconds").unwrap() > 0.0);
    assert_eq!(float(&collection, "disk", IDLE, "write_bytes_per_second"), Some(0.0));
    assert_eq!(float(&collection, "disk", IDLE, "limit_bytes"), Some(64.0 * 1024.0 * 1024.0));
    assert!(float(&collection, "network", BUSY, "transmit_bytes_per_second").unwrap() > 0.0);
    let memory = |field| float(&collection, "memory", IDLE, field).unwrap();
    assert_eq!(memory("limit_bytes"), 256.0 * 1024.0 * 1024.0);
    assert_eq!(memory("balloon_bytes"), 128.0 * 1024.0 * 1024.0);
    assert!(memory("used_bytes") > 1e6 && memory("used_bytes") < memory("balloon_bytes"));
    assert!(memory("statistics_age_seconds") < 5.0);
    for guest in [BUSY, IDLE] {
        assert_eq!(state(&collection, guest).as_deref(), Some("Running"));
        assert_eq!(boolean(&collection, guest, "up"), Some(true));
        assert_eq!(boolean(&collection, guest, "stuck"), Some(false));
        let (batch, row) = rows(&collection, "status", guest)[0];
        assert_eq!(batch.tag("observer", row), Some("hypervisor"));
        assert_eq!(batch.tag("resource_id", row).unwrap(), rig.virsh(&["domuuid", guest]).trim());
    }
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

async fn polling_costs_no_memory(source: &Source) {
    for _ in 0..50 {
        source.collect().await;
    }
    let before = resident();
    for _ in 0..300 {
        source.collect().await;
    }
    // Records that are not freed cost 6 KiB per guest and poll: 3.6 MiB here.
    let grown = resident().saturating_sub(before);
    assert!(grown < 1536, "{grown} KiB more after 300 polls of two guests");
}

/// The first poll finds out who is frozen, within the deadline; most of the others do not wait for it again. Each one that
/// did would take half a second at least, and the machine may be busy with something else now and then.
fn never_waits_again(waits: &[Duration]) {
    assert!(waits.iter().all(|wait| wait.as_secs_f64() < 3.0), "longer than the deadline: {waits:?}");
    let mut others = waits[1..].to_vec();
    others.sort();
    assert!(others[others.len() / 2].as_secs_f64() < 0.45, "the frozen guest is waited for: {waits:?}");
}

async fn a_frozen_guest_stays_alone(rig: &Rig, source: &Source) {
    source.collect().await;
    let frozen = Frozen::new(rig, IDLE);
    let begun = Instant::now();
    let mut waits = Vec::new();
    while begun.elapsed() < FROZEN {
        pause(1.0).await;
        let asked = Instant::now();
        let collection = source.collect().await;
        waits.push(asked.elapsed());
        let polls = waits.len();
        assert!(utilization(&collection, BUSY).is_some(), "poll {polls}: the healthy guest's processor");
        assert!(
            float(&collection, "disk", BUSY, "write_bytes_per_second").is_some(),
            "poll {polls}: the healthy guest's disk"
        );
        assert!(float(&collection, "memory", BUSY, "used_bytes").is_some(), "poll {polls}");
        assert_eq!(boolean(&collection, BUSY, "stuck"), Some(false));
        assert_eq!(boolean(&collection, IDLE, "stuck"), Some(true), "poll {polls}");
        assert!(utilization(&collection, IDLE).is_some(), "its processor time needs no answer of its own");
        assert!(rows(&collection, "disk", IDLE).is_empty());
        let faults: Vec<_> = collection.faults.iter().map(ToString::to_string).collect();
        assert!(faults.len() == 1 && faults[0].contains(IDLE), "poll {polls}: {faults:?}");
    }
    assert!(waits.len() >= 8, "{waits:?} in {FROZEN:?}");
    never_waits_again(&waits);
    drop(frozen);
    pause(1.0).await;
    source.collect().await;
    pause(1.0).await;
    let collection = source.collect().await;
    assert!(collection.faults.is_empty(), "{:?}", collection.faults);
    assert_eq!(boolean(&collection, IDLE, "stuck"), Some(false));
    assert!(float(&collection, "disk", IDLE, "write_bytes_per_second").is_some());
}

async fn two_frozen_guests_cost_one_deadline(rig: &Rig, source: &Source) {
    let frozen = [BUSY, IDLE].map(|guest| Frozen::new(rig, guest));
    let mut waits = Vec::new();
    for _ in 0..4 {
        let asked = Instant::now();
        let collection = source.collect().await;
        waits.push(asked.elapsed());
        for guest in [BUSY, IDLE] {
            assert_eq!(boolean(&collection, guest, "stuck"), Some(true), "{guest}");
        }
        assert_eq!(collection.faults.len(), 2, "{:?}", collection.faults);
        pause(0.5).await;
    }
    never_waits_again(&waits);
    drop(frozen);
    pause(1.0).await;
    let collection = source.collect().await;
    assert!(collection.faults.is_empty(), "{:?}", collection.faults);
}

async fn a_restarted_daemon_is_found_again(rig: &Rig, source: &Source) {
    rig.run(&["daemon", &rig.state, "stop"]);
    let asked = Instant::now();
    let error = source.try_collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(asked.elapsed() < Duration::from_secs(1), "a dead daemon is noticed at once");
    assert_eq!(source.collector.discover().await.unwrap_err().kind(), ErrorKind::Unavailable);
    rig.run(&["daemon", &rig.state, "start"]);
    let started = Instant::now();
    loop {
        if let Ok(collection) = source.try_collect().await
            && utilization(&collection, BUSY).is_some()
            && float(&collection, "disk", IDLE, "read_bytes_per_second").is_some()
        {
            assert_eq!(state(&collection, IDLE).as_deref(), Some("Running"), "guests outlive the daemon");
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "no rows after the daemon came back");
        pause(0.5).await;
    }
    // A restart between two polls costs none of them.
    rig.run(&["daemon", &rig.state, "stop"]);
    rig.run(&["daemon", &rig.state, "start"]);
    let collection = source.collect().await;
    assert!(utilization(&collection, BUSY).is_some());
}

async fn an_ended_guest_ends_its_series(rig: &Rig, source: &Source) {
    rig.virsh(&["destroy", IDLE]);
    let collection = source.collect().await;
    assert_eq!(state(&collection, IDLE).as_deref(), Some("Stopped"));
    assert_eq!(boolean(&collection, IDLE, "up"), Some(false));
    for table in ["cpu", "memory", "disk", "network"] {
        assert!(rows(&collection, table, IDLE).is_empty(), "{table}");
        assert!(!rows(&collection, table, BUSY).is_empty(), "{table}");
    }

    rig.virsh(&["start", IDLE]);
    let collection = source.collect().await;
    assert_eq!(boolean(&collection, IDLE, "up"), Some(true));
    assert_eq!(utilization(&collection, IDLE), None, "the new run's counters start anew");
    pause(0.5).await;
    let collection = source.collect().await;
    assert!(utilization(&collection, IDLE).is_some());
    let uptime = float(&collection, "status", IDLE, "uptime_seconds").unwrap();
    assert!((0.5..10.0).contains(&uptime), "{uptime}");

    // Without a definition the guest vanishes when it stops.
    rig.virsh(&["undefine", IDLE]);
    rig.virsh(&["destroy", IDLE]);
    let collection = source.collect().await;
    assert_eq!(state(&collection, IDLE).as_deref(), Some("Deleted"));
    assert_eq!(boolean(&collection, IDLE, "up"), Some(false));
    let collection = source.collect().await;
    assert!(rows(&collection, "status", IDLE).is_empty(), "said once");
    assert!(collection.faults.is_empty(), "{:?}", collection.faults);
}
