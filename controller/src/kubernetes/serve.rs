//! What the controller serves, and to whom: metrics and the module for the gateways to everybody, health on a port of its own,
//! so that nobody's flood makes a probe fail, and what is known of Canaries on the pod's loopback only.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::http;
use crate::kubernetes::reconcile::observe::VERB;
use crate::status_store::StatusStore;

/// The module, as it is served.
#[derive(Clone)]
pub(crate) struct Served {
    /// Its sha256 in hex.
    pub(crate) sha256: String,
    /// Its bytes.
    pub(crate) bytes: Bytes,
}

/// Returns what everybody who reaches the pod is served. Health is among it for those who probe this port from outside.
pub(crate) fn public(statuses: Arc<StatusStore>, module: Option<Served>) -> Router {
    let router = http::health().merge(http::metrics()).fallback(elsewhere).with_state(statuses);
    match module {
        Some(module) => router.merge(Router::new().route("/module/{name}", get(send)).with_state(module)),
        None => router,
    }
}

/// Returns what probes are served.
pub(crate) fn probes(statuses: Arc<StatusStore>) -> Router {
    http::health().fallback(elsewhere).with_state(statuses)
}

/// Returns what those are served who may forward ports of this pod.
pub(crate) fn details(statuses: Arc<StatusStore>) -> Router {
    http::details().route(http::VERB, post(refer)).fallback(http::no_such_path).with_state(statuses)
}

async fn elsewhere() -> Response {
    let text = format!(
        "no such path here; Canaries are under /api/v1/canaries on port {} of the pod's loopback: kubectl weir, or kubectl \
         port-forward",
        http::PORT
    );
    http::refusal(StatusCode::NOT_FOUND, &text)
}

/// Nobody who calls here is known: the API server knows who may change a Canary.
async fn refer(Path((namespace, name, word)): Path<(String, String, String)>) -> Response {
    let text = format!(
        "in a cluster a verb is an annotation: kubectl --namespace {namespace} annotate canary {name} --overwrite \
         {VERB}=\"{word} $(date +%s)\""
    );
    http::refusal(StatusCode::FORBIDDEN, &text)
}

/// Returns the path of a module: the name says what is in it, so whoever has it may keep it for ever.
#[must_use]
pub(crate) fn path(sha256: &str) -> String {
    format!("/module/{sha256}.wasm")
}

async fn send(State(module): State<Served>, Path(name): Path<String>) -> Response {
    if name.strip_suffix(".wasm") != Some(&module.sha256) {
        return (StatusCode::NOT_FOUND, "another module is served here\n").into_response();
    }
    ([(header::CONTENT_TYPE, "application/wasm")], module.bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_server;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn ask(router: Router, request: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(http_server::serve(listener, router, std::future::pending()));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(router: Router, path: &str) -> String {
        ask(router, &format!("GET {path} HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n")).await
    }

    #[tokio::test]
    async fn canaries_are_not_told_to_everybody_who_reaches_the_pod() {
        let (statuses, _calls) = StatusStore::new();
        statuses.set_acting();
        for path in ["/api/v1/canaries", "/api/v1/canaries/shop/cart"] {
            for router in [public(statuses.clone(), None), probes(statuses.clone())] {
                let answer = get(router, path).await;
                assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("kubectl weir"), "{answer}");
            }
        }
        assert!(get(details(statuses.clone()), "/api/v1/canaries").await.contains("\"items\":[]"));
        assert!(get(public(statuses.clone(), None), "/metrics").await.contains("weir_ready"));
        assert!(get(probes(statuses), "/healthz").await.ends_with("ok\n"));
    }

    #[tokio::test]
    async fn a_verb_is_refused_with_the_command_that_asks_for_it() {
        let request = "POST /api/v1/canaries/shop/cart/pause HTTP/1.1\r\nhost: weir\r\ncontent-type: application/json\r\n\
                       content-length: 2\r\nconnection: close\r\n\r\n{}";
        let answer = ask(details(StatusStore::new().0), request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        let error = serde_json::from_str::<serde_json::Value>(body).unwrap()["error"].as_str().unwrap().to_owned();
        let command = "kubectl --namespace shop annotate canary cart --overwrite weir.dev/verb=\"pause $(date +%s)\"";
        assert!(error.contains(command), "{error}");
    }
}
