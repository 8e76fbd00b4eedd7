//! EC2 from the command line, as a person manages it, on a moto of our own: the life of an instance with its disks, several
//! accounts and regions, guards and exit codes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]

#[allow(dead_code, missing_docs, unreachable_pub, reason = "not every test asks for all of it")]
#[path = "support/fake_pricing.rs"]
mod fake_pricing;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use fake_pricing::FakePricing;
use serde_json::{Value, json};

/// One of moto's own images, of Linux for x86_64.
const IMAGE: &str = "ami-1e749f67";

struct Rig {
    state: PathBuf,
    url: String,
    prices: FakePricing,
    _answers: tokio::runtime::Runtime,
}

impl Rig {
    fn up(name: &str) -> Self {
        let state = PathBuf::from(format!("/tmp/barograph-aws-{name}"));
        let answers =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let prices = answers.block_on(FakePricing::start());
        let mut rig = Self { state, url: String::new(), prices, _answers: answers };
        rig.url = rig.run("up").trim().to_owned();
        rig.run("reset");
        rig
    }

    fn run(&self, verb: &str) -> String {
        self.with(verb, &[])
    }

    fn with(&self, verb: &str, more: &[&str]) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/aws.sh"));
        let output = command.arg(verb).arg(&self.state).args(more).output().unwrap();
        assert!(output.status.success(), "{verb}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What somebody else does in Ireland.
    fn call(&self, operation: &str, arguments: &Value) {
        self.with("call", &["eu-west-1", operation, &arguments.to_string()]);
    }

    /// A shell whose file has these accounts and keys of the source.
    fn shell(&self, accounts: &str, more: &str) -> Shell {
        let (url, prices) = (&self.url, self.prices.url());
        let endpoints =
            format!("ec2: \"{url}\", sts: \"{url}\", cloudwatch: \"{url}\", pricing: \"{prices}\"");
        Shell::new(&format!(
            "name: a\nsources:\n  cloud:\n    type: aws\n    every: 5m\n    endpoints: {{ {endpoints} }}\n    accounts: {accounts}\n    \
             {more}\nsinks: {{ out: {{ type: stdout }} }}\n"
        ))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.run("down");
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

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_barograph"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("BAROGRAPH_CONFIG", "p.yaml")
            .env("HOME", self.folder.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("BAROGRAPH_DATA")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        for name in
            ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"]
        {
            command.env_remove(name);
        }
        command.output().unwrap()
    }

    /// Has to succeed; its JSON.
    #[track_caller]
    fn json(&self, words: &[&str]) -> Vec<Value> {
        self.ends(0, words).0
    }

    /// Has to end with this code; its JSON and what it said.
    #[track_caller]
    fn ends(&self, code: i32, words: &[&str]) -> (Vec<Value>, String) {
        let output = self.run(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}{}", text(&output.stdout));
        let json = serde_json::from_slice(&output.stdout);
        (json.unwrap_or_else(|e| panic!("{words:?}: {e}: {}", text(&output.stdout))), said)
    }

    /// Has to fail with this code; what it said.
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

fn create<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["instances", "create", name, "--image", IMAGE, "--size", "t3.micro", "--yes"];
    words.extend(more);
    words
}

const KEY: &str = "[{ access_key_id: rig, secret_access_key: rig }]";
const HERE: &str = "regions: [eu-west-1]";

#[test]
fn an_instance_and_its_disks_live_and_die_by_the_command_line() {
    let rig = Rig::up("life");
    let shell = rig.shell(KEY, HERE);

    // A plan is shown and nothing is done.
    let plan = shell.json(&create("web-1", &["--start", "--disk", "data:4GiB", "--dry-run"]));
    assert_eq!(plan[0]["wanted"]["do"], "create_instance", "{plan:#?}");
    assert_eq!(plan[0]["permission_checked"], true, "{plan:#?}");
    // The instance and 4 GiB for a month; the image's own disk is of a type without a price.
    let delta: f64 = plan[0]["price_delta"]["per_hour"].as_str().unwrap().parse().unwrap();
    let hour = fake_pricing::hourly("eu-west-1", "t3.micro", false).unwrap();
    let month = 4.0 * fake_pricing::monthly("eu-west-1", "gp3").unwrap();
    assert!((delta - (hour + month / 730.0)).abs() < 1e-5, "{plan:#?}");
    assert_eq!(plan[0]["price_delta"]["unpriced"], 1, "{plan:#?}");
    assert!(shell.json(&["instances", "list"]).is_empty());
    assert!(shell.fails(6, &create("web-1", &[])[..7]).contains("--yes"));

    let words = create(
        "web-1",
        &["--start", "--disk", "data:4GiB", "--tag", "team=web", "--option", "zone=eu-west-1a"],
    );
    let made = shell.json(&words);
    assert_eq!(made[0]["phase"], "done", "{made:#?}");
    let listed = shell.json(&["instances", "list"]);
    assert_eq!(listed.len(), 1);
    let web = &listed[0];
    assert_eq!((web["name"].as_str(), web["state"].as_str()), (Some("web-1"), Some("Running")), "{web:#}");
    assert_eq!(
        (web["size"].as_str(), web["zone"].as_str()),
        (Some("t3.micro"), Some("eu-west-1a")),
        "{web:#}"
    );
    let tags = web["tags"].to_string();
    assert!(tags.contains("team") && !tags.contains("barograph:token"), "{tags}");
    let shown = shell.json(&["instances", "show", "web-1"]);
    assert_eq!(shown[0]["id"], web["id"]);
    let disk = shell.json(&["volumes", "list", "--where", "name = 'data'"]);
    assert_eq!(disk[0]["class"], "gp3", "{disk:#?}");

    // Sizes: not while it runs, unless it may be stopped; then it runs again.
    let said = shell.fails(8, &["instances", "resize", "web-1", "--size", "t3.small", "--yes"]);
    assert!(said.contains("allow-stop-start"), "{said}");
    let words =
        ["instances", "resize", "web-1", "--size", "t3.small", "--policy", "allow-stop-start", "--yes"];
    let plan = shell.json(&[&words[..7], &["--dry-run"]].concat());
    assert_eq!(
        (plan[0]["downtime"].as_str(), plan[0]["steps"].as_array().unwrap().len()),
        (Some("stop-start"), 3)
    );
    assert_eq!(plan[0]["price_delta"]["per_hour"], "0.015", "{plan:#?}");
    assert!(plan[0]["notes"].to_string().contains("public address changes"), "{plan:#?}");
    assert_eq!(shell.json(&words)[0]["phase"], "done");
    let web = &shell.json(&["instances", "list"])[0];
    assert_eq!((web["size"].as_str(), web["state"].as_str()), (Some("t3.small"), Some("Running")));
    assert_eq!(shell.json(&words)[0]["changed"], false);
    let said = shell.fails(
        2,
        &["instances", "resize", "web-1", "--size", "t4g.micro", "--policy", "allow-stop-start", "--yes"],
    );
    assert!(said.contains("aarch64"), "{said}");
    shell.fails(2, &["instances", "resize", "web-1", "--size", "t3.none", "--yes"]);

    // A volume of its own: larger, of another class, given and taken, kept, copied, and made again of what was kept.
    let said = shell.fails(2, &["volumes", "create", "more", "--size", "2GiB", "--yes"]);
    assert!(said.contains("eu-west-1b"), "{said}");
    shell.json(&["volumes", "create", "more", "--size", "2GiB", "--zone", "eu-west-1a", "--yes"]);
    shell.json(&["volumes", "resize", "more", "--size", "4GiB", "--yes"]);
    shell.json(&["volumes", "resize", "more", "--class", "io2", "--option", "iops=1000", "--yes"]);
    let more = &shell.json(&["volumes", "show", "more"])[0];
    assert_eq!(
        (more["size_bytes"].as_u64(), more["class"].as_str()),
        (Some(4 << 30), Some("io2")),
        "{more:#}"
    );
    let said = shell.fails(2, &["volumes", "resize", "more", "--size", "1GiB", "--yes"]);
    assert!(said.contains("does not shrink"), "{said}");
    shell.json(&["volumes", "attach", "more", "--instance", "web-1", "--yes"]);
    assert!(shell.fails(8, &["volumes", "delete", "more", "--yes"]).contains("detach it first"));
    shell.json(&["snapshots", "create", "kept", "--volume", "more", "--description", "before", "--yes"]);
    let kept = &shell.json(&["snapshots", "list"])[0];
    assert_eq!((kept["name"].as_str(), kept["of"].as_str()), (Some("kept"), more["id"].as_str()), "{kept:#}");
    shell.json(&["volumes", "create", "again", "--from-snapshot", "kept", "--zone", "eu-west-1b", "--yes"]);
    assert_eq!(shell.json(&["volumes", "show", "again"])[0]["size_bytes"], 4_u64 << 30);
    let said = shell.fails(8, &["snapshots", "revert", "kept", "--yes"]);
    assert!(said.contains("cannot do it"), "{said}");
    shell.json(&["volumes", "detach", "more", "--yes"]);

    // It is stopped, guarded, and deleted; what was there before stays and is named.
    assert_eq!(shell.json(&["instances", "stop", "web-1", "--yes"])[0]["phase"], "done");
    assert_eq!(shell.json(&["instances", "list"])[0]["state"], "Stopped");
    let said = shell.fails(6, &["instances", "delete", "web-1", "--yes", "--max-affected", "0"]);
    assert!(said.contains("1 resources"), "{said}");
    let (deleted, said) = shell.ends(0, &["instances", "delete", "web-1", "--yes"]);
    assert_eq!(deleted[0]["phase"], "done");
    assert!(said.contains("left behind: the volume vol-"), "{said}");
    assert!(shell.json(&["instances", "list"]).is_empty());
    shell.fails(5, &["instances", "show", "web-1"]);
    let left = shell.json(&["volumes", "list", "--where", "name = 'data'"]);
    assert_eq!(left.len(), 1, "without a word no disk is lost");
    shell.json(&["snapshots", "delete", "kept", "--yes"]);
    shell.json(&["volumes", "delete", "data", "more", "again", "--yes"]);
    assert!(shell.json(&["snapshots", "list"]).is_empty());

    // EC2's own guard.
    shell.json(&create("safe", &["--option", "protection=true"]));
    let safe = &shell.json(&["instances", "list"])[0];
    assert_eq!(safe["state"], "Stopped", "what was not to be started is stopped again");
    // Moto does not hear of it when an instance is made.
    let protect = json!({ "InstanceId": safe["native_id"], "DisableApiTermination": { "Value": true } });
    rig.call("modify_instance_attribute", &protect);
    let said = shell.fails(6, &["instances", "delete", "safe", "--yes"]);
    assert!(said.contains("guard"), "{said}");
    assert_eq!(shell.json(&["instances", "list"]).len(), 1);
    let said = shell.fails(2, &create("other", &["--option", "no_such=1"]));
    assert!(said.contains("no_such") && said.contains("security_groups"), "{said}");
}

#[test]
fn networks_prices_and_other_regions() {
    let rig = Rig::up("places");
    let shell = rig.shell(KEY, "regions: [eu-west-1, us-east-1]\n    home_region: eu-west-1");

    // Two regions: where something is made has to be said.
    let said = shell.fails(2, &create("web", &[]));
    assert!(said.contains("say in which region"), "{said}");
    let region = ["--region", "eu-west-1"];
    let network = [&["networks", "create", "lab", "--cidr", "10.9.0.0/16", "--yes"], &region[..]].concat();
    shell.json(&network);
    shell.json(&[
        "subnets",
        "create",
        "lab-a",
        "--network",
        "lab",
        "--cidr",
        "10.9.0.0/20",
        "--zone",
        "eu-west-1b",
        "--yes",
    ]);
    // Where the source never looks nothing is made, and what cannot be is no plan.
    let said = shell.fails(2, &create("web", &["--region", "eu-central-1", "--start"]));
    assert!(said.contains("eu-west-1, us-east-1"), "{said}");
    let wrong = ["networks", "create", "bad", "--cidr", "10.0.0.0/8", "--region", "eu-west-1", "--dry-run"];
    assert!(shell.fails(2, &wrong).contains("/16 to /28"));
    let volume = ["volumes", "create", "v", "--size", "1GiB", "--region", "eu-west-1", "--dry-run"];
    let said = shell.fails(2, &[&volume[..], &["--zone", "mars"]].concat());
    assert!(said.contains("no zone mars") && said.contains("eu-west-1a"), "{said}");
    let said = shell.fails(2, &[&volume[..], &["--zone", "eu-west-1a", "--class", "gp9"]].concat());
    assert!(said.contains("gp2, gp3"), "{said}");
    rig.call(
        "create_security_group",
        &json!({ "GroupName": "elsewhere", "Description": "another network's" }),
    );
    let groups = ["--network", "lab", "--option", "security_groups=elsewhere"];
    let said = shell.fails(5, &create("web", &[&region[..], &groups[..]].concat()));
    assert!(said.contains("it is in vpc-"), "{said}");

    let words = create("web", &["--region", "eu-west-1", "--network", "lab", "--start"]);
    shell.json(&words);
    let plan = shell.json(&[&words[..7], &["--region", "eu-west-1", "--start", "--dry-run"]].concat());
    assert!(plan[0]["notes"].to_string().contains("there is one of this name"), "{plan:#?}");
    let web = &shell.json(&["instances", "show", "web"])[0];
    assert_eq!(web["zone"], "eu-west-1b", "{web:#}");
    assert!(web["addresses"].to_string().contains("10.9."), "{web:#}");
    let said = shell.fails(8, &["networks", "delete", "lab", "--yes"]);
    assert!(said.contains("instance web (i-") && said.contains("subnet lab-a (subnet-"), "{said}");
    let said = shell.fails(8, &["subnets", "delete", "lab-a", "--yes"]);
    assert!(said.contains("instance web (i-"), "{said}");
    let plan = shell.json(&["instances", "delete", "web", "--running", "--volumes", "--dry-run"]);
    assert!(plan[0]["removes"].to_string().contains("volume/vol-"), "{plan:#?}");
    shell.json(&["instances", "delete", "web", "--running", "--volumes", "--yes"]);
    shell.json(&["subnets", "delete", "lab-a", "--yes"]);
    shell.json(&["networks", "delete", "lab", "--yes"]);

    // A snapshot goes to the other region with its name.
    shell.json(&[
        "volumes",
        "create",
        "v",
        "--size",
        "1GiB",
        "--region",
        "eu-west-1",
        "--zone",
        "eu-west-1a",
        "--yes",
    ]);
    shell.json(&["snapshots", "create", "s", "--volume", "v", "--yes"]);
    let id = shell.json(&["snapshots", "list"])[0]["id"].as_str().unwrap().to_owned();
    assert!(
        shell.fails(2, &["snapshots", "copy", &id, "--to", "mars", "--yes"]).contains("eu-west-1, us-east-1")
    );
    shell.json(&["snapshots", "copy", &id, "--to", "us-east-1", "--yes"]);
    let there = shell.json(&["snapshots", "list", "--region", "us-east-1"]);
    assert_eq!((there.len(), there[0]["name"].as_str()), (1, Some("s")), "{there:#?}");
    assert_eq!(shell.json(&["snapshots", "list"]).len(), 2);
    let said = shell.fails(2, &["snapshots", "show", "s"]);
    assert!(said.contains("2 have this name"), "{said}");

    // An image of the account's own goes by its name, and its snapshot is named when it is deleted.
    shell.json(&create("base", &["--region", "eu-west-1", "--start"]));
    let base = shell.json(&["instances", "show", "base"])[0]["native_id"].clone();
    rig.call("create_image", &json!({ "InstanceId": base, "Name": "golden" }));
    let image = &shell.json(&["images", "list"])[0];
    assert_eq!(
        (image["name"].as_str(), image["architecture"].as_str()),
        (Some("golden"), Some("x86_64")),
        "{image:#}"
    );
    let words = [
        "instances",
        "create",
        "of-golden",
        "--image",
        "golden",
        "--size",
        "t3.micro",
        "--region",
        "eu-west-1",
    ];
    shell.json(&[&words[..], &["--start", "--yes"]].concat());
    let made = &shell.json(&["instances", "show", "of-golden"])[0];
    assert_eq!(made["image"], image["native_id"], "{made:#}");
    shell.json(&["instances", "delete", "base", "of-golden", "--running", "--volumes", "--yes"]);
    let (_, said) = shell.ends(0, &["images", "delete", "golden", "--yes"]);
    assert!(said.contains("left behind: the snapshot snap-"), "{said}");
    assert!(shell.json(&["images", "list"]).is_empty());

    // What there is to choose from.
    let zones = shell.json(&["zones", "list"]);
    assert!(
        zones
            .iter()
            .any(|zone| zone["name"] == "us-east-1a" || zone["id"].to_string().contains("us-east-1a"))
    );
    let sizes = shell.json(&["sizes", "list", "--region", "eu-west-1", "--where", "name = 't3.micro'"]);
    assert_eq!(sizes[0]["memory_bytes"], 1_u64 << 30, "{sizes:#?}");
    assert!(sizes[0]["available_in"].to_string().contains("eu-west-1a"), "{sizes:#?}");
    let prices = shell.json(&["prices", "list", "--region", "eu-west-1", "--where", "item = 't3.micro'"]);
    let on_demand: Vec<_> = prices.iter().filter(|price| price["purchase"] == "on_demand").collect();
    assert_eq!(on_demand.len(), 2, "{prices:#?}");
    assert!(
        on_demand
            .iter()
            .any(|price| price["os"] == "Windows" && price["amount"].to_string().contains("0.165"))
    );
    assert!(prices.iter().any(|price| price["purchase"] == "spot"), "{prices:#?}");

    // A region that does not exist, and regions that AWS says there are.
    shell.fails(5, &["instances", "list", "--region", "mars-1"]);
    let all = rig.shell(KEY, "exclude_regions: [us-west-1]");
    let regions = all.json(&["regions", "list"]);
    assert!(regions.len() > 10, "{regions:#?}");
    assert!(!regions.iter().any(|region| region["id"].to_string().contains("us-west-1")));
    assert_eq!(all.json(&["volumes", "list"]).len(), 1, "in all of them");
}

#[test]
fn several_accounts_are_several_providers_and_one_that_fails_is_a_part() {
    let rig = Rig::up("accounts");
    let role = |name: &str, id: &str| {
        let arn = format!("arn:aws:iam::{id}:role/barograph");
        format!(
            "{{ name: {name}, access_key_id: rig, secret_access_key: rig, roles: [{{ arn: \"{arn}\" }}] }}"
        )
    };
    let accounts = format!("[{}, {}]", role("one", "111111111111"), role("two", "222222222222"));
    let shell = rig.shell(&accounts, HERE);
    // Moto keeps the accounts apart: what is made in one is not seen in the other.
    let said = shell.fails(2, &create("web", &["--start"]));
    assert!(said.contains("cloud/one, cloud/two"), "{said}");
    for account in ["cloud/one", "cloud/two"] {
        shell.json(&create("web", &["--start", "--provider", account]));
    }
    let all = shell.json(&["instances", "list"]);
    let accounts: Vec<_> = all.iter().filter_map(|instance| instance["account"].as_str()).collect();
    assert_eq!(accounts, ["111111111111", "222222222222"], "{all:#?}");
    let one = shell.json(&["instances", "list", "--provider", "cloud/one"]);
    assert_eq!(one.len(), 1);
    let said = shell.fails(2, &["instances", "stop", "web", "--yes"]);
    assert!(said.contains("2 have this name"), "{said}");
    // An operation is gone on with in its own account.
    let id = all[1]["id"].as_str().unwrap();
    let begun = shell.json(&["instances", "stop", id, "--no-wait", "--yes"]);
    assert_eq!(begun[0]["phase"], "in_flight", "{begun:#?}");
    let operation = begun[0]["operation"].as_str().unwrap();
    let ended = shell.json(&["operations", "resume", operation]);
    assert_eq!(ended[0]["phase"], "done", "{ended:#?}");
    let states: Vec<_> =
        shell.json(&["instances", "list"]).iter().map(|one| one["state"].to_string()).collect();
    assert_eq!(states, ["\"Running\"", "\"Stopped\""]);
    shell.fails(5, &["instances", "list", "--provider", "cloud/three"]);

    // One whose sign-in fails is named, and the other is there.
    let missing = "{ name: gone, profile: no-such-profile }";
    let accounts = format!("[{}, {missing}]", role("one", "111111111111"));
    let shell = rig.shell(&accounts, HERE);
    let (listed, said) = shell.ends(3, &["instances", "list"]);
    assert_eq!(listed.len(), 1);
    assert!(said.contains("sign in to gone"), "{said}");
    let alone = rig.shell(&format!("[{missing}]"), HERE);
    alone.fails(4, &["instances", "list"]);
    alone.fails(4, &create("web", &[]));
}
