//! `/healthz`: the process lives. `/readyz`: every sink is open, and every source has collected or says what it waits
//! for; otherwise the answer says what is missing.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Observed;
use crate::pipeline::{SinkPhase, SourcePhase, View};

pub(super) async fn healthz() -> Response {
    answer(StatusCode::OK, &json!({ "status": "ok" }))
}

pub(super) async fn readyz(State(observed): State<Observed>) -> Response {
    let Some(monitor) = observed.monitor.get() else {
        return answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "starting" }));
    };
    let view = monitor.view();
    let missing = view.not_ready();
    let status = if missing.is_empty() { "ready" } else { "not ready" };
    let body = json!({
        "status": status,
        "pipeline": view.pipeline,
        "missing": missing,
        "sources": sources(&view),
        "sinks": sinks(&view),
    });
    answer(code(missing.is_empty()), &body)
}

/// For servers that strangers can reach.
pub(super) async fn readyz_briefly(State(observed): State<Observed>) -> Response {
    let ready = observed.monitor.get().is_some_and(|monitor| monitor.view().not_ready().is_empty());
    answer(code(ready), &json!({ "status": if ready { "ready" } else { "not ready" } }))
}

fn code(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn sources(view: &View) -> Value {
    let source = |phase: &SourcePhase| match phase {
        SourcePhase::Starting => json!({ "state": "starting" }),
        SourcePhase::Waiting(reason) => json!({ "state": "waiting", "reason": reason }),
        SourcePhase::Running => json!({ "state": "running" }),
    };
    view.sources
        .iter()
        .map(|s| (s.name.clone(), source(&s.numbers.phase)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn sinks(view: &View) -> Value {
    let sink = |phase: &SinkPhase| match phase.reason() {
        None => json!({ "state": phase.as_str() }),
        Some(reason) => json!({ "state": phase.as_str(), "reason": reason }),
    };
    view.sinks
        .iter()
        .map(|s| (s.name.clone(), sink(&s.numbers.phase)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, format!("{body}\n")).into_response()
}
