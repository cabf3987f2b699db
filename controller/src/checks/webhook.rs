//! One webhook, as it is called.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use weir_engine::{CheckResult, Ended, Outcome, Phase, Span, State};

use crate::api::analysis::WebhookSpec;
use crate::api::{CanarySpec, Object, timeout};
use crate::http_client::{Certificates, HttpError, retry_after};
use crate::outbound::{Outbound, shown_address};
use crate::text::excerpt;

/// Longest time between two tries; Flagger's.
const LONGEST: Duration = Duration::from_secs(30);

/// One webhook, as it is called.
#[derive(Clone, Debug)]
pub(super) struct Call {
    namespace: String,
    /// The word of its type.
    pub(super) kind: String,
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
        let kind = webhook.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("rollout");
        let phase = |ended: &Ended| if ended.result == Outcome::Promoted { Phase::Succeeded } else { Phase::Failed };
        // What is told of a rollout's end stays true when the next one has begun.
        let (phase, checksum) = match &state.ended {
            Some(ended) if kind == "post-rollout" => (phase(ended), Some(&ended.revision)),
            _ => (state.phase, state.applied.as_ref()),
        };
        let body = json!({
            "name": canary.metadata.name,
            "namespace": canary.metadata.namespace,
            "phase": phase.as_str(),
            "checksum": checksum,
            "metadata": webhook.metadata,
        });
        Self {
            namespace: canary.metadata.namespace.clone(),
            kind: kind.to_owned(),
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
        let mut tries = 1;
        let answer = loop {
            match self.once(outbound).await {
                Err(Refusal { again: Some(after), .. }) if tries < self.tries => {
                    tokio::time::sleep(after.unwrap_or_else(|| pause(tries)).min(LONGEST)).await;
                    tries += 1;
                }
                answer => break answer,
            }
        };
        match answer {
            Ok(()) => CheckResult::Passed,
            Err(Refusal { why, .. }) => {
                let address = self.url.parse().map_or_else(|_| self.url.clone(), |uri| shown_address(&uri));
                CheckResult::Failed(format!("{address}: {why}"))
            }
        }
    }

    async fn once(&self, outbound: &Outbound) -> Result<(), Refusal> {
        let never = |why: String| Refusal { why, again: None };

        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(self.body.clone())));
        let request = request.map_err(|_| never("not an address".into()))?;
        let answer = outbound.call(&self.namespace, request, self.certificates, self.timeout).await;
        let answer = answer.map_err(|error| Refusal {
            again: (!matches!(error, HttpError::Forbidden(_))).then_some(None),
            why: error.to_string(),
        })?;
        // What a webhook says when it passes is read by nobody, so its length does not matter.
        if answer.status.is_success() {
            return Ok(());
        }
        let status = answer.status;
        let busy = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
        let again = (busy || status == StatusCode::TOO_MANY_REQUESTS).then(|| retry_after(&answer.headers));
        let body = answer.whole().map_err(|error| never(error.to_string()))?;
        let why = format!("{status} {}", excerpt(&String::from_utf8_lossy(&body))).trim().to_owned();
        Err(Refusal { why, again })
    }
}

/// A call that did not pass.
struct Refusal {
    why: String,
    /// Whether the same call may pass a moment later, and from when on, where its answer says so. As with Flagger: after a server's
    /// own trouble, and not where it said no.
    again: Option<Option<Duration>>,
}

/// Returns the time after so many tries; Flagger's.
fn pause(tries: u32) -> Duration {
    Duration::from_secs(1 << (tries - 1).min(5)).min(LONGEST)
}
