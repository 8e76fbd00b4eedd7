//! An EC2 that says what a test tells it to: for what moto does not do, as time between an answer and its truth, capacity
//! that is missing, hibernation, pages, throttling and permissions. It speaks the query protocol and keeps what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// Whoever asks.
pub(crate) const ACCOUNT: &str = "123456789012";

/// Parameters of a call.
pub(crate) type Asked = BTreeMap<String, String>;
/// An answer's content, or the code of an error.
pub(crate) type Answer = Result<String, &'static str>;

pub(crate) struct ToldEc2 {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ToldEc2 {
    /// Answers until the test's process ends.
    pub(crate) fn start(answer: impl Fn(&str, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &kept, answer.as_ref()));
            }
        });
        Self { url, asked }
    }

    /// The calls of an action so far.
    pub(crate) fn calls(&self, action: &str) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| asked["Action"] == action).cloned().collect()
    }
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<Asked>>, answer: &dyn Fn(&str, &Asked) -> Answer) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let asked: Asked = String::from_utf8_lossy(&body)
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (plain(name), plain(value)))
            .collect();
        // A question of another protocol, as that for a price.
        let action = asked.get("Action").cloned().unwrap_or_default();
        if !action.is_empty() {
            kept.lock().push(asked.clone());
        }
        let said = match action.as_str() {
            "" => Err("InvalidAction"),
            "GetCallerIdentity" => {
                Ok(format!("<GetCallerIdentityResult><Account>{ACCOUNT}</Account></GetCallerIdentityResult>"))
            }
            _ => answer(&action, &asked),
        };
        let (status, answer) = match said {
            Ok(content) => (
                "200 OK",
                format!("<{action}Response>{content}<requestId>r-1</requestId></{action}Response>"),
            ),
            Err(code) => {
                let status = match code {
                    "RequestLimitExceeded" => "503 Service Unavailable",
                    "UnauthorizedOperation" => "403 Forbidden",
                    "DryRunOperation" => "412 Precondition Failed",
                    "InsufficientInstanceCapacity" | "InternalError" => "500 Internal Server Error",
                    _ => "400 Bad Request",
                };
                let error = format!("<Error><Code>{code}</Code><Message>as the test says</Message></Error>");
                (status, format!("<Response><Errors>{error}</Errors><RequestID>r-1</RequestID></Response>"))
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if reader.get_mut().write_all(format!("{head}{answer}").as_bytes()).is_err() {
            return;
        }
    }
}

fn plain(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0);
        match byte {
            b'%' => {
                let (high, low) = (hex(rest.next()), hex(rest.next()));
                bytes.push(u8::try_from(high * 16 + low).unwrap());
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}
