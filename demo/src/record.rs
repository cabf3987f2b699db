//! Keeps what is posted, so that the service can stand for a chat or a program that is told something.

use std::collections::VecDeque;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, header};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

/// Most of it that is kept: the newest.
const KEPT: usize = 500;
/// Longest body.
const LONGEST: usize = 64 << 10;

/// One request that posted something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Posted {
    /// Where to.
    pub path: String,
    /// As whom.
    pub authorization: String,
    /// What; null where it is no JSON.
    pub body: Value,
}

/// What was posted so far.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<VecDeque<Posted>>);

impl Recorder {
    /// Keeps what a request posts.
    pub async fn take(&self, request: Request<Body>) {
        if request.method() != Method::POST {
            return;
        }
        let path = request.uri().path().to_owned();
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let authorization = authorization.unwrap_or_default().to_owned();
        let body = to_bytes(request.into_body(), LONGEST).await.unwrap_or_default();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let mut posted = self.0.lock();
        posted.push_back(Posted { path, authorization, body });
        while posted.len() > KEPT {
            posted.pop_front();
        }
    }

    /// Returns what was posted, oldest first.
    #[must_use]
    pub fn posted(&self) -> Vec<Posted> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_posted_is_kept_with_its_sender_and_what_is_asked_is_not() {
        let recorder = Recorder::default();
        let request = |method: &str, body: &'static str| {
            let request = Request::builder().method(method).uri("/hook?a=b").header("authorization", "Bearer x");
            request.body(Body::from(body)).unwrap()
        };
        recorder.take(request("GET", "")).await;
        recorder.take(request("POST", r#"{"text": "hello"}"#)).await;
        recorder.take(request("POST", "hello")).await;
        let posted = |body| Posted { path: "/hook".into(), authorization: "Bearer x".into(), body };
        assert_eq!(recorder.posted(), [posted(serde_json::json!({"text": "hello"})), posted(Value::Null)]);
    }
}
