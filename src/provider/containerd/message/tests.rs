use super::*;
use crate::provider::containerd::figures::{Machine, derive};

/// One field of a message on the wire.
fn number(tag: u32, value: u64) -> Vec<u8> {
    let mut bytes = encoded(u64::from(tag) << 3);
    bytes.extend(encoded(value));
    bytes
}

fn double(tag: u32, value: f64) -> Vec<u8> {
    let mut bytes = encoded(u64::from(tag) << 3 | 1);
    bytes.extend(value.to_le_bytes());
    bytes
}

fn inner(tag: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = encoded(u64::from(tag) << 3 | 2);
    bytes.extend(encoded(content.len() as u64));
    bytes.extend(content);
    bytes
}

fn text(tag: u32, text: &str) -> Vec<u8> {
    inner(tag, &[text.as_bytes().to_vec()])
}

fn encoded(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn a_message_of_version_2() {
    let psi = inner(7, &[inner(1, &[double(1, 12.5), number(4, 700)])]);
    let message = [
        inner(1, &[number(1, 3), number(2, u64::MAX)]),
        inner(2, &[number(1, 5_000), number(4, 20), psi]),
        inner(4, &[number(1, 100), number(2, 200), number(32, 1 << 40), number(99, 1)]),
        inner(
            6,
            &[
                inner(1, &[number(1, 8), number(3, 11), number(4, 22)]),
                inner(1, &[number(1, 253), number(2, 1), number(3, 33)]),
            ],
        ),
        inner(7, &[number(1, 4096), text(3, "2MB")]),
        inner(8, &[number(5, 2)]),
        inner(77, &[number(1, 1)]),
    ];
    let figures = figures(Version::V2, &message.concat()).unwrap();
    let found = |name: &str| figures.number(name);
    assert_eq!((found("pids.current"), found("pids.limit")), (Some(3), Some(u64::MAX)));
    assert_eq!((found("cpu.usage_usec"), found("cpu.nr_periods")), (Some(5_000), Some(20)));
    assert_eq!(found("cpu.throttled_usec"), Some(0), "a zero is not sent");
    assert_eq!(found("cpu.nr_bursts"), None, "and what the other side may not know is no zero");
    assert_eq!((found("memory.file"), found("memory.usage")), (Some(200), Some(1 << 40)));
    assert_eq!(figures.indexes("io.usage"), ["253:1", "8:0"]);
    assert_eq!((found("io.usage.8:0.rbytes"), found("io.usage.253:1.wbytes")), (Some(11), Some(0)));
    assert_eq!(found("hugetlb.2MB.current"), Some(4096));
    assert_eq!(found("memory_events.oom_kill"), Some(2));
    assert_eq!(figures.float("cpu.psi.some.avg10"), Some(12.5));
    assert_eq!(found("cpu.psi.some.total"), Some(700));
    assert_eq!(figures.float("cpu.psi.full.avg10"), None, "no pressure is not a pressure of 0");
    assert_eq!(figures.float("memory.psi.some.avg10"), None);
}

#[test]
fn operations_and_packed_numbers_of_version_1() {
    let operation = |op: &str, value| inner(1, &[text(1, op), number(3, 8), number(5, value)]);
    let packed = inner(4, &[encoded(300), encoded(0), encoded(7)]);
    let message = [
        inner(3, &[inner(1, &[number(1, 307), packed])]),
        inner(5, &[operation("Read", 5), operation("Write", 6), operation("Total", 11)]),
        inner(7, &[text(1, "eth0.1"), number(2, 9)]),
    ];
    let figures = figures(Version::V1, &message.concat()).unwrap();
    let found = |name: &str| figures.number(name);
    assert_eq!([found("cpu.usage.per_cpu.0"), found("cpu.usage.per_cpu.2")], [Some(300), Some(7)]);
    assert_eq!(found("blkio.io_service_bytes_recursive.8:0.write"), Some(6));
    assert_eq!(figures.text("network.0.name"), Some("eth0.1"));
    assert_eq!(found("memory.usage.usage"), None, "a message that is not there has no zeros");
}

#[test]
fn half_a_message_is_none() {
    let whole = inner(3, &[inner(1, &[number(1, 1_000_000)])]);
    for length in 1..whole.len() {
        assert!(figures(Version::V1, &whole[..length]).is_none(), "{length}");
    }
    assert!(figures(Version::V1, &[0xff; 12]).is_none());
    assert!(figures(Version::V1, &[]).unwrap().is_empty());
    assert_eq!(Version::of("types/io.containerd.cgroups.v1.Metrics"), Some(Version::V1));
    assert_eq!(Version::of("io.containerd.cgroups.v3.Metrics"), None);
}

/// A message of version 1 as containerd 1.6.20 sent it for a container with a limit of 64 MiB that uses a processor.
const RECORDED: &str = "\
    120208031a210a1d08e8aa91cc13108084af5f1880c583e812220a9caafaa90acc8097a209120022aa010880e0341080\
    e00b2880803438b83940f93848d3485880a00b60804068808034708060800180808020880180e0ffffffffffff7f9001\
    80e034980180e00bb001808034c001b839c801f938d001d348e00180a00be8018040f001808034f80180608a020e0880\
    8080201080e073188080cd029202130880e0ffffffffffff7f1080e073188080cd029a02120880e0ffffffffffff7f10\
    80e01a1880a02da2020a0880e0ffffffffffff7f2a004a00";

#[test]
fn a_recorded_message_of_version_1() {
    let bytes: Vec<u8> = (0..RECORDED.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&RECORDED[at..at + 2], 16).unwrap())
        .collect();
    let mut figures = figures(Version::V1, &bytes).unwrap();
    let found = |name: &str| figures.number(name);
    assert_eq!((found("pids.current"), found("pids.limit")), (Some(3), Some(0)));
    assert_eq!(found("cpu.usage.total"), Some(5_259_941_224));
    assert_eq!(
        (found("cpu.usage.user"), found("cpu.usage.kernel")),
        (Some(5_050_000_000), Some(200_000_000))
    );
    assert_eq!(found("cpu.usage.per_cpu.1"), Some(2_487_599_180));
    assert_eq!(found("cpu.throttling.throttled_time"), Some(0));
    assert_eq!(found("memory.hierarchical_memory_limit"), Some(64 << 20));
    assert_eq!((found("memory.total_cache"), found("memory_oom_control.oom_kill")), (Some(864_256), Some(0)));
    assert_eq!(figures.indexes("blkio.io_service_bytes_recursive"), [""; 0]);
    derive(Version::V1, &mut figures, &Machine::default());
    assert_eq!(figures.float("derived.limit_bytes"), Some(67_108_864.0));
    assert!(figures.float("derived.used_bytes").unwrap() < 2e6);
}
