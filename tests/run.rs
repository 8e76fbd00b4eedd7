//! `barograph run` as a process: this machine's rows into a store, probes and metrics, signals, reload.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what failed by panicking")]

use std::process::Command;

#[allow(unreachable_pub, dead_code, missing_docs, reason = "tests share the file and use parts of it")]
#[path = "support/process.rs"]
mod process;

use process::{Run, get, metric};

/// Asserts that every accepted row of a sink is accounted for, and gives the number delivered.
fn balanced(text: &str, sink: &str) -> f64 {
    let rows = |what: &str| metric(text, &format!("barograph_pipeline_rows_{what}"), sink);
    let parts =
        rows("delivered_total") + rows("dead_lettered_total") + rows("queued") + rows("dropped_total");
    assert!((rows("accepted_total") - parts).abs() < 0.5, "{sink} does not balance:\n{text}");
    rows("delivered_total")
}

const STORE: &str = "
name: local
sources:
  host: { type: host, every: 1s }
sinks:
  store: { type: store, path: ./data }
";

const BOTH: &str = "
name: local
sources:
  host: { type: host, every: 1s }
transforms:
  - { type: tag, set: { site: lab } }
  - { type: drop, table: cpu, columns: [core] }
sinks:
  store: { type: store, path: ./data }
  lines: { type: stdout, format: line_protocol }
";

#[test]
fn rows_of_this_machine_reach_the_store_and_a_stop_drains() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::start(folder.path(), STORE, &[]);
    let address = run.address();
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    run.until("ready", |_| Some(()).filter(|()| get(address, "/readyz").starts_with("HTTP/1.1 200")));
    let delivered = run.until("rows", |_| {
        let delivered = balanced(&get(address, "/metrics"), "store");
        Some(delivered).filter(|rows| *rows > 10.0)
    });
    assert!(delivered > 10.0);
    run.signal("TERM");
    assert_eq!(run.code(), 0, "{}", run.log());
    assert!(run.log().contains("\"rows_left\":0"), "{}", run.log());
    let checkpoints = std::fs::read_to_string(folder.path().join("data/checkpoints.json")).unwrap();
    let checkpoints: serde_json::Value = serde_json::from_str(&checkpoints).unwrap();
    let mark = checkpoints["sources"]["host"]["local"].as_i64().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = i64::try_from(now.as_nanos()).unwrap() - mark;
    assert!((0..30_000_000_000).contains(&age), "the mark is {age} ns old");
    assert_eq!(mark % 1_000_000_000, 0);

    // The rows are there for a reader, and a second run goes on in the same folder.
    let store = barograph::store::Reader::open(folder.path().join("data")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let snapshot = runtime.block_on(store.snapshot()).unwrap();
    assert!(snapshot.tables.contains_key("cpu") && snapshot.tables.contains_key("memory"));
    let mut again = Run::start(folder.path(), STORE, &["--for", "2s"]);
    assert_eq!(again.code(), 0, "{}", again.log());
}

#[test]
fn a_second_sink_gets_every_row_and_transforms_apply() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::start(folder.path(), BOTH, &["--data", "elsewhere"]);
    let address = run.address();
    run.until("rows in both", |_| {
        let text = get(address, "/metrics");
        let (store, lines) = (balanced(&text, "store"), balanced(&text, "lines"));
        Some(()).filter(|()| store > 10.0 && lines > 10.0)
    });
    run.signal("INT");
    assert_eq!(run.code(), 0, "{}", run.log());
    let lines = std::fs::read_to_string(folder.path().join("stdout")).unwrap();
    assert!(lines.lines().count() > 10);
    assert!(lines.lines().all(|line| line.contains("site=lab")), "{lines}");
    assert!(folder.path().join("elsewhere/checkpoints.json").is_file());
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_standard_output_that_nobody_reads_costs_the_store_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::start_unread(folder.path(), BOTH, &[]);
    let address = run.address();
    run.until("rows in the store and given up for the lines", |_| {
        let text = get(address, "/metrics");
        let (store, lines) = (balanced(&text, "store"), balanced(&text, "lines"));
        let given_up = metric(&text, "barograph_pipeline_rows_dead_lettered_total", "lines");
        Some(()).filter(|()| store > 30.0 && lines < 0.5 && given_up > 30.0)
    });
    run.signal("TERM");
    assert_eq!(run.code(), 0, "{}", run.log());
    let letters = barograph::pipeline::LetterFolder::new(&folder.path().join("data"));
    let read = letters.list().unwrap().into_iter().map(|entry| letters.read(&entry).unwrap());
    let memory =
        read.filter(|letter| (letter.component.as_str(), letter.batch.table()) == ("lines", "memory"));
    let used: Vec<_> = memory.map(|letter| letter.batch.float("used_bytes", 0)).collect();
    assert!(used.iter().any(Option::is_some), "dead letters hold the rows: {used:?}");

    // What a person does with them.
    let deadletters = |args: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_barograph"))
            .arg("deadletters")
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
        String::from_utf8(command.stdout).unwrap()
    };
    let objects = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let listed = objects(&deadletters(&["list", "--table", "memory"]));
    assert!(!listed.is_empty());
    assert!(listed.iter().all(|letter| letter["component"] == "lines" && letter["table"] == "memory"));
    let exported = objects(&deadletters(&["export", "--component", "lines", "--table", "memory"]));
    assert_eq!(
        exported.len() as u64,
        listed.iter().map(|letter| letter["rows"].as_u64().unwrap()).sum::<u64>()
    );
    assert!(exported[0]["row"]["used_bytes"].is_number(), "{}", exported[0]);
    let lines = deadletters(&["export", "--table", "memory", "--format", "line-protocol"]);
    assert!(lines.starts_with("memory,"), "{lines}");
    assert!(deadletters(&["purge"]).contains("would delete"));
    // The store of the same pipeline takes them.
    let replayed = deadletters(&["replay", "pipeline.yaml", "--to", "store", "--table", "memory"]);
    assert!(
        replayed.starts_with(&format!("rows delivered: {}, refused again: 0", exported.len())),
        "{replayed}"
    );
    assert_eq!(deadletters(&["list", "--table", "memory"]), "");
    assert!(deadletters(&["purge", "--yes"]).starts_with("deleted: "));
    assert_eq!(deadletters(&["list"]), "");
}

