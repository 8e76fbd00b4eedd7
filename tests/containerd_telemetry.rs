//! The containerd source against a real daemon: see `tests/rigs/containerd.sh`.
//!
//! One test, because its steps share the containers and disturb them one after the other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are worth seeing with --nocapture")]

use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use barograph::model::{MetricBatch, Span};
use barograph::provider::containerd::{Config, ContainerdCollector};
use barograph::provider::{Collection, Collector, Shard, Window};

const MIB: f64 = 1024.0 * 1024.0;

/// A daemon with the rig's three containers, ended with all that the test left.
struct Rig {
    state: tempfile::TempDir,
}

impl Rig {
    fn up() -> Self {
        let rig = Self { state: tempfile::Builder::new().prefix("barograph-ct").tempdir_in("/tmp").unwrap() };
        rig.run("up", &[]);
        rig
    }

    fn output(&self, command: &str, arguments: &[&str]) -> Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/containerd.sh");
        Command::new(script).arg(command).arg(self.state.path()).args(arguments).output().unwrap()
    }

    fn run(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.output(command, arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{command} {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        self.run("ctr", arguments)
    }

    /// Starts one more container.
    fn start(&self, name: &str, options: &[&str], script: &str) {
        let image = "rig.local/busybox:1";
        let group = format!("/{}", self.group(name));
        let own = ["run", "--detach", "--null-io", "--cgroup", &group];
        self.ctr(&[&own[..], options, &[image, name, "/bin/sh", "-c", script]].concat());
    }

    /// A control group that no other rig has.
    fn group(&self, name: &str) -> String {
        format!("barograph-test-{}/{name}", std::process::id())
    }

    fn pid(&self, name: &str) -> String {
        let tasks = self.ctr(&["tasks", "ls"]);
        let line = tasks.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    fn source(&self) -> Source {
        let socket = self.state.path().join("containerd.sock").display().to_string();
        let metrics = serde_json::json!([{ "table": "own", "fields": [
            { "native": "memory.usage.max", "field": "highest_bytes", "convert": "value" },
            { "native": "memory.max_usage", "field": "highest_bytes_v2", "convert": "value" },
            { "native": "pids.current", "field": "processes", "convert": "value" },
        ] }]);
        let metrics = serde_json::from_value(metrics).unwrap();
        let config = Config { socket, metrics, usage_every: Span::seconds(1), ..Config::default() };
        let shard = Shard(config.socket.clone());
        Source { collector: ContainerdCollector::new(&config).unwrap(), shard, deadline: config.deadline.0 }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.output("down", &[]);
        for root in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = root.path().join(format!("barograph-test-{}", std::process::id()));
            let inner = std::fs::read_dir(&group).into_iter().flatten().flatten();
            inner.for_each(|inner| drop(std::fs::remove_dir(inner.path())));
            let _ = std::fs::remove_dir(group);
        }
    }
}

struct Source {
    collector: ContainerdCollector,
    shard: Shard,
    deadline: Duration,
}

impl Source {
    async fn collect(&self) -> Collection {
        self.collector.collect(&self.shard, Window { start: 0, end: nanos() }).await.unwrap()
    }
}

fn nanos() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// The rows of one container in one table, as batch and row number.
fn rows<'a>(collection: &'a Collection, table: &str, id: &str) -> Vec<(&'a MetricBatch, usize)> {
    let batch = collection.batches.iter().find(|batch| batch.table() == table);
    let all = batch.into_iter().flat_map(|batch| (0..batch.rows()).map(move |row| (batch, row)));
    all.filter(|(batch, row)| batch.tag("resource_id", *row) == Some(id)).collect()
}

fn float(collection: &Collection, table: &str, id: &str, field: &str) -> Option<f64> {
    rows(collection, table, id).iter().find_map(|(batch, row)| batch.float(field, *row))
}

#[track_caller]
fn must(collection: &Collection, table: &str, id: &str, field: &str) -> f64 {
    float(collection, table, id, field)
        .unwrap_or_else(|| panic!("{id} has no {table}.{field}: {:?}", collection.faults))
}

fn text_of(batch: &MetricBatch, row: usize, column: &str) -> Option<String> {
    let values = batch.records().column_by_name(column)?.as_string::<i32>();
    values.is_valid(row).then(|| values.value(row).to_owned())
}

fn state(collection: &Collection, id: &str) -> Option<String> {
    let (batch, row) = *rows(collection, "status", id).first()?;
    text_of(batch, row, "state")
}

