//! A price list that answers as AWS's does, with invented round prices. It knows three instance types, and counts questions.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

/// Instance types and what an hour of each costs with Linux; Windows is twice as much.
pub(crate) const TYPES: [(&str, &str); 3] =
    [("t3.large", "0.5"), ("t3.micro", "0.125"), ("t3.small", "0.25")];
/// Items of one page.
const PAGE: usize = 2;

pub(crate) struct FakePrices {
    pub(crate) url: String,
    #[allow(dead_code, reason = "not every test counts them")]
    asked: Arc<AtomicUsize>,
}

impl FakePrices {
    /// Answers until the test's process ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || serve(stream, &count));
            }
        });
        Self { url, asked }
    }

    /// Questions so far.
    #[allow(dead_code, reason = "not every test counts them")]
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn serve(stream: TcpStream, count: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut target, mut line) = (0, String::new(), String::new());
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "x-amz-target" => target = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        count.fetch_add(1, Ordering::Relaxed);
        let (status, answer) = match target.as_str() {
            "AWSPriceListService.GetProducts" => {
                ("200 OK", products(&serde_json::from_slice(&body).unwrap()))
            }
            _ => ("400 Bad Request", json!({ "__type": "InvalidParameterException", "message": target })),
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if reader.get_mut().write_all(format!("{head}{answer}").as_bytes()).is_err() {
            return;
        }
    }
}

fn products(question: &Value) -> Value {
    let filters = question["Filters"].as_array().cloned().unwrap_or_default();
    let filters: HashMap<String, String> = filters
        .iter()
        .map(|filter| {
            let text = |name: &str| filter[name].as_str().unwrap_or_default().to_owned();
            (text("Field"), text("Value"))
        })
        .collect();
    let is = |field: &str, value: &str| filters.get(field).is_none_or(|wanted| wanted == value);
    let mut all = Vec::new();
    match filters.get("productFamily").map(String::as_str) {
        Some("Storage") => {
            for (class, price) in [("gp2", "0.1"), ("gp3", "0.0625"), ("standard", "0.05")] {
                if is("volumeApiName", class) {
                    all.push(product(&json!({ "volumeApiName": class }), "GB-Mo", price));
                }
            }
        }
        Some("Storage Snapshot") => {
            let usage = |kind: &str| json!({ "usagetype": kind });
            all.push(product(&usage("EUW1-EBS:SnapshotUsage"), "GB-Mo", "0.03125"));
            all.push(product(&usage("EUW1-EBS:SnapshotArchiveStorage"), "GB-Mo", "0.01"));
        }
        _ => {
            let windows = filters.get("operatingSystem").is_some_and(|system| system == "Windows");
            for (name, price) in TYPES.into_iter().filter(|(name, _)| is("instanceType", name)) {
                let price: f64 = price.parse().unwrap();
                let price = if windows { price * 2.0 } else { price };
                all.push(product(&json!({ "instanceType": name }), "Hrs", &price.to_string()));
            }
        }
    }
    let from: usize = question["NextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
    let next = (from + PAGE < all.len()).then(|| (from + PAGE).to_string());
    let page: Vec<String> =
        all.into_iter().skip(from).take(PAGE).map(|product| product.to_string()).collect();
    json!({ "FormatVersion": "aws_v1", "PriceList": page, "NextToken": next })
}

fn product(attributes: &Value, unit: &str, price: &str) -> Value {
    let dimension = json!({ "unit": unit, "pricePerUnit": { "USD": price } });
    let term = json!({ "effectiveDate": "2026-11-01T00:00:00Z", "priceDimensions": { "A.B.C": dimension } });
    json!({ "product": { "attributes": attributes }, "terms": { "OnDemand": { "A.B": term } } })
}
