//! Google Chat, by a webhook of a space: a card. All that is told of one rollout is one thread.

use serde_json::{Value, json};

use super::{Account, Message, Notifier, Outgoing, Thread};

/// Has Google Chat answer in the thread, or begin it where there is none.
const THREADED: &str = "messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD";

/// See the module.
pub(super) struct GoogleChat;

impl Notifier for GoogleChat {
    fn outgoing(&self, account: &Account, message: &Message, _: Option<&Thread>) -> Vec<Outgoing> {
        let mut widgets = vec![json!({"textParagraph": {"text": escape(&message.text)}})];
        let fact = |(name, value): &(&str, String)| json!({"decoratedText": {"topLabel": name, "text": escape(value), "wrapText": true}});
        widgets.extend(message.facts.iter().map(fact));
        let mut body = json!({
            // What a notification shows.
            "fallbackText": message.title,
            "cardsV2": [{
                "cardId": "weir",
                "card": {
                    "header": {"title": format!("{} {}", message.sign(), message.title), "subtitle": message.reason},
                    "sections": [{"widgets": Value::Array(widgets)}],
                },
            }],
        });
        let mut url = account.address.clone();
        if !message.run.is_empty() {
            body["thread"] = json!({"threadKey": format!("{}/{}/{}", message.namespace, message.name, message.run)});
            url += if url.contains('?') { "&" } else { "?" };
            url += THREADED;
        }
        vec![Outgoing { url, body, replaceable: false }]
    }
}

/// Cards read a part of HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
