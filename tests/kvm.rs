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
use barograph::model::{MetricBatch, Span};
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
        Self::with(Config { uri: rig.uri(), ..Config::default() })
    }

    fn with(config: Config) -> Self {
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

    /// A collection without a fault: while the emulated guests boot on a busy machine, one may answer too late.
    async fn settled(&self) -> Collection {
        let begun = Instant::now();
        loop {
            let collection = self.try_collect().await;
            if let Some(settled) = collection.ok().filter(|collection| collection.faults.is_empty()) {
                return settled;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the guests do not settle");
            pause(1.0).await;
        }
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
    text(collection, guest, "state")
}

fn text(collection: &Collection, guest: &str, field: &str) -> Option<String> {
    let (batch, row) = *rows(collection, "status", guest).first()?;
    let values = batch.records().column_by_name(field)?.as_string::<i32>();
    values.is_valid(row).then(|| values.value(row).to_owned())
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
    known_rates_are_measured(&source).await;
    a_known_quota_is_measured(&rig, &source).await;
    storage_agrees_with_virsh(&rig).await;
    metrics_of_the_file_are_measured(&rig).await;
    events_tell_what_happened(&rig, &source).await;
    a_job_is_seen_while_it_goes_on(&rig, &source).await;
    a_remote_connection_measures_and_never_holds_up(&rig).await;
    polling_costs_no_memory(&source).await;
    a_frozen_guest_stays_alone(&rig, &source).await;
    two_frozen_guests_cost_one_deadline(&rig, &source).await;
    a_restarted_daemon_is_found_again(&rig, &source).await;
    an_ended_guest_ends_its_series(&rig, &source).await;
    source.collector.close().await;
}

async fn figures_agree_with_virsh(rig: &Rig, source: &Source) {
    let first = source.settled().await;
    assert!(events(&first, BUSY).0.is_empty(), "a guest that was there already has not just started");
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

/// Whether a figure is within 5 % of what it must be.
#[track_caller]
fn close(what: &str, measured: f64, known: f64) {
    println!("{what}: {measured:.3}, known {known:.3}");
    assert!((measured / known - 1.0).abs() <= 0.05, "{what}: {measured} here, known is {known}");
}

/// The busy guest writes and reads 1 MiB a second and has four frames of 1,042 bytes each way.
async fn known_rates_are_measured(source: &Source) {
    source.collect().await;
    pause(20.0).await;
    let collection = source.collect().await;
    let rate = |table, field| float(&collection, table, BUSY, field).unwrap();
    close("bytes written", rate("disk", "write_bytes_per_second"), 1_048_576.0);
    close("bytes read", rate("disk", "read_bytes_per_second"), 1_048_576.0);
    close("writes", rate("disk", "write_ops_per_second"), 16.0);
    close("bytes sent", rate("network", "transmit_bytes_per_second"), 4.0 * 1_042.0);
    close("bytes received", rate("network", "receive_bytes_per_second"), 4.0 * 1_042.0);
}

async fn a_known_quota_is_measured(rig: &Rig, source: &Source) {
    let quota = |microseconds: &str| {
        rig.virsh(&["schedinfo", BUSY, "--live", "--set", &format!("global_quota={microseconds}")])
    };
    // 0.4 of its two processors, of which it would use more than one.
    quota("40000");
    pause(1.0).await;
    source.collect().await;
    pause(10.0).await;
    let collection = source.collect().await;
    quota("-1");
    close("utilization", utilization(&collection, BUSY).unwrap(), 0.2);
}

/// One column of the only row of a resource in the table `storage`.
fn space(collection: &Collection, name: &str, field: &str) -> f64 {
    float(collection, "storage", name, field).unwrap_or_else(|| panic!("{name} has no {field}"))
}

/// What `virsh pool-info` or `vol-info` prints behind a word, in bytes.
fn printed(text: &str, word: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(word)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn storage_agrees_with_virsh(rig: &Rig) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().to_str().unwrap();
    rig.virsh(&["pool-create-as", "measured", "dir", "--target", target]);
    rig.virsh(&["vol-create-as", "measured", "disk.qcow2", "64M", "--format", "qcow2"]);
    rig.virsh(&["vol-create-as", "measured", "full.raw", "4M", "--format", "raw"]);
    let source =
        Source::with(Config { uri: rig.uri(), storage_every: Span::seconds(1), ..Config::default() });
    let begun = Instant::now();
    let collection = loop {
        let collection = source.collect().await;
        if !rows(&collection, "storage", "measured").is_empty() {
            break collection;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no storage rows");
        pause(0.2).await;
    };
    assert!(collection.faults.is_empty(), "{:?}", collection.faults);
    let pool = rig.virsh(&["pool-info", "measured", "--bytes"]);
    for (field, word) in
        [("limit_bytes", "Capacity"), ("used_bytes", "Allocation"), ("available_bytes", "Available")]
    {
        assert_eq!(space(&collection, "measured", field), printed(&pool, word), "{word}");
    }
    for volume in ["disk.qcow2", "full.raw"] {
        let info = rig.virsh(&["vol-info", "--pool", "measured", "--bytes", volume]);
        assert_eq!(space(&collection, volume, "limit_bytes"), printed(&info, "Capacity"), "{volume}");
        assert_eq!(space(&collection, volume, "used_bytes"), printed(&info, "Allocation"), "{volume}");
    }
    assert_eq!(space(&collection, "full.raw", "utilization"), 1.0);
    let (batch, row) = rows(&collection, "storage", "full.raw")[0];
    assert_eq!((batch.tag("resource_type", row), batch.tag("pool", row)), (Some("volume"), Some("measured")));
    assert_eq!(batch.tag("resource_id", row), Some(format!("{target}/full.raw").as_str()));
    assert_eq!(rows(&source.collect().await, "storage", "measured").len(), 0, "only every second");
    source.collector.close().await;
    rig.virsh(&["pool-destroy", "measured"]);
}

async fn metrics_of_the_file_are_measured(rig: &Rig) {
    let metrics = serde_json::json!([
        { "table": "guest_faults", "fields": [
            { "native": "balloon.minor_fault", "field": "minor_per_second", "convert": "rate" },
            { "native": "vcpu.maximum", "field": "processors", "convert": "value" },
            { "native": "dirtyrate.calc_status", "field": "dirty_status", "convert": "value" },
        ] },
        { "table": "disk", "each": "block", "tag": { "column": "device", "from": "name" }, "fields": [
            { "native": "physical", "field": "allocated_bytes", "convert": "value" },
        ] },
    ]);
    let metrics = serde_json::from_value(metrics).unwrap();
    let source = Source::with(Config { uri: rig.uri(), metrics, ..Config::default() });
    source.settled().await;
    pause(1.0).await;
    let collection = source.collect().await;
    assert!(collection.faults.is_empty(), "{:?}", collection.faults);
    assert_eq!(float(&collection, "guest_faults", BUSY, "processors"), Some(4.0));
    assert!(float(&collection, "guest_faults", BUSY, "minor_per_second").is_some());
    assert_eq!(float(&collection, "guest_faults", BUSY, "dirty_status"), Some(0.0), "the group is asked for");
    let statistics = rig.virsh(&["domstats", "--block", IDLE]);
    let physical = statistics.lines().find_map(|line| line.trim().strip_prefix("block.0.physical=")).unwrap();
    assert_eq!(rows(&collection, "disk", IDLE).len(), 1);
    assert_eq!(float(&collection, "disk", IDLE, "allocated_bytes"), physical.parse().ok());
    source.collector.close().await;
}

/// The events of a guest as event, state and reason, and their times.
fn events(collection: &Collection, guest: &str) -> (Vec<[String; 3]>, Vec<i64>) {
    let mut told: Vec<(i64, [String; 3])> = Vec::new();
    for (batch, row) in rows(collection, "events", guest) {
        let text = |column: &str| match batch.records().column_by_name(column) {
            Some(values) if values.is_valid(row) => values.as_string::<i32>().value(row).to_owned(),
            _ => String::new(),
        };
        let event = batch.tag("event", row).unwrap_or_default().to_owned();
        told.push((batch.times()[row], [event, text("state"), text("reason")]));
    }
    told.sort();
    told.into_iter().map(|(time, event)| (event, time)).unzip()
}

async fn events_tell_what_happened(rig: &Rig, source: &Source) {
    let restarts = |collection: &Collection| {
        let (batch, row) = rows(collection, "status", IDLE)[0];
        let column = batch.records().column_by_name("restarts").unwrap();
        column.as_primitive::<arrow::datatypes::Int64Type>().value(row)
    };
    let before = restarts(&source.collect().await);
    let nanos = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let begun = nanos();
    rig.virsh(&["suspend", IDLE]);
    let suspended = nanos();
    let paused = source.collect().await;
    assert_eq!(text(&paused, IDLE, "provider_state").as_deref(), Some("paused"));
    assert_eq!(text(&paused, IDLE, "reason").as_deref(), Some("user"));
    pause(1.0).await;
    for command in ["resume", "destroy", "start"] {
        rig.virsh(&[command, IDLE]);
    }
    pause(0.3).await;
    let collection = source.collect().await;
    let (mut told, mut times) = events(&paused, IDLE);
    let (later, later_times) = events(&collection, IDLE);
    told.extend(later);
    times.extend(later_times);
    // Whether QEMU still says that it ends when it is killed is a matter of luck.
    let lucky = told.iter().position(|event| event[0] == "shutdown");
    if let Some(place) = lucky {
        told.remove(place);
        times.remove(place);
    }
    let expected = [
        ["suspended", "Suspended", "paused"],
        ["resumed", "Running", "unpaused"],
        ["stopped", "Stopped", "destroyed"],
        // QEMU begins with halted processors, which libvirt then lets go.
        ["resumed", "Running", "unpaused"],
        ["started", "Running", "booted"],
    ];
    assert_eq!(told, expected);
    assert!(times[0] > begun && times[0] < suspended, "an event has its own time");
    assert!(times[1] > suspended + 900_000_000 && times[4] < nanos());
    assert_eq!(restarts(&collection), before + 1);
    assert_eq!(text(&collection, IDLE, "reason").as_deref(), Some("booted"));
    // One that has just started has all its memory until its balloon is filled.
    assert_eq!(float(&collection, "status", BUSY, "vcpus"), Some(2.0));
    assert_eq!(float(&collection, "status", BUSY, "memory_bytes"), Some(128.0 * 1024.0 * 1024.0));
    assert!(events(&source.collect().await, IDLE).0.is_empty(), "each event comes once");
}

async fn a_job_is_seen_while_it_goes_on(rig: &Rig, source: &Source) {
    assert!(rows(&source.collect().await, "job", IDLE).is_empty());
    // A backup that is fetched goes on until it is ended.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let backup = format!(
        "<domainbackup mode='pull'><server transport='unix' socket='{}'/><disks><disk name='vda' type='file'>\
         <scratch file='{}'/></disk></disks></domainbackup>",
        path("socket"),
        path("scratch")
    );
    std::fs::write(path("backup.xml"), backup).unwrap();
    rig.virsh(&["backup-begin", IDLE, &path("backup.xml")]);
    pause(0.5).await;
    let collection = source.collect().await;
    let (batch, row) = rows(&collection, "job", IDLE)[0];
    let operation = batch.records().column_by_name("operation").unwrap().as_string::<i32>();
    assert_eq!(operation.value(row), "backup");
    assert!(float(&collection, "job", IDLE, "elapsed_seconds").unwrap() >= 0.3);
    assert!(rows(&collection, "job", BUSY).is_empty());
    rig.virsh(&["domjobabort", IDLE]);
    pause(0.5).await;
    assert!(rows(&source.collect().await, "job", IDLE).is_empty());
}

/// A command that stands for `ssh`, in a folder that lives as long as it is used.
fn ssh(folder: &tempfile::TempDir, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join("ssh");
    std::fs::write(
        &path,
        format!("#!/bin/sh\necho \"$@\" > {}/arguments\n{text}\n", folder.path().display()),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn a_remote_connection_measures_and_never_holds_up(rig: &Rig) {
    // All of the transport but the network: what the other side of an SSH connection would run.
    let folder = tempfile::tempdir().unwrap();
    let holder = std::fs::read_to_string(format!("{}/holder.pid", rig.state)).unwrap();
    let enter = format!("nsenter -t {} -m -n -p", holder.trim());
    let command = ssh(&folder, &format!("exec {enter} virt-ssh-helper -r qemu:///system"));
    let source = Source::with(Config {
        uri: format!("qemu+ssh://user@elsewhere/system?command={command}"),
        ..Config::default()
    });
    source.collect().await;
    pause(1.0).await;
    let collection = source.collect().await;
    assert!(utilization(&collection, BUSY).is_some(), "{:?}", collection.faults);
    assert!(float(&collection, "disk", BUSY, "write_bytes_per_second").is_some());
    let arguments = std::fs::read_to_string(folder.path().join("arguments")).unwrap();
    assert!(arguments.contains("BatchMode=yes"), "nobody is asked for a password: {arguments}");
    source.collector.close().await;

    let folder = tempfile::tempdir().unwrap();
    let command = ssh(&folder, "exec sleep 20");
    let config =
        Config { uri: format!("qemu+ssh://elsewhere/system?command={command}"), ..Config::default() };
    let deadline = config.deadline.0 + Duration::from_secs(1);
    let source = Source::with(config);
    for _ in 0..2 {
        let asked = Instant::now();
        let error = source.try_collect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        assert!(asked.elapsed() < deadline, "{:?}", asked.elapsed());
    }
    source.collector.close().await;
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
