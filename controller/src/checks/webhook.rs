//! One webhook, as it is called.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::json;
use weir_engine::{CheckResult, Span, State};

use crate::api::analysis::WebhookSpec;
use crate::api::{CanarySpec, Object, timeout};
use crate::http_client::Certificates;
use crate::outbound::{Outbound, shown_address};
use crate::text::excerpt;

/// One webhook, as it is called.
#[derive(Clone, Debug)]
pub(super) struct Call {
    namespace: String,
    url: String,
    timeout: Duration,
    tries: u32,
    certificates: Certificates,
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
            namespace: canary.metadata.namespace.clone(),
            url: webhook.url.clone(),
            // What is no duration was refused before.
            timeout: duration(timeout(webhook).unwrap_or_default()),
            tries: 1 + u32::try_from(webhook.retries.unwrap_or_default()).unwrap_or_default(),
            certificates: match webhook.disable_tls {
                Some(true) => Certificates::Any,
                _ => Certificates::Verified,
            },
            body: body.to_string(),
            interval: duration(interval),
        }
    }

    /// Calls until it passes, or there is no try left.
    pub(super) async fn ask(&self, outbound: &Outbound) -> CheckResult {
        let mut answer = self.once(outbound).await;
        for _ in 1..self.tries {
            if answer.is_ok() {
                break;
            }
            answer = self.once(outbound).await;
        }
        match answer {
            Ok(()) => CheckResult::Passed,
            Err(why) => {
                let address = self.url.parse().map_or_else(|_| self.url.clone(), |uri| shown_address(&uri));
                CheckResult::Failed(format!("{address}: {why}"))
            }
        }
    }

    async fn once(&self, outbound: &Outbound) -> Result<(), String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(self.body.clone())));
        let request = request.map_err(|_| "not an address".to_owned())?;
        let answer = outbound.call(&self.namespace, request, self.certificates, self.timeout).await;
        let answer = answer.map_err(|error| error.to_string())?;
        // What a webhook says when it passes is read by nobody, so its length does not matter.
        if answer.status.is_success() {
            return Ok(());
        }
        let status = answer.status;
        let body = answer.whole().map_err(|error| error.to_string())?;
        Err(format!("{status} {}", excerpt(&String::from_utf8_lossy(&body))).trim().to_owned())
    }
}
