//! A thousand domains, listed.

use std::fmt::Write as _;
use std::sync::Arc;

use barograph::model::resource::Instance;
use barograph::provider::Client;
use barograph::provider::client::Policy;
use barograph::provider::kvm::{Config, KvmProvider};

use super::meter::Meter;

const DOMAINS: usize = 1_000;

pub async fn run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.xml");
    std::fs::write(&file, host()).unwrap();
    let config = Config { uri: format!("test://{}", file.display()), ..Config::default() };
    let provider = Arc::new(KvmProvider::new(&config).unwrap());
    let client = Client::new(provider, Arc::default(), Policy::default());
    let region = client.regions().await.items.remove(0).id.native_id;
    println!("{DOMAINS} domains of libvirt's test driver");
    let mut meter = Meter::new("list with states").process("barograph", std::process::id());
    for _ in 0..20 {
        let listing = meter.measure(client.list::<Instance>(&region, &|_| ())).await;
        assert!(listing.complete && listing.items.len() == DOMAINS, "{:?}", listing.errors);
    }
    meter.print();
    client.close().await;
}

fn host() -> String {
    let mut text = String::from("<node>");
    for number in 0..DOMAINS {
        write!(
            text,
            "<domain type='test'><name>guest-{number}</name><memory>131072</memory><vcpu>2</vcpu>\
             <os><type>hvm</type></os></domain>"
        )
        .unwrap();
    }
    text + "</node>"
}
