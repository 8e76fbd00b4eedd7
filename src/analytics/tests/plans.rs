//! How much is read: what the plan and its metrics say.

use super::support::{Rig, row};

/// Segments of one host and hour each: host `a` in windows 0 to 5, then host `b`.
async fn fleet() -> Rig {
    let mut rig = Rig::new();
    for host in ["a", "b"] {
        for window in 0..6 {
            let start = window * 1_000 + if host == "b" { 100_000 } else { 0 };
            rig.segment((0..100).map(|second| row(host, start + second, second as f64)).collect()).await;
        }
    }
    rig
}

/// The number of files that the scans of an analyzed plan opened.
fn files(plan: &str) -> usize {
    let counts = plan.split("files_opened=").skip(1);
    counts.map(|rest| rest.split(',').next().unwrap().parse::<usize>().unwrap()).sum()
}

#[tokio::test]
async fn segments_outside_the_time_range_are_not_opened() {
    let rig = fleet().await;
    let sql = "SELECT * FROM load WHERE time >= '1970-01-01T00:00:00.000002' AND time < '1970-01-01T00:00:00.000004'";
    let plan = rig.analyze(sql).await;
    assert_eq!(files(&plan), 2, "{plan}");
    assert!(!plan.contains("MergeExec"), "{plan}");
    assert_eq!(rig.query(sql).await.iter().map(|batch| batch.num_rows()).sum::<usize>(), 200);
    assert_eq!(files(&rig.analyze("SELECT * FROM load").await), 12);
    let never = rig.analyze("SELECT * FROM load WHERE time > '2020-01-01'").await;
    assert_eq!(files(&never), 0, "{never}");
}

#[tokio::test]
async fn segments_without_the_tag_value_are_not_opened() {
    let rig = fleet().await;
    for filter in ["host = 'b'", "host IN ('b', 'd')", "host LIKE 'b%'", "host > 'a'", "'b' = host"] {
        let plan = rig.analyze(&format!("SELECT * FROM load WHERE {filter}")).await;
        assert_eq!(files(&plan), 6, "{filter}: {plan}");
    }
    for filter in ["zone = 'x'", "host IS NULL", "host = 'c'", "zone IS NOT NULL"] {
        let plan = rig.analyze(&format!("SELECT * FROM load WHERE {filter}")).await;
        assert_eq!(files(&plan), 0, "{filter}: {plan}");
    }
}

#[tokio::test]
async fn a_count_without_overlap_reads_nothing() {
    let rig = fleet().await;
    let plan = rig.analyze("SELECT count(*) FROM load").await;
    assert_eq!(files(&plan), 0, "{plan}");
    let plan = rig.analyze("SELECT min(time), max(time) FROM load").await;
    assert_eq!(files(&plan), 0, "{plan}");
}

#[tokio::test]
async fn only_what_overlaps_is_merged_and_its_filter_on_keys_goes_below() {
    let mut rig = fleet().await;
    rig.segment(vec![row("a", 1_050, 9.0)]).await;
    rig.run(vec![row("a", 3_000, 9.0)]);
    let plan = rig.analyze("SELECT * FROM load WHERE host = 'a' AND load > 8").await;
    assert!(plan.contains("MergeExec: groups=2, inputs=4"), "{plan}");
    assert!(!plan.contains("SortExec"), "the inputs are sorted already: {plan}");
    assert!(!plan.contains("RepartitionExec: partitioning=RoundRobin"), "{plan}");
    let below = plan.split("MergeExec").nth(1).unwrap();
    assert!(below.contains("host@"), "the filter on the tag goes below the merge: {plan}");
    assert!(!below.contains("load@3 > 8") && !below.contains("load@1 > 8"), "{plan}");
    let tag_only = rig.analyze("SELECT count(*) FROM load WHERE host = 'b'").await;
    assert!(!tag_only.contains("MergeExec"), "parts are left out before they are grouped: {tag_only}");
}

#[tokio::test]
async fn the_newest_rows_are_found_without_reading_the_rest() {
    let rig = fleet().await;
    let sql = "SELECT host, time FROM load ORDER BY time DESC LIMIT 5";
    let plan = rig.analyze(sql).await;
    assert!(plan.contains("TopK(fetch=5)"), "{plan}");
    assert!(plan.contains("DynamicFilter"), "{plan}");
    let lines = rig.lines("SELECT time::bigint AS t FROM load ORDER BY time DESC LIMIT 2").await;
    assert_eq!(lines, ["105099", "105098"]);
    // One file per partition may be open before the filter knows anything, and the one after it.
    let rest = plan.split("files_ranges_pruned_statistics=12 total → ").nth(1).unwrap();
    let read: usize = rest.split(' ').next().unwrap().parse().unwrap();
    assert!(read <= 4, "{plan}");
}

#[tokio::test]
async fn a_limit_stops_early_with_and_without_a_merge() {
    let mut rig = fleet().await;
    assert_eq!(rig.lines("SELECT load FROM load LIMIT 7").await.len(), 7);
    rig.run((0..50).map(|second| row("a", second * 2, 1.0)).collect());
    assert_eq!(rig.lines("SELECT load FROM load LIMIT 7").await.len(), 7);
    assert_eq!(rig.lines("SELECT load FROM load WHERE load >= 0 LIMIT 7").await.len(), 7);
    assert_eq!(rig.lines("SELECT load FROM load").await.len(), 1_200);
}
