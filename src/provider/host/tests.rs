use super::cpu::{Shares, Times};
use super::*;

const SECOND: i64 = 1_000_000_000;

fn window(end: i64) -> Window {
    Window { start: end - SECOND, end }
}

fn table<'a>(collection: &'a Collection, name: &str) -> &'a MetricBatch {
    collection.batches.iter().find(|batch| batch.table() == name).unwrap()
}

#[tokio::test]
async fn two_readings_of_this_machine_fill_every_table() {
    let collector = HostCollector::new(&Config::default()).unwrap();
    let shard = collector.discover().await.unwrap().remove(0);
    let first = collector.collect(&shard, window(SECOND)).await.unwrap();
    assert!(first.faults.is_empty(), "{:?}", first.faults);
    assert_eq!(table(&first, "cpu").rows(), 1, "shares need two readings, the load does not");
    assert_eq!(table(&first, "cpu").float("utilization", 0), None);

    std::thread::sleep(std::time::Duration::from_millis(120));
    let second = collector.collect(&shard, window(2 * SECOND)).await.unwrap();
    let cpu = table(&second, "cpu");
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(cpu.rows() > cores.min(1), "a row for the machine and one per core");
    assert!(cpu.times().iter().all(|time| *time == 2 * SECOND));
    for row in 0..cpu.rows() {
        let utilization = cpu.float("utilization", row).unwrap();
        assert!((0.0..=1.0).contains(&utilization), "{utilization}");
    }
    let memory = table(&second, "memory");
    assert!(memory.float("used_bytes", 0).unwrap() < memory.float("limit_bytes", 0).unwrap());
    assert!(table(&second, "filesystem").rows() >= 1);
    assert!(table(&second, "network").rows() >= 1);
    assert!(table(&second, "status").float("uptime_seconds", 0).unwrap() > 0.0);
}

#[test]
fn shares_are_parts_of_the_time_that_passed() {
    let before = Times { user: 100, system: 50, idle: 800, iowait: 40, steal: 10 };
    let now = Times { user: 130, system: 60, idle: 840, iowait: 50, steal: 20 };
    let shares = Shares::between(before, now).unwrap();
    assert_eq!(shares.utilization, 0.5);
    assert_eq!((shares.user, shares.system, shares.iowait, shares.steal), (0.3, 0.1, 0.1, 0.1));
}

#[test]
fn counters_that_go_back_give_no_invented_share() {
    let before = Times { user: 100, system: 50, idle: 800, iowait: 40, steal: 10 };
    assert_eq!(Shares::between(before, Times { user: 1, ..before }), None, "a reset");
    assert_eq!(Shares::between(before, before), None, "no time passed");
    let idle_went_back = Times { idle: 799, user: 110, ..before };
    assert_eq!(Shares::between(before, idle_went_back).unwrap().utilization, 1.0);
}

#[tokio::test]
async fn ignored_prefixes_leave_devices_and_interfaces_out() {
    let all = vec![String::new()];
    let config =
        Config { ignore_devices: all.clone(), ignore_interfaces: all.clone(), ignore_mountpoints: all };
    let collector = HostCollector::new(&config).unwrap();
    let collection = collector.collect(&Shard("local".into()), window(SECOND)).await.unwrap();
    let tables: Vec<_> = collection.batches.iter().map(MetricBatch::table).collect();
    assert_eq!(tables, ["cpu", "memory", "status"]);
}
