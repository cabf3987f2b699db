//! `Canary` as the API serves it: the spec, read with care, and the status that Weir writes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_engine::Timestamp;

use crate::alerts::Thread;
use crate::api::limits::{SPEC, size_problem};
use crate::api::{self, CanarySpec, GROUP, Rules, VERSION};
use crate::kubernetes::api_server::object::{Cached, Projection, no_spec, read_stored_spec};

/// The reason of a spec that is refused.
pub(crate) const INVALID_SPEC: &str = "InvalidSpec";

/// One word for why an object cannot work, and a sentence.
pub(crate) type Fault = (&'static str, String);

/// How revisions of one workload are released.
pub(crate) type Canary = Cached<CanaryView>;

/// See [`Canary`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CanaryView {
    /// What the user wants, or why it cannot be read.
    #[serde(default = "no_spec", deserialize_with = "read_stored_spec")]
    pub(crate) spec: Result<CanarySpec, String>,
    /// What Weir said of it.
    #[serde(default)]
    pub(crate) status: CanaryStatus,
}

impl Projection for CanaryView {
    const GROUP: &'static str = GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "Canary";
    const PLURAL: &'static str = "canaries";
    const KEEP_RAW: bool = false;

    fn bound(&mut self, metadata: &ObjectMeta) {
        let Ok(spec) = &self.spec else { return };
        let bytes = serde_json::to_string(spec).map_or(0, |text| text.len());
        if let Some(text) = size_problem(bytes, SPEC)
            && self.rules(metadata.generation) != Rules::Former
        {
            self.spec = Err(format!("spec: {text}"));
        }
    }
}

impl Canary {
    /// Returns when it was made; 0 where the API server does not say.
    #[must_use]
    pub(crate) fn made_at(&self) -> Timestamp {
        let made = self.metadata.creation_timestamp.as_ref().map(|time| time.0.as_millisecond());
        Timestamp(made.and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default())
    }
}

impl Canary {
    /// Returns by which rules its spec is to be read: what worked before there were some goes on by those, until somebody changes it.
    #[must_use]
    pub(crate) fn rules(&self) -> Rules {
        self.fields.rules(self.metadata.generation)
    }
}

impl CanaryView {
    fn rules(&self, generation: Option<i64>) -> Rules {
        let CanaryStatus { phase, state, observed_generation, conditions, .. } = &self.status;
        // Of all that keeps an object from its work only this is about what its spec says; the rest comes and goes.
        let refused = conditions.iter().any(|condition| {
            condition.kind == "Stalled" && condition.status == "True" && condition.reason == INVALID_SPEC
        });
        let worked = phase.is_some() && !refused && *observed_generation == generation;
        let noted = state.as_deref().and_then(|text| serde_json::from_str::<Noted>(text).ok()).unwrap_or_default();
        match worked {
            true if noted.todays_rules => Rules::Stored,
            true => Rules::Former,
            false => Rules::Today,
        }
    }
}

/// What is noted beside the engine's memory, in the same text: a field of the status that the cluster's definition does not know would
/// have the API server refuse all of it, and definitions are upgraded by hand.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Noted {
    /// The spec was read by rules with limits.
    todays_rules: bool,
}

/// Notes beside the engine's memory that the spec was read by rules with limits.
#[must_use]
pub(crate) fn by_todays_rules(state: &str) -> Option<String> {
    // Its numbers stay as they are written, bit by bit.
    let rest = state.strip_prefix('{')?;
    let comma = if rest == "}" { "" } else { "," };
    Some(format!("{{\"todaysRules\":true{comma}{rest}"))
}

/// What became of a Canary. Written by Weir only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CanaryStatus {
    /// The generation of the spec that this status is about; -1 while nobody has looked at the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    /// `Initializing`, `Initialized`, `Waiting`, `Progressing`, `WaitingPromotion`, `Promoting`, `Finalising`, `Succeeded`,
    /// `Failed`, `Terminating` or `Terminated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<String>,
    /// One word for why things stand as they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The reason in words, with its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// Percent of the requests that gateways were asked to send to the canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) canary_weight: Option<f64>,
    /// Failed checks of the rollout under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed_checks: Option<i64>,
    /// The iteration under way, of an A/B test or a blue/green release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iterations: Option<i64>,
    /// The newest revision of the workload that was dealt with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_applied_spec: Option<String>,
    /// The revision that the primary runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_promoted_spec: Option<String>,
    /// ConfigMaps and Secrets that are part of the target's revision, `configmap/NAME` or `secret/NAME`, each with a hash of
    /// its content.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tracked_configs: BTreeMap<String, String>,
    /// What is left of the cookie of `sessionAffinity.cookieName` after a rollout: the gateway ends it where a client brings it. Only where
    /// `primaryCookieName` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) previous_session_affinity_cookie: Option<String>,
    /// What was taken over from another controller, and what the primary ran then. Its pods stay as they are until the first promotion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) taken_over: Option<TakenOver>,
    /// When the phase last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_transition_time: Option<String>,
    /// Gateways that use the weight that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateways: Option<GatewayStatus>,
    /// What the canary's requests of the rollout under way, or of the last one, came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<EvidenceStatus>,
    /// What each webhook said last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) webhooks: Vec<WebhookStatus>,
    /// Messages in chats that stand for the rollout under way, or the last one: whoever leads edits them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) alerts: Vec<Thread>,
    /// `Ready`: the object is accepted and looked after; a rollout does not change it. `Promoted`: whether the newest revision
    /// is in production. `GatewayBound`: whether its requests pass a gateway. `Stalled`: the object cannot work as it is.
    /// `NoEffect`: fields that are accepted and have no effect, or less than they say, each with why. `AlertsFailing`: alerts that
    /// are not delivered, each with why. `ReferencesResolved`: `False` where something that the object refers to is not there.
    /// `Hazard`: what is to be known before a release, each with what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conditions: Vec<Condition>,
    /// What Weir remembers between two looks, as JSON. Not for people, and not to be edited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
}

