//! Against what others have made: the fake CloudWatch beside ministack, and the whole source before ministack with a proxy
//! between them that fails as AWS does. `make interop` installs both and runs it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what failed by panicking"
)]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "tests use parts of their support")]

#[path = "../support/aws_source.rs"]
mod aws_source;
#[path = "../support/aws_wire.rs"]
mod aws_wire;
#[path = "../support/fake_cloudwatch/mod.rs"]
mod fake_cloudwatch;

mod alike;
mod burst;
mod ministack;
