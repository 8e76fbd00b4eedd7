//! AWS: moto for EC2, EBS, VPC and STS, and a CloudWatch and a price list of our own.
//!
//! Moto does at once what takes EC2 seconds, and knows no client tokens; what it cannot do at all is in [`Subject::lacks`].

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use barograph::model::resource::ResourceId;
use barograph::model::{Secret, Span};
use barograph::provider::aws::{Account, AwsCollector, AwsProvider, Config, Endpoints};
use barograph::provider::{
    Action, Collector, InstanceSpec, Provider, ResizePolicy, SizeSpec, Token, VolumeSpec,
};

use super::fake_cloudwatch::{Clock, Fake, METRICS, SeriesKey, SeriesSpec, Settings};
use super::fake_pricing::FakePricing;
use super::{Subject, suite};

const GIB: u64 = 1 << 30;
const REGION: &str = "eu-west-1";
const ZONE: &str = "eu-west-1a";
/// Moto's account.
const ACCOUNT: &str = "123456789012";
/// One of moto's own images, of Linux for x86_64.
const IMAGE: &str = "ami-1e749f67";

struct Aws {
    config: Config,
    provider: Arc<AwsProvider>,
}

/// Takes the rig down, whatever happened.
struct Rig(PathBuf);

impl Rig {
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/aws.sh"));
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

fn size(name: &str, vcpus: u32, gib: u64) -> SizeSpec {
    SizeSpec {
        name: Some(name.into()),
        vcpus: Some(vcpus.into()),
        memory_bytes: Some(gib * GIB),
        ..SizeSpec::default()
    }
}

impl Subject for Aws {
    fn name(&self) -> &'static str {
        "aws"
    }

    fn provider(&self) -> Arc<dyn Provider> {
        self.provider.clone()
    }

    fn collector(&self) -> Arc<dyn Collector> {
        Arc::new(AwsCollector::new(&self.config).unwrap())
    }

    fn location(&self) -> String {
        REGION.into()
    }

    fn instance(&self, name: &str) -> InstanceSpec {
        InstanceSpec {
            name: name.into(),
            image: Some(IMAGE.into()),
            size: size("t3.micro", 2, 1),
            options: [("zone".into(), ZONE.into())].into(),
            ..InstanceSpec::default()
        }
    }

    /// EC2 sits out a shutdown itself, and ends it the hard way.
    fn stubborn(&self, _: &str) -> Option<InstanceSpec> {
        None
    }

    fn larger(&self) -> SizeSpec {
        size("t3.small", 2, 2)
    }

    fn back(&self) -> SizeSpec {
        size("t3.micro", 2, 1)
    }

    fn beyond(&self) -> Option<SizeSpec> {
        Some(size("t3.large", 2, 8))
    }

    fn tables(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("checks", "instance"),
            ("cpu", "instance"),
            ("disk", "instance"),
            ("events", "instance"),
            ("network", "instance"),
            ("status", "instance"),
        ]
    }

    /// Basic monitoring has a point every five minutes, and publishes it late.
    fn window(&self) -> Duration {
        Duration::from_secs(1_200)
    }

    /// EBS counts in GiB.
    fn volume(&self, name: &str, sixteenths: u64) -> VolumeSpec {
        VolumeSpec {
            name: name.into(),
            size_bytes: Some(sixteenths / 16 * GIB),
            zone: Some(ZONE.into()),
            ..VolumeSpec::default()
        }
    }

    fn unique_names(&self) -> bool {
        false
    }

    fn snapshots_of_volumes(&self) -> bool {
        true
    }

    /// Moto stops what is to hibernate.
    fn lacks(&self) -> &'static [&'static str] {
        &["suspend"]
    }

    fn more_plans(&self, running: &ResourceId) -> Vec<Action> {
        let (instance, policy) = (running.clone().into(), ResizePolicy::AllowStopStart);
        vec![Action::Resize { instance, size: self.larger(), policy }]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws() {
    let rig = Rig("/tmp/barograph-conform-aws".into());
    let url = rig.run(&["up"]).trim().to_owned();
    rig.run(&["reset"]);
    let prices = FakePricing::start().await;
    let cloudwatch = Fake::start(Settings::new(Clock::Real)).await;
    cloudwatch.add_account("rig", ACCOUNT);
    let endpoints = Endpoints {
        ec2: Some(url.clone()),
        cloudwatch: Some(cloudwatch.url()),
        sts: Some(url),
        pricing: Some(prices.url()),
    };
    let account = Account {
        access_key_id: Some("rig".into()),
        secret_access_key: Some(Secret::new("rig")),
        ..Account::default()
    };
    let config = Config {
        accounts: vec![account.clone()],
        regions: vec![REGION.into()],
        endpoints,
        // As often as the suite looks.
        inventory_every: Span::seconds(1),
        ..Config::default()
    };
    let provider = Arc::new(AwsProvider::open(&config, &account).await.unwrap());
    let subject = Aws { config, provider };
    // A machine that is there before anybody looks.
    let spec = subject.instance("rig-1");
    let made = subject.provider.lifecycle().unwrap().create(&spec, Token::random()).await.unwrap();
    let measured = made.made.unwrap().native_id;
    for (metric, ..) in METRICS {
        cloudwatch.add(SeriesSpec::new(SeriesKey::ec2(ACCOUNT, REGION, &measured, metric)));
    }
    let report = suite(&subject).await;
    report.print();
    assert!(report.count("unwinding") > 50, "failures were injected");
    assert!(prices.calls() > 0, "prices were asked for");
}
