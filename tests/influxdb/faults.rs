//! Answers and breaks that only a fake can be made to give.

use std::time::Duration;

use barograph::model::Span;
use barograph::sink::Sink as _;
use barograph::sink::influxdb::{Config, InfluxSink};
use barograph::telemetry::Telemetry;
use barograph::{ErrorKind, Retry};

use super::fake_influx::{Fake, Fault, Kind, Settings};
use super::gate::{Break, Gate};
use super::rows::{batch, recent, rows};
use super::{config, open, rejected};

const KINDS: [Kind; 3] = [Kind::One, Kind::Two, Kind::Three];

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_itself_is_an_error_that_says_when_to_come_again() {
    for kind in KINDS {
        let fake = Fake::start(Settings::new(kind)).await;
        let sink = open(&config(kind, &fake.url())).await.unwrap();
        let batches = [batch("probe", &rows(recent(), 10))];
        for (status, header, expected) in [
            (503, None, (ErrorKind::Unavailable, Retry::Later)),
            (503, Some("3"), (ErrorKind::Unavailable, Retry::After(Duration::from_secs(3)))),
            (429, Some("90000"), (ErrorKind::Throttled, Retry::After(Duration::from_secs(600)))),
            (500, Some("soon"), (ErrorKind::Unavailable, Retry::Later)),
            (502, None, (ErrorKind::Unavailable, Retry::Later)),
        ] {
            let headers = header.map(|wait| ("retry-after", wait.to_owned())).into_iter().collect();
            fake.script([Fault { headers, ..Fault::status(status) }]);
            let error = sink.write(&batches).await.unwrap_err();
            assert_eq!((error.kind(), error.retry()), expected, "{status}: {error}");
        }
        assert_eq!(sink.write(&batches).await.unwrap().rows, 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_the_middle_of_taking_apart_is_a_fault_of_the_whole_write() {
    for kind in [Kind::One, Kind::Two] {
        let fake = Fake::start(Settings::new(kind)).await;
        let start = recent();
        fake.seed(&format!("probe text=1.5 {start}\n"));
        let sink = open(&config(kind, &fake.url())).await.unwrap();
        let mut sent = rows(start + 1, 100);
        sent[50].text = Some("bad".into());
        let batches = [batch("probe", &sent)];
        let right = Fault { store: true, ..Fault::default() };
        fake.script([right.clone(), Fault::status(503)]);
        assert_eq!(sink.write(&batches).await.unwrap_err().kind(), ErrorKind::Unavailable);
        let written = sink.write(&batches).await.unwrap();
        assert_eq!((written.rows, rejected(&written).0), (99, [(0, vec![50])].into()));
        assert_eq!(fake.values("probe", "value").len(), 99);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_success_is_success() {
    let fake = Fake::start(Settings::new(Kind::Two)).await;
    let telemetry = Telemetry::default();
    let sink = InfluxSink::open("influx", &config(Kind::Two, &fake.url()), &telemetry).await.unwrap();
    let batches = [batch("probe", &rows(recent(), 10))];
    fake.script([Fault { body: "later".into(), ..Fault::status(202) }, Fault::status(200)]);
    assert_eq!(sink.write(&batches).await.unwrap().rows, 10);
    assert_eq!(sink.write(&batches).await.unwrap().rows, 10);
    let text = telemetry.encode();
    for line in [
        "barograph_influxdb_odd_answers_total{component=\"influx\"} 1",
        "barograph_influxdb_requests_total{component=\"influx\",outcome=\"stored\",status=\"2xx\"} 2",
        "barograph_influxdb_request_duration_seconds_count{component=\"influx\"} 2",
        "barograph_influxdb_rows_left_out_total{component=\"influx\"} 0",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_nobody_knows_cost_no_row_unless_they_are_about_rows() {
    for kind in KINDS {
        let fake = Fake::start(Settings::new(kind)).await;
        let sink = open(&config(kind, &fake.url())).await.unwrap();
        let batches = [batch("probe", &rows(recent(), 64))];
        // Whatever is sent is refused: a header or a proxy is to blame.
        fake.always(Some(Fault { body: "<html>Bad Request</html>".into(), ..Fault::status(400) }));
        let error = sink.write(&batches).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Denied, Retry::Never), "{error}");
        assert!(error.to_string().contains("without rows"), "{error}");
        fake.always(None);
        // One request is refused in unknown words, one without rows is not: the halves are tried.
        fake.forget_requests();
        fake.script([Fault { body: "no such thing".into(), ..Fault::status(400) }]);
        assert_eq!(sink.write(&batches).await.unwrap().rows, 64);
        let lines: Vec<_> = fake.requests().iter().map(|request| request.lines).collect();
        assert_eq!(lines, [64, 0, 32, 32], "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_wrongly_keeps_the_rows() {
    for kind in KINDS {
        let fake = Fake::start(Settings::new(kind)).await;
        let sink = open(&config(kind, &fake.url())).await.unwrap();
        let batches = [batch("probe", &rows(recent(), 10))];
        for (status, expected) in [
            (401, ErrorKind::Auth),
            (403, ErrorKind::Denied),
            (404, ErrorKind::NotFound),
            (405, ErrorKind::NotFound),
            (307, ErrorKind::NotFound),
            (415, ErrorKind::Denied),
        ] {
            fake.forget_requests();
            let headers = vec![("location", format!("{}/elsewhere", fake.url()))];
            fake.script([Fault { headers, ..Fault::status(status) }]);
            let error = sink.write(&batches).await.unwrap_err();
            assert_eq!((error.kind(), error.retry()), (expected, Retry::Never), "{error}");
            assert_eq!(fake.requests().len(), 1, "no redirect is followed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_too_many_costs_its_rows_and_no_others() {
    let fake = Fake::start(Settings { max_tables: 2, ..Settings::new(Kind::Three) }).await;
    let sink = open(&config(Kind::Three, &fake.url())).await.unwrap();
    let tables = ["a", "b", "c"].map(|table| batch(table, &rows(recent(), 100)));
    let written = sink.write(&tables).await.unwrap();
    let (places, reasons) = rejected(&written);
    assert_eq!((written.rows, places.len()), (200, 1), "{reasons:?}");
    assert_eq!(places[&2], (0..100).collect::<Vec<_>>());
    assert!(reasons[0].contains("number of tables limit"), "{reasons:?}");
    assert!(fake.requests().len() <= 5, "{} requests for three tables", fake.requests().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_given_up_in_time() {
    let fake = Fake::start(Settings::new(Kind::One)).await;
    let config =
        Config { timeout: Span("300ms".parse::<Span>().unwrap().0), ..config(Kind::One, &fake.url()) };
    let sink = open(&config).await.unwrap();
    let batches = [batch("probe", &rows(recent(), 10))];
    // The answer is lost, the rows are not: repeating them is harmless.
    fake.script([Fault { delay: Duration::from_secs(5), store: true, ..Fault::status(204) }]);
    let error = sink.write(&batches).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Later), "{error}");
    assert!(error.to_string().contains("`timeout`"), "{error}");
    assert_eq!(sink.write(&batches).await.unwrap().rows, 10);
    assert_eq!(fake.values("probe", "value").len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_tried_again_and_half_an_answer_is_understood() {
    let fake = Fake::start(Settings::new(Kind::One)).await;
    let start = recent();
    fake.seed(&format!("probe text=1.5 {start}\n"));
    let batches = [batch("probe", &rows(start + 1, 10))];
    let answer = |head: &str, body: &str| {
        Break::Answer(format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{body}"))
    };
    let pass = "HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.6.7\r\nConnection: close\r\n\r\n";
    for (broken, expected) in [
        (Break::Close, Some(ErrorKind::Unavailable)),
        (Break::Answer("HTTP/1.1 2".into()), Some(ErrorKind::Unavailable)),
        (answer("503 Service Unavailable", "{\"error\":\"bus"), Some(ErrorKind::Unavailable)),
        (answer("401 Unauthorized", "{\"err"), Some(ErrorKind::Auth)),
        (answer("200 OK", "{"), None),
        (answer("400 Bad Request", "{\"error\":\"partial write: field type con"), None),
    ] {
        let gate = Gate::before(fake.address, None).await;
        gate.script([Break::Answer(pass.into()), broken.clone()]);
        let sink = open(&config(Kind::One, &format!("http://{}", gate.address))).await.unwrap();
        match (sink.write(&batches).await, expected) {
            (Ok(written), None) => assert_eq!(written.rows, 10, "{broken:?}"),
            (Err(error), Some(kind)) => {
                assert_eq!(error.kind(), kind, "{broken:?}: {error}");
                assert_eq!(sink.write(&batches).await.unwrap().rows, 10, "{broken:?}");
            }
            (result, _) => panic!("{broken:?}: {result:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_costs_neither_memory_nor_much_time() {
    let fake = Fake::start(Settings::new(Kind::One)).await;
    let batches = [batch("probe", &rows(recent(), 10))];
    let gate = Gate::before(fake.address, None).await;
    let pass = "HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.6.7\r\nConnection: close\r\n\r\n";
    let endless = "HTTP/1.1 503 Busy\r\nContent-Length: 100000000\r\n\r\n";
    gate.script([Break::Answer(pass.into()), Break::Drip(endless.into())]);
    let sink = open(&config(Kind::One, &format!("http://{}", gate.address))).await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(sink.write(&batches).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // And one that is simply large: 100 MB of which 64 KiB are read.
    fake.script([Fault { body: "x".repeat(100 << 20), ..Fault::status(503) }]);
    let error = sink.write(&batches).await.unwrap_err();
    assert!(error.to_string().len() < 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_may_overlap() {
    let fake = Fake::start(Settings::new(Kind::Three)).await;
    let sink = std::sync::Arc::new(open(&config(Kind::Three, &fake.url())).await.unwrap());
    let start = recent();
    let writes = (0..8).map(|number| {
        let sink = std::sync::Arc::clone(&sink);
        tokio::spawn(async move {
            let batches = [batch(&format!("probe{number}"), &rows(start, 3_000))];
            sink.write(&batches).await.unwrap().rows
        })
    });
    for rows in futures::future::join_all(writes.collect::<Vec<_>>()).await {
        assert_eq!(rows.unwrap(), 3_000);
    }
    for number in 0..8 {
        assert_eq!(fake.values(&format!("probe{number}"), "value").len(), 3_000);
    }
}
