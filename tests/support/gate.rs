//! What stands between a client and a server: it breaks connections as a test wants it, and ends TLS.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What becomes of one connection.
#[derive(Debug, Clone)]
pub enum Break {
    /// It is closed when the request has begun.
    Close,
    /// It gets these bytes for an answer and is closed.
    Answer(String),
    /// It gets these bytes, and then one more every 100 ms without end.
    Drip(String),
}

/// An address before a server's.
pub struct Gate {
    pub address: SocketAddr,
    breaks: Arc<Mutex<VecDeque<Break>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Gate {
    /// Before this server; with TLS if there is a certificate.
    pub async fn before(server: SocketAddr, tls: Option<&Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let breaks = Arc::new(Mutex::new(VecDeque::new()));
        let acceptor = tls.map(Authority::acceptor);
        let script = Arc::clone(&breaks);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (next, acceptor) = (script.lock().pop_front(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => pass(stream, server, next).await,
                        // A client that does not trust us goes away.
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => pass(stream, server, next).await,
                            Err(_) => {}
                        },
                    }
                });
            }
        });
        Self { address, breaks, task }
    }

    /// The next connections are broken like this.
    pub fn script(&self, breaks: impl IntoIterator<Item = Break>) {
        self.breaks.lock().extend(breaks);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: impl AsyncRead + AsyncWrite + Unpin, server: SocketAddr, next: Option<Break>) {
    let Some(next) = next else {
        let mut server = TcpStream::connect(server).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    };
    // The head of the request has come, and perhaps the beginning of its body.
    let _ = client.read(&mut [0; 4096]).await;
    match next {
        Break::Close => {}
        Break::Answer(text) => {
            let _ = client.write_all(text.as_bytes()).await;
            let _ = client.shutdown().await;
            // What the client still sends must not make the kernel take the answer back.
            let _ = tokio::time::timeout(
                Duration::from_secs(1),
                tokio::io::copy(&mut client, &mut tokio::io::sink()),
            )
            .await;
        }
        Break::Drip(text) => {
            let _ = client.write_all(text.as_bytes()).await;
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A certificate authority that nobody knows, and a certificate of its for 127.0.0.1.
pub struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let mut authority = vec!["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
        authority.extend(key);
        authority.extend(["-keyout", "ca.key", "-out", "ca.pem"]);
        openssl(&authority);
        let mut request = vec!["req", "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr"];
        request.extend(key);
        openssl(&request);
        std::fs::write(folder.path().join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.pem",
        ]);
        Self { folder }
    }

    /// The authority's own certificate.
    pub fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn acceptor(&self) -> TlsAcceptor {
        let file = |name: &str| -> std::path::PathBuf { Path::join(self.folder.path(), name) };
        let certificates =
            CertificateDer::pem_file_iter(file("server.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(certificates, key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
