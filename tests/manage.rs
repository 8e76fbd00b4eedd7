//! Resources from the command line, as a person does it, on a containerd of our own; and what needs no daemon on
//! libvirt's test driver.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

struct Rig(PathBuf);

impl Rig {
    fn up() -> Self {
        let rig = Self("/tmp/barograph-manage-ctr".into());
        rig.run(&["start"]);
        rig
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/containerd.sh"));
        let output = command.arg(arguments[0]).arg(&self.0).args(&arguments[1..]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

struct Shell {
    folder: tempfile::TempDir,
}

impl Shell {
    fn new(pipeline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
        Self { folder }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_barograph"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("BAROGRAPH_CONFIG", "p.yaml")
            .env_remove("BAROGRAPH_DATA")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Has to succeed; its JSON.
    #[track_caller]
    fn json(&self, words: &[&str]) -> Vec<Value> {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{words:?}: {e}: {}", text(&output.stdout)))
    }

    /// Has to end with this code; what it said.
    #[track_caller]
    fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}{}", text(&output.stdout));
        said
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pipeline(source: &str) -> String {
    format!("name: a\nsources: {{ here: {source} }}\nsinks: {{ out: {{ type: stdout }} }}\n")
}

fn create<'a>(name: &'a str, script: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["instances", "create", name, "--region", "cli", "--image", "cli.local/busybox:1"];
    words.extend(["--memory", "32MiB", "--vcpus", "0.2", "--yes"]);
    words.extend(more);
    words.extend(["--", "/bin/sh", "-c", script]);
    words
}

const OBEYS: &str = "trap 'exit 7' TERM; while :; do sleep 0.1; done";
const IGNORES: &str = "trap '' TERM; while :; do sleep 0.1; done";

#[test]
fn containers_live_and_die_by_the_command_line() {
    let rig = Rig::up();
    let socket = rig.run(&["socket"]);
    let shell =
        Shell::new(&pipeline(&format!("{{ type: containerd, every: 5s, socket: {} }}", socket.trim())));
    let archive = rig.0.join("image.tar").display().to_string();
    let words = ["images", "import", &archive, "--name", "cli.local/busybox:1", "--region", "cli", "--yes"];
    assert_eq!(shell.json(&words)[0]["phase"], "done");
    assert!(shell.json(&["images", "list"]).iter().any(|image| image["name"] == "cli.local/busybox:1"));

    // A plan is shown and nothing is done; without a terminal nobody can say yes.
    let plan = shell.json(&create("web-1", OBEYS, &["--start", "--dry-run"]));
    assert_eq!(plan[0]["wanted"]["do"], "create_instance", "{plan:#?}");
    assert!(plan[0]["steps"].as_array().unwrap().len() >= 2);
    let words: Vec<_> = create("web-1", OBEYS, &[]).into_iter().filter(|word| *word != "--yes").collect();
    assert!(shell.fails(6, &words).contains("--yes"));
    assert!(shell.json(&["instances", "list"]).is_empty());

    for name in ["web-1", "web-2"] {
        let made = shell.json(&create(name, OBEYS, &["--start", "--tag", "team=web"]));
        assert_eq!((&made[0]["phase"], &made[0]["changed"]), (&"done".into(), &true.into()), "{made:#?}");
    }
    shell.json(&create("db", OBEYS, &["--tag", "barograph.protected=true"]));
    let states = |expression: &str| -> Vec<String> {
        let columns = ["--columns", "name,state"];
        let words = [&["instances", "list", "--where", expression][..], &columns].concat();
        let rows = shell.json(&words);
        rows.iter().map(|row| format!("{} {}", row["name"], row["state"]).replace('"', "")).collect()
    };
    assert_eq!(states("name LIKE 'web-%'"), ["web-1 Running", "web-2 Running"]);
    assert_eq!(states("state = 'Stopped' AND vcpus < 1"), ["db Stopped"]);
    assert!(shell.fails(2, &["instances", "list", "--where", "stat = 'Running'"]).contains("state"));
    let csv = shell.run(&["instances", "list", "--format", "csv", "--columns", "name,memory_bytes"]);
    assert!(text(&csv.stdout).starts_with("name,memory_bytes\n"), "{}", text(&csv.stdout));
    assert!(text(&csv.stdout).contains("web-1,33554432\n"));
    let shown = shell.json(&["instances", "show", "web-1"]);
    assert_eq!((&shown[0]["image"], &shown[0]["region"]), (&"cli.local/busybox:1".into(), &"cli".into()));

    // Guards.
    assert!(shell.fails(6, &["instances", "delete", "db", "--yes"]).contains("barograph.protected"));
    let all = ["instances", "stop", "--where", "name IS NOT NULL", "--yes", "--max-affected", "1"];
    assert!(shell.fails(6, &all).contains("--max-affected"));
    // What would be refused can be looked at all the same.
    let output = shell.run(&[&all[..], &["--dry-run"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("would be refused"), "{}", text(&output.stderr));
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap().len(), 3);
    assert!(shell.fails(2, &["instances", "stop", "--yes"]).contains("say which"));
    assert!(shell.fails(5, &["instances", "stop", "nobody", "--yes"]).contains("nobody"));
    assert_eq!(states("name LIKE 'web-%'"), ["web-1 Running", "web-2 Running"]);

    // Changes.
    let resized = shell.json(&["instances", "resize", "web-1", "--memory", "64MiB", "--yes"]);
    assert_eq!(resized[0]["changed"], true);
    assert_eq!(shell.json(&["instances", "show", "web-1"])[0]["memory_bytes"], 64 << 20);
    shell.json(&["instances", "suspend", "web-1", "--yes"]);
    assert_eq!(states("name = 'web-1'"), ["web-1 Suspended"]);
    let resized = shell.json(&["instances", "resize", "web-1", "--memory", "48MiB", "--yes"]);
    assert_eq!(resized[0]["changed"], true, "a provider says itself in which states it can");
    shell.json(&["instances", "resume", "web-1", "--yes"]);
    let stopped = shell.json(&["instances", "stop", "--where", "tags['team'] = 'web'", "--yes"]);
    assert_eq!(stopped.len(), 2);
    assert_eq!(states("name LIKE 'web-%'"), ["web-1 Stopped", "web-2 Stopped"]);
    assert!(shell.json(&["instances", "show", "web-1"])[0]["reason"].as_str().unwrap().contains("exit 7"));
    let again = shell.json(&["instances", "stop", "web-1", "--yes"]);
    assert_eq!(again[0]["changed"], false);
    shell.json(&["instances", "delete", "web-1", "web-2", "--yes"]);

    secrets(&shell);
    ends_by_itself(&shell);
    interrupted(&shell);
    several_sources(&rig, socket.trim());
    let left = shell.json(&["instances", "list", "--where", "name <> 'db'"]);
    assert!(left.is_empty(), "{left:#?}");
}

/// What a container is told in its environment is nobody else's business.
fn secrets(shell: &Shell) {
    let plan = shell.json(&create("told", OBEYS, &["--env", "PASSWORD=hunter2", "--dry-run"]));
    let plan = serde_json::to_string(&plan).unwrap();
    assert!(plan.contains("PASSWORD=[hidden]") && !plan.contains("hunter2"), "{plan}");
    let made = shell.json(&create("told", OBEYS, &["--env", "PASSWORD=hunter2"]));
    let operation = made[0]["operation"].as_str().unwrap();
    let shown = text(&shell.run(&["operations", "show", operation]).stdout);
    assert!(shown.contains("PASSWORD=[hidden]") && !shown.contains("hunter2"), "{shown}");
    shell.json(&["instances", "delete", "told", "--yes"]);
}

/// A container whose work is done at once was started all the same.
fn ends_by_itself(shell: &Shell) {
    let output = shell.run(&create("job", "exit 3", &["--start"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("it ran and has ended: exit 3"), "{}", text(&output.stderr));
    shell.json(&["instances", "delete", "job", "--yes"]);
}

/// Sources beside each other: a place that one of them has is enough, and a whole id asks nobody else.
fn several_sources(rig: &Rig, socket: &str) {
    let shell = Shell::new(&format!(
        "name: a\nsources:\n  here: {{ type: containerd, every: 5s, socket: {socket} }}\n  \
         again: {{ type: containerd, every: 9s, socket: {socket} }}\n  \
         guests: {{ type: kvm, every: 5s, uri: \"test:///default\" }}\n\
         sinks: {{ out: {{ type: stdout }} }}\n"
    ));
    let images = shell.json(&["images", "list", "--region", "cli"]);
    assert_eq!(images.len(), 1, "{} is listed once: {images:#?}", rig.0.display());
    assert_eq!(shell.json(&["instances", "list", "--region", "cli"]).len(), 1);
    assert!(shell.fails(5, &["instances", "list", "--region", "nowhere"]).contains("no such region"));
}

/// A command that is interrupted says what is in flight, and the operation goes on later.
fn interrupted(shell: &Shell) {
    shell.json(&create("slow", IGNORES, &["--start"]));
    let words = ["instances", "stop", "slow", "--grace", "30s", "--force", "--yes"];
    let child = shell.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("in flight: stop instance slow"), "{said}");
    let operations = shell.json(&["operations", "list"]);
    assert_eq!(operations.len(), 1, "{operations:#?}");
    let operation = operations[0]["operation"].as_str().unwrap();
    assert!(said.contains(&format!("barograph operations resume {operation}")), "{said}");
    let shown = shell.run(&["operations", "show", operation]);
    assert_eq!(serde_json::from_slice::<Value>(&shown.stdout).unwrap()["phase"], "running");
    // Going on is a change like any other: it can be looked at first, and has to be confirmed.
    let left = shell.json(&["operations", "resume", operation, "--dry-run"]);
    assert_eq!(left[0]["steps"].as_array().unwrap().len(), 1, "{left:#?}");
    assert!(shell.fails(6, &["operations", "resume", operation]).contains("--yes"));
    assert!(
        shell
            .fails(6, &["operations", "resume", operation, "--yes", "--max-affected", "0"])
            .contains("affected")
    );
    assert_eq!(shell.json(&["instances", "show", "slow"])[0]["state"], "Running");
    let resumed = shell.json(&["operations", "resume", operation, "--yes"]);
    assert_eq!(resumed[0]["phase"], "done");
    assert_eq!(shell.json(&["instances", "show", "slow"])[0]["state"], "Stopped");
    assert!(shell.json(&["operations", "list"]).is_empty());
    shell.json(&["instances", "delete", "slow", "--yes"]);
}

#[test]
fn what_cannot_be_reached_ends_with_its_code_and_costs_no_other() {
    let gone = "{ type: containerd, every: 5s, socket: /nonexistent/containerd.sock }";
    let shell = Shell::new(&pipeline(gone));
    let said = shell.fails(8, &["instances", "list"]);
    assert!(said.contains("/nonexistent/containerd.sock"), "{said}");
    let both = format!(
        "name: a\nsources:\n  gone: {gone}\n  guests: {{ type: kvm, every: 5s, uri: \"test:///default\" }}\n\
         sinks: {{ out: {{ type: stdout }} }}\n"
    );
    let shell = Shell::new(&both);
    let output = shell.run(&["instances", "list", "--format", "ndjson", "--columns", "name,state"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "{\"name\":\"test\",\"state\":\"Running\"}\n");
    assert!(text(&output.stderr).contains("/nonexistent/containerd.sock"));
    // What an expression leaves out was found all the same; and a whole id asks no other.
    shell.fails(3, &["instances", "list", "--where", "name = 'nobody'"]);
    let ids = shell.run(&["instances", "list", "--format", "csv", "--columns", "id"]);
    let id = text(&ids.stdout).lines().nth(1).unwrap().to_owned();
    assert_eq!(shell.json(&["instances", "show", &id])[0]["name"], "test");
    let mut other = id;
    other.replace_range(other.len() - 4.., "ffff");
    assert!(shell.fails(5, &["instances", "stop", &other, "--yes"]).contains("no such instance"));
    let elsewhere = other.replace("/instance/", "-elsewhere/instance/");
    shell.fails(5, &["instances", "show", &elsewhere]);
    assert!(shell.json(&["instances", "list", "--provider", "guests"]).len() == 1);
    assert!(shell.fails(5, &["instances", "list", "--provider", "nobody"]).contains("gone, guests"));
    let said = shell.fails(2, &["networks", "create", "a", "--yes"]);
    assert!(said.contains("--provider"), "{said}");
}

#[test]
fn two_sources_of_the_same_guests_are_one() {
    let guests = "type: kvm, every: 5s, uri: \"test:///default\"";
    let shell = Shell::new(&format!(
        "name: a\nsources:\n  one: {{ {guests} }}\n  two: {{ {guests}, deadline: 1s }}\n\
         sinks: {{ out: {{ type: stdout }} }}\n"
    ));
    assert_eq!(shell.json(&["instances", "list"]).len(), 1);
    assert_eq!(shell.json(&["regions", "list"]).len(), 1);
    assert_eq!(shell.json(&["instances", "stop", "test", "--dry-run"]).len(), 1);
}

#[test]
fn who_is_asked_can_leave() {
    let shell = Shell::new(&pipeline("{ type: kvm, every: 5s, uri: \"test:///default\" }"));
    let words = ["instances", "stop", "test"];
    let asks = format!("{} {}", env!("CARGO_BIN_EXE_barograph"), words.join(" "));
    // A terminal of its own, which turns the key into the signal.
    let mut command = Command::new("script");
    command.args(["-qefc", &asks, "/dev/null"]).current_dir(shell.folder.path());
    command.env("BAROGRAPH_CONFIG", "p.yaml").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    let mut terminal = child.stdout.take().unwrap();
    let mut byte = [0];
    while !said.contains("[y/N] ") && terminal.read(&mut byte).unwrap() == 1 {
        said.push(char::from(byte[0]));
    }
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    keys.flush().unwrap();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let id = child.id();
    std::thread::spawn(move || tell.send(child.wait().unwrap().code()));
    let code = told.recv_timeout(Duration::from_secs(30));
    if code.is_err() {
        Command::new("kill").arg(id.to_string()).status().unwrap();
    }
    assert_eq!(code.unwrap(), Some(130), "{said}");
    drop(keys);
}

#[test]
fn shells_complete_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = complete(folder.path(), shell);
        assert!(output.contains("instances") && output.contains("max-affected"), "{shell}");
    }
}

fn complete(folder: &Path, shell: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_barograph"));
    text(&command.args(["completions", shell]).current_dir(folder).output().unwrap().stdout)
}
