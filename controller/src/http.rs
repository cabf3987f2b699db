//! The HTTP interface: health, metrics, and the API that the command line reads.
//!
//! It listens on loopback unless told otherwise, and asks for no password. So that no web page in a browser on the same
//! machine can use it, a verb must be sent as `application/json`, which browsers do not send elsewhere without asking first; and
//! the API answers to an address or `localhost` only, since whoever serves a page also says what its own name resolves to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use weir_engine::Verb;

use crate::http_server;
use crate::metrics::{self, Format};
use crate::status_store::{Name, StatusStore};

/// Port that it listens on unless told otherwise.
pub const PORT: u16 = 8090;

/// Longest time that somebody waits for something new: he has a connection meanwhile, of which there are so many.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The version of Weir.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

type Shared = State<Arc<StatusStore>>;

/// The path of what a person may ask of a Canary.
pub(crate) const VERB: &str = "/api/v1/canaries/{namespace}/{name}/{verb}";

/// Returns everything that is served on one machine.
pub fn router(statuses: Arc<StatusStore>) -> Router {
    let api = details().route(VERB, post(verb)).route_layer(from_fn(by_address));
    api.merge(health()).merge(metrics()).fallback(no_such_path).with_state(statuses)
}

/// Whether Weir lives and works.
pub(crate) fn health() -> Router<Arc<StatusStore>> {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(readyz))
}

/// The metrics.
pub(crate) fn metrics() -> Router<Arc<StatusStore>> {
    let last = Arc::new(Mutex::new(Rendered::default()));
    Router::new().route("/metrics", get(move |statuses, headers| send_metrics(statuses, headers, last.clone())))
}

/// Everything that is known of Canaries.
pub(crate) fn details() -> Router<Arc<StatusStore>> {
    Router::new()
        .route("/api/v1/canaries", get(canaries))
        .route("/api/v1/canaries/{namespace}/{name}", get(canary))
        .route("/api/v1/version", get(|| async { Json(json!({"version": VERSION})) }))
        .route("/api/v1/summaries", get(summaries))
}

/// Says where the API is.
pub(crate) async fn no_such_path() -> Response {
    refusal(StatusCode::NOT_FOUND, "no such path; the API is under /api/v1/canaries")
}

/// Serves until `stop` ends.
pub async fn serve(listener: TcpListener, statuses: Arc<StatusStore>, stop: impl Future<Output = ()>) {
    http_server::serve(listener, router(statuses), stop).await;
}

/// Refuses who comes by another name than this machine's own.
async fn by_address(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    match host.filter(|host| !is_own(host)) {
        None => next.run(request).await,
        Some(host) => {
            let text = format!("nobody here is called {host:?}: ask by an address, or by localhost");
            refusal(StatusCode::FORBIDDEN, &text)
        }
    }
}

/// Returns whether a `Host` is an address or a name of loopback.
fn is_own(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

async fn readyz(State(statuses): Shared) -> Response {
    let problems = statuses.unready();
    if problems.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n") + "\n").into_response()
}

/// The metrics as they were last written, in each format.
#[derive(Default)]
struct Rendered {
    last: [Option<(Instant, Bytes)>; 2],
}

/// Writes the metrics one at a time: whoever asks while that is done gets what is written next, together with everybody who
/// waits with him. Many who ask at once cost as much as two.
async fn send_metrics(State(statuses): Shared, headers: HeaderMap, rendered: Arc<Mutex<Rendered>>) -> Response {
    let asked = Instant::now();
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (format, content_type, place) = match accept.contains("application/openmetrics-text") {
        true => (Format::OpenMetrics, metrics::OPEN_METRICS, 0),
        false => (Format::Prometheus, metrics::PROMETHEUS, 1),
    };
    let mut rendered = rendered.lock().await;
    let text = match &rendered.last[place] {
        Some((begun, text)) if *begun >= asked => text.clone(),
        _ => {
            let begun = Instant::now();
            let text = match metrics::render(&statuses, format) {
                Ok(text) => Bytes::from(text),
                Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            };
            rendered.last[place] = Some((begun, text.clone()));
            text
        }
    };
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

async fn canaries(State(statuses): Shared) -> Response {
    if !statuses.is_acting() {
        return too_early();
    }
    Json(statuses.list()).into_response()
}

/// What changed since the caller looked last.
async fn summaries(State(statuses): Shared, Query(Since { since, wait }): Query<Since>) -> Response {
    if !statuses.is_acting() {
        return too_early();
    }
    Json(statuses.next_changes(&since, Duration::from_secs(wait).min(LONGEST_WAIT)).await).into_response()
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Since {
    /// When the caller looked last, as it was told then.
    since: String,
    /// Seconds for which it waits for something new.
    wait: u64,
}

async fn canary(State(statuses): Shared, Path((namespace, name)): Path<(String, String)>) -> Response {
    match statuses.detail(&Name { namespace: namespace.clone(), name: name.clone() }) {
        Some(detail) => Json(detail).into_response(),
        None if !statuses.is_acting() => too_early(),
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
    if !statuses.is_acting() {
        return too_early();
    }
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

/// Said before all Canaries were looked at: none of them is gone.
fn too_early() -> Response {
    let text = "this Weir has just begun, or waits for its turn, and has not looked at the Canaries yet: ask again";
    refusal(StatusCode::SERVICE_UNAVAILABLE, text)
}

fn unknown(namespace: &str, name: &str) -> Response {
    refusal(StatusCode::NOT_FOUND, &format!("no Canary {namespace}/{name} is known here"))
}

pub(crate) fn refusal(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"error": text}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_answers_to_addresses_and_to_names_of_loopback() {
        for own in [
            "127.0.0.1:8090",
            "10.1.2.3",
            "[::1]:8090",
            "[fd00::1]",
            "localhost:8090",
            "LOCALHOST",
            "a.localhost",
            "localhost.",
        ] {
            assert!(is_own(own), "{own}");
        }
        for foreign in
            ["evil.example:8090", "localhost.evil.example", "127.0.0.1.evil.example", "x", "", "a b", "1.2.3.4@evil"]
        {
            assert!(!is_own(foreign), "{foreign}");
        }
    }

    #[tokio::test]
    async fn many_scrapes_at_once_cost_as_much_as_two() {
        let (statuses, _calls) = StatusStore::new();
        let rendered = Arc::new(Mutex::new(Rendered::default()));
        let busy = rendered.lock().await;
        let scrapes: Vec<_> = (0..50)
            .map(|_| tokio::spawn(send_metrics(State(statuses.clone()), HeaderMap::new(), rendered.clone())))
            .collect();
        tokio::task::yield_now().await;
        drop(busy);
        for scrape in scrapes {
            assert_eq!(scrape.await.unwrap().status(), StatusCode::OK);
        }
        let first = rendered.lock().await.last[1].clone().unwrap();
        // All of them had the first one's; who comes later has a newer one.
        let _ = send_metrics(State(statuses), HeaderMap::new(), rendered.clone()).await;
        assert!(rendered.lock().await.last[1].clone().unwrap().0 > first.0);
    }
}
