use serde_json::json;

use super::*;
use crate::model::resource::{Kind, Size, Status};
use crate::provider::Scope;
use crate::provider::containerd::Config;
use crate::provider::containerd::figures::derive;
use crate::provider::mapping::params::Params;
use crate::yaml;

const SECOND: i64 = 1_000_000_000;

fn instance(vcpus: Option<&str>) -> Instance {
    let scope = Scope { provider: "containerd", account: "/s".into() };
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let labels = [
        label("io.kubernetes.pod.name", "web-pod"),
        label("io.kubernetes.pod.namespace", "shop"),
        label("io.kubernetes.container.name", "web"),
    ];
    Instance {
        id: scope.id("k8s.io", Kind::Instance, "0a1b"),
        name: Some("web".into()),
        status: Status::new(State::Running, "RUNNING"),
        size: Size { vcpus: vcpus.map(|vcpus| vcpus.parse().unwrap()), ..Size::default() },
        image: None,
        zone: None,
        disks: Vec::new(),
        interfaces: Vec::new(),
        tags: labels.into_iter().collect(),
        protected: Some(false),
        created_at: None,
        started_at: Some(crate::model::Timestamp(SECOND)),
        raw: serde_json::from_value(json!({})).unwrap(),
    }
}

fn machine() -> Machine {
    Machine { cores: Some(4.0), memory: Some(1 << 30), ..Machine::default() }
}

/// The batches of the second of two readings, two seconds apart.
fn two(version: Version, metrics: &str, vcpus: Option<&str>, texts: [&str; 2]) -> Vec<MetricBatch> {
    let config = Config { metrics: yaml::from_str(metrics).unwrap(), ..Config::default() };
    let (mapping, machine) = (Mapping::new(&config).unwrap(), machine());
    let mut rates = Rates::new();
    let mut last = Vec::new();
    for (text, second) in texts.into_iter().zip([1, 3]) {
        let mut params = Params::from_text(text);
        derive(version, &mut params, &machine);
        let network = Params::from_text(&format!("network.0.name=eth0\nnetwork.0.rx_bytes={}", second * 100));
        let measured = Measured {
            message: Some((version, Reading { params: &params, at: second * SECOND })),
            network: Some(Reading { params: &network, at: second * SECOND }),
            ..Measured::default()
        };
        let mut rows = Rows::new(&mapping, &machine, 10 * SECOND);
        rows.container(&instance(vcpus), &mut rates, measured).unwrap();
        last = rows.finish().unwrap();
    }
    last
}

fn table<'a>(batches: &'a [MetricBatch], name: &str) -> &'a MetricBatch {
    batches.iter().find(|batch| batch.table() == name).unwrap_or_else(|| panic!("no rows of {name}"))
}

#[test]
fn processor_shares_are_of_the_limit_or_of_the_machine() {
    let texts = [
        "cpu.usage.total=0\ncpu.throttling.throttled_periods=1\ncpu.throttling.throttled_time=0",
        "cpu.usage.total=400000000\ncpu.throttling.throttled_periods=11\ncpu.throttling.throttled_time=1000000000",
    ];
    let limited = two(Version::V1, "[]", Some("0.5"), texts);
    let cpu = table(&limited, "cpu");
    let value = |field: &str| cpu.float(field, 0).unwrap();
    assert_eq!((value("utilization"), value("cores")), (0.4, 0.5));
    assert!((value("cores_used") - 0.2).abs() < 1e-9);
    assert_eq!((value("throttled_periods_per_second"), value("throttled_seconds_per_second")), (5.0, 0.5));
    assert_eq!(table(&two(Version::V1, "[]", None, texts), "cpu").float("utilization", 0), Some(0.05));
    let texts =
        ["cpu.usage_usec=0\ncpu.throttled_usec=0", "cpu.usage_usec=400000\ncpu.throttled_usec=1000000"];
    let second = two(Version::V2, "[]", Some("0.5"), texts);
    let cpu = table(&second, "cpu");
    assert_eq!(cpu.float("utilization", 0), Some(0.4));
    assert!((cpu.float("cores_used", 0).unwrap() - 0.2).abs() < 1e-9);
    assert_eq!(cpu.float("throttled_seconds_per_second", 0), Some(0.5));
}

