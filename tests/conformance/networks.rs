//! Networks and their blocks of addresses.

use barograph::ErrorKind;
use barograph::model::resource::{Network, Subnet};
use barograph::provider::{Action, NetworkSpec, SubnetSpec};

use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("networks");
    if !bench.can().make_networks {
        report.absent("networks");
        return;
    }
    let create = |name: &str, cidr: &str| Action::CreateNetwork {
        spec: NetworkSpec {
            name: name.into(),
            mode: Some("isolated".into()),
            cidr: Some(cidr.into()),
            ..NetworkSpec::default()
        },
    };
    let wanted = create("suite-net", "10.198.51.0/24");
    let id = bench.done(&wanted).await.resource().expect("a network has an id");
    let made = bench.list::<Network>().await.items.into_iter().find(|network| network.id == id);
    let made = made.expect("it is in the list");
    report.check(made.name.as_deref() == Some("suite-net"), "it has its name");
    report.check(made.active == Some(true), "it is in use");
    report.check(made.cidrs == ["10.198.51.0/24"], format!("it has its addresses: {:?}", made.cidrs));
    let mut block = None;
    if bench.can().make_subnets {
        let spec = SubnetSpec {
            name: "suite-block".into(),
            network: id.clone(),
            cidr: "10.198.51.0/24".into(),
            zone: None,
            tags: [].into(),
        };
        block = bench.done(&Action::CreateSubnet { spec }).await.resource();
        report.check(block.is_some(), "a subnet has an id");
    } else {
        report.absent("subnets of their own");
    }
    if bench.can().subnets {
        let subnets = bench.list::<Subnet>().await.items;
        let listed = subnets.iter().find(|subnet| subnet.network == id);
        report.check(
            listed.is_some_and(|block| block.cidr.as_deref() == Some("10.198.51.0/24")),
            "its block is listed",
        );
    }
    if bench.subject.unique_names() {
        let (kind, text) = bench.refused(&wanted).await;
        report.check(kind == ErrorKind::Conflict, format!("the name is taken: {kind}: {text}"));
    } else {
        report.absent("unique names");
    }
    let (kind, text) = bench.refused(&create("suite-bad", "10.198.51.0/99")).await;
    report.check(kind == ErrorKind::Invalid, format!("no block of addresses: {kind}: {text}"));
    let mut spec = bench.subject.instance("suite-net-user");
    spec.networks = vec!["suite-net".into()];
    // It is where its network is.
    spec.options.remove("zone");
    let user = bench.create(spec).await;
    let interfaces = bench.instance(&user).await.interfaces;
    let inside = interfaces.iter().any(|interface| interface.network.as_ref() == Some(&id));
    report.check(inside, format!("an instance is in it: {interfaces:?}"));
    let (kind, text) = bench.refused(&Action::DeleteNetwork { network: id.clone().into() }).await;
    report.check(
        kind == ErrorKind::Conflict && text.contains("suite-net-user"),
        format!("it is used: {kind}: {text}"),
    );
    if let Some(block) = block {
        let delete = Action::DeleteSubnet { subnet: block.into() };
        let (kind, text) = bench.refused(&delete).await;
        report.check(kind == ErrorKind::Conflict, format!("its subnet is used: {kind}: {text}"));
        bench.remove(&user).await;
        bench.done(&delete).await;
    } else {
        bench.remove(&user).await;
    }
    bench.done(&Action::DeleteNetwork { network: id.clone().into() }).await;
    let left = bench.list::<Network>().await.items.iter().any(|network| network.id == id);
    report.check(!left, "it is gone");
}
