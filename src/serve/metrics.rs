//! `/metrics`: what the process counts about itself, as OpenMetrics for those who ask for it, else as Prometheus text.

use std::collections::HashMap;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::Observed;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(observed): State<Observed>, headers: HeaderMap) -> Response {
    let text = observed.metrics.encode(observed.monitor.get());
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if asks_for_openmetrics(accepted) {
        return ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response();
    }
    ([(header::CONTENT_TYPE, PROMETHEUS)], prometheus(&text)).into_response()
}

/// Whether `Accept` headers name OpenMetrics and do not rule it out with a weight of 0. A wildcard does not name it:
/// whoever takes anything may well read only the older format.
fn asks_for_openmetrics<'a>(mut accepted: impl Iterator<Item = &'a str>) -> bool {
    let named = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let refused =
            weight.and_then(|weight| weight.parse::<f64>().ok()).is_some_and(|weight| weight <= 0.0);
        kind.eq_ignore_ascii_case("application/openmetrics-text") && !refused
    };
    accepted.any(|value| value.split(',').any(named))
}

/// From OpenMetrics to the Prometheus text format 0.0.4. There a metric is described under the name of its series,
/// `_total` included; units and the end are not marked. Lines of values are the same in both.
fn prometheus(openmetrics: &str) -> String {
    // HELP may stand before the TYPE that tells how its metric is called.
    let kinds: HashMap<&str, &str> =
        openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let series = |name: &str| match kinds.get(name) {
        Some(&"counter") => format!("{name}_total"),
        Some(&"info") => format!("{name}_info"),
        _ => name.to_owned(),
    };
    let described = |line: &str| {
        let (what, rest) = line.strip_prefix("# ")?.split_once(' ')?;
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match (what, text) {
            ("TYPE", "info") => Some(format!("# TYPE {} gauge\n", series(name))),
            ("TYPE", "unknown") => Some(format!("# TYPE {name} untyped\n")),
            ("TYPE" | "HELP", _) => Some(format!("# {what} {} {text}\n", series(name))),
            _ => None,
        }
    };
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        if line.starts_with('#') {
            text.extend(described(line));
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests;
