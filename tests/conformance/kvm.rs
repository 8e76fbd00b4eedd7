//! KVM: a libvirtd and QEMU of our own, with emulated guests.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use barograph::model::resource::ResourceId;
use barograph::provider::kvm::{Config, KvmCollector, KvmProvider};
use barograph::provider::{
    Action, Collector, InstanceSpec, KernelSpec, Provider, ResizePolicy, SizeSpec, VolumeSpec,
};

use super::{Subject, suite};

const MIB: u64 = 1 << 20;

struct Kvm {
    state: PathBuf,
    config: Config,
    provider: Arc<KvmProvider>,
    host: String,
}

/// Takes the rig down, whatever happened.
struct Rig(PathBuf);

impl Rig {
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/kvm.sh"));
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

impl Kvm {
    fn spec(&self, name: &str, initrd: bool, arguments: &str) -> InstanceSpec {
        let file = |name: &str| self.state.join(name).display().to_string();
        InstanceSpec {
            name: name.into(),
            size: SizeSpec {
                vcpus: Some(1.into()),
                memory_bytes: Some(128 * MIB),
                max_vcpus: Some(2.into()),
                max_memory_bytes: Some(192 * MIB),
                name: None,
            },
            kernel: Some(KernelSpec {
                kernel: file("vmlinuz"),
                initrd: initrd.then(|| file("initrd.gz")),
                arguments: Some(arguments.into()),
            }),
            options: [("type".into(), "qemu".into()), ("serial".into(), file(&format!("{name}.console")))]
                .into(),
            ..InstanceSpec::default()
        }
    }
}

impl Subject for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn provider(&self) -> Arc<dyn Provider> {
        self.provider.clone()
    }

    fn collector(&self) -> Arc<dyn Collector> {
        Arc::new(KvmCollector::new(&self.config).unwrap())
    }

    fn location(&self) -> String {
        self.host.clone()
    }

    fn instance(&self, name: &str) -> InstanceSpec {
        self.spec(name, true, "console=ttyS0 quiet panic=5 rig.role=idle")
    }

    /// A kernel without anything to start stands still and hears nothing.
    fn stubborn(&self, name: &str) -> Option<InstanceSpec> {
        Some(self.spec(name, false, "console=ttyS0 quiet panic=0"))
    }

    fn larger(&self) -> SizeSpec {
        SizeSpec { vcpus: Some(2.into()), memory_bytes: Some(160 * MIB), ..SizeSpec::default() }
    }

    /// The guest says so on its console.
    fn ready(&self, name: &str) {
        let console = self.state.join(format!("{name}.console"));
        for _ in 0..300 {
            if std::fs::read_to_string(&console).is_ok_and(|text| text.contains("RIG READY")) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        panic!("{name} did not boot");
    }

    /// Linux without hot removal of processors keeps what it once had.
    fn back(&self) -> SizeSpec {
        SizeSpec { memory_bytes: Some(128 * MIB), ..SizeSpec::default() }
    }

    fn beyond(&self) -> Option<SizeSpec> {
        Some(SizeSpec { vcpus: Some(3.into()), memory_bytes: Some(256 * MIB), ..SizeSpec::default() })
    }

    fn tables(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("cpu", "instance"),
            ("memory", "instance"),
            ("disk", "instance"),
            ("network", "instance"),
            ("status", "instance"),
            ("events", "instance"),
            ("storage", "pool"),
            ("storage", "volume"),
        ]
    }

    fn volume(&self, name: &str, mib: u64) -> VolumeSpec {
        VolumeSpec {
            name: name.into(),
            size_bytes: Some(mib * MIB),
            class: Some("rigpool".into()),
            ..VolumeSpec::default()
        }
    }

    fn more_plans(&self, running: &ResourceId) -> Vec<Action> {
        vec![Action::Resize {
            instance: running.clone().into(),
            size: SizeSpec { vcpus: Some(3.into()), ..SizeSpec::default() },
            policy: ResizePolicy::AllowStopStart,
        }]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kvm() {
    let state = PathBuf::from("/tmp/barograph-conform-kvm");
    let rig = Rig(state.clone());
    // The pool comes with the first, the guests with the second.
    rig.run(&["bare"]);
    rig.run(&["up"]);
    let config = Config { uri: rig.run(&["uri"]).trim().into(), ..Config::default() };
    let host = rig.run(&["virsh", "hostname"]).trim().to_owned();
    let provider = Arc::new(KvmProvider::new(&config).unwrap());
    let report = suite(&Kvm { state, config, provider, host }).await;
    report.print();
    assert!(report.count("unwinding") > 50, "failures were injected");
}
