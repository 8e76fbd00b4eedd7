use std::time::Duration;

use super::*;
use crate::provider::kvm::Config;
use crate::provider::mapping::params::Param;
use crate::yaml;

const SECOND: i64 = 1_000_000_000;

/// A busy guest with two processors; what `virsh domstats` prints, shortened.
const BUSY: &str = "state.state=1
cpu.time=26867023000
cpu.user=26028448000
cpu.system=838575000
balloon.current=131072
balloon.maximum=262144
balloon.swap_in=0
balloon.unused=62988
balloon.available=91812
balloon.usable=66484
balloon.last-update=1795455677
balloon.disk_caches=2580
balloon.rss=220908
vcpu.current=2
vcpu.maximum=4
vcpu.0.time=4360000000
vcpu.0.wait=0
vcpu.0.delay=5533823944
vcpu.1.time=22500000000
vcpu.1.wait=0
vcpu.1.delay=4123655044
block.count=1
block.0.name=vda
block.0.rd.reqs=728
block.0.rd.bytes=95162880
block.0.rd.times=68760431
block.0.wr.reqs=110
block.0.wr.bytes=92274688
block.0.wr.times=70231756
block.0.allocation=4521984
block.0.capacity=67108864";

const NET: &str = "net.count=1
net.0.name=vnet1
net.0.rx.bytes=26474
net.0.rx.pkts=43
net.0.tx.bytes=25748
net.0.tx.drop=0";

/// `text` with some values replaced.
fn with(text: &str, changes: &[(&str, u64)]) -> Params {
    let mut params = Params::from_text(text);
    for (name, value) in changes {
        params.insert(*name, Param::Unsigned(*value));
    }
    params
}

fn identity() -> Identity {
    Identity {
        provider: "kvm".into(),
        resource_type: "instance".into(),
        observer: "hypervisor".into(),
        ..Identity::host("8d77eba9-b3c3-473a-a575-ca889b3ea5bc")
    }
}

struct Guest(Rates<String>, Mapping);

impl Guest {
    fn measure(
        &mut self,
        at: i64,
        fast: &Params,
        slow: Option<&Params>,
        outside: Outside,
    ) -> Vec<MetricBatch> {
        let mut rows = Rows::new(&self.1, at, Duration::from_secs(60));
        let measured = Measured {
            fast: Reading { params: fast, at },
            slow: slow.map(|params| Reading { params, at }),
            outside,
            now: 1_795_455_680.0,
        };
        rows.guest(&identity(), &mut self.0, measured).unwrap();
        rows.finish().unwrap()
    }

    fn two(&mut self, first: &Params, second: &Params) -> Vec<MetricBatch> {
        let net = Params::from_text(NET);
        self.measure(SECOND, &net, Some(first), Outside::default());
        self.measure(3 * SECOND, &net, Some(second), Outside::default())
    }
}

fn guest() -> Guest {
    Guest(Rates::new(), Mapping::new(&Config::default()).unwrap())
}

fn guest_with(metrics: &str) -> Guest {
    let config = Config { metrics: yaml::from_str(metrics).unwrap(), ..Config::default() };
    Guest(Rates::new(), Mapping::new(&config).unwrap())
}

fn table<'a>(batches: &'a [MetricBatch], name: &str) -> &'a MetricBatch {
    batches.iter().find(|batch| batch.table() == name).unwrap()
}

#[test]
fn cpu_shares_are_of_the_allotted_processors() {
    let second = with(
        BUSY,
        &[
            ("cpu.time", 26_867_023_000 + 3_000_000_000),
            ("cpu.user", 26_028_448_000 + 2_000_000_000),
            ("vcpu.0.time", 4_360_000_000 + 1_000_000_000),
            ("vcpu.1.time", 22_500_000_000 + 2_500_000_000),
            ("vcpu.0.delay", 5_533_823_944 + 400_000_000),
        ],
    );
    let batches = guest().two(&Params::from_text(BUSY), &second);
    let cpu = table(&batches, "cpu");
    assert_eq!(cpu.rows(), 3);
    assert_eq!(cpu.tag("core", 0), None);
    assert_eq!(cpu.float("cores", 0), Some(2.0));
    assert_eq!(cpu.float("utilization", 0), Some(0.75), "3 s of 2 cores in 2 s");
    assert_eq!(cpu.float("user", 0), Some(0.5));
    assert_eq!(cpu.float("system", 0), Some(0.0));
    assert_eq!(cpu.float("steal", 0), Some(0.1), "0.4 s of 4 s");
    assert_eq!((cpu.tag("core", 1), cpu.float("utilization", 1)), (Some("0"), Some(0.5)));
    assert_eq!((cpu.tag("core", 2), cpu.float("utilization", 2)), (Some("1"), Some(1.0)), "never above 1");
    assert_eq!(cpu.float("steal", 1), Some(0.2));
}

