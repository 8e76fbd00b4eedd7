//! containerd and runc of our own, with containers from a small image.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use barograph::provider::containerd::{Config, ContainerdCollector, ContainerdProvider};
use barograph::provider::{Collector, InstanceSpec, Provider, SizeSpec};

use super::{Subject, suite};

const MIB: u64 = 1 << 20;
const NAMESPACE: &str = "conform";

struct Containerd {
    state: PathBuf,
    config: Config,
    provider: Arc<ContainerdProvider>,
}

/// Takes the rig down, whatever happened.
struct Rig(PathBuf);

impl Rig {
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/containerd.sh"));
        command.env("RIG_NAMESPACE", NAMESPACE);
        let output = command.arg(arguments[0]).arg(&self.0).args(&arguments[1..]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

impl Containerd {
    fn spec(&self, name: &str, script: &str) -> InstanceSpec {
        InstanceSpec {
            name: name.into(),
            location: Some(self.location()),
            image: Some("rig.local/busybox:1".into()),
            command: ["/bin/sh", "-c", script].map(ToOwned::to_owned).to_vec(),
            size: SizeSpec {
                vcpus: Some("0.2".parse().unwrap()),
                memory_bytes: Some(32 * MIB),
                ..SizeSpec::default()
            },
            ..InstanceSpec::default()
        }
    }
}

impl Subject for Containerd {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn provider(&self) -> Arc<dyn Provider> {
        self.provider.clone()
    }

    fn collector(&self) -> Arc<dyn Collector> {
        Arc::new(ContainerdCollector::new(&self.config).unwrap())
    }

    fn location(&self) -> String {
        NAMESPACE.into()
    }

    fn instance(&self, name: &str) -> InstanceSpec {
        self.spec(name, "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    }

    fn stubborn(&self, name: &str) -> Option<InstanceSpec> {
        Some(self.spec(name, "trap '' TERM; while :; do sleep 0.1; done"))
    }

    fn larger(&self) -> SizeSpec {
        SizeSpec { vcpus: Some("0.5".parse().unwrap()), memory_bytes: Some(64 * MIB), ..SizeSpec::default() }
    }

    fn back(&self) -> SizeSpec {
        self.spec("", "").size
    }

    fn beyond(&self) -> Option<SizeSpec> {
        None
    }

    /// Not `disk` and `network`: the suite's containers write nothing and are in no network. The tests of containerd's own
    /// telemetry have some that do and are.
    fn tables(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("cpu", "container"),
            ("memory", "container"),
            ("filesystem", "container"),
            ("status", "container"),
            ("events", "container"),
        ]
    }

    fn archive(&self) -> Option<(String, String)> {
        Some((self.state.join("image.tar").display().to_string(), "rig.local/busybox:1".into()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd() {
    let state = PathBuf::from("/tmp/barograph-conform-ctr");
    let rig = Rig(state.clone());
    rig.run(&["up"]);
    let config = Config { socket: rig.run(&["socket"]).trim().into(), ..Config::default() };
    let provider = Arc::new(ContainerdProvider::new(&config).unwrap());
    let report = suite(&Containerd { state, config, provider }).await;
    report.print();
    assert!(report.count("unwinding") > 30, "failures were injected");
}
