//! Requests and their answers.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Certificate, Proxy, RequestBuilder, Response, Url, redirect};

use super::answer::Answer;
use super::config::{self, Config};
use super::dialect::Credentials;
use super::fault;
use crate::{Error, ErrorKind, Result, Retry};

/// What the sink calls itself if the file gives it no other name.
const USER_AGENT: &str = concat!("barograph/", env!("CARGO_PKG_VERSION"));
/// Of an answer's body this much is read: a 1.x server repeats every line that it refuses.
const BODY_BYTES: usize = 64 << 10;
/// And for this long.
const BODY_TIME: Duration = Duration::from_secs(5);
/// A connection that was not used for this long is closed before the server does it.
const IDLE: Duration = Duration::from_secs(30);

const INFLUXDB_VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const INFLUXDB_ERROR: HeaderName = HeaderName::from_static("x-influxdb-error");

/// A server, and how it is reached.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    credentials: Credentials,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client of the library would show its proxy, with the password.
        f.debug_struct("Client").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

/// What is posted.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) content_type: &'static str,
    pub(super) gzip: bool,
}

impl Client {
    /// A client for the server of the configuration. Connects nowhere yet.
    ///
    /// # Errors
    /// The certificates or the proxy cannot be used.
    pub(super) async fn new(config: &Config, credentials: Credentials) -> Result<Self> {
        let open = |kind, resource: &str, reason: &str| fault(kind, "open sink", resource, reason);
        let server =
            config::server(&config.url).map_err(|reason| open(ErrorKind::Invalid, "its URL", reason))?;
        let mut builder = reqwest::Client::builder()
            .user_agent(config.user_agent.as_deref().unwrap_or(USER_AGENT))
            .timeout(config.timeout.0)
            .connect_timeout(config.connect_timeout.0)
            .pool_idle_timeout(IDLE)
            // A POST that is sent on as GET loses its rows, and credentials would go to another server.
            .redirect(redirect::Policy::none())
            .referer(false)
            // What a run does must stand in its file, not in whoever's environment it was started from.
            .no_proxy();
        if let Some(file) = &config.ca_file {
            let pem = tokio::fs::read(file).await.map_err(|e| Error::io("read certificates", file, e))?;
            let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                let name = file.display().to_string();
                return Err(open(
                    ErrorKind::Invalid,
                    &name,
                    "there is no certificate in the file; it must be PEM",
                ));
            }
            builder = builder.tls_certs_only(certificates);
        } else if server.scheme() == "http" && config.proxy.is_none() {
            // No TLS: the system's certificates need not even be there.
            builder = builder.tls_certs_only([]);
        }
        if let Some(proxy) = &config.proxy {
            // The cause is left out: it may repeat the URL and the credentials in it.
            let proxy = Proxy::all(proxy.expose()).map_err(|_| {
                open(
                    ErrorKind::Invalid,
                    server.as_str(),
                    "`proxy` is no URL; write for example http://proxy:3128",
                )
            })?;
            builder = builder.proxy(proxy);
        }
        let http = builder.build().map_err(|e| {
            open(
                ErrorKind::Invalid,
                server.as_str(),
                "no client can be made; check `ca_file` and `user_agent`",
            )
            .with_source(e.without_url())
        })?;
        Ok(Self { http, server, credentials })
    }

    /// The same, with other credentials.
    pub(super) fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// The server, with its path prefix.
    pub(super) fn server(&self) -> &Url {
        &self.server
    }

    /// Asks for a path; `operation` is what for.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn get(&self, url: Url, operation: &str) -> Result<Answer> {
        self.send(self.http.get(url), operation).await
    }

    /// Posts a body; `operation` is what for.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn post(&self, url: Url, body: Body, operation: &str) -> Result<Answer> {
        let mut request = self.http.post(url).header(header::CONTENT_TYPE, body.content_type);
        if body.gzip {
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        self.send(request.body(body.bytes), operation).await
    }

    async fn send(&self, request: RequestBuilder, operation: &str) -> Result<Answer> {
        let request = self.credentials.apply(request).header(header::ACCEPT, "application/json");
        match request.send().await {
            Ok(response) => Ok(read(response).await),
            Err(error) => Err(self.no_answer(error, operation)),
        }
    }

    fn no_answer(&self, error: reqwest::Error, operation: &str) -> Error {
        let error = error.without_url();
        let causes = causes(&error);
        let reason = if causes.contains("certificate") || causes.contains("UnknownIssuer") {
            "its certificate is not trusted; name the authority's certificate with `ca_file`"
        } else if error.is_connect() && error.is_timeout() {
            "it cannot be reached in time; check `url`, or give it more time with `connect_timeout`"
        } else if error.is_timeout() {
            "it does not answer in time; if it is only slow, give it more time with `timeout`"
        } else if error.is_connect() {
            "it cannot be reached; check that it runs and that `url` is right"
        } else {
            "the connection broke before the answer"
        };
        fault(ErrorKind::Unavailable, operation, self.server.as_str(), reason)
            .with_retry(Retry::Later)
            .with_source(error)
    }
}

/// The text of all causes.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// What matters of an answer. A body that does not come to an end in time is as good as its beginning.
async fn read(mut response: Response) -> Answer {
    let status = response.status();
    let headers = response.headers();
    let retry_after = text(headers, &header::RETRY_AFTER)
        .and_then(|wait| super::retry_after::parse(&wait, SystemTime::now()));
    let location = text(headers, &header::LOCATION);
    let version = text(headers, &INFLUXDB_VERSION);
    let error = text(headers, &INFLUXDB_ERROR);
    let mut bytes = Vec::new();
    let whole = tokio::time::timeout(BODY_TIME, async {
        while bytes.len() <= BODY_BYTES {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    });
    let whole = whole.await.unwrap_or(false);
    bytes.truncate(BODY_BYTES);
    // A character may be cut in two at the end.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let text = if text.trim().is_empty() { error.unwrap_or_default() } else { text };
    Answer { status, retry_after, location, version, text, whole }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