fn stuck(collection: &Collection, id: &str) -> Option<bool> {
    let (batch, row) = *rows(collection, "status", id).first()?;
    let values = batch.records().column_by_name("stuck")?.as_boolean();
    values.is_valid(row).then(|| values.value(row))
}

/// An event with its state, exit code and time.
type Told = (String, Option<String>, Option<i64>, i64);

fn events(collections: &[&Collection], id: &str) -> Vec<Told> {
    let mut told = Vec::new();
    for collection in collections {
        for (batch, row) in rows(collection, "events", id) {
            let codes = batch.records().column_by_name("exit_code");
            let codes = codes.map(|codes| codes.as_primitive::<Int64Type>());
            let code = codes.and_then(|codes| codes.is_valid(row).then(|| codes.value(row)));
            let event = batch.tag("event", row).unwrap().to_owned();
            told.push((event, text_of(batch, row, "state"), code, batch.times()[row]));
        }
    }
    told.sort_by_key(|told| told.3);
    told
}

/// Whether a figure is within 5 % of what it must be.
#[track_caller]
fn close(what: &str, measured: f64, known: f64) {
    println!("{what}: {measured:.4}, known {known:.4}");
    assert!((measured / known - 1.0).abs() <= 0.05, "{what}: {measured} here, known is {known}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_on_a_real_daemon() {
    let rig = Rig::up();
    let source = rig.source();
    assert_eq!(source.collector.discover().await.unwrap(), std::slice::from_ref(&source.shard));
    every_container_has_its_rows(&source).await;
    what_happens_is_told(&rig, &source).await;
    known_loads_are_measured(&rig, &source).await;
    a_hung_shim_stays_alone(&rig, &source).await;
    source.collector.close().await;
}

async fn every_container_has_its_rows(source: &Source) {
    let first = source.collect().await;
    assert!(first.faults.is_empty(), "{:?}", first.faults);
    assert!(!first.batches.iter().any(|batch| batch.table() == "events"), "nothing has just happened");
    pause(2.0).await;
    let collection = source.collect().await;
    assert!(collection.faults.is_empty(), "{:?}", collection.faults);
    for id in ["rig-busy", "rig-idle", "rig-mem"] {
        assert_eq!(
            (state(&collection, id).as_deref(), stuck(&collection, id)),
            (Some("Running"), Some(false))
        );
        let (batch, row) = rows(&collection, "status", id)[0];
        for (tag, value) in [
            ("provider", "containerd"),
            ("account", source.shard.0.as_str()),
            ("region", "rig"),
            ("resource_type", "container"),
            ("resource_name", id),
            ("observer", "runtime"),
            ("tag_k8s_namespace_name", "rig-pods"),
            ("tag_k8s_container_name", id),
        ] {
            assert_eq!(batch.tag(tag, row), Some(value), "{tag}");
        }
        assert_eq!(batch.tag("tag_k8s_pod_name", row), Some(format!("{id}-pod").as_str()));
        assert!((1.0..600.0).contains(&must(&collection, "status", id, "uptime_seconds")), "{id}");
        assert!(must(&collection, "status", id, "processes") >= 1.0);
        assert!(must(&collection, "own", id, "processes") >= 1.0);
        assert!(float(&collection, "cpu", id, "utilization").is_some(), "{id}");
    }
    assert!(must(&collection, "cpu", "rig-busy", "cores_used") > 0.1);
    assert!(must(&collection, "cpu", "rig-idle", "cores_used") < 0.05);
    let cores = std::fs::read_to_string("/proc/stat").unwrap();
    let cores = cores.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    assert_eq!(must(&collection, "cpu", "rig-busy", "cores"), cores as f64, "no limit: the machine's");
    let memory = |field| must(&collection, "memory", "rig-mem", field);
    assert_eq!(memory("limit_bytes"), 128.0 * MIB);
    assert!((16.0 * MIB..40.0 * MIB).contains(&memory("rss_bytes")), "{}", memory("rss_bytes"));
    assert!(
        memory("used_bytes") >= 16.0 * MIB && memory("used_bytes") + memory("available_bytes") == 128.0 * MIB
    );
    let inodes = counted(source, "rig-idle", "inodes_used").await;
    assert!(inodes >= 1.0, "{inodes}");
    close("space of 16 MiB of files", counted(source, "rig-mem", "used_bytes").await, 16.0 * MIB);
}

/// Space is counted beside the polls, one container after the other, and told by the first poll after its count.
async fn counted(source: &Source, id: &str, field: &str) -> f64 {
    for _ in 0..60 {
        if let Some(value) = float(&source.collect().await, "filesystem", id, field) {
            return value;
        }
        pause(0.5).await;
    }
    panic!("the space of {id} was not counted within 30 s");
}

async fn what_happens_is_told(rig: &Rig, source: &Source) {
    let begun = nanos();
    rig.start("ends", &[], "sleep 1; exit 3");
    rig.start(
        "full",
        &["--memory-limit", "16777216"],
        "x=$(dd if=/dev/zero bs=1M count=64 | tr '\\0' a); sleep 60",
    );
    rig.ctr(&["tasks", "pause", "rig-idle"]);
    pause(2.5).await;
    let first = source.collect().await;
    let ended = nanos();
    assert_eq!(state(&first, "rig-idle").as_deref(), Some("Suspended"));
    rig.ctr(&["tasks", "resume", "rig-idle"]);
    rig.ctr(&["tasks", "delete", "ends"]);
    rig.ctr(&["containers", "delete", "ends"]);
    pause(0.5).await;
    let second = source.collect().await;
    let told = events(&[&first, &second], "ends");
    let words: Vec<_> = told.iter().map(|told| (told.0.as_str(), told.1.as_deref(), told.2)).collect();
    assert_eq!(
        words,
        [
            ("created", Some("Stopped"), None),
            ("started", Some("Running"), None),
            ("stopped", Some("Stopped"), Some(3)),
            ("deleted", Some("Deleted"), None),
        ]
    );
    assert!(begun < told[0].3 && told[2].3 < ended, "an event has its own time");
    assert_eq!(state(&first, "ends").as_deref(), Some("Stopped"));
    for table in ["cpu", "memory"] {
        assert!(rows(&first, table, "ends").is_empty(), "{table} of what has ended");
    }
    let alive = (told[2].3 - told[1].3) as f64 / 1e9;
    assert!((0.9..2.0).contains(&alive), "{alive}");
    assert_eq!(state(&first, "ends").as_deref(), Some("Stopped"));
    let (batch, row) = rows(&first, "status", "ends")[0];
    assert_eq!(text_of(batch, row, "reason").as_deref(), Some("exit 3"));
    assert_eq!(state(&second, "ends").as_deref(), Some("Deleted"), "its series ends");

    let full = events(&[&first, &second], "full");
    assert!(full.iter().any(|told| told.0 == "oom_killed"), "{full:?}");
    assert!(full.iter().any(|told| told.0 == "stopped" && told.2 == Some(137)), "{full:?}");
    let idle: Vec<_> = events(&[&first, &second], "rig-idle").into_iter().map(|told| told.0).collect();
    assert_eq!(idle, ["suspended", "resumed"]);
    assert!(rows(&source.collect().await, "events", "ends").is_empty(), "each event comes once");
}

/// Gives a container an interface, and the other end of it to this machine with the address 10.78.0.1.
fn link(pid: &str) -> impl Drop {
    struct Link(String);
    impl Drop for Link {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["link", "del", &self.0]).output();
        }
    }
    let ip = |prefix: &[&str], arguments: &str| {
        let words = prefix.iter().copied().chain(["ip"]).chain(arguments.split_whitespace());
        let words: Vec<_> = words.collect();
        let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let inside = ["nsenter", "-t", pid, "-n"];
    let link = Link(format!("bct{pid}"));
    let ours = &link.0;
    ip(&[], &format!("link add {ours} type veth peer name eth0 netns {pid}"));
    ip(&[], &format!("addr add 10.78.0.1/30 dev {ours}"));
    ip(&inside, "addr add 10.78.0.2/30 dev eth0");
    ip(&inside, "link set eth0 up");
    ip(&[], &format!("link set {ours} up"));
    link
}

