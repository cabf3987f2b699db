//! What the controller serves: health, metrics, the API that the command line reads, and the module for the gateways.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::board::Board;
use crate::http;

/// The module, as it is served.
#[derive(Clone)]
pub(crate) struct Served {
    /// Its sha256 in hex.
    pub(crate) sha256: String,
    /// Its bytes.
    pub(crate) bytes: Bytes,
}

/// Returns everything that is served.
pub(crate) fn router(board: Arc<Board>, module: Option<Served>) -> Router {
    let router = http::router(board);
    match module {
        Some(module) => router.merge(Router::new().route("/module/{name}", get(send)).with_state(module)),
        None => router,
    }
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
