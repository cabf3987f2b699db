//! `spec.analysis` of a Canary: how a new revision is tested.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits;
use super::providers::ObjectRef;
use super::rules::rules;

/// How a new revision is tested. Exactly one of `stepWeight`, `stepWeights` and `iterations` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("(has(self.stepWeight) ? 1 : 0) + (has(self.stepWeights) ? 1 : 0) + (has(self.iterations) ? 1 : 0) == 1",
     "give exactly one of stepWeight (weights in equal steps), stepWeights (a list of weights) and iterations (A/B test or \
      blue/green)"),
    ("!has(self.mirror) || !self.mirror",
     "mirror is not supported: remove it; a first weight of 0.01 risks one request in 10,000"),
])))]
pub struct AnalysisSpec {
    /// Time between two checks, for instance `10s`. At least `1s`. Default: `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::DURATION))]
    pub interval: Option<String>,
    /// Failed checks, in the whole rollout, that take the canary back. 0 is 1. A built-in metric fails none unless its bound is a success
    /// rate of 100, or `plainBounds` is true: the evidence takes back what is shown to be outside. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub threshold: Option<i64>,
    /// Judge the bounds of the built-in metrics by the plain value of each interval, as Flagger does, and not with their uncertainty:
    /// every check outside is a failed one. What is taken back so is outside of the promise of `alpha`. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_bounds: Option<bool>,
    /// Percent of the requests that each passed check adds to the canary. 0.01 to 100, in steps of 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 100))]
    pub step_weight: Option<f64>,
    /// Percents of the requests that the canary gets one after the other, increasing. Each 0.01 to 100, in steps of 0.01.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::STEPS), inner(range(min = 0.01, max = 100)))]
    pub step_weights: Vec<f64>,
    /// Percent of the requests that the canary gets at most. The last step ends here exactly: 20 up to 50 is 20, 40, 50.
    /// 0.01 to 100, in steps of 0.01. Has no effect with `stepWeights` and `iterations`. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 100))]
    pub max_weight: Option<f64>,
    /// Percent of the requests that goes back to the primary per interval after promotion. 0 to 100, in steps of 0.01.
    /// 0: all in one jump. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub step_weight_promotion: Option<f64>,
    /// Number of checks of an A/B test (with `match`) or of a blue/green release (without), whose canary is idle meanwhile but for load
    /// tests. At least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub iterations: Option<i64>,
    /// Conditions on requests. With `iterations`, an A/B test: requests that meet any of these go to the canary. With weights: those
    /// requests are split by the weights, and everybody else's stay on the primary, unless `matchAll` is true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::CONDITIONS))]
    pub r#match: Vec<MatchSpec>,
    /// With `match` and weights: send every request that meets a condition to the canary, and split the others by the weights.
    /// Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_all: Option<bool>,
    /// Metrics that must stay in their bounds at every check. The evidence tests of Weir run beside them, always. A built-in metric
    /// passes inside of its bound; shown to be outside it takes the canary back; in between the weight is held (`Undecided`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::METRICS))]
    pub metrics: Vec<MetricSpec>,
    /// Programs that are asked or told about the rollout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::WEBHOOKS))]
    pub webhooks: Vec<WebhookSpec>,
    /// Who is sent news of the rollouts. Default: the provider that Weir was started with, if any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::ALERTS))]
    pub alerts: Vec<AlertSpec>,
    /// Keeps clients on the arm that they were first given, by a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinitySpec>,
    /// Completed canary requests that a check of a built-in metric needs; with fewer the weight is held and the reason is
    /// `Insufficient`. At least 0; 0: none. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_requests: Option<i64>,
    /// Time in seconds that a check may wait for its `minRequests`; then the canary is taken back. At least 1.
    /// Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub insufficient_deadline_seconds: Option<i64>,
    /// Chance that a rollout of a revision as good as the primary is taken back by the evidence tests. Above 0, at most 0.5.
    /// Default: 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// How many times the primary's share of slow requests (above the `request-duration` bound) the canary may have before
    /// the evidence test of latency counts it as worse. 1 to 1000. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ratio: Option<f64>,
    /// Canary requests that may be outstanding per gateway worker until the first ones of a rollout have ended: bounds the
    /// harm of a canary that hangs. 0: no bound. At most 1000000. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub admission: Option<i64>,
    /// Percent of the primary's pods that must be available for it to count as ready. 0 to 100. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub primary_ready_threshold: Option<i64>,
    /// Percent of the canary's pods that must be available for it to count as ready. 0 to 100. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub canary_ready_threshold: Option<i64>,
    /// Copying requests to the canary is not supported: `true` is refused. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<bool>,
    /// Has no effect: requests are not copied to the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub mirror_weight: Option<f64>,
}

