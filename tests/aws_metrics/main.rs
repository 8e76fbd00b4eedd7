//! CloudWatch through the whole source, against a fake that publishes late, revises, throttles and counts the bill.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "tests use parts of their support")]

#[path = "../support/aws_source.rs"]
mod aws_source;
#[path = "../support/fake_cloudwatch/mod.rs"]
mod fake_cloudwatch;
#[path = "../support/fake_ec2.rs"]
mod fake_ec2;

mod accounts;
mod bill;
mod custom;
mod inventory;
mod monitoring;
mod outage;
mod points;
mod refused;
mod rig;
mod volumes;
