//! A client of the AWS fakes by hand, so that they are not judged by the SDK alone: HTTP over a socket, CBOR by ciborium.

use std::net::SocketAddr;

use ciborium::{Value, cbor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

/// Sends one request on a connection of its own.
pub async fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let cut = || std::io::Error::other("the answer is cut off");
    let split = answer.windows(4).position(|part| part == b"\r\n\r\n").ok_or_else(cut)?;
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.into(), value.trim().into()))
        .collect();
    let answer = Answer { status: status.ok_or_else(cut)?, headers, body: answer[split + 4..].to_vec() };
    if answer.header("content-length").parse::<usize>().ok() != Some(answer.body.len()) {
        return Err(cut());
    }
    Ok(answer)
}

/// Who calls CloudWatch.
#[derive(Clone)]
pub struct CloudWatch {
    pub address: SocketAddr,
    pub key: &'static str,
    pub region: &'static str,
}

impl CloudWatch {
    /// The headers that the SDK sends; the answer as it is.
    pub async fn send(&self, operation: &str, gzip: bool, body: &[u8]) -> std::io::Result<Answer> {
        let path = format!("/service/GraniteServiceVersion20100801/operation/{operation}");
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/{}/monitoring/aws4_request, SignedHeaders=host, Signature=00",
            self.key, self.region
        );
        let mut headers = vec![
            ("content-type", "application/cbor"),
            ("accept", "application/cbor"),
            ("smithy-protocol", "rpc-v2-cbor"),
            ("x-amzn-query-mode", "true"),
            ("authorization", authorization.as_str()),
        ];
        headers.extend(gzip.then_some(("content-encoding", "gzip")));
        post(self.address, &path, &headers, body).await
    }

    /// The body of an answer, or the code and the status of an error.
    pub async fn call(&self, operation: &str, input: Value) -> Result<Value, (String, u16)> {
        let answer = self.send(operation, false, &encode(&input)).await.unwrap();
        assert_eq!(answer.header("smithy-protocol"), "rpc-v2-cbor");
        assert_eq!(answer.header("content-type"), "application/cbor");
        let body: Value = ciborium::from_reader(answer.body.as_slice()).unwrap();
        if answer.status == 200 {
            return Ok(body);
        }
        assert!(get(&body, "__type").as_text().unwrap().contains('#'), "{body:?}");
        let code = answer.header("x-amzn-query-error").split(';').next().unwrap().to_owned();
        Err((code, answer.status))
    }

    /// GetMetricData of queries for a range, oldest first.
    pub async fn get(&self, queries: Vec<Value>, from: i64, to: i64) -> Vec<Series> {
        let answer = self.call("GetMetricData", input(queries, from, to)).await.unwrap();
        results(&answer)
    }

    /// ListMetrics; all pages.
    pub async fn list(&self, input: Value) -> Vec<Value> {
        let (mut pages, mut token) = (Vec::new(), None);
        loop {
            let mut input = input.clone();
            if let Some(token) = token {
                set(&mut input, "NextToken", token);
            }
            let page = self.call("ListMetrics", input).await.unwrap();
            token = find(&page, "NextToken").cloned();
            pages.push(page);
            if token.is_none() {
                return pages;
            }
        }
    }
}

pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

pub fn time(seconds: i64) -> Value {
    Value::Tag(1, Box::new(Value::Float(seconds as f64)))
}

/// A value in a map; null where there is none.
pub fn get<'a>(map: &'a Value, key: &str) -> &'a Value {
    find(map, key).unwrap_or(&Value::Null)
}

pub fn find<'a>(map: &'a Value, key: &str) -> Option<&'a Value> {
    map.as_map().unwrap().iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
}

pub fn set(map: &mut Value, key: &str, value: Value) {
    map.as_map_mut().unwrap().push((Value::Text(key.into()), value));
}

pub fn input(queries: Vec<Value>, from: i64, to: i64) -> Value {
    let (from, to) = (time(from), time(to));
    cbor!({
        "MetricDataQueries" => queries, "StartTime" => from, "EndTime" => to, "ScanBy" => "TimestampAscending"
    })
    .unwrap()
}

pub fn dimensions(pairs: &[(&str, &str)]) -> Value {
    let pairs = pairs.iter().map(|(name, value)| cbor!({ "Name" => *name, "Value" => *value }).unwrap());
    Value::Array(pairs.collect())
}

pub fn query(id: &str, namespace: &str, metric: &str, of: &[(&str, &str)], period: i64, stat: &str) -> Value {
    let of = dimensions(of);
    cbor!({
        "Id" => id,
        "MetricStat" => {
            "Metric" => { "Namespace" => namespace, "MetricName" => metric, "Dimensions" => of },
            "Period" => period,
            "Stat" => stat,
        },
    })
    .unwrap()
}

pub fn expression(id: &str, expression: &str) -> Value {
    cbor!({ "Id" => id, "Expression" => expression }).unwrap()
}

/// A result of GetMetricData.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub id: String,
    pub label: String,
    pub status: String,
    pub points: Vec<(i64, f64)>,
    pub messages: usize,
}

pub fn results(answer: &Value) -> Vec<Series> {
    let text = |value: &Value| value.as_text().unwrap().to_owned();
    let read = |result: &Value| {
        let times = get(result, "Timestamps").as_array().unwrap().iter();
        let times = times.map(|time| {
            let Value::Tag(1, time) = time else { panic!("{time:?}") };
            match &**time {
                Value::Float(time) => *time as i64,
                time => i64::try_from(i128::from(time.as_integer().unwrap())).unwrap(),
            }
        });
        let values = get(result, "Values").as_array().unwrap().iter().map(|value| value.as_float().unwrap());
        Series {
            id: text(get(result, "Id")),
            label: text(get(result, "Label")),
            status: text(get(result, "StatusCode")),
            points: times.zip(values).collect(),
            messages: find(result, "Messages").map_or(0, |messages| messages.as_array().unwrap().len()),
        }
    };
    get(answer, "MetricDataResults").as_array().unwrap().iter().map(read).collect()
}
