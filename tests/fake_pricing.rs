//! That the fake of the Price List query API has the shape of the real one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what failed by panicking"
)]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "tests use parts of their support")]

#[path = "support/aws_wire.rs"]
mod aws_wire;
#[path = "support/fake_pricing.rs"]
mod fake_pricing;

use fake_pricing::FakePricing;
use serde_json::{Value, json};

async fn call(fake: &FakePricing, operation: &str, input: &Value) -> (u16, Value) {
    let target = format!("AWSPriceListService.{operation}");
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", &target)];
    let answer = aws_wire::post(fake.address, "/", &headers, input.to_string().as_bytes()).await.unwrap();
    assert_eq!(answer.header("content-type"), "application/x-amz-json-1.1");
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

fn input(filters: &[(&str, &str)]) -> Value {
    let filters =
        filters.iter().map(|(field, value)| json!({ "Type": "TERM_MATCH", "Field": field, "Value": value }));
    json!({ "ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "Filters": filters.collect::<Vec<_>>() })
}

fn documents(answer: &Value) -> Vec<Value> {
    let list = answer["PriceList"].as_array().unwrap().iter();
    list.map(|document| serde_json::from_str(document.as_str().unwrap()).unwrap()).collect()
}

/// Unit and USD of the only price in a document.
fn price(document: &Value) -> (String, f64) {
    let first = |value: &Value| value.as_object().unwrap().values().next().unwrap().clone();
    let dimension = first(&first(&document["terms"]["OnDemand"])["priceDimensions"]);
    let usd = dimension["pricePerUnit"]["USD"].as_str().unwrap().parse().unwrap();
    (dimension["unit"].as_str().unwrap().into(), usd)
}

#[tokio::test]
async fn filters_leave_the_one_price() {
    let fake = FakePricing::start().await;
    let wanted = |region, instance_type, system| {
        input(&[
            ("regionCode", region),
            ("instanceType", instance_type),
            ("operatingSystem", system),
            ("tenancy", "Shared"),
            ("preInstalledSw", "NA"),
            ("capacitystatus", "Used"),
            ("licenseModel", "No License required"),
        ])
    };
    let (status, answer) = call(&fake, "GetProducts", &wanted("eu-west-1", "m5.xlarge", "Windows")).await;
    assert_eq!((status, &answer["FormatVersion"]), (200, &json!("aws_v1")));
    let found = documents(&answer);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["product"]["attributes"]["usagetype"], "EU-BoxUsage:m5.xlarge");
    assert_eq!(price(&found[0]), ("Hrs".into(), 0.6));
    assert_eq!(fake_pricing::hourly("eu-west-1", "m5.xlarge", true), Some((0.2 + 0.2) * 1.5));
    let (_, answer) = call(&fake, "GetProducts", &wanted("eu-west-1", "r5.large", "Linux")).await;
    assert_eq!(documents(&answer).len(), 0);
    let (_, answer) = call(&fake, "GetProducts", &wanted("us-east-1", "r5.large", "Linux")).await;
    assert_eq!(price(&documents(&answer)[0]).1, 0.12);
    let decoys =
        input(&[("regionCode", "us-east-1"), ("instanceType", "t3.micro"), ("operatingSystem", "Windows")]);
    assert_eq!(documents(&call(&fake, "GetProducts", &decoys).await.1).len(), 6);

    let volume =
        input(&[("productFamily", "Storage"), ("regionCode", "us-east-1"), ("volumeApiName", "gp3")]);
    assert_eq!(price(&documents(&call(&fake, "GetProducts", &volume).await.1)[0]), ("GB-Mo".into(), 0.08));
}

#[tokio::test]
async fn pages_errors_and_the_other_operations() {
    let fake = FakePricing::start().await;
    let mut request = input(&[("productFamily", "Compute Instance")]);
    request["MaxResults"] = json!(60);
    let mut skus = Vec::new();
    loop {
        let (_, answer) = call(&fake, "GetProducts", &request).await;
        skus.extend(documents(&answer).iter().map(|document| document["product"]["sku"].clone()));
        if answer["NextToken"].is_null() {
            break;
        }
        request["NextToken"] = answer["NextToken"].clone();
    }
    assert_eq!(skus.len(), 13 * 11);
    let kind = async |operation, request: Value| {
        let (status, answer) = call(&fake, operation, &request).await;
        (status, answer["__type"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(kind("GetProducts", json!({ "ServiceCode": "AmazonS3" })).await.1, "NotFoundException");
    assert_eq!(kind("GetProducts", json!({})).await.1, "InvalidParameterException");
    request["NextToken"] = json!("x");
    assert_eq!(kind("GetProducts", request).await, (400, "InvalidNextTokenException".into()));
    let many = json!({ "ServiceCode": "AmazonEC2", "MaxResults": 101 });
    assert_eq!(kind("GetProducts", many).await.1, "InvalidParameterException");
    fake.throttle(1);
    assert_eq!(kind("DescribeServices", json!({})).await.1, "ThrottlingException");
    let (_, services) = call(&fake, "DescribeServices", &json!({ "ServiceCode": "AmazonEC2" })).await;
    assert!(services["Services"][0]["AttributeNames"].as_array().unwrap().contains(&json!("volumeApiName")));
    let values = json!({ "ServiceCode": "AmazonEC2", "AttributeName": "volumeApiName" });
    let (_, values) = call(&fake, "GetAttributeValues", &values).await;
    assert_eq!(values["AttributeValues"].as_array().unwrap().len(), 4);
    assert_eq!(fake.calls(), 10);
}
