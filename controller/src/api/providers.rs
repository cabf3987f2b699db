//! `MetricTemplate` and `AlertProvider`: where metrics are asked and alerts are sent. Field-compatible with Flagger's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits;
use super::problem::Problem;
use super::rules::{alert_kind, rules};

/// Names another object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ObjectRef {
    /// The object's name.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
    /// The object's namespace. Default: the namespace of the object that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::NAME))]
    pub namespace: Option<String>,
}

/// A metric that another system answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricTemplateSpec {
    /// The system that answers.
    pub provider: MetricProvider,
    /// The query, which must have one result. Filled in are `{{ name }}` and `{{ namespace }}` of the Canary, `{{ target }}`,
    /// `{{ service }}`, `{{ interval }}`, `{{ variables.NAME }}`, and `{{ ingress }}` and `{{ route }}`, which are the target's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::QUERY))]
    pub query: Option<String>,
}

impl MetricTemplateSpec {
    /// Returns what of it has no effect.
    #[must_use]
    pub fn remarks(&self) -> Vec<Problem> {
        let text = "has no effect: it is for CloudWatch, which is not supported";
        let region = self.provider.region.as_ref().map(|_| Problem::new("spec.provider.region", text));
        region.into_iter().collect()
    }
}

/// A system that answers queries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricProvider {
    /// The kind of system: `prometheus`. Metrics of any other kind are not answered.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Its address, `http://…` or `https://…`; queries go to `api/v1/query` below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::ADDRESS))]
    pub address: Option<String>,
    /// Headers of every query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = limits::ENTRIES))]
    pub headers: BTreeMap<String, Vec<String>>,
    /// The Secret with `token`, or with `username` and `password`, which are sent along. Of the namespace of the MetricTemplate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
    /// Do not check the system's certificate. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
    /// Not supported: for Flagger with CloudWatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
}

impl MetricProvider {
    /// Returns what of it may be a secret, for people.
    pub(crate) fn credentials(&self) -> Option<&'static str> {
        let in_address = self.address.as_ref().is_some_and(|address| address.contains('@'));
        let kinds = [
            (!self.headers.is_empty(), "headers"),
            (self.secret_ref.is_some(), "the content of a Secret"),
            (in_address, "a password"),
        ];
        kinds.into_iter().find_map(|(is, what)| is.then_some(what))
    }
}

/// Somebody who is told how rollouts go: a chat's channel, or a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[
    ("has(self.address) || has(self.secretRef)",
     "give an address, or a secretRef to a Secret with the key address or token"),
])))]
pub struct AlertProviderSpec {
    /// The kind of service: `slack`, `msteams`, `discord`, `rocket`, `gchat`, `alertmanager` or `webhook`.
    #[serde(rename = "type")]
    #[schemars(extend("x-kubernetes-validations" = alert_kind()))]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// The channel, of `slack` and `rocket`. Default: `general`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::NAME))]
    pub channel: Option<String>,
    /// The name that messages are sent under, of `slack`, `rocket` and `discord`. Default: `weir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::NAME))]
    pub username: Option<String>,
    /// The address of the webhook, which anybody who knows it can send to: a Secret keeps it better. Beside a Secret with the key
    /// `address` it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::ADDRESS))]
    pub address: Option<String>,
    /// The address of an HTTP proxy, `http://HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::ADDRESS))]
    pub proxy: Option<String>,
    /// The Secret, of the provider's own namespace, with the keys `address`, `token` or both. The token is sent as
    /// `authorization: Bearer`; with a bot's token, `slack` has one message for each rollout and edits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// Names a Secret of an object's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(max = limits::NAME))]
    pub name: String,
}
