//! What the controller serves: health, metrics, the API that the command line reads, and the module for the gateways.

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

/// Returns everything that is served.
pub(crate) fn router(statuses: Arc<StatusStore>, module: Option<Served>) -> Router {
    let router = http::readings().route(http::VERB, post(refer)).with_state(statuses);
    match module {
        Some(module) => router.merge(Router::new().route("/module/{name}", get(send)).with_state(module)),
        None => router,
    }
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_verb_is_refused_with_the_command_that_asks_for_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (statuses, _calls) = StatusStore::new();
        tokio::spawn(async move { axum::serve(listener, router(statuses, None)).await });
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "POST /api/v1/canaries/shop/cart/pause HTTP/1.1\r\nhost: weir\r\ncontent-type: application/json\r\n\
                       content-length: 2\r\nconnection: close\r\n\r\n{}";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        let error = serde_json::from_str::<serde_json::Value>(body).unwrap()["error"].as_str().unwrap().to_owned();
        let command = "kubectl --namespace shop annotate canary cart --overwrite weir.dev/verb=\"pause $(date +%s)\"";
        assert!(error.contains(command), "{error}");
    }
}
