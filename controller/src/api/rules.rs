//! Rules in CEL that stand beside the fields, made from the lists that the plan reads too.
//!
//! The API server refuses with them at `kubectl apply` what a plan would refuse later. It checks only what an edit changes, so an
//! object from before a rule goes on working.

use serde_json::{Value, json};

use super::kinds::{AutoscalerKind, RouterKind, TargetKind};

/// Keys that only Weir sets on the objects it makes: `weir.dev/original`, for one, is what an object becomes when it is given back.
const OWN: &str = "weir.dev";
/// Keys by which others would take themselves for an object's owner, by the domain before the `/`, or whole.
const OTHERS: [&str; 4] =
    ["flagger.app", "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "app.kubernetes.io/managed-by"];

/// Returns rules as the schema writes them: an expression that must hold, and what the user is told where it does not.
pub(super) fn rules(rules: &[(&str, &str)]) -> Value {
    rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect()
}

/// Returns the rule on the kind of a target.
pub(super) fn target() -> Value {
    one_of(
        "targetRef.kind",
        &words(TargetKind::ALL, TargetKind::word),
        "no other kind of workload can be released in a cluster",
    )
}

/// Returns the rule on the kind of an autoscaler.
pub(super) fn autoscaler() -> Value {
    one_of("autoscalerRef.kind", &words(AutoscalerKind::ALL, AutoscalerKind::word), "no other kind is supported yet")
}

/// Returns the rule on the provider, and what it says.
pub(super) fn provider() -> (String, String) {
    let known = words(RouterKind::ALL, RouterKind::word);
    let remedy = "remove the field, and give service.gateways and service.hosts";
    (
        format!("!has(self.provider) || self.provider in [{}]", quoted(&known)),
        format!("provider: only {} is supported; {remedy}", known.join(" or ")),
    )
}

/// Returns the names of some kinds.
pub(crate) fn words<K: Copy>(kinds: &[K], word: impl Fn(K) -> &'static str) -> Vec<&'static str> {
    kinds.iter().map(|kind| word(*kind)).collect()
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}

/// The services that show alerts.
pub(crate) const ALERT_KINDS: [&str; 7] = ["slack", "msteams", "discord", "rocket", "gchat", "alertmanager", "webhook"];

/// Returns the rule on the kind of an alert provider.
pub(super) fn alert_kind() -> Value {
    one_of("type", &ALERT_KINDS, "no other service is supported; webhook is any program that reads JSON")
}

/// What Kubernetes knows of how a Service prefers endpoints.
pub(super) const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];

/// Returns the rule on how the services prefer endpoints.
pub(super) fn traffic_distribution() -> Value {
    one_of("trafficDistribution", &DISTRIBUTIONS, "Kubernetes knows no other")
}

fn one_of(field: &str, kinds: &[&str], why: &str) -> Value {
    rules(&[(&format!("self in [{}]", quoted(kinds)), &format!("{field} must be {}: {why}", kinds.join(" or ")))])
}

/// Returns the rule on the keys of labels and annotations.
pub(super) fn keys() -> Value {
    rules(&[(
        &format!("self.all(key, !key.startsWith('{OWN}/'))"),
        &format!("keys of {OWN}/ are Weir's own: remove them"),
    )])
}

/// Returns the rule on a Canary's name. Names cannot be edited, so that one from before the rule may go on.
pub(crate) fn name() -> Value {
    let limit = super::limits::LABEL;
    json!([{
        "rule": format!("oldSelf.hasValue() || self.metadata.name.size() <= {limit}"),
        "message": format!("metadata.name has more than {limit} characters: it is the value of a label, give a shorter one"),
        "optionalOldSelf": true,
    }])
}

/// Returns whether a user may set a label or annotation on the objects that Weir makes.
#[must_use]
pub(crate) fn may_set(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let own = domain == OWN || domain.strip_suffix(OWN).is_some_and(|sub| sub.ends_with('.'));
    !own && !OTHERS.contains(&domain) && !OTHERS.contains(&key)
}