/// What the kernel has counted for the control group of a process, of either version: seconds of processors, and periods
/// of its quota.
fn counted_by_kernel(pid: &str) -> (f64, f64) {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group = |controller: &str| {
        let mut lines = groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        lines.find(|parts| parts[1].split(',').any(|one| one == controller)).map(|parts| parts[2].to_owned())
    };
    let read = |path: String| std::fs::read_to_string(path).unwrap();
    let number = |stat: &str, name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<f64>().unwrap()
    };
    match (group("cpuacct"), group("cpu")) {
        (Some(used), Some(limited)) => {
            let used = read(format!("/sys/fs/cgroup/cpuacct{used}/cpuacct.usage"));
            let stat = read(format!("/sys/fs/cgroup/cpu{limited}/cpu.stat"));
            (number(&used, "") / 1e9, number(&stat, "nr_periods "))
        }
        _ => {
            let stat = read(format!("/sys/fs/cgroup{}/cpu.stat", group("").unwrap()));
            (number(&stat, "usage_usec ") / 1e6, number(&stat, "nr_periods "))
        }
    }
}

async fn known_loads_are_measured(rig: &Rig, source: &Source) {
    rig.start("quota", &["--cpus", "0.2"], "while :; do :; done");
    rig.start("net", &[], "while :; do sleep 3600; done");
    let pid = rig.pid("net");
    let _link = link(&pid);
    let quota = rig.pid("quota");
    pause(3.0).await;
    source.collect().await;
    let before = (Instant::now(), counted_by_kernel(&quota));
    // 200 frames of 1,042 bytes in each second: 1,000 bytes and the headers of UDP, IP and Ethernet.
    let socket = UdpSocket::bind("10.78.0.1:0").unwrap();
    let begun = Instant::now();
    for packet in 1..=2000_u32 {
        let _ = socket.send_to(&[0; 1000], "10.78.0.2:9");
        tokio::time::sleep_until((begun + Duration::from_millis(5) * packet).into()).await;
    }
    let collection = source.collect().await;
    let passed = before.0.elapsed().as_secs_f64();
    assert!(collection.faults.is_empty(), "{:?}", collection.faults);
    // The quota, unless this machine is so busy that the kernel could not give it.
    let after = counted_by_kernel(&quota);
    let known = (after.0 - before.1.0) / passed;
    let periods = (after.1 - before.1.1) / passed;
    assert!(known <= 0.21, "{known} of a quota of 0.2");
    close("cores used", must(&collection, "cpu", "quota", "cores_used"), known);
    close("utilization of the limit", must(&collection, "cpu", "quota", "utilization"), known / 0.2);
    close("limit", must(&collection, "cpu", "quota", "cores"), 0.2);
    assert!(periods <= 10.5, "{periods} periods of 100 ms in a second");
    close("periods", must(&collection, "cpu", "quota", "periods_per_second"), periods);
    let throttled = must(&collection, "cpu", "quota", "throttled_periods_per_second");
    assert!((0.5 * periods..=1.05 * periods).contains(&throttled), "{throttled} of {periods}");
    assert!(must(&collection, "cpu", "quota", "throttled_seconds_per_second") > 0.2);
    let (batch, row) = rows(&collection, "network", "net")[0];
    assert_eq!(batch.tag("interface", row), Some("eth0"));
    close("packets received", must(&collection, "network", "net", "receive_packets_per_second"), 200.0);
    close("bytes received", must(&collection, "network", "net", "receive_bytes_per_second"), 208_400.0);
}

