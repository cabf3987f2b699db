//! The HTTP interface: health, metrics, and the API that the command line reads.
//!
//! It listens on loopback unless told otherwise, and asks for no password. So that no web page in a browser on the same
//! machine can use it, a verb must be sent as `application/json`, which browsers do not send elsewhere without asking first.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use weir_engine::Verb;

use crate::metrics::{self, Format};
use crate::status_store::{Name, StatusStore};

/// Port that it listens on unless told otherwise.
pub const PORT: u16 = 8090;

type Shared = State<Arc<StatusStore>>;

/// The path of what a person may ask of a Canary.
pub(crate) const VERB: &str = "/api/v1/canaries/{namespace}/{name}/{verb}";

/// Returns everything that is served on one machine.
pub fn router(statuses: Arc<StatusStore>) -> Router {
    readings().route(VERB, post(verb)).with_state(statuses)
}

/// Returns what can be read.
pub(crate) fn readings() -> Router<Arc<StatusStore>> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .route("/api/v1/canaries", get(canaries))
        .route("/api/v1/canaries/{namespace}/{name}", get(canary))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "no such path; the API is under /api/v1/canaries") })
}

/// Serves until `stop` ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: tokio::net::TcpListener,
    statuses: Arc<StatusStore>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(statuses)).with_graceful_shutdown(stop).await
}

async fn readyz(State(statuses): Shared) -> Response {
    let problems = statuses.unready();
    if problems.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n").into_response()
}

async fn render_metrics(State(statuses): Shared, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (format, content_type) = match accept.contains("application/openmetrics-text") {
        true => (Format::OpenMetrics, metrics::OPEN_METRICS),
        false => (Format::Prometheus, metrics::PROMETHEUS),
    };
    match metrics::render(&statuses, format) {
        Ok(text) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn canaries(State(statuses): Shared) -> Response {
    Json(statuses.list()).into_response()
}

async fn canary(State(statuses): Shared, Path((namespace, name)): Path<(String, String)>) -> Response {
    match statuses.detail(&Name { namespace: namespace.clone(), name: name.clone() }) {
        Some(detail) => Json(detail).into_response(),
        None => unknown(&namespace, &name),
    }
}

async fn verb(
    State(statuses): Shared,
    Path((namespace, name, word)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let json = headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if !json {
        let text = "send the header content-type: application/json; it keeps web pages from doing this";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    let verb: Verb = match word.parse() {
        Ok(verb) => verb,
        Err(unknown) => {
            return refusal(StatusCode::BAD_REQUEST, &format!("{word} is not a verb: use {}", unknown.expected));
        }
    };
    let name = Name { namespace, name };
    if statuses.detail(&name).is_none() {
        return unknown(&name.namespace, &name.name);
    }
    match statuses.send(name, verb) {
        Some(id) => (StatusCode::ACCEPTED, Json(json!({"verb": word, "id": id}))).into_response(),
        None => {
            refusal(StatusCode::SERVICE_UNAVAILABLE, "Weir is not taking verbs now: it is starting, stopping or busy")
        }
    }
}

fn unknown(namespace: &str, name: &str) -> Response {
    refusal(StatusCode::NOT_FOUND, &format!("no Canary {namespace}/{name} is known here"))
}

pub(crate) fn refusal(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"error": text}))).into_response()
}
