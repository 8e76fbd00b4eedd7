use std::collections::BTreeMap;

use arrow::array::AsArray;

use super::*;
use crate::model::Timestamp;
use crate::model::resource::{
    Disk, Instance, Interface, Network, Region, ResourceId, Size, State, Status, Volume,
};

fn instance(name: &str, state: State, memory: Option<u64>) -> Instance {
    let id: ResourceId = format!("kvm/qemu:%2F%2F%2Fsystem/host-1/instance/{name}-id").parse().unwrap();
    Instance {
        name: Some(name.into()),
        status: Status { observed_at: Timestamp(5), ..Status::new(state, "raw") },
        size: Size { vcpus: Some("1.5".parse().unwrap()), memory_bytes: memory, ..Size::default() },
        image: None,
        zone: None,
        disks: vec![Disk {
            device: "vda".into(),
            volume: Some(id.sibling(Kind::Volume, "pool/a")),
            source: None,
            read_only: false,
        }],
        interfaces: vec![Interface {
            addresses: vec!["10.0.0.2".into(), "fe80::1".into()],
            ..Interface::default()
        }],
        tags: BTreeMap::from([("team".into(), "a".into())]),
        protected: Some(false),
        created_at: Some(Timestamp(1_500_000_000)),
        started_at: None,
        raw: Map::new(),
        id,
    }
}

#[test]
fn the_columns_of_an_instance_are_these() {
    let names: Vec<_> = Instance::COLUMNS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names.join(" "),
        "id provider account region native_id name state provider_state reason compute_billed size vcpus memory_bytes \
         max_vcpus max_memory_bytes architecture image zone addresses networks volumes tags protected created_at \
         started_at observed_at raw"
    );
    let batch =
        batch(&[instance("a", State::Running, Some(1 << 30)), instance("b", State::Stopped, None)]).unwrap();
    let text = |column: &str| batch.column_by_name(column).unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!(text("id"), "kvm/qemu:%2F%2F%2Fsystem/host-1/instance/a-id");
    assert_eq!(
        (text("state"), text("addresses"), text("volumes")),
        ("Running".into(), "10.0.0.2,fe80::1".into(), "pool/a".into())
    );
    let flat = flat(&batch).unwrap();
    assert_eq!(flat.column_by_name("tags").unwrap().as_string::<i32>().value(0), "{\"team\":\"a\"}");
    assert!(batch.column_by_name("memory_bytes").unwrap().is_null(1), "not known is null");
    let times = batch.column_by_name("created_at").unwrap();
    assert_eq!(times.as_primitive::<arrow::datatypes::TimestampNanosecondType>().value(0), 1_500_000_000);
}

#[test]
fn every_kind_has_a_table_whose_short_form_is_a_part_of_it() {
    fn check<T: Row>() {
        for name in T::SHORT {
            assert!(T::COLUMNS.iter().any(|(column, _)| column == name), "{}: {name}", T::KIND);
        }
        assert!(T::COLUMNS.iter().all(|(name, _)| !name.is_empty()));
        assert_eq!(batch::<T>(&[]).unwrap().schema(), schema::<T>());
    }
    check::<Instance>();
    check::<Volume>();
    check::<crate::model::resource::Snapshot>();
    check::<Network>();
    check::<crate::model::resource::Subnet>();
    check::<crate::model::resource::Image>();
    check::<Region>();
    check::<crate::model::resource::Zone>();
    check::<Size>();
    check::<crate::model::resource::Price>();
}

#[tokio::test]
async fn an_expression_selects_rows_and_nothing_else() {
    let items = [
        instance("web-1", State::Running, Some(2 << 30)),
        instance("db", State::Stopped, Some(1 << 30)),
        instance("web-2", State::Running, None),
    ];
    let select = async |expression: &str| matching(&items, expression).await;
    assert_eq!(select("state = 'Running' AND name LIKE 'web%'").await.unwrap(), [0, 2]);
    assert_eq!(select("memory_bytes >= 1073741824").await.unwrap(), [0, 1]);
    assert_eq!(select("memory_bytes IS NULL").await.unwrap(), [2]);
    assert_eq!(select("tags['team'] = 'a' AND state = 'Stopped'").await.unwrap(), [1]);
    assert_eq!(select("tags['other'] = 'a'").await.unwrap(), Vec::<usize>::new());
    assert_eq!(select("created_at > '2020-01-01T00:00:00Z'").await.unwrap(), Vec::<usize>::new());
    let wrong = select("stat = 'Running'").await.unwrap_err();
    assert!(wrong.to_string().contains("state"), "{wrong}");
    for statement in ["1; DROP TABLE instances", "SELECT 1", "(", ""] {
        assert_eq!(select(statement).await.unwrap_err().kind(), crate::ErrorKind::Invalid, "{statement}");
    }
}
