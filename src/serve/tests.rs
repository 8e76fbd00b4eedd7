//! The server over real sockets on ports the system chooses.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::telemetry::{ComponentLabel, Telemetry};

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<()>>,
}

async fn serve(address: &str, token: Option<&str>) -> Running {
    let telemetry = Telemetry::default();
    telemetry.counters("barograph_test", "A counter").get_or_create(&ComponentLabel::new("x")).inc();
    let token = token.map(Secret::new);
    let server = Server::bind(address.parse().unwrap(), token, Metrics::new(&telemetry)).await.unwrap();
    let (address, stop) = (server.address(), CancellationToken::new());
    Running { address, stop: stop.clone(), task: tokio::spawn(server.run(stop)) }
}

impl Running {
    async fn get(&self, path: &str, header: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.address.port())).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn probes_and_metrics_answer_before_the_pipeline_has_started() {
    let server = serve("127.0.0.1:0", None).await;
    assert!(server.get("/healthz", "").await.unwrap().starts_with("HTTP/1.1 200"));
    let ready = server.get("/readyz", "").await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("starting"), "{ready}");
    let metrics = server.get("/metrics", "").await.unwrap();
    assert!(metrics.contains("barograph_test_total{component=\"x\"} 1"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
    assert!(
        metrics.contains("# TYPE barograph_test_total counter\n") && !metrics.contains("# EOF"),
        "{metrics}"
    );
    let accept =
        "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3\r\n";
    let metrics = server.get("/metrics", accept).await.unwrap();
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.contains("# TYPE barograph_test counter\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(server.get("/secret", "").await.unwrap().starts_with("HTTP/1.1 404"));
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_the_way_out() {
    let server = serve("127.0.0.1:0", None).await;
    let metrics = Metrics::new(&Telemetry::default());
    let error = Server::bind(server.address, None, metrics).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("--listen"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn an_address_that_others_reach_demands_a_token() {
    let metrics = Metrics::new(&Telemetry::default());
    let error = Server::bind("0.0.0.0:0".parse().unwrap(), None, metrics).await.err().unwrap();
    assert!(error.to_string().contains("BAROGRAPH_TOKEN"), "{error}");

    let server = serve("0.0.0.0:0", Some("s3cret")).await;
    for shown in ["Bearer wrong", "s3cret", "Bearers3cret", "Basic s3cret", "Bearer S3CRET", "Bearer"] {
        let header = format!("Authorization: {shown}\r\n");
        assert!(server.get("/metrics", &header).await.unwrap().starts_with("HTTP/1.1 401"), "{header}");
    }
    assert!(server.get("/metrics", "").await.unwrap().starts_with("HTTP/1.1 401"));
    for shown in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret"] {
        let header = format!("Authorization: {shown}\r\n");
        assert!(server.get("/metrics", &header).await.unwrap().starts_with("HTTP/1.1 200"), "{header}");
    }
    let ready = server.get("/readyz", "").await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 503") && !ready.contains("sources"), "{ready}");
    server.stop().await;
}