/// What was taken over from another controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TakenOver {
    /// The other controller's object, for instance `canaries.flagger.app shop`.
    pub(crate) from: String,
    /// The revision that the primary ran.
    pub(crate) revision: String,
    /// Whether that controller had taken back what the target declared: Weir does not try it again by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) failed: bool,
    /// When.
    pub(crate) time: String,
}

/// Gateways that use what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct GatewayStatus {
    /// Gateway pods that serve.
    pub(crate) serving: i64,
    /// Of these, how many are known to use the weight that was asked for.
    pub(crate) acknowledged: i64,
}

/// What requests of a rollout came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EvidenceStatus {
    /// Requests that the canary ended.
    pub(crate) canary_requests: i64,
    /// Of these, how many failed.
    pub(crate) canary_failures: i64,
    /// Requests that the primary ended during the rollout.
    pub(crate) primary_requests: i64,
    /// Of these, how many failed.
    pub(crate) primary_failures: i64,
    /// Percent of the requests that the canary was given, as counted by the gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_share: Option<f64>,
}

/// What a webhook said last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WebhookStatus {
    /// The webhook's name.
    pub(crate) name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `Passed` or `Failed`. A gate that fails is closed; a `rollback` that fails lets the canary go on.
    pub(crate) result: String,
    /// The beginning of what it said where it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    /// When the result last changed.
    pub(crate) last_transition_time: String,
}

/// One aspect of an object, as every tool reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Condition {
    /// The aspect.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    /// One word.
    pub(crate) reason: String,
    /// A sentence.
    pub(crate) message: String,
    /// When the status last changed.
    pub(crate) last_transition_time: String,
    /// The generation of the spec that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
}

impl Cached<CanaryView> {
    /// Returns the object in the platform-independent frame.
    ///
    /// # Errors
    /// When its spec cannot be read.
    pub(crate) fn object(&self) -> Result<api::Object<CanarySpec>, String> {
        Ok(api::Object {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "Canary".into(),
            metadata: api::Metadata {
                name: self.name().into(),
                namespace: self.namespace().into(),
                labels: self.metadata.labels.clone().unwrap_or_default(),
                annotations: self
                    .metadata
                    .annotations
                    .clone()
                    .unwrap_or_default()
                    .into_iter()
                    .collect::<BTreeMap<_, _>>(),
            },
            spec: self.fields.spec.clone()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_canary_that_worked_before_there_were_limits_goes_on_whatever_it_is_stalled_for_but_its_spec() {
        let canary = |reason: &str| {
            let webhook = json!({"name": "a".repeat(70_000), "url": "http://a"});
            let object = json!({
                "apiVersion": "weir.dev/v1beta1", "kind": "Canary",
                "metadata": {"name": "cart", "namespace": "shop", "generation": 3},
                "spec": {"targetRef": {"kind": "Deployment", "name": "cart"}, "service": {"port": 80},
                         "analysis": {"stepWeight": 5, "webhooks": [webhook]}},
                "status": {"phase": "Succeeded", "observedGeneration": 3, "conditions": [
                    {"type": "Stalled", "status": "True", "reason": reason, "message": "", "lastTransitionTime": ""},
                ]},
            });
            Canary::new(serde_json::from_value(object).unwrap()).unwrap()
        };
        for reason in ["TargetMissing", "GatewaysOverlap", "AutoscalerMissing"] {
            assert!(canary(reason).rules() == Rules::Former && canary(reason).fields.spec.is_ok(), "{reason}");
        }
        let refused = canary(INVALID_SPEC);
        assert!(refused.rules() == Rules::Today && refused.fields.spec.is_err());
    }
}