#[test]
fn the_first_reading_and_a_reset_have_amounts_but_no_rates() {
    let mut guest = guest();
    let net = Params::from_text(NET);
    let first = guest.measure(SECOND, &net, Some(&Params::from_text(BUSY)), Outside::default());
    assert_eq!(table(&first, "cpu").rows(), 1, "processors without a rate make no row");
    assert_eq!(table(&first, "cpu").float("cores", 0), Some(2.0));
    assert_eq!(table(&first, "disk").float("limit_bytes", 0), Some(67_108_864.0));
    assert!(table(&first, "disk").records().column_by_name("read_bytes_per_second").is_none());

    let reset = with(BUSY, &[("cpu.time", 5), ("block.0.rd.bytes", 5)]);
    let second = guest.measure(2 * SECOND, &net, Some(&reset), Outside::default());
    assert_eq!(table(&second, "cpu").float("utilization", 0), None);
    assert_eq!(table(&second, "disk").float("read_bytes_per_second", 0), None);
    assert_eq!(table(&second, "disk").float("write_bytes_per_second", 0), Some(0.0));
}

#[test]
fn disk_rates_and_latencies() {
    let second = with(
        BUSY,
        &[
            ("block.0.rd.reqs", 728 + 10),
            ("block.0.rd.bytes", 95_162_880 + 8_192),
            ("block.0.rd.times", 68_760_431 + 20_000_000),
        ],
    );
    let batches = guest().two(&Params::from_text(BUSY), &second);
    let disk = table(&batches, "disk");
    assert_eq!(disk.tag("device", 0), Some("vda"));
    assert_eq!(disk.float("read_bytes_per_second", 0), Some(4_096.0));
    assert_eq!(disk.float("read_ops_per_second", 0), Some(5.0));
    assert_eq!(disk.float("read_latency_seconds", 0), Some(0.002));
    assert_eq!(disk.float("write_latency_seconds", 0), None, "no operation, no latency");
    assert_eq!(disk.float("allocated_bytes", 0), Some(4_521_984.0));
}

#[test]
fn network_rows_come_from_the_fast_reading() {
    let mut guest = guest();
    guest.measure(SECOND, &Params::from_text(NET), None, Outside::default());
    let batches =
        guest.measure(3 * SECOND, &with(NET, &[("net.0.rx.bytes", 26_474 + 100)]), None, Outside::default());
    let network = table(&batches, "network");
    assert_eq!(network.tag("interface", 0), Some("vnet1"));
    assert_eq!(network.float("receive_bytes_per_second", 0), Some(50.0));
    assert_eq!(network.float("transmit_drops_per_second", 0), Some(0.0));
    assert_eq!(network.float("receive_drops_per_second", 0), None, "a counter that is not there is null");
}

#[test]
fn memory_is_the_guests_word_while_it_is_fresh() {
    let batches = guest().two(&Params::from_text(BUSY), &Params::from_text(BUSY));
    let memory = table(&batches, "memory");
    let used = (91_812.0 - 66_484.0) * 1024.0;
    assert_eq!(memory.float("used_bytes", 0), Some(used));
    assert_eq!(memory.float("available_bytes", 0), Some(66_484.0 * 1024.0));
    assert_eq!(memory.float("limit_bytes", 0), Some(262_144.0 * 1024.0));
    assert_eq!(memory.float("utilization", 0), Some(used / (262_144.0 * 1024.0)));
    assert_eq!(memory.float("statistics_age_seconds", 0), Some(3.0));
}

