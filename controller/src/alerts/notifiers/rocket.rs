//! Rocket.Chat, by an incoming webhook: the format that it shares with Slack.

use serde_json::{Value, json};

use super::{Account, CHANNEL, Message, Notifier, Outgoing, Thread, USERNAME, one, plain};

/// See the module.
pub(super) struct Rocket;

impl Notifier for Rocket {
    fn outgoing(&self, account: &Account, message: &Message, _: Option<&Thread>) -> Vec<Outgoing> {
        let fields: Vec<Value> = message
            .facts
            .iter()
            .map(|(name, value)| json!({"title": name, "value": plain(value), "short": value.len() <= 40}))
            .collect();
        let body = json!({
            "channel": account.channel.as_deref().unwrap_or(CHANNEL),
            "username": account.username.as_deref().unwrap_or(USERNAME),
            "icon_emoji": ":rocket:",
            "text": format!("{} {}", message.sign(), plain(&message.title)),
            "attachments": [{"color": message.colour(), "text": plain(&message.text), "fields": fields}],
        });
        one(account, body)
    }
}
