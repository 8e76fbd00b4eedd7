//! Lists, ids and capabilities.

use barograph::ErrorKind;
use barograph::model::resource::{
    Image, Instance, Kind, Network, Price, ResourceId, Size, Snapshot, Subnet, Volume, Zone,
};
use barograph::provider::client::Listed;

use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("inventory");
    let provider = bench.subject.provider();
    let can = provider.capabilities();
    report.check(can.instances, "a provider has instances");
    report.check(provider.lifecycle().is_some() == can.lifecycle, "lifecycle is there when it is claimed");
    report.check(provider.volumes().is_some() == can.volumes, "volumes are there when they are claimed");
    report.check(provider.snapshots().is_some() == can.make_snapshots, "snapshots are there when claimed");
    report.check(provider.networks().is_some() == can.make_networks, "networks are there when claimed");
    report.check(
        provider.images().is_some() == (can.import_images || can.delete_images),
        "images are there when claimed",
    );
    report.check(provider.pricing().is_some() || !can.prices, "prices are there when claimed");
    let regions = bench.client().regions().await;
    report.check(regions.complete, format!("the regions can be listed: {:?}", regions.errors));
    let here = regions.items.iter().any(|region| region.id.native_id == bench.location);
    report.check(here, "the region of the rig is among them");

    let instances = bench.list::<Instance>().await;
    report.check(instances.complete, format!("the instances can be listed: {:?}", instances.errors));
    report.check(!instances.items.is_empty(), "the rig has instances");
    for listed in &instances.items {
        let id = &listed.id;
        report.check(id.to_string().parse().as_ref() == Ok(id), "an id is read as it is written");
        report.check(id.kind == Kind::Instance && bench.client().scope().has(id), "an id is of its provider");
        report.check(id.location == bench.location, "an id names its region");
        let alone = bench.instance(id).await;
        report.check(alone.id == *id && alone.name == listed.name, "one instance is the same as in the list");
        report.check(alone.size == listed.size, "its size is the same as in the list");
        report
            .check(!listed.status.provider_state.is_empty(), "the provider's own word for its state is kept");
        report.check(listed.size.memory_bytes != Some(0), "what is not known is not 0");
    }
    let missing = bench.client().scope().id(&bench.location, Kind::Instance, missing(&instances.items[0].id));
    let error = bench.client().instance(&missing).await.unwrap_err();
    report.check(error.kind() == ErrorKind::NotFound, format!("what is not there is not found: {error}"));

    lists::<Volume>(bench, report, Kind::Volume).await;
    lists::<Snapshot>(bench, report, Kind::Snapshot).await;
    lists::<Network>(bench, report, Kind::Network).await;
    lists::<Subnet>(bench, report, Kind::Subnet).await;
    lists::<Image>(bench, report, Kind::Image).await;
    lists::<Zone>(bench, report, Kind::Zone).await;
    lists::<Size>(bench, report, Kind::Size).await;
    lists::<Price>(bench, report, Kind::Price).await;
}

/// A native id of the same form that nothing has.
pub(crate) fn missing(like: &ResourceId) -> String {
    let other = |c: char| match c {
        '0'..='8' => char::from(c as u8 + 1),
        '9' => '0',
        other => other,
    };
    if like.native_id.contains('-') && (like.native_id.len() == 36 || like.native_id.starts_with("i-")) {
        like.native_id.chars().map(other).collect()
    } else {
        "suite-missing".into()
    }
}

async fn lists<T: Listed>(bench: &Bench<'_>, report: &mut Report, kind: Kind) {
    let listing = bench.list::<T>().await;
    if bench.can().lists(kind) {
        report.check(listing.complete, format!("{kind}s can be listed: {:?}", listing.errors));
    } else {
        report.absent(kind.as_str());
        let refused = listing.errors.iter().all(|error| error.kind() == ErrorKind::Unsupported);
        report.check(!listing.complete && refused, format!("{kind}s are refused as unsupported"));
    }
}
