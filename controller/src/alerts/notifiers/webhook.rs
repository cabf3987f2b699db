//! Any program: the body of Flagger's event webhooks, with what a message says beside it.

use std::time::Duration;

use serde_json::{Map, json};
use weir_engine::Severity;

use super::{Account, Message, Notifier, Outgoing, Thread, one};

/// See the module.
pub(super) struct Webhook;

impl Notifier for Webhook {
    fn outgoing(&self, account: &Account, message: &Message, _: Option<&Thread>) -> Vec<Outgoing> {
        let mut metadata = Map::new();
        let mut put = |key: &str, value: &str| drop(metadata.insert(key.to_owned(), json!(value)));
        put("eventMessage", &message.text);
        put("eventType", if message.severity == Severity::Info { "Normal" } else { "Warning" });
        put("timestamp", &message.at.0.to_string());
        put("severity", message.level());
        put("title", &message.title);
        message.facts.iter().for_each(|(name, value)| put(&name.to_lowercase(), value));
        put("reason", &message.reason);
        let body = json!({
            "name": message.name, "namespace": message.namespace, "phase": message.phase.as_str(),
            "checksum": message.checksum, "metadata": metadata,
        });
        one(account, body)
    }

    fn pace(&self) -> Duration {
        Duration::ZERO
    }
}
