//! What must hold for every server, the real one first: where both can be asked, the fakes are checked by it.

use barograph::ErrorKind;
use barograph::model::{Secret, Size};
use barograph::sink::Sink as _;
use barograph::sink::influxdb::{BatchLimits, Config};

use super::fake_influx::{self, Fake, Kind, UNPARSABLE};
use super::influxd::{self, Influxd};
use super::rows::{Row, batch, recent, rows};
use super::{Server, open, rejected};

#[tokio::test(flavor = "multi_thread")]
async fn rows_arrive_with_their_nanoseconds_and_may_come_twice() {
    for server in Server::all().await {
        let sink = open(&server.config()).await.unwrap();
        let sent = rows(recent(), 12_345);
        let batches = [batch("probe", &sent[..10_000]), batch("probe", &sent[10_000..])];
        for _ in 0..2 {
            let written = sink.write(&batches).await.unwrap();
            assert_eq!(
                (written.rows, written.empty, written.rejected.len()),
                (12_345, 0, 0),
                "{}",
                server.name()
            );
        }
        let expected = sent.iter().map(|row| (row.time, row.value)).collect();
        assert_eq!(server.values("probe").await, expected, "{}", server.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_row_in_each_batch_costs_itself_alone() {
    for server in Server::all().await {
        let start = recent();
        server.seed(&format!("probe text=1.5 {}\n", start - 1)).await;
        let sink = open(&server.config()).await.unwrap();
        let mut sent = rows(start, 20 * 5_000);
        let bad: Vec<usize> = (0..20).map(|batch| batch * 5_000 + (batch * 7_919) % 5_000).collect();
        for place in &bad {
            sent[*place].text = Some("of another type".into());
        }
        for (number, part) in sent.chunks(5_000).enumerate() {
            let written = sink.write(&[batch("probe", part)]).await.unwrap();
            let (places, reasons) = rejected(&written);
            assert_eq!(places, [(0, vec![bad[number] % 5_000])].into(), "{}", server.name());
            assert!(reasons[0].contains("text"), "{reasons:?}");
            assert_eq!(written.rows, 4_999);
        }
        let good = sent.iter().filter(|row| row.text.is_none()).map(|row| (row.time, row.value)).collect();
        let stored = server.values("probe").await;
        assert!(stored == good, "{}: {} rows instead of 99,980", server.name(), stored.len());
        if let Server::Fake(kind, fake) = &server {
            let requests = fake.requests().len();
            let most = if *kind == Kind::Three { 20 } else { 60 };
            assert!(requests <= most, "{requests} requests for 20 batches, {}", server.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_outside_of_the_retention_are_found_wherever_they_stand() {
    let start = recent();
    let hour = 3_600_000_000_000;
    let real = Influxd::start(influxd::Settings::default()).await;
    real.query("", "CREATE DATABASE db WITH DURATION 1h REPLICATION 1 NAME short").await;
    let mut servers = vec![Server::Real(real)];
    for kind in [Kind::One, Kind::Two, Kind::Three] {
        let settings = fake_influx::Settings { oldest: start - hour, ..fake_influx::Settings::new(kind) };
        servers.push(Server::Fake(kind, Fake::start(settings).await));
    }
    for server in servers {
        let sink = open(&server.config()).await.unwrap();
        let mut sent = rows(start, 3_000);
        sent.iter_mut().step_by(3).for_each(|row| row.time -= 4 * hour);
        let written = sink.write(&[batch("probe", &sent)]).await.unwrap();
        let (places, reasons) = rejected(&written);
        assert_eq!(places, [(0, (0..3_000).step_by(3).collect())].into(), "{}", server.name());
        assert!(reasons[0].contains("retention"), "{reasons:?}");
        assert_eq!(server.values("probe").await.len(), 2_000);
        // A write in which nothing is good.
        let old: Vec<Row> = sent.into_iter().step_by(3).collect();
        let written = sink.write(&[batch("probe", &old)]).await.unwrap();
        assert_eq!((written.rows, rejected(&written).0[&0].len()), (0, 1_000), "{}", server.name());
        if let Server::Fake(kind, fake) = &server {
            // 3.x names every line, and an answer is not read to its end.
            let most = if *kind == Kind::Three { 8 } else { 4 };
            assert!(fake.requests().len() <= most, "{} requests", fake.requests().len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database_keeps_the_rows_until_it_is_made() {
    let real = Influxd::start(influxd::Settings::default()).await;
    let mut servers = vec![Server::Real(real)];
    for kind in [Kind::One, Kind::Two] {
        let fake = Fake::start(fake_influx::Settings::new(kind)).await;
        fake.drop_database("db");
        servers.push(Server::Fake(kind, fake));
    }
    for server in servers {
        let sink = open(&server.config()).await.unwrap();
        let batches = [batch("probe", &rows(recent(), 3))];
        let error = sink.write(&batches).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("create: true"), "{error}");
        let sink = open(&Config { create: true, ..server.config() }).await.unwrap();
        assert_eq!(sink.write(&batches).await.unwrap().rows, 3, "{}", server.name());
        assert_eq!(server.values("probe").await.len(), 3);
        // It is made again when somebody drops it.
        match &server {
            Server::Real(real) => drop(real.query("", "DROP DATABASE db").await),
            Server::Fake(_, fake) => fake.drop_database("db"),
        }
        assert_eq!(sink.write(&batches).await.unwrap().rows, 3, "{}", server.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_retention_policy_keeps_the_rows() {
    for server in Server::all().await.into_iter().take(2) {
        let config = Config { retention_policy: Some("week".into()), ..server.config() };
        let sink = open(&config).await.unwrap();
        let error = sink.write(&[batch("probe", &rows(recent(), 3))]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("`retention_policy`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_keep_the_rows_and_never_show() {
    let real = Influxd::start(influxd::Settings { auth: true, ..Default::default() }).await;
    real.query("", "CREATE DATABASE db").await;
    let mut servers = vec![Server::Real(real)];
    for (kind, header) in
        [(Kind::One, "Basic YWRtaW46c2VjcmV0"), (Kind::Two, "Token secret"), (Kind::Three, "Bearer secret")]
    {
        let authorization = Some(header.to_owned());
        let settings = fake_influx::Settings { authorization, ..fake_influx::Settings::new(kind) };
        servers.push(Server::Fake(kind, Fake::start(settings).await));
    }
    for server in servers {
        let with = |secret: &str| {
            let secret = Some(Secret::new(secret));
            match &server {
                Server::Real(_) | Server::Fake(Kind::One, _) => {
                    Config { username: Some("admin".into()), password: secret, ..server.config() }
                }
                Server::Fake(..) => Config { token: secret, ..server.config() },
            }
        };
        let batches = [batch("probe", &rows(recent(), 3))];
        let sink = open(&with("hunter2")).await.unwrap();
        let error = sink.write(&batches).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        let shown = format!("{error} {error:?} {} {sink:?}", error.chain());
        assert!(!shown.contains("hunter2"), "{shown}");
        let sink = open(&with("secret")).await.unwrap();
        assert_eq!(sink.write(&batches).await.unwrap().rows, 3, "{}", server.name());
        let sink = open(&server.config()).await.unwrap();
        assert_eq!(sink.write(&batches).await.unwrap_err().kind(), ErrorKind::Auth, "{}", server.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_is_halved_and_a_row_that_is_goes_alone() {
    let max_body = 20_000;
    let real = Influxd::start(influxd::Settings { max_body, ..Default::default() }).await;
    real.query("", "CREATE DATABASE db").await;
    let mut servers = vec![Server::Real(real)];
    for kind in [Kind::One, Kind::Two, Kind::Three] {
        let settings = fake_influx::Settings { max_body, ..fake_influx::Settings::new(kind) };
        servers.push(Server::Fake(kind, Fake::start(settings).await));
    }
    for server in servers {
        let sink = open(&Config { compress: false, ..server.config() }).await.unwrap();
        let mut sent = rows(recent(), 1_000);
        sent[300].text = Some("x".repeat(30_000));
        let written = sink.write(&[batch("probe", &sent)]).await.unwrap();
        let (places, reasons) = rejected(&written);
        assert_eq!(places, [(0, vec![300])].into(), "{}", server.name());
        assert!(reasons[0].contains("too large"), "{reasons:?}");
        assert_eq!((written.rows, server.values("probe").await.len()), (999, 999));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_keep_to_rows_and_bytes() {
    let fake = Fake::start(fake_influx::Settings::new(Kind::Two)).await;
    let batches = [batch("probe", &rows(recent(), 1_000))];
    let limits = BatchLimits { rows: 300, ..BatchLimits::default() };
    let config = super::config(Kind::Two, &fake.url());
    let sink = open(&Config { batch: limits, ..config.clone() }).await.unwrap();
    sink.write(&batches).await.unwrap();
    let lines = || fake.requests().iter().map(|request| request.lines).collect::<Vec<_>>();
    assert_eq!(lines(), [300, 300, 300, 100]);
    fake.forget_requests();
    let limits = BatchLimits { bytes: Size(10_000), ..BatchLimits::default() };
    let sink = open(&Config { batch: limits, compress: false, ..config }).await.unwrap();
    sink.write(&batches).await.unwrap();
    assert!(fake.requests().iter().all(|request| request.body.len() <= 10_000), "{:?}", lines());
    assert_eq!(lines().iter().sum::<usize>(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_do_not_parse_are_the_ones_the_server_repeats() {
    for kind in [Kind::One, Kind::Two, Kind::Three] {
        let fake = Fake::start(fake_influx::Settings::new(kind)).await;
        let sink = open(&super::config(kind, &fake.url())).await.unwrap();
        // More of them than an answer has room for, and a conflict that hides them on 1.x.
        let start = recent();
        fake.seed(&format!("other value=1i {start}\n"));
        let mut sent = rows(start, 2_000);
        sent.iter_mut().step_by(2).for_each(|row| row.text = Some(UNPARSABLE.into()));
        let batches = [batch("probe", &sent), batch("other", &rows(start, 10))];
        let written = sink.write(&batches).await.unwrap();
        let (places, reasons) = rejected(&written);
        assert_eq!(places, [(0, (0..2_000).step_by(2).collect()), (1, (0..10).collect())].into(), "{kind:?}");
        assert!(reasons.iter().any(|reason| reason.contains("invalid field format")), "{reasons:?}");
        assert_eq!((written.rows, fake.values("probe", "value").len()), (1_000, 1_000), "{kind:?}");
        assert!(fake.requests().len() < 20, "{} requests, {kind:?}", fake.requests().len());
    }
}
