//! What stands between the collector and the server, and fails as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How the network and the server behave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    Fair,
    /// Connections are reset at once.
    Down,
    /// The request is read in part, and the connection reset.
    Reset,
    /// The request is read, and the connection closed without an answer.
    HalfClosed,
    /// The server gets the request, and its answer is lost.
    Lost,
    /// It takes this long, in milliseconds.
    Slow(u64),
    /// The server does not get it; this is the answer.
    Answer(u16),
}

impl Weather {
    /// Some weather, good or bad.
    pub fn any(random: &mut fastrand::Rng) -> Self {
        match random.u8(0..12) {
            0 | 1 => Self::Fair,
            2 | 3 => Self::Down,
            4 => Self::Reset,
            5 => Self::HalfClosed,
            6 | 7 => Self::Lost,
            8 => Self::Slow(random.u64(1..60)),
            _ => Self::Answer([429, 503, 500, 400, 413, 422, 408, 502][random.usize(0..8)]),
        }
    }
}

pub struct Proxy {
    pub address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let weather = Arc::new(Mutex::new(Weather::Fair));
        let now = Arc::clone(&weather);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, now) = (server.clone(), Arc::clone(&now));
                // An error is a connection that broke, as it may.
                tokio::spawn(async move { drop(serve(stream, &server, &now).await) });
            }
        });
        Self { address, weather, task }
    }

    pub fn set(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, server: &str, weather: &Mutex<Weather>) -> std::io::Result<()> {
    loop {
        let now = *weather.lock();
        if now == Weather::Down {
            return reset(client);
        }
        let Some(request) = read_request(&mut client).await? else { return Ok(()) };
        let is_write = request.starts_with(b"POST") && !request.starts_with(b"POST /query");
        let now = if is_write { *weather.lock() } else { Weather::Fair };
        match now {
            Weather::Fair => client.write_all(&forward(server, &request).await?).await?,
            Weather::Down | Weather::Reset => return reset(client),
            Weather::HalfClosed => return client.shutdown().await,
            Weather::Lost => {
                forward(server, &request).await?;
                return reset(client);
            }
            Weather::Slow(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                client.write_all(&forward(server, &request).await?).await?;
            }
            Weather::Answer(status) => {
                let retry = if status == 429 || status == 503 { "Retry-After: 0\r\n" } else { "" };
                let body = "{\"code\":\"oracle\",\"message\":\"bad weather\",\"error\":\"bad weather\"}";
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} Weather\r\n{retry}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                client.write_all(answer.as_bytes()).await?;
            }
        }
    }
}

/// Closed with a reset instead of an end.
fn reset(client: TcpStream) -> std::io::Result<()> {
    client.set_zero_linger()
}

/// The head of a message in lower case, once it is whole, and the bytes that the message has if its head tells.
fn head(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Some((text, end + 4 + length.unwrap_or(0_usize)))
}

/// Head and body; `None` at the end of the connection.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    loop {
        if let Some((_, whole)) = head(&bytes) {
            while bytes.len() < whole {
                if client.read_buf(&mut bytes).await? == 0 {
                    return Ok(None);
                }
            }
            return Ok(Some(bytes));
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// The whole answer, which a connection of its own brings.
async fn forward(server: &str, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    loop {
        if let Some((text, whole)) = head(&bytes) {
            if text.contains("transfer-encoding: chunked") {
                while !bytes.ends_with(b"0\r\n\r\n") && stream.read_buf(&mut bytes).await? > 0 {}
                return Ok(bytes);
            }
            while bytes.len() < whole && stream.read_buf(&mut bytes).await? > 0 {}
            return Ok(bytes);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(bytes);
        }
    }
}
