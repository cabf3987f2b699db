//! The page: every Canary in a browser, as it moves, and what a person can ask of it.
//!
//! ```text
//! Source (a cluster by its API server, standalone's API, the controller itself) ─┬─ stream ─> list, detail ─> browser
//!                                                                                └─ verb <─ a person
//! ```
//!
//! The files of `web` are the page as it is: nothing builds them and nothing else is loaded. Whoever opens it brings a token in
//! a header, which no other page in the same browser can send. Requests by a foreign name or from a foreign page are refused before
//! anything is looked at: a name that leads to this machine is not this page.

mod assets;
mod gzip;
mod stream;

use std::future::Future;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use weir_engine::Verb;

use crate::http::refusal;
use crate::http_server;
use crate::view::{CanaryDetail, Changes};

/// What a browser may do with the page: run and show what was served with it, ask where it came from, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Pages that are told at a time: each costs a little of a processor.
const READERS: usize = 64;
/// Of them beside those, the ones of whom nobody knows. Whoever reaches the port may open some, and takes no place of a user's.
const STRANGERS: usize = 16;

/// Why somebody is not told, or not obeyed.
#[derive(Debug)]
pub struct Refused {
    /// As HTTP says it.
    pub status: StatusCode,
    /// In words, with what to do.
    pub text: String,
}

/// What is seen at once, and why it is not all, if so.
#[derive(Debug, Default)]
pub struct Seen<T> {
    /// What is seen.
    pub value: T,
    /// Why more cannot be seen: a sentence.
    pub partial: Option<String>,
}

/// Where a page reads, and where its verbs go.
pub trait Source: Send + Sync + 'static {
    /// Somebody whose token was looked at.
    type Viewer: Send + Sync + 'static;

    /// Returns what is looked at, in a few words.
    fn title(&self) -> String;

    /// Returns who brings a token; `None` is brought by whoever has none.
    fn viewer(&self, token: Option<&str>) -> impl Future<Output = Result<Self::Viewer, Refused>> + Send;

    /// Returns whether nobody knows who this is.
    fn is_stranger(&self, _viewer: &Self::Viewer) -> bool {
        false
    }

    /// Returns what changes whenever there may be something new to see.
    fn news(&self) -> watch::Receiver<u64>;

    /// Returns what changed of the Canaries since a cursor was given, or why nobody knows.
    fn changes(
        &self,
        viewer: &Self::Viewer,
        cursor: &str,
    ) -> impl Future<Output = Result<Seen<Changes>, String>> + Send;

    /// Returns one Canary; nothing where there is none.
    fn detail(
        &self,
        viewer: &Self::Viewer,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Seen<Option<CanaryDetail>>, String>> + Send;

    /// Asks for a verb.
    fn ask(
        &self,
        viewer: &Self::Viewer,
        namespace: &str,
        name: &str,
        verb: Verb,
    ) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// By which names the page is asked for.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// By these and no others: `127.0.0.1:8091`.
    These(Vec<String>),
    /// By whatever name an administrator has given to it.
    Any,
}

/// Serves the page until `stop` ends.
pub async fn serve<S: Source>(listener: TcpListener, source: Arc<S>, hosts: Hosts, stop: impl Future<Output = ()>) {
    http_server::serve(listener, router(source, hosts), stop).await;
}

/// Returns what is served of the page.
pub fn router<S: Source>(source: Arc<S>, hosts: Hosts) -> Router {
    let api = Router::new()
        .route("/page/stream", get(stream::<S>))
        .route("/page/canaries/{namespace}/{name}/{verb}", post(verb::<S>))
        .layer(Extension(Places { users: places(READERS), strangers: places(STRANGERS) }))
        .with_state(source);
    let nothing = || async { refusal(StatusCode::NOT_FOUND, "no such path; the page is at /") };
    let all = assets::router().merge(api).fallback(nothing);
    all.layer(from_fn_with_state(Arc::new(hosts), same_page)).layer(from_fn(close))
}

/// Room for those who look.
#[derive(Clone)]
struct Places {
    users: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

fn places(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count))
}

/// Returns whether two secrets are the same, in a time that says nothing of where they differ.
#[must_use]
pub fn is_same_secret(one: &str, other: &str) -> bool {
    Sha256::digest(one) == Sha256::digest(other)
}

/// Refuses who comes by another name, or from another page.
async fn same_page(State(hosts): State<Arc<Hosts>>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let of = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let (host, origin) = (of(header::HOST), of(header::ORIGIN));
    if let Hosts::These(names) = &*hosts
        && !names.iter().any(|name| name.eq_ignore_ascii_case(host))
    {
        return refusal(
            StatusCode::FORBIDDEN,
            &format!("nobody here is called {host:?}: use the address that was printed"),
        );
    }
    let from = |name: &str| origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(name));
    // A proxy in front may ask by another name than it was asked by. No foreign page can say so for it.
    let own = from(host) || matches!(*hosts, Hosts::Any) && from(of(HeaderName::from_static("x-forwarded-host")));
    if headers.contains_key(header::ORIGIN) && !own {
        return refusal(StatusCode::FORBIDDEN, &format!("the page of {origin:?} is another one"));
    }
    next.run(request).await
}

/// Closes an answer to whatever a browser might do with it beside showing the page.
async fn close(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    response
}

/// What somebody looks at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    /// What he was told last of the list.
    since: String,
    /// One Canary in full.
    namespace: String,
    name: String,
}

async fn stream<S: Source>(
    State(source): State<Arc<S>>,
    Extension(places): Extension<Places>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    let viewer = match source.viewer(token(&headers)).await {
        Ok(viewer) => viewer,
        Err(refused) => return refused.into_response(),
    };
    let (places, count) =
        if source.is_stranger(&viewer) { (places.strangers, STRANGERS) } else { (places.users, READERS) };
    match places.try_acquire_owned() {
        Ok(place) => stream::answer(source, viewer, wanted, gzip::is_taken(&headers), place),
        Err(_) => {
            let text = format!("{count} pages are open already: close one");
            Refused { status: StatusCode::SERVICE_UNAVAILABLE, text }.into_response()
        }
    }
}

async fn verb<S: Source>(
    State(source): State<Arc<S>>,
    Path((namespace, name, word)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let asked = async {
        let viewer = source.viewer(token(&headers)).await?;
        let verb: Verb = word.parse().map_err(|unknown: weir_engine::words::UnknownWord| Refused {
            status: StatusCode::BAD_REQUEST,
            text: format!("{word} is not a verb: use {}", unknown.expected),
        })?;
        source.ask(&viewer, &namespace, &name, verb).await
    };
    match asked.await {
        Ok(()) => (StatusCode::ACCEPTED, axum::Json(json!({"verb": word}))).into_response(),
        Err(refused) => refused.into_response(),
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = refusal(self.status, &self.text);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            // The next request then goes to whichever replica a Service chooses.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests;