#[test]
fn a_bad_file_is_refused_at_a_reload_and_good_ones_take_over_without_losing_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    let mut run = Run::start(folder.path(), STORE, &[]);
    let address = run.address();
    run.until("rows", |_| Some(()).filter(|()| balanced(&get(address, "/metrics"), "store") > 0.0));

    std::fs::write(&file, "name: local\nsources:\n  host: { type: hots, every: 1s }\nsinks: {}\n").unwrap();
    run.signal("HUP");
    let log = run.wait_for("the reload is refused");
    assert!(log.contains("hots"), "{log}");
    let before = balanced(&get(address, "/metrics"), "store");
    run.until("more rows", |_| Some(()).filter(|()| balanced(&get(address, "/metrics"), "store") > before));

    std::fs::write(&file, BOTH).unwrap();
    run.signal("HUP");
    run.wait_for("\"reloaded\"");
    run.until("rows in the new sink", |_| {
        let text = get(address, "/metrics");
        let kept = balanced(&text, "store") > before;
        Some(()).filter(|()| kept && balanced(&text, "lines") > 0.0)
    });

    // A store that changed is closed, which lets its folder go, and opened again; the other sink is gone.
    std::fs::write(&file, STORE.replace("./data", "./data, retention: 30d")).unwrap();
    run.signal("HUP");
    run.until("second reload", |run| Some(()).filter(|()| run.log().matches("\"reloaded\"").count() == 2));
    let before = balanced(&get(address, "/metrics"), "store");
    run.until("rows in the changed store", |_| {
        Some(()).filter(|()| balanced(&get(address, "/metrics"), "store") > before)
    });

    // Under another name it goes on in the same folder, with the same account.
    let delivered = balanced(&get(address, "/metrics"), "store");
    std::fs::write(&file, STORE.replace("  store:", "  kept:")).unwrap();
    run.signal("HUP");
    run.until("third reload", |run| Some(()).filter(|()| run.log().matches("\"reloaded\"").count() == 3));
    run.until("rows in the renamed store", |_| {
        Some(()).filter(|()| balanced(&get(address, "/metrics"), "kept") > delivered)
    });
    let text = get(address, "/metrics");
    assert!(!text.contains("component=\"lines\""), "{text}");
    assert!((metric(&text, "barograph_pipeline_reloads_total", "local") - 3.0).abs() < 0.5, "{text}");
    assert!((metric(&text, "barograph_pipeline_reloads_refused_total", "local") - 1.0).abs() < 0.5, "{text}");
    run.signal("TERM");
    assert_eq!(run.code(), 0, "{}", run.log());
}

#[test]
fn a_run_that_ends_before_the_first_tick_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::start(folder.path(), &STORE.replace("1s", "30d"), &["--for", "1s"]);
    assert_eq!(run.code(), 0, "{}", run.log());
    assert!(run.log().contains("no source had a turn") && run.log().contains("30days"), "{}", run.log());
}

#[test]
fn a_stop_is_heard_while_a_reload_waits_and_a_second_one_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "
name: local
settings: { drain: 1h }
sources:
  host: { type: host, every: 100ms }
sinks:
  lines: { type: stdout, format: json }
";
    let mut run = Run::start_stalled(folder.path(), lines, &[]);
    let address = run.address();
    run.until("a write that waits for the reader", |_| {
        Some(())
            .filter(|()| metric(&get(address, "/metrics"), "barograph_pipeline_rows_queued", "lines") > 500.0)
    });
    std::fs::write(folder.path().join("pipeline.yaml"), lines.replace("json", "line_protocol")).unwrap();
    run.signal("HUP");
    run.wait_for("\"reloading\"");
    run.signal("TERM");
    run.wait_for("the reload is cut short");
    run.signal("TERM");
    assert_eq!(run.code(), 4, "{}", run.log());
}

#[test]
fn a_taken_port_a_taken_store_and_a_bad_file_are_clear_errors() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::start(folder.path(), STORE, &[]);
    let address = run.address();
    run.wait_for("pipeline runs");
    let fail = |file: &str, more: &[&str]| {
        std::fs::write(folder.path().join("other.yaml"), file).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_barograph"))
            .args(["run", "other.yaml", "--for", "1s"])
            .args(more)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let error = fail(STORE, &["--listen", &address.to_string(), "--data", "other"]);
    assert!(error.contains("--listen") && error.contains(&address.to_string()), "{error}");
    let error = fail(STORE, &["--listen", "none"]);
    assert!(error.contains(&run.id().to_string()), "{error}");
    let error = fail("name: x\nsorces: {}\n", &["--listen", "none"]);
    assert!(error.contains("sorces") && error.contains("other.yaml"), "{error}");
    let error = fail(STORE, &["--listen", "0.0.0.0:0", "--data", "other"]);
    assert!(error.contains("BAROGRAPH_TOKEN"), "{error}");
    run.signal("TERM");
    assert_eq!(run.code(), 0, "{}", run.log());
}
