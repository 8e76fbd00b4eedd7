//! The Price List query API as far as EC2 goes. No emulator has it. Its shape is the real one, price documents as strings
//! of JSON inside the JSON included; its prices are invented and round. Around each price that is wanted lie those of
//! which a client must not take one: reserved capacity, dedicated hosts, SQL Server in the image, a licence of one's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

/// Regions, the names that the API also has for them, the prefix of their usage types, and what everything costs there as
/// a multiple.
const REGIONS: [(&str, &str, &str, f64); 2] =
    [("us-east-1", "US East (N. Virginia)", "", 1.0), ("eu-west-1", "EU (Ireland)", "EU-", 1.5)];

/// Type, processors, memory, and USD per hour with Linux in us-east-1.
const TYPES: [(&str, u32, &str, f64); 7] = [
    ("t3.micro", 2, "1 GiB", 0.01),
    ("t3.small", 2, "2 GiB", 0.02),
    ("t3.medium", 2, "4 GiB", 0.04),
    ("m5.large", 2, "8 GiB", 0.1),
    ("m5.xlarge", 4, "16 GiB", 0.2),
    ("c5.large", 2, "4 GiB", 0.08),
    ("r5.large", 2, "16 GiB", 0.12),
];

/// Not offered, though the other region has it.
pub const MISSING: (&str, &str) = ("r5.large", "eu-west-1");

/// Volume type and USD for a GB and month in us-east-1.
const VOLUMES: [(&str, f64); 4] = [("gp2", 0.1), ("gp3", 0.08), ("io2", 0.12), ("st1", 0.04)];

/// What an hour with Windows costs more, for each processor.
const WINDOWS: f64 = 0.05;

/// What the fake takes for an hour of an instance, or nothing where it is not offered.
pub fn hourly(region: &str, instance_type: &str, windows: bool) -> Option<f64> {
    let (_, _, _, times) = REGIONS.iter().find(|(code, ..)| *code == region)?;
    let (_, processors, _, linux) = TYPES.iter().find(|(name, ..)| *name == instance_type)?;
    let licence = if windows { WINDOWS * f64::from(*processors) } else { 0.0 };
    ((instance_type, region) != MISSING).then_some((linux + licence) * times)
}

/// What it takes for a GB and month of a volume.
pub fn monthly(region: &str, volume_type: &str) -> Option<f64> {
    let (_, _, _, times) = REGIONS.iter().find(|(code, ..)| *code == region)?;
    VOLUMES.iter().find(|(name, _)| *name == volume_type).map(|(_, price)| price * times)
}

const NO_LICENSE: &str = "No License required";

type Attributes = BTreeMap<&'static str, String>;

/// A product and its price document.
struct Product {
    attributes: Attributes,
    document: String,
}

#[derive(Default)]
struct Counted {
    calls: u64,
    /// Of the next calls, how many are throttled.
    throttle: u64,
}

struct Server {
    products: Vec<Product>,
    counted: Mutex<Counted>,
}

/// A running fake, ended with the test.
pub struct FakePricing {
    pub address: SocketAddr,
    server: Arc<Server>,
    task: tokio::task::JoinHandle<()>,
}