async fn a_hung_shim_stays_alone(rig: &Rig, source: &Source) {
    source.collect().await;
    rig.run("freeze", &["rig-idle"]);
    let mut waits = Vec::new();
    for poll in 1..=6 {
        pause(1.0).await;
        let asked = Instant::now();
        let collection = source.collect().await;
        waits.push(asked.elapsed());
        for id in ["rig-busy", "rig-mem", "quota"] {
            assert!(float(&collection, "cpu", id, "utilization").is_some(), "poll {poll}: {id}");
            assert_eq!(stuck(&collection, id), Some(false), "poll {poll}: {id}");
        }
        assert_eq!(stuck(&collection, "rig-idle"), Some(true), "poll {poll}");
        assert!(rows(&collection, "cpu", "rig-idle").is_empty());
        let faults: Vec<_> = collection.faults.iter().map(ToString::to_string).collect();
        assert!(faults.len() == 1 && faults[0].contains("rig-idle"), "poll {poll}: {faults:?}");
    }
    println!("waits beside a hung shim: {waits:?}");
    assert!(waits[0] < source.deadline + Duration::from_secs(1), "{waits:?}");
    let mut others = waits[1..].to_vec();
    others.sort();
    assert!(others[others.len() / 2] < Duration::from_millis(500), "it is waited for again: {waits:?}");
    rig.run("thaw", &["rig-idle"]);
    let thawed = Instant::now();
    loop {
        pause(0.5).await;
        let collection = source.collect().await;
        if stuck(&collection, "rig-idle") == Some(false) && collection.faults.is_empty() {
            break;
        }
        assert!(thawed.elapsed() < Duration::from_secs(20), "{:?}", collection.faults);
    }
}
