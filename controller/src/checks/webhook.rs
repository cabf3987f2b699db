//! One webhook, as it is called.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::json;
use weir_engine::{CheckResult, Span, State};

use super::client::Client;
use super::shown;
use crate::api::analysis::WebhookSpec;
use crate::api::{CanarySpec, Object, timeout};

/// One webhook, as it is called.
#[derive(Clone, Debug)]
pub(super) struct Call {
    url: String,
    timeout: Duration,
    tries: u32,
    verify: bool,
    pub(super) body: String,
    /// Time between two calls of a gate.
    pub(super) interval: Duration,
}

impl Call {
    /// Returns a webhook with what it is told.
    pub(super) fn of(canary: &Object<CanarySpec>, webhook: &WebhookSpec, state: &State, interval: Span) -> Self {
        let duration = |span: Span| Duration::from_millis(span.0);
        let body = json!({
            "name": canary.metadata.name,
            "namespace": canary.metadata.namespace,
            "phase": state.phase.as_str(),
            "checksum": state.applied,
            "metadata": webhook.metadata,
        });
        Self {
            url: webhook.url.clone(),
            // What is no duration was refused before.
            timeout: duration(timeout(webhook).unwrap_or_default()),
            tries: 1 + u32::try_from(webhook.retries.unwrap_or_default()).unwrap_or_default(),
            verify: webhook.disable_tls != Some(true),
            body: body.to_string(),
            interval: duration(interval),
        }
    }

    /// Calls until it passes, or there is no try left.
    pub(super) async fn ask(&self) -> CheckResult {
        let mut answer = self.once().await;
        for _ in 1..self.tries {
            if answer.is_ok() {
                break;
            }
            answer = self.once().await;
        }
        answer.map_or_else(|why| CheckResult::Failed(format!("{}: {why}", self.url)), |()| CheckResult::Passed)
    }

    async fn once(&self) -> Result<(), String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(self.body.clone())));
        let request = request.map_err(|_| "not an address".to_owned())?;
        let (status, body) = Client::shared(self.verify).ask(request, self.timeout).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status} {}", shown(&String::from_utf8_lossy(&body))).trim().to_owned())
    }
}