impl FakePricing {
    pub async fn start() -> Self {
        let server = Arc::new(Server { products: products(), counted: Mutex::default() });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, server, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn calls(&self) -> u64 {
        self.server.counted.lock().calls
    }

    /// The next calls are throttled.
    pub fn throttle(&self, calls: u64) {
        self.server.counted.lock().throttle = calls;
    }
}

impl Drop for FakePricing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn products() -> Vec<Product> {
    let mut products = Vec::new();
    for (region, location, prefix, _) in REGIONS {
        for (name, processors, memory, _) in TYPES {
            for (system, operation) in [("Linux", "RunInstances"), ("Windows", "RunInstances:0002")] {
                let Some(price) = hourly(region, name, system == "Windows") else { continue };
                let byol = (system == "Windows").then(|| hourly(region, name, false).unwrap());
                let decoys = [
                    ("Used", "Shared", "NA", NO_LICENSE, Some(price)),
                    ("AllocatedCapacityReservation", "Shared", "NA", NO_LICENSE, Some(0.0)),
                    ("UnusedCapacityReservation", "Shared", "NA", NO_LICENSE, Some(price)),
                    ("Used", "Dedicated", "NA", NO_LICENSE, Some(price * 2.0)),
                    ("Used", "Shared", "SQL Std", NO_LICENSE, Some(price * 10.0)),
                    ("Used", "Shared", "NA", "Bring your own license", byol),
                ];
                for (capacity, tenancy, software, license, price) in decoys {
                    let Some(price) = price else { continue };
                    let usage = match (capacity, tenancy) {
                        ("AllocatedCapacityReservation", _) => "Reservation",
                        ("UnusedCapacityReservation", _) => "UnusedBox",
                        (_, "Dedicated") => "DedicatedUsage",
                        _ => "BoxUsage",
                    };
                    products.push(product(
                        products.len(),
                        "Compute Instance",
                        "Hrs",
                        price,
                        &[
                            ("capacitystatus", capacity),
                            ("currentGeneration", "Yes"),
                            ("instanceFamily", "General purpose"),
                            ("instanceType", name),
                            ("licenseModel", license),
                            ("location", location),
                            ("locationType", "AWS Region"),
                            ("marketoption", "OnDemand"),
                            ("memory", memory),
                            ("operatingSystem", system),
                            ("operation", operation),
                            ("preInstalledSw", software),
                            ("regionCode", region),
                            ("tenancy", tenancy),
                            ("usagetype", &format!("{prefix}{usage}:{name}")),
                            ("vcpu", &processors.to_string()),
                        ],
                    ));
                }
            }
        }
        for (volume, _) in VOLUMES {
            let price = monthly(region, volume).unwrap();
            products.push(product(
                products.len(),
                "Storage",
                "GB-Mo",
                price,
                &[
                    ("location", location),
                    ("locationType", "AWS Region"),
                    ("regionCode", region),
                    ("storageMedia", if volume == "st1" { "HDD-backed" } else { "SSD-backed" }),
                    ("usagetype", &format!("{prefix}EBS:VolumeUsage.{volume}")),
                    ("volumeApiName", volume),
                ],
            ));
        }
    }
    products
}

/// One with the attributes that all have, and with its document.
fn product(number: usize, family: &str, unit: &str, price: f64, own: &[(&'static str, &str)]) -> Product {
    let mut attributes: Attributes = own.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    attributes.insert("servicecode", "AmazonEC2".into());
    attributes.insert("servicename", "Amazon Elastic Compute Cloud".into());
    let shown: Map<String, Value> =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let sku = format!("FAKE{number:012}");
    let (term, rate) = (format!("{sku}.JRTCKXETXF"), format!("{sku}.JRTCKXETXF.6YS6EN2CT7"));
    let usage = &attributes["usagetype"];
    let document = json!({
        "product": { "productFamily": family, "attributes": shown, "sku": sku },
        "serviceCode": "AmazonEC2",
        "terms": { "OnDemand": { &term: {
            "priceDimensions": { &rate: {
                "unit": unit,
                "endRange": "Inf",
                "description": format!("${price:.10} per {unit} {usage}"),
                "appliesTo": [],
                "rateCode": rate,
                "beginRange": "0",
                "pricePerUnit": { "USD": format!("{price:.10}") },
            } },
            "sku": sku,
            "effectiveDate": "2026-01-01T00:00:00Z",
            "offerTermCode": "JRTCKXETXF",
            "termAttributes": {},
        } } },
        "version": "20260101000000",
        "publicationDate": "2026-01-01T00:00:00Z",
    });
    let document = document.to_string();
    // Filters take it too, though it is no attribute.
    attributes.insert("productFamily", family.into());
    Product { attributes, document }
}

type Answer = Result<Value, (&'static str, String)>;

async fn answer(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let throttled = {
        let mut counted = server.counted.lock();
        counted.calls += 1;
        let throttled = counted.throttle > 0;
        counted.throttle -= u64::from(throttled);
        throttled
    };
    let request = serde_json::from_slice::<Value>(&body);
    let answer = match (target.strip_prefix("AWSPriceListService."), request) {
        _ if throttled => Err(("ThrottlingException", "Rate exceeded".into())),
        (_, Err(error)) => Err(("SerializationException", error.to_string())),
        (Some("GetProducts"), Ok(request)) => server.get_products(&request),
        (Some("DescribeServices"), Ok(request)) => server.describe_services(&request),
        (Some("GetAttributeValues"), Ok(request)) => server.attribute_values(&request),
        (_, Ok(_)) => Err(("UnknownOperationException", target.to_owned())),
    };
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err((kind, message)) => (StatusCode::BAD_REQUEST, json!({ "__type": kind, "message": message })),
    };
    let id = "00000000-0000-4000-8000-000000000000";
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amzn-requestid", id)];
    (status, headers, body.to_string()).into_response()
}

impl Server {
    fn get_products(&self, request: &Value) -> Answer {
        check(request)?;
        let mut wanted = Vec::new();
        for filter in request["Filters"].as_array().map_or(&[][..], Vec::as_slice) {
            let part = |name: &str| filter[name].as_str().unwrap_or_default();
            if part("Type") != "TERM_MATCH" {
                return Err(("InvalidParameterException", "The Type of a Filter is TERM_MATCH here".into()));
            }
            wanted.push((part("Field"), part("Value")));
        }
        // Real values are compared without case.
        let has = |product: &Product, (field, value): &(&str, &str)| {
            product.attributes.get(field).is_some_and(|have| have.eq_ignore_ascii_case(value))
        };
        let found = self.products.iter().filter(|product| wanted.iter().all(|wanted| has(product, wanted)));
        let documents = found.map(|product| json!(product.document)).collect();
        paged(request, "PriceList", documents, true)
    }

    fn describe_services(&self, request: &Value) -> Answer {
        if !request["ServiceCode"].is_null() {
            check(request)?;
        }
        let mut names: Vec<&str> =
            self.products.iter().flat_map(|product| product.attributes.keys().copied()).collect();
        names.sort_unstable();
        names.dedup();
        let services = vec![json!({ "ServiceCode": "AmazonEC2", "AttributeNames": names })];
        paged(request, "Services", services, true)
    }

    fn attribute_values(&self, request: &Value) -> Answer {
        check(request)?;
        let name = request["AttributeName"].as_str().unwrap_or_default();
        let mut values: Vec<&String> =
            self.products.iter().filter_map(|product| product.attributes.get(name)).collect();
        values.sort_unstable();
        values.dedup();
        if values.is_empty() {
            return Err(("NotFoundException", format!("There is no attribute {name}")));
        }
        let values = values.into_iter().map(|value| json!({ "Value": value })).collect();
        paged(request, "AttributeValues", values, false)
    }
}

fn check(request: &Value) -> Result<(), (&'static str, String)> {
    match request["ServiceCode"].as_str() {
        Some("AmazonEC2") => Ok(()),
        Some(other) => Err(("NotFoundException", format!("There is no service {other}"))),
        None => Err(("InvalidParameterException", "ServiceCode is required".into())),
    }
}

/// The page that is asked for.
fn paged(request: &Value, name: &str, items: Vec<Value>, versioned: bool) -> Answer {
    let most = match request["MaxResults"].as_u64() {
        None if request["MaxResults"].is_null() => 100,
        Some(most @ 1..=100) => most as usize,
        _ => return Err(("InvalidParameterException", "MaxResults is 1 to 100".into())),
    };
    if versioned && !matches!(request["FormatVersion"].as_str(), None | Some("aws_v1")) {
        return Err(("InvalidParameterException", "FormatVersion is aws_v1".into()));
    }
    let invalid = ("InvalidNextTokenException", "The token is invalid".to_owned());
    let from = match request["NextToken"].as_str() {
        None => 0,
        Some(token) => {
            token.strip_prefix("from-").and_then(|from| from.parse().ok()).ok_or(invalid.clone())?
        }
    };
    let page = items.get(from..).ok_or(invalid)?;
    let (page, rest) = page.split_at(page.len().min(most));
    let mut answer = json!({ name: page });
    if versioned {
        answer["FormatVersion"] = json!("aws_v1");
    }
    if !rest.is_empty() {
        answer["NextToken"] = json!(format!("from-{}", from + page.len()));
    }
    Ok(answer)
}
