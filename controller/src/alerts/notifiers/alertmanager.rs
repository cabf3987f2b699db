//! Alertmanager, by its API v2. A hold or a failure is an alert that fires; the next good news of the Canary resolves it.
//!
//! Nobody sends it again and again, as a Prometheus does, so it says itself for how long it fires unless it is resolved.

use std::time::Duration;

use serde_json::{Value, json};
use weir_engine::{Severity, Timestamp};

use super::discord::timestamp;
use super::{Account, Message, Notifier, Outgoing, Thread};

/// The alert's name.
const NAME: &str = "WeirCanary";
/// Where alerts are taken.
const PATH: &str = "/api/v2/alerts";
/// A hold that lasts longer is told by the rule `WeirReleaseHeld`.
const HELD: u64 = 3600 * 1000;
/// A revision that was taken back stays so until another one is declared.
const FAILED: u64 = 24 * HELD;

/// See the module.
pub(super) struct Alertmanager;

impl Notifier for Alertmanager {
    fn outgoing(&self, account: &Account, message: &Message, _: Option<&Thread>) -> Vec<Outgoing> {
        let Timestamp(at) = message.at;
        let alerts: Vec<Value> = match message.severity {
            Severity::Info => [Severity::Warning, Severity::Error].map(|of| alert(message, of, at)).to_vec(),
            Severity::Warning => vec![alert(message, Severity::Warning, at + HELD)],
            Severity::Error => vec![alert(message, Severity::Error, at + FAILED)],
        };
        let address = account.address.trim_end_matches('/');
        let url = if address.ends_with(PATH) { address.to_owned() } else { format!("{address}{PATH}") };
        vec![Outgoing { url, body: Value::Array(alerts), replaceable: false }]
    }

    fn pace(&self) -> Duration {
        Duration::ZERO
    }
}

/// The labels are an alert's identity: whatever changes from one event to the next is an annotation.
fn alert(message: &Message, severity: Severity, ends: u64) -> Value {
    let Timestamp(at) = message.at;
    let mut alert = json!({
        "labels": {
            "alertname": NAME, "severity": super::super::message::word(severity),
            "namespace": message.namespace, "canary": message.name,
        },
        "annotations": {"summary": message.title, "description": message.text, "reason": message.reason},
        "startsAt": timestamp(at),
        "endsAt": timestamp(ends),
    });
    if let Some(cluster) = &message.cluster {
        alert["labels"]["cluster"] = json!(cluster);
    }
    for (name, value) in message.facts.iter().filter(|(name, _)| !["Cluster", "Reason"].contains(name)) {
        alert["annotations"][name.to_lowercase()] = json!(value);
    }
    alert
}