/// Conditions on one request, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatchSpec {
    /// Conditions on headers, by name (compared without case).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::TERMS))]
    pub headers: BTreeMap<String, StringMatchSpec>,
    /// Conditions on single cookies, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::TERMS))]
    pub cookies: BTreeMap<String, StringMatchSpec>,
    /// Conditions on query parameters, by name; compared as they stand in the request, undecoded. One without a test must be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::TERMS))]
    pub query_params: BTreeMap<String, StringMatchSpec>,
    /// Conditions on the calling workload's labels are not supported: service.callers names who takes part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::TERMS))]
    pub source_labels: BTreeMap<String, String>,
}

/// A condition on a text: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StringMatchSpec {
    /// The whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::TEXT))]
    pub exact: Option<String>,
    /// The value's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::TEXT))]
    pub prefix: Option<String>,
    /// The value's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::TEXT))]
    pub suffix: Option<String>,
    /// A regular expression (RE2 syntax) that must match the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::PATTERN))]
    pub regex: Option<String>,
}

/// A metric and its bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricSpec {
    /// `request-success-rate` (percent of the canary's requests that did not fail) or `request-duration` (99th percentile of
    /// its latency in milliseconds), both from the gateway's own counters; or any other name with a `templateRef`. A built-in
    /// name with a `templateRef` is both: two checks.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// The time that a query looks back, for instance `1m`. Has no effect on the gateway's own counters, which count since the
    /// step began. Default: the analysis's interval, one minute at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::DURATION))]
    pub interval: Option<String>,
    /// Bounds that the value must stay in, both inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_range: Option<ThresholdRange>,
    /// Deprecated, use `thresholdRange`, beside which it has no effect. Least value of `request-success-rate`, greatest value of any other metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Deprecated, use `templateRef`. A query to `metricsServer`. Has no effect on a built-in metric, and beside a `templateRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::QUERY))]
    pub query: Option<String>,
    /// The MetricTemplate that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<ObjectRef>,
    /// Values for the query's `{{ variables.NAME }}`. Has no effect on a built-in metric.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::ENTRIES))]
    pub template_variables: BTreeMap<String, String>,
}

impl MetricSpec {
    /// Returns whether a MetricTemplate of this name, in any namespace, may be the one that answers.
    #[must_use]
    pub(crate) fn asks(&self, template: &str) -> bool {
        self.template_ref.as_ref().is_some_and(|named| named.name == template)
    }
}

/// Inclusive bounds of a value; at least one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThresholdRange {
    /// Least value that is good. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest value that is good. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A call to another program: `POST` of JSON with name, namespace, phase, checksum and metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// Name of the webhook.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// When it is called: `confirm-rollout`, `pre-rollout`, `rollout`, `confirm-traffic-increase`, `confirm-promotion`, `rollback`,
    /// `post-rollout` (when a rollout has ended) or `event` (at every event). Default: `rollout`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kind: Option<String>,
    /// Where it listens: `http://…` or `https://…`.
    #[schemars(length(min = 1, max = limits::ADDRESS))]
    pub url: String,
    /// Time for one try, for instance `5s`. More than `10m` is 10 minutes. Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::DURATION))]
    pub timeout: Option<String>,
    /// Further tries, after 1, 2, 4 … 30 seconds, where the call had no answer or one of 429 or 5xx. At least 0. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub retries: Option<i64>,
    /// Do not check the certificate of an `https` address. Default: false.
    #[serde(default, rename = "disableTLS", skip_serializing_if = "Option::is_none")]
    pub disable_tls: Option<bool>,
    /// Send no alert of this webhook: neither that its gate is closed nor that its check failed. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mute_alert: Option<bool>,
    /// Sent along in the call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::ENTRIES))]
    pub metadata: BTreeMap<String, String>,
}

/// Somebody who is sent news of the rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertSpec {
    /// Name of the alert.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// Least severity that is sent: `info`, `warn` or `error`. Default: `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub severity: Option<String>,
    /// The AlertProvider. One of another namespace must have the annotation `weir.dev/shared: "true"`, or be of Weir's own
    /// namespace.
    pub provider_ref: ObjectRef,
}

/// Keeps clients on the arm that they were first given. Sticky requests are counted apart: they are no random draws, so the
/// comparison of the arms rests on each client's first request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinitySpec {
    /// Name of the cookie.
    #[schemars(length(max = limits::COOKIE))]
    pub cookie_name: String,
    /// Name of a cookie of its own for the primary's clients; a route ends both cookies where no rollout is under way. Must differ from
    /// `cookieName`. Default: one cookie for both, which is left to its age, since every rollout draws anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::COOKIE))]
    pub primary_cookie_name: Option<String>,
    /// How long a client keeps the cookie, in seconds. At least 1. Default: 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_age: Option<i64>,
    /// The cookie's `Domain`. Default: the host of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::HOST))]
    pub domain: Option<String>,
    /// The cookie's `Path`. Default: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::COOKIE))]
    pub path: Option<String>,
    /// Hide the cookie from scripts. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_only: Option<bool>,
    /// Send the cookie over TLS only. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// Keep the cookie apart for each embedding site. Browsers refuse it without `secure`. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioned: Option<bool>,
    /// `Strict`, `Lax` or `None`, which browsers refuse without `secure`. Default: the browser's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub same_site: Option<String>,
}