#[test]
fn old_or_missing_balloon_statistics_give_null_and_say_their_age() {
    let old = with(BUSY, &[("balloon.last-update", 1_795_455_680 - 600)]);
    let batches = guest().two(&old, &old);
    let memory = table(&batches, "memory");
    assert_eq!(memory.float("statistics_age_seconds", 0), Some(600.0));
    for field in ["used_bytes", "available_bytes", "cached_bytes", "utilization", "swap_in_bytes_per_second"]
    {
        assert_eq!(memory.float(field, 0), None, "{field}");
    }
    assert_eq!(memory.float("rss_bytes", 0), Some(220_908.0 * 1024.0), "the hypervisor's own figure stays");

    let never = with(BUSY, &[("balloon.last-update", 0)]);
    let batches = guest().two(&never, &never);
    assert_eq!(table(&batches, "memory").float("statistics_age_seconds", 0), None);
    assert_eq!(table(&batches, "memory").float("used_bytes", 0), None);
}

#[test]
fn a_guest_whose_statistics_are_late_still_has_its_processor_time() {
    let mut guest = guest();
    let net = Params::from_text(NET);
    let outside = |seconds: i64| Outside {
        cpu_time: u64::try_from(seconds * SECOND).ok(),
        cores: Some(2),
        ..Outside::default()
    };
    guest.measure(SECOND, &net, Some(&Params::from_text(BUSY)), outside(100));
    let batches = guest.measure(3 * SECOND, &net, None, outside(101));
    let cpu = table(&batches, "cpu");
    assert_eq!((cpu.rows(), cpu.float("utilization", 0), cpu.float("cores", 0)), (1, Some(0.25), Some(2.0)));
    assert!(!batches.iter().any(|batch| batch.table() == "disk" || batch.table() == "memory"));
}

#[test]
fn a_device_without_a_name_makes_no_row() {
    let nameless = Params::from_text("net.count=2\nnet.0.rx.bytes=5\nnet.1.name=vnet7\nnet.1.rx.bytes=5");
    let mut guest = guest();
    guest.measure(SECOND, &nameless, None, Outside::default());
    let batches = guest.measure(2 * SECOND, &nameless, None, Outside::default());
    let network = table(&batches, "network");
    assert_eq!((network.rows(), network.tag("interface", 0)), (1, Some("vnet7")));
}

#[test]
fn a_metric_of_the_file_joins_a_built_in_row_or_makes_its_own() {
    let mut guest = guest_with(
        "[{ table: disk, each: block, tag: { column: device, from: name }, \
         fields: [{ native: allocation, field: limit_bytes, convert: value }] }, \
         { table: cpu, fields: [{ native: cpu.user, field: iowait, convert: share_of_cores }] }, \
         { table: faults, fields: [{ native: balloon.unused, field: unused_bytes, convert: kibibytes }, \
         { native: state.state, field: state, convert: value, factor: 2 }] }, \
         { table: links, each: net, tag: { column: interface, from: name }, \
         fields: [{ native: rx.pkts, field: packets, convert: value }] }]",
    );
    let second = with(BUSY, &[("cpu.user", 26_028_448_000 + 2_000_000_000)]);
    let batches = guest.two(&Params::from_text(BUSY), &second);
    let disk = table(&batches, "disk");
    assert_eq!((disk.rows(), disk.float("limit_bytes", 0)), (1, Some(4_521_984.0)), "the file's word wins");
    let cpu = table(&batches, "cpu");
    assert_eq!((cpu.rows(), cpu.tag("core", 0)), (3, None));
    assert_eq!(
        (cpu.float("user", 0), cpu.float("iowait", 0)),
        (Some(0.5), Some(0.5)),
        "both read one counter"
    );
    let own = table(&batches, "faults");
    assert_eq!(own.float("unused_bytes", 0), Some(62_988.0 * 1024.0));
    assert_eq!(own.tag("resource_id", 0), Some("8d77eba9-b3c3-473a-a575-ca889b3ea5bc"));
    assert_eq!(own.float("state", 0), None, "the fast reading has it, and this one had none");
    let links = table(&batches, "links");
    assert_eq!((links.tag("interface", 0), links.float("packets", 0)), (Some("vnet1"), Some(43.0)));
}
