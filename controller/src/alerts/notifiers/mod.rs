//! Services that show alerts: a file each, which says what is sent and reads what comes back. Adding one is a file and a line in
//! [`KINDS`].

mod alertmanager;
mod discord;
mod google_chat;
mod rocket;
mod slack;
mod teams;
mod webhook;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::message::Message;

/// Every kind of service, by the word in `spec.type`; the first five are Flagger's.
pub(crate) const KINDS: [(&str, &dyn Notifier); 7] = [
    ("slack", &slack::Slack),
    ("msteams", &teams::Teams),
    ("discord", &discord::Discord),
    ("rocket", &rocket::Rocket),
    ("gchat", &google_chat::GoogleChat),
    ("alertmanager", &alertmanager::Alertmanager),
    ("webhook", &webhook::Webhook),
];

/// Channel where a provider names none; Flagger's.
const CHANNEL: &str = "general";
/// Name of the sender where a provider names none.
const USERNAME: &str = "weir";

/// Who a provider is at its service, complete with what its Secret says.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Where requests go.
    pub(crate) address: String,
    /// What is sent along as `authorization: Bearer`.
    pub(crate) token: Option<String>,
    /// The channel.
    pub(crate) channel: Option<String>,
    /// The name that messages are sent under.
    pub(crate) username: Option<String>,
}

/// A message in a chat that a later one can edit and answer to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Thread {
    /// The provider, `namespace/name`.
    pub(crate) provider: String,
    /// The rollout that it is about.
    pub(crate) run: String,
    /// The channel, as the chat calls it.
    pub(crate) channel: String,
    /// The message, as the chat calls it.
    pub(crate) timestamp: String,
}

/// One request to a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outgoing {
    /// Where it goes.
    pub(crate) url: String,
    /// Its body.
    pub(crate) body: Value,
    /// Whether a newer message of the same rollout makes it needless.
    pub(crate) replaceable: bool,
}

/// What a service answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// When it may be asked again, by its header `retry-after`.
    pub(crate) retry_after: Option<Duration>,
    /// The beginning of its body.
    pub(crate) body: String,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was taken.
    Taken,
    /// It was taken, and is called so: channel and timestamp.
    Posted(String, String),
    /// Not now, and why.
    Later(String),
    /// There is no such message to edit or to answer to.
    Gone,
    /// Never, and why.
    Refused(String),
}

/// A service that shows alerts.
pub(crate) trait Notifier: Sync {
    /// Returns the requests that show a message, in order. `thread` is what is there of its rollout.
    fn outgoing(&self, account: &Account, message: &Message, thread: Option<&Thread>) -> Vec<Outgoing>;

    /// Returns what an answer means.
    fn verdict(&self, answer: &Answer) -> Verdict {
        verdict(answer)
    }

    /// Returns whether a message can be edited with some account.
    fn may_edit(&self) -> bool {
        false
    }

    /// Returns whether a message can be edited with this account: then one stands for a whole rollout, and steps are sent too.
    fn edits(&self, _account: &Account) -> bool {
        false
    }

    /// Returns where requests go where a provider gives no address.
    fn address(&self) -> Option<&'static str> {
        None
    }

    /// Returns the least time between two requests. Chats take about one message a second for each channel.
    fn pace(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Returns the service of a kind.
#[must_use]
pub(crate) fn notifier(kind: &str) -> Option<&'static dyn Notifier> {
    KINDS.iter().find(|(word, _)| *word == kind).map(|(_, notifier)| *notifier)
}

/// Reads a status as all services use it.
fn verdict(answer: &Answer) -> Verdict {
    let said = format!("{} {}", answer.status, answer.body.trim()).trim().to_owned();
    match answer.status {
        200..300 => Verdict::Taken,
        408 | 425 | 429 | 500..600 => Verdict::Later(said),
        _ => Verdict::Refused(said),
    }
}

/// Returns one request to the account's address.
fn one(account: &Account, body: Value) -> Vec<Outgoing> {
    vec![Outgoing { url: account.address.clone(), body, replaceable: false }]
}

/// Takes the power from a text of others to show one address and lead to another, in chats that read Markdown.
fn plain(text: &str) -> String {
    text.replace("](", "] (")
}

#[cfg(test)]
mod tests;