#[test]
fn a_message_of_version_2_fills_every_table() {
    let text = |n: u64| {
        format!(
            "cpu.usage_usec={n}\nmemory.usage=3000\nmemory.usage_limit=4000\nmemory.inactive_file=1000\n\
             memory.pgfault={n}\nmemory_events.oom_kill=1\npids.current=7\npids.limit=100\n\
             io.usage.8:0.rbytes={n}\nio.usage.8:0.wios={n}\nhugetlb.2MB.current=4096\n\
             memory.psi.some.total={n}\nmemory.psi.some.avg10=25"
        )
    };
    let batches = two(Version::V2, "[]", None, [&text(0), &text(2_000_000)]);
    let one = |name: &str, field: &str| table(&batches, name).float(field, 0);
    assert_eq!((one("memory", "used_bytes"), one("memory", "limit_bytes")), (Some(2000.0), Some(4000.0)));
    assert_eq!((one("memory", "utilization"), one("memory", "oom_kills")), (Some(0.5), Some(1.0)));
    assert_eq!(one("memory", "page_faults_per_second"), Some(1e6));
    assert_eq!(one("disk", "read_bytes_per_second"), Some(1e6));
    assert_eq!((table(&batches, "disk").rows(), table(&batches, "disk").tag("device", 0)), (1, Some("8:0")));
    assert_eq!(one("hugepages", "used_bytes"), Some(4096.0));
    assert_eq!(table(&batches, "pressure").tag("resource", 0), Some("memory"));
    assert_eq!((one("pressure", "some"), one("pressure", "some_10s")), (Some(1.0), Some(0.25)));
    assert_eq!(one("network", "receive_bytes_per_second"), Some(100.0));
    let status = table(&batches, "status");
    assert_eq!((status.float("processes", 0), status.float("processes_limit", 0)), (Some(7.0), Some(100.0)));
    assert_eq!(status.float("uptime_seconds", 0), Some(9.0));
    for batch in &batches {
        assert_eq!(batch.tag("resource_name", 0), Some("web"), "{}", batch.table());
        assert_eq!(batch.tag("region", 0), Some("k8s.io"));
        assert_eq!(batch.tag("tag_k8s_pod_name", 0), Some("web-pod"));
        assert_eq!(batch.tag("tag_k8s_namespace_name", 0), Some("shop"));
    }
}

#[test]
fn any_field_of_the_message_by_its_path() {
    let metrics = "[{ table: mine, fields: [{ native: memory.usage.max, field: highest, convert: value }, \
                   { native: 'hugetlb.*.usage', field: huge, convert: value }, \
                   { native: memory_events.high, field: high, convert: value }] }, \
                   { table: network, each: network, tag: { column: interface, from: name }, \
                   fields: [{ native: rx_bytes, field: receive_packets_per_second, convert: rate }] }]";
    let text = "memory.usage.max=55\nhugetlb.2MB.usage=1\nhugetlb.1GB.usage=2";
    let batches = two(Version::V1, metrics, None, [text, text]);
    let mine = table(&batches, "mine");
    assert_eq!((mine.float("highest", 0), mine.float("huge", 0)), (Some(55.0), Some(3.0)));
    assert_eq!(mine.float("high", 0), None, "of the other version");
    let network = table(&batches, "network");
    assert_eq!((network.rows(), network.float("receive_packets_per_second", 0)), (1, Some(100.0)));
}

#[test]
fn what_happened_is_told_with_the_containers_name_while_it_is_known() {
    let (mapping, machine) = (Mapping::new(&Config::default()).unwrap(), machine());
    let mut rows = Rows::new(&mapping, &machine, 10 * SECOND);
    let event = Event {
        namespace: "k8s.io".into(),
        id: "0a1b".into(),
        event: "stopped",
        state: Some(State::Stopped),
        reason: Some("exit 3".into()),
        exit_code: Some(3),
        time: 5 * SECOND,
    };
    rows.event("/s", &event, Some(&instance(None))).unwrap();
    rows.event("/s", &Event { time: 6 * SECOND, ..event }, None).unwrap();
    let batches = rows.finish().unwrap();
    let events = table(&batches, "events");
    assert_eq!(events.times(), [5 * SECOND, 6 * SECOND]);
    assert_eq!((events.tag("resource_name", 0), events.tag("resource_name", 1)), (Some("web"), Some("0a1b")));
}
