//! Microsoft Teams, by a webhook of Workflows: an Adaptive Card. The connectors that read Flagger's cards are retired.

use serde_json::{Value, json};
use weir_engine::{Phase, Severity};

use super::{Account, Message, Notifier, Outgoing, Thread, one, plain};

/// See the module.
pub(super) struct Teams;

impl Notifier for Teams {
    fn outgoing(&self, account: &Account, message: &Message, _: Option<&Thread>) -> Vec<Outgoing> {
        let facts: Vec<Value> =
            message.facts.iter().map(|(name, value)| json!({"title": name, "value": plain(value)})).collect();
        let card = json!({
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            // Newer versions are not shown by every client of Teams.
            "version": "1.4",
            "msteams": {"width": "Full"},
            "body": [
                {
                    "type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": true, "color": colour(message),
                    "text": format!("{} {}", message.sign(), plain(&message.title)),
                },
                {"type": "TextBlock", "wrap": true, "text": plain(&message.text)},
                {"type": "FactSet", "facts": facts},
            ],
        });
        let attachment =
            json!({"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card});
        one(account, json!({"type": "message", "summary": message.title, "attachments": [attachment]}))
    }
}

fn colour(message: &Message) -> &'static str {
    match (message.severity, message.phase) {
        (Severity::Error, _) => "Attention",
        (Severity::Warning, _) => "Warning",
        (Severity::Info, Phase::Succeeded | Phase::Initialized) => "Good",
        (Severity::Info, _) => "Accent",
    }
}
