//! The collector against libvirt's built-in test driver, which needs no daemon and knows one running guest.

use super::*;
use crate::ErrorKind;
use crate::model::MetricBatch;

const SECOND: i64 = 1_000_000_000;

fn collector(uri: &str) -> KvmCollector {
    KvmCollector::new(&Config { uri: uri.into(), ..Config::default() }).unwrap()
}

fn window(end: i64) -> Window {
    Window { start: end - SECOND, end }
}

fn table<'a>(collection: &'a Collection, name: &str) -> &'a MetricBatch {
    collection.batches.iter().find(|batch| batch.table() == name).unwrap()
}

#[tokio::test]
async fn the_test_drivers_guest_has_a_status() {
    let collector = collector("test:///default");
    let shard = collector.discover().await.unwrap().remove(0);
    assert_eq!(shard, Shard("test:///default".into()));
    let collection = collector.collect(&shard, window(SECOND)).await.unwrap();
    assert!(collection.faults.is_empty(), "{:?}", collection.faults);
    let status = table(&collection, "status");
    assert_eq!(status.rows(), 1);
    assert_eq!(status.times(), [SECOND]);
    let tag = |name| status.tag(name, 0);
    assert_eq!(tag("provider"), Some("kvm"));
    assert_eq!(tag("account"), Some("test:///default"));
    assert!(tag("region").is_some());
    assert_eq!(tag("resource_type"), Some("instance"));
    assert_eq!(tag("resource_id"), Some("6695eb01-f6a4-8304-79aa-97f2502e193f"));
    assert_eq!(tag("resource_name"), Some("test"));
    assert_eq!(tag("observer"), Some("hypervisor"));
    // The driver has no statistics, but says how many processors the guest has and how long they ran.
    assert!(table(&collection, "cpu").float("cores", 0).unwrap() >= 1.0);
    collector.close().await;
    let error = collector.collect(&shard, window(SECOND)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_missing_socket_is_unavailable_so_that_the_source_waits() {
    let collector = collector("qemu:///system?socket=/nonexistent/libvirt-sock");
    let error = collector.discover().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    let shard = Shard("qemu:///system?socket=/nonexistent/libvirt-sock".into());
    let error = collector.collect(&shard, window(SECOND)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_impossible_uri_or_deadline_is_refused_at_once() {
    let hasty = Config { deadline: crate::model::Span::seconds(0), ..Config::default() };
    assert!(KvmCollector::new(&hasty).unwrap_err().to_string().contains("at least 100ms"));
    for uri in ["", "qemu:///sys\0tem"] {
        let error = KvmCollector::new(&Config { uri: uri.into(), ..Config::default() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
