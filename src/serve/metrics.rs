//! `/metrics`: what the process counts about itself, for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Observed;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(observed): State<Observed>) -> Response {
    let text = observed.metrics.encode(observed.monitor.get());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}
