//! The commands that need no running pipeline, as processes: what they print and how they end.
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str =
    "name: a\nsources: { host: { type: host, every: 5s } }\nsinks: { out: { type: stdout } }\n";
const BAD: &str = "name: a\nsources: { host: { type: host, evry: 5s } }\nsinks: { out: { type: stdot } }\n";

fn barograph(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_barograph"));
    command
        .args(args)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env_remove("BAROGRAPH_TEST_TOKEN")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn check_tells_of_every_file_and_ends_with_2_if_one_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.yaml"), GOOD).unwrap();
    std::fs::write(folder.path().join("bad.yaml"), BAD).unwrap();
    let good = barograph(folder.path(), &["check", "good.yaml"]);
    assert_eq!(
        (code(&good), text(&good.stdout).as_str()),
        (0, "good.yaml: ok (1 source, 0 transforms, 1 sink)\n")
    );
    assert!(good.stderr.is_empty());

    let both = barograph(folder.path(), &["check", "bad.yaml", "good.yaml"]);
    let printed = text(&both.stdout);
    assert_eq!(code(&both), 2);
    for words in
        ["--> bad.yaml:2:12", "--> bad.yaml:2:32", "--> bad.yaml:3:23", "bad.yaml: 3 errors", "good.yaml: ok"]
    {
        assert!(printed.contains(words), "{words} is not in\n{printed}");
    }

    let json = barograph(folder.path(), &["check", "--format", "json", "bad.yaml", "good.yaml"]);
    assert_eq!(code(&json), 2);
    let objects: Vec<serde_json::Value> =
        text(&json.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((objects.len(), &objects[0]["errors"], &objects[1]["ok"]), (2, &3.into(), &true.into()));
    assert_eq!(objects[0]["diagnostics"][2]["help"][0], "did you mean `stdout`?");
}

#[test]
fn run_refuses_a_bad_file_before_it_starts_anything() {
    let folder = tempfile::tempdir().unwrap();
    let store = "name: a\nsources: { h: { type: host, every: 5s } }\nsinks: { s: { type: store, path: data, retention: \"${env:BAROGRAPH_TEST_TOKEN}\" } }\n";
    std::fs::write(folder.path().join("bad.yaml"), store).unwrap();
    let run = barograph(folder.path(), &["run", "bad.yaml"]);
    assert_eq!(code(&run), 2);
    let told = text(&run.stderr);
    assert!(told.contains("--> bad.yaml:3:") && told.contains("BAROGRAPH_TEST_TOKEN is not set"), "{told}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn schemas_are_printed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let schema = barograph(folder.path(), &["schema", "pipeline"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["title"], "Barograph pipeline");
    let tables = text(&barograph(folder.path(), &["schema", "tables"]).stdout);
    for table in ["cpu: ", "disk: ", "filesystem: ", "memory: ", "network: ", "status: "] {
        assert!(tables.lines().any(|line| line.starts_with(table)), "{table} is not in\n{tables}");
    }
}

#[test]
fn usage_and_failures_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let version = barograph(folder.path(), &["--version"]);
    let expected = format!("barograph {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((code(&version), text(&version.stdout)), (0, expected));
    let help = barograph(folder.path(), &["--help"]);
    let printed = text(&help.stdout);
    assert!(
        ["check", "schema", "run", "query", "tables"].iter().all(|name| printed.contains(name)),
        "{printed}"
    );
    assert_eq!(code(&barograph(folder.path(), &["chekc"])), 2);
    assert_eq!(code(&barograph(folder.path(), &["check"])), 2);
    assert_eq!(code(&barograph(folder.path(), &["check", "nothing.yaml"])), 2);

    let failed = barograph(folder.path(), &["tables", "--data", "nothing"]);
    let told = text(&failed.stderr);
    assert_eq!((code(&failed), told.matches("error: ").count()), (1, 1), "{told}");
    let filter = barograph(folder.path(), &["--log-level", "a=b=c", "tables"]);
    assert_eq!(code(&filter), 1);
    assert!(text(&filter.stderr).contains("use the log filter"));
}
