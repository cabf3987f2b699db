//! Slack, by an incoming webhook or by a bot's token.
//!
//! With a token there is one message for each rollout: it is edited in place, so that a channel shows how every release stands and
//! not how it came there; its thread has an entry for each step and each thing that needs a person. A webhook can only post, so
//! it is sent no steps.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Account, Answer, CHANNEL, Message, Notifier, Outgoing, Thread, USERNAME, Verdict, verdict};

/// The method that posts a message. Flagger's manifests for a token have it as their address.
const POST: &str = "chat.postMessage";
/// The method that edits one.
const UPDATE: &str = "chat.update";
/// Errors after which the same request may pass.
const PASSING: [&str; 5] = ["ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"];
/// Errors of a message that is not there to be edited.
const GONE: [&str; 4] = ["message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"];

/// See the module.
pub(super) struct Slack;

/// What Slack's methods answer, with a status of 200 whether they did anything or not.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered {
    ok: Option<bool>,
    error: String,
    channel: String,
    ts: String,
}

impl Notifier for Slack {
    fn outgoing(&self, account: &Account, message: &Message, thread: Option<&Thread>) -> Vec<Outgoing> {
        let channel = account.channel.as_deref().unwrap_or(CHANNEL);
        let mut post = shown(message);
        post["username"] = json!(account.username.as_deref().unwrap_or(USERNAME));
        post["icon_emoji"] = json!(":rocket:");
        post["channel"] = json!(channel);
        let Some(base) = methods(account) else {
            return vec![Outgoing { url: account.address.clone(), body: post, replaceable: false }];
        };
        let call = |method, body, replaceable| Outgoing { url: format!("{base}{method}"), body, replaceable };
        let Some(Thread { channel, timestamp, .. }) = thread else { return vec![call(POST, post, false)] };
        let mut edited = shown(message);
        edited["channel"] = json!(channel);
        edited["ts"] = json!(timestamp);
        let entry = json!({
            "channel": channel, "thread_ts": timestamp, "text": format!("{} {}", message.sign(), escape(&message.text)),
            "username": post["username"], "icon_emoji": post["icon_emoji"], "unfurl_links": false,
        });
        vec![call(UPDATE, edited, true), call(POST, entry, false)]
    }

    fn verdict(&self, answer: &Answer) -> Verdict {
        let by_status = verdict(answer);
        let Ok(answered) = serde_json::from_str::<Answered>(&answer.body) else { return by_status };
        match answered {
            _ if by_status != Verdict::Taken => by_status,
            Answered { ok: Some(true), channel, ts, .. } if !ts.is_empty() => Verdict::Posted(channel, ts),
            Answered { ok: Some(false), error, .. } if PASSING.contains(&error.as_str()) => Verdict::Later(error),
            Answered { ok: Some(false), error, .. } if GONE.contains(&error.as_str()) => Verdict::Gone,
            Answered { ok: Some(false), error, .. } => Verdict::Refused(error),
            _ => Verdict::Taken,
        }
    }

    fn may_edit(&self) -> bool {
        true
    }

    fn edits(&self, account: &Account) -> bool {
        methods(account).is_some()
    }

    fn address(&self) -> Option<&'static str> {
        Some("https://slack.com/api/chat.postMessage")
    }
}

/// Returns the address that methods stand below, where the account is a bot's.
fn methods(account: &Account) -> Option<&str> {
    account.token.as_ref()?;
    account.address.strip_suffix(POST)
}

/// Returns what is shown in the channel. `text` is what a notification shows, the attachment is what is read.
fn shown(message: &Message) -> Value {
    let fields: Vec<Value> = message
        .facts
        .iter()
        .map(|(name, value)| json!({"title": name, "value": escape(value), "short": value.len() <= 40}))
        .collect();
    json!({
        "text": format!("{} {}", message.sign(), escape(&message.title)),
        "attachments": [{
            "color": message.colour(),
            "fallback": message.title,
            "text": escape(&message.text),
            "mrkdwn_in": ["text"],
            "fields": fields,
            "ts": message.at.0 / 1000,
        }],
    })
}

/// Slack's control characters. Without this, a webhook's answer could call everybody in the channel.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
