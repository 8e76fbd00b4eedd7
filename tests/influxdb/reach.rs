//! How a server is reached and recognised: prefix, proxy, TLS, version, VictoriaMetrics.

use barograph::ErrorKind;
use barograph::model::Secret;
use barograph::sink::Sink as _;
use barograph::sink::influxdb::{Config, Version};

use super::fake_influx::{Fake, Kind, Settings};
use super::gate::{Authority, Gate};
use super::influxd::{self, Influxd, free_port};
use super::rows::{batch, recent, rows};
use super::victoria::Victoria;
use super::{config, open};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_a_prefix_and_a_proxy_is_reached() {
    for kind in [Kind::One, Kind::Two, Kind::Three] {
        let fake = Fake::start(Settings::new(kind)).await;
        let batches = [batch("probe", &rows(recent(), 3))];
        let sink = open(&config(kind, &format!("{}/pre/fix/", fake.url()))).await.unwrap();
        assert_eq!(sink.write(&batches).await.unwrap().rows, 3);
        let request = fake.requests().pop().unwrap();
        assert!(request.uri.path().starts_with("/pre/fix/"), "{}", request.uri);
        assert_eq!(request.headers["content-encoding"], "gzip");
        assert!(request.headers["user-agent"].to_str().unwrap().starts_with("barograph/"));

        // A proxy is asked with the whole URL of a server that it alone can find.
        fake.forget_requests();
        let proxy = Some(Secret::new(format!("http://user:hunter2@{}", fake.address)));
        let through = Config { proxy, ..config(kind, "http://influx.invalid:8086") };
        let sink = open(&through).await.unwrap();
        assert_eq!(sink.write(&batches).await.unwrap().rows, 3);
        let request = fake.requests().pop().unwrap();
        assert_eq!(request.uri.host(), Some("influx.invalid"));
        assert_eq!(request.headers["proxy-authorization"], "Basic dXNlcjpodW50ZXIy");
        assert!(!format!("{sink:?}").contains("hunter2"));
    }
    let proxy = Some(Secret::new(format!("http://user:hunter2@127.0.0.1:{}", free_port())));
    let error = open(&Config { proxy, ..config(Kind::One, "http://influx.invalid:8086") }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{} {error:?}", error.chain()).contains("hunter2"), "{error:?}");
    let proxy = Some(Secret::new("http://user:hunter2@[x"));
    let error = open(&Config { proxy, ..config(Kind::One, "http://influx.invalid:8086") }).await.unwrap_err();
    assert!(!format!("{} {error:?}", error.chain()).contains("hunter2"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_authority_is_trusted() {
    let fake = Fake::start(Settings::new(Kind::Two)).await;
    let authority = Authority::new();
    let gate = Gate::before(fake.address, Some(&authority)).await;
    let secure = config(Kind::Two, &format!("https://{}", gate.address));
    let sink = open(&Config { ca_file: Some(authority.file()), ..secure.clone() }).await.unwrap();
    assert_eq!(sink.write(&[batch("probe", &rows(recent(), 3))]).await.unwrap().rows, 3);
    let other = Authority::new();
    for ca_file in [Some(other.file()), None] {
        let error = open(&Config { ca_file, ..secure.clone() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("`ca_file`"), "{}", error.chain());
    }
    let missing = Config { ca_file: Some("/no/where.pem".into()), ..secure.clone() };
    assert_eq!(open(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    let wrong = Config { ca_file: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into()), ..secure };
    assert!(open(&wrong).await.unwrap_err().to_string().contains("must be PEM"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_fit_the_keys_says_so_when_the_sink_is_opened() {
    let real = Influxd::start(influxd::Settings::default()).await;
    let error = open(&config(Kind::Two, &real.url)).await.unwrap_err();
    assert!(error.to_string().contains("InfluxDB 1.6, which has databases"), "{error}");
    let old = Config { version: Version::V2, ..config(Kind::Two, &real.url) };
    assert!(open(&old).await.unwrap_err().to_string().contains("no /api/v2/write"));
    for (kind, keys, words) in [
        (Kind::Two, Kind::One, "2.x, which has buckets"),
        (Kind::Three, Kind::Two, "3.x, which has databases"),
    ] {
        let fake = Fake::start(Settings::new(kind)).await;
        let error = open(&config(keys, &fake.url())).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let error = open(&config(Kind::One, &nobody)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_takes_rows_as_1x_and_as_2x() {
    let victoria = Victoria::start().await;
    for (number, kind) in [Kind::One, Kind::Two].into_iter().enumerate() {
        let table = format!("probe{number}");
        let sink = open(&Config { create: kind == Kind::One, ..config(kind, &victoria.url) }).await.unwrap();
        let start = recent();
        let mut sent = rows(start, 100);
        // It keeps milliseconds.
        sent.iter_mut()
            .enumerate()
            .for_each(|(at, row)| row.time = start + i64::try_from(at).unwrap() * 1_000_000);
        assert_eq!(sink.write(&[batch(&table, &sent)]).await.unwrap().rows, 100);
        let expected: Vec<_> = sent.iter().map(|row| (row.time / 1_000_000, row.value)).collect();
        assert_eq!(victoria.samples(&format!("{table}_value")).await, expected);
        // A line over its limit is refused in words of its own, and alone.
        let mut sent = rows(start, 100);
        sent[42].text = Some("x".repeat(300_000));
        let written = sink.write(&[batch(&table, &sent)]).await.unwrap();
        assert_eq!((written.rows, super::rejected(&written).0), (99, [(0, vec![42])].into()));
    }
}
