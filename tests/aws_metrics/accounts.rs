//! Many accounts: roles, linked accounts, and one that fails.

use barograph::model::Secret;
use barograph::provider::Collector;
use barograph::provider::aws::{Account, Config, Role};

use crate::fake_cloudwatch::{Monitoring, SeriesKey, SeriesSpec};
use crate::fake_ec2::Instance;
use crate::rig::{OTHER, OWN, REGION, Rig, Source, T, compare, told};

/// Others give a monitoring account's id to the metrics of all.
#[tokio::test]
async fn complaint_9_metrics_of_linked_accounts_belong_to_the_account_that_owns_them() {
    let rig = Rig::new().await;
    let own = rig.fleet(2, Monitoring::Basic, "a");
    let theirs = rig.cloudwatch.add_fleet(OTHER, REGION, 2, Monitoring::Basic, "b");
    rig.cloudwatch.link(OWN, OTHER);
    let app = SeriesKey::new(OTHER, REGION, "App", "Hits", &[("Service", "web")]);
    rig.cloudwatch.add(SeriesSpec::new(app));
    let mut config = rig.config();
    config.accounts[0].linked_accounts = true;
    config.metrics = serde_json::from_value(serde_json::json!([{
        "namespace": "App", "metric": "Hits", "statistic": "Sum", "table": "app", "field": "hits_per_second",
        "convert": "rate", "dimensions": { "Service": "*" }, "tags": { "service": "Service" },
    }]))
    .unwrap();
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 4_200).await;
    compare(&rig, &source, &own, Monitoring::Basic, T, T + 3_000);
    compare(&rig, &source, &theirs, Monitoring::Basic, T, T + 3_000);
    for (fleet, account) in [(&own, OWN), (&theirs, OTHER)] {
        let id = format!("resource_id={} ", fleet.id(0));
        let mut tags = source.rows.keys().map(|(_, tags, _)| tags).filter(|tags| tags.contains(&id));
        assert!(tags.all(|tags| tags.contains(&format!("account={account} "))));
    }
    let hits =
        source.values("app", "Service=web", &[&format!("account={OTHER}"), "service=web"], "hits_per_second");
    assert!(hits.len() > 50, "{}", hits.len());
    // What was listed is remembered: not once for each collection.
    assert!(rig.cloudwatch.counters().calls_of("ListMetrics") <= 9, "{:?}", rig.cloudwatch.counters().calls);
}

/// Others take on the role at every scrape, or lose it after an hour.
#[tokio::test]
async fn complaint_9_a_role_is_taken_on_once_and_kept() {
    let rig = Rig::new().await;
    rig.cloudwatch.add_account(&format!("ASIA{OTHER}"), OTHER);
    rig.ec2.put(OTHER, REGION, Instance::running("i-b000000000000000"));
    let mut config = rig.config();
    let role = Role {
        arn: format!("arn:aws:iam::{OTHER}:role/barograph"),
        external_id: Some(Secret::new("shared")),
        session_name: "barograph".into(),
    };
    config.accounts[0] = Account { id: None, roles: vec![role], ..config.accounts[0].clone() };
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 6 * 3_600).await;
    assert_eq!(source.failures, 0, "{:?}", source.faults);
    assert_eq!(rig.ec2.calls("AssumeRole"), 1);
    assert!(source.marks.keys().all(|shard| shard.starts_with(OTHER)));
}

#[tokio::test]
async fn an_account_that_cannot_be_signed_in_to_costs_only_itself() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Basic, "c");
    let mut config = rig.config();
    let bad = Account {
        name: Some("bad".into()),
        access_key_id: Some("AKIANOBODY".into()),
        secret_access_key: Some(Secret::new("x")),
        ..Account::default()
    };
    config.accounts.push(bad);
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 3_000).await;
    assert!(told(&source, "sign in to bad") > 0, "{:?}", source.faults);
    compare(&rig, &source, &fleet, Monitoring::Basic, T, T + 1_800);
}

/// What is read is told of under the account's id, and what is made is paid for by it.
#[tokio::test]
async fn credentials_of_another_account_than_the_file_says_are_refused() {
    let rig = Rig::new().await;
    rig.fleet(1, Monitoring::Basic, "d");
    let mut config = rig.config();
    config.accounts[0].id = Some(OTHER.into());
    let refused = Collector::discover(&Source::new(&config, 300).collector).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("are those of account {OWN}")), "{refused}");
    assert_eq!(rig.ec2.calls("DescribeInstances"), 0);
}

/// Custom metrics can be read where the inventory cannot.
#[tokio::test]
async fn without_the_right_to_list_instances_custom_metrics_still_come() {
    let rig = Rig::new().await;
    rig.ec2.deny("DescribeInstances", true);
    rig.cloudwatch.add(SeriesSpec::new(SeriesKey::new(OWN, REGION, "App", "Hits", &[])));
    let metrics = serde_json::from_value(serde_json::json!([{
        "namespace": "App", "metric": "Hits", "statistic": "Average", "table": "app", "field": "hits",
    }]));
    let mut source = Source::new(&Config { metrics: metrics.unwrap(), groups: vec![], ..rig.config() }, 60);
    source.run(&rig, T + 60, T + 1_800).await;
    assert!(source.values("app", "App", &[], "hits").len() > 20);
    assert!(told(&source, "may not do this") > 0);
}
