//! Discord, by a webhook and its own format. Flagger appends `/slack` to the address for Slack's; one that has it works too.

use serde_json::{Value, json};

use super::{Account, Message, Notifier, Outgoing, Thread, USERNAME, plain};

/// Longest title and longest value of a field that Discord takes.
const TITLE: usize = 256;
const VALUE: usize = 1024;

/// See the module.
pub(super) struct Discord;

impl Notifier for Discord {
    fn outgoing(&self, account: &Account, message: &Message, _: Option<&Thread>) -> Vec<Outgoing> {
        let fields: Vec<Value> = message
            .facts
            .iter()
            .map(|(name, value)| json!({"name": name, "value": cut(&plain(value), VALUE), "inline": value.len() <= 40}))
            .collect();
        let colour = u32::from_str_radix(message.colour().trim_start_matches('#'), 16).unwrap_or_default();
        let body = json!({
            "username": account.username.as_deref().unwrap_or(USERNAME),
            // A webhook's answer that is shown cannot call everybody.
            "allowed_mentions": {"parse": []},
            "embeds": [{
                "title": cut(&format!("{} {}", message.sign(), plain(&message.title)), TITLE),
                "description": plain(&message.text),
                "color": colour,
                "fields": fields,
                "timestamp": timestamp(message.at.0),
            }],
        });
        let url = account.address.trim_end_matches('/');
        let url = url.strip_suffix("/slack").unwrap_or(url).to_owned();
        vec![Outgoing { url, body, replaceable: false }]
    }
}

pub(super) fn timestamp(milliseconds: u64) -> String {
    let at = i64::try_from(milliseconds).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default().to_string()
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
