//! What each service is sent, by its documentation, and what its answers mean.

use serde_json::json;
use weir_engine::{Event, Severity, State, Timestamp};

use super::*;
use crate::alerts::message::Situation;
use crate::view::{CanaryView, EndedView};
use weir_engine::{Outcome, Phase};

const HOSTILE: &str = "<!channel> [click](http://evil) & more";

fn message(severity: Severity) -> Message {
    let ended = EndedView {
        run: "r1".into(),
        revision: "5c6b7d8e9f".into(),
        result: if severity == Severity::Info { Outcome::Promoted } else { Outcome::RolledBack },
        reason: "EvidenceBad".into(),
        message: HOSTILE.into(),
        canary_ended: 41,
        canary_failed: 3,
        primary_ended: 792,
        ..EndedView::default()
    };
    let phase = if severity == Severity::Info { Phase::Succeeded } else { Phase::Failed };
    let view = CanaryView {
        namespace: "store".into(),
        name: "shop".into(),
        phase,
        ended: Some(ended),
        ..CanaryView::default()
    };
    let reason = if severity == Severity::Info { "Promoted" } else { "EvidenceBad" };
    let event = Event::new(severity, reason, HOSTILE);
    Message::of(&event, &Situation::of(view, &State::default(), Vec::new()), Some("eu-1"), Timestamp(1_700_000_000_000))
        .unwrap()
}

fn sent(kind: &str, address: &str, severity: Severity) -> (String, Value) {
    let account = Account { address: address.into(), channel: Some("releases".into()), ..Account::default() };
    let mut sent = notifier(kind).unwrap().outgoing(&account, &message(severity), None);
    assert_eq!(sent.len(), 1);
    let Outgoing { url, body, .. } = sent.remove(0);
    (url, body)
}

#[test]
fn every_kind_in_the_schema_is_a_service_and_the_other_way_round() {
    assert_eq!(KINDS.map(|(word, _)| word), crate::api::rules::ALERT_KINDS);
}

#[test]
fn slacks_webhook_is_sent_text_and_an_attachment_with_its_control_characters_escaped() {
    let (url, body) = sent("slack", "https://hooks.slack.com/services/T/B/x", Severity::Error);
    assert_eq!(url, "https://hooks.slack.com/services/T/B/x");
    assert_eq!(body["text"], "❌ store/shop: revision 5c6b7d8e was taken back");
    assert_eq!((&body["channel"], &body["username"]), (&json!("releases"), &json!("weir")));
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["text"], "&lt;!channel&gt; [click](http://evil) &amp; more");
    assert_eq!((&attachment["color"], &attachment["ts"]), (&json!("#d93025"), &json!(1_700_000_000)));
    let fields = attachment["fields"].as_array().unwrap();
    assert!(fields.contains(&json!({"title": "Cluster", "value": "eu-1", "short": true})), "{fields:#?}");
}

#[test]
fn teams_is_sent_an_adaptive_card() {
    let (_, body) = sent("msteams", "https://prod.logic.azure.com/workflows/x", Severity::Error);
    assert_eq!(body["type"], "message");
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    let card = &attachment["content"];
    assert_eq!((&card["type"], &card["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
    assert_eq!(card["body"][0]["color"], "Attention");
    assert_eq!(card["body"][1]["text"], "<!channel> [click] (http://evil) & more");
    assert_eq!(card["body"][2]["type"], "FactSet");
    assert!(
        card["body"][2]["facts"].as_array().unwrap().contains(&json!({"title": "Revision", "value": "5c6b7d8e9f"}))
    );
}

#[test]
fn discord_is_sent_an_embed_that_calls_nobody() {
    for address in ["https://discord.com/api/webhooks/1/x", "https://discord.com/api/webhooks/1/x/slack"] {
        let (url, body) = sent("discord", address, Severity::Error);
        assert_eq!(url, "https://discord.com/api/webhooks/1/x");
        assert_eq!(body["allowed_mentions"], json!({"parse": []}));
        let embed = &body["embeds"][0];
        assert_eq!((&embed["color"], &embed["timestamp"]), (&json!(0xd9_3025), &json!("2023-11-14T22:13:20Z")));
        assert_eq!(embed["fields"][0], json!({"name": "Cluster", "value": "eu-1", "inline": true}));
    }
}

#[test]
fn rocket_chat_is_sent_what_it_shares_with_slack() {
    let (_, body) = sent("rocket", "https://chat/hooks/x", Severity::Warning);
    assert_eq!((&body["channel"], &body["attachments"][0]["color"]), (&json!("releases"), &json!("#f9ab00")));
    assert!(body["text"].as_str().unwrap().starts_with("⚠️ store/shop"));
}

#[test]
fn google_chat_is_sent_a_card_in_the_thread_of_its_rollout() {
    let (url, body) = sent("gchat", "https://chat.googleapis.com/v1/spaces/A/messages?key=k&token=t", Severity::Error);
    assert!(url.ends_with("&token=t&messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD"), "{url}");
    assert_eq!(body["thread"], json!({"threadKey": "store/shop/r1"}));
    let card = &body["cardsV2"][0]["card"];
    assert_eq!(card["header"]["subtitle"], "EvidenceBad");
    let widgets = card["sections"][0]["widgets"].as_array().unwrap();
    assert_eq!(widgets[0]["textParagraph"]["text"], "&lt;!channel&gt; [click](http://evil) &amp; more");
    assert_eq!(widgets[1]["decoratedText"], json!({"topLabel": "Cluster", "text": "eu-1", "wrapText": true}));
}

#[test]
fn alertmanager_is_told_what_fires_and_by_good_news_what_is_over() {
    let (url, body) = sent("alertmanager", "http://alertmanager:9093/", Severity::Error);
    assert_eq!(url, "http://alertmanager:9093/api/v2/alerts");
    let labels = json!({"alertname": "WeirCanary", "severity": "error", "namespace": "store", "canary": "shop", "cluster": "eu-1"});
    assert_eq!((body[0]["labels"].clone(), body.as_array().unwrap().len()), (labels.clone(), 1));
    assert_eq!(body[0]["annotations"]["summary"], "store/shop: revision 5c6b7d8e was taken back");
    assert_eq!(body[0]["startsAt"], "2023-11-14T22:13:20Z");
    assert_eq!(body[0]["endsAt"], "2023-11-15T22:13:20Z");
    let (_, body) = sent("alertmanager", "http://alertmanager:9093/api/v2/alerts", Severity::Info);
    let over: Vec<_> = body
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| (alert["labels"]["severity"].clone(), alert["endsAt"].clone()))
        .collect();
    let at = json!("2023-11-14T22:13:20Z");
    assert_eq!(over, [(json!("warn"), at.clone()), (json!("error"), at)]);
    assert_eq!(body[1]["labels"], labels, "the same labels are the same alert");
}

#[test]
fn a_program_is_sent_the_body_of_flaggers_event_webhooks() {
    let (_, body) = sent("webhook", "http://bot/", Severity::Error);
    assert_eq!(
        (&body["name"], &body["namespace"], &body["phase"]),
        (&json!("shop"), &json!("store"), &json!("Failed"))
    );
    let metadata = &body["metadata"];
    assert_eq!((&metadata["eventType"], &metadata["timestamp"]), (&json!("Warning"), &json!("1700000000000")));
    assert_eq!((&metadata["severity"], &metadata["reason"]), (&json!("error"), &json!("EvidenceBad")));
    assert_eq!(metadata["requests"], "canary failed 3 of 41 requests, primary failed 0 of 792 requests");
    assert!(metadata.as_object().unwrap().values().all(Value::is_string), "{metadata}");
}

#[test]
fn an_answer_means_taken_later_or_never() {
    let of = |status: u16, body: &str| Answer { status, retry_after: None, body: body.into() };
    let plain = |status| verdict(&of(status, "x"));
    assert_eq!(plain(204), Verdict::Taken);
    for status in [408, 429, 500, 503] {
        assert_eq!(plain(status), Verdict::Later(format!("{status} x")));
    }
    for status in [301, 400, 401, 404, 410] {
        assert_eq!(plain(status), Verdict::Refused(format!("{status} x")));
    }
    let slack = |status, body: &str| notifier("slack").unwrap().verdict(&of(status, body));
    assert_eq!(slack(200, "ok"), Verdict::Taken);
    assert_eq!(slack(200, r#"{"ok": true, "channel": "C", "ts": "1.2"}"#), Verdict::Posted("C".into(), "1.2".into()));
    assert_eq!(
        slack(200, r#"{"ok": false, "error": "channel_not_found"}"#),
        Verdict::Refused("channel_not_found".into())
    );
    assert_eq!(slack(200, r#"{"ok": false, "error": "ratelimited"}"#), Verdict::Later("ratelimited".into()));
    assert_eq!(slack(200, r#"{"ok": false, "error": "message_not_found"}"#), Verdict::Gone);
    assert!(matches!(slack(429, r#"{"ok": false, "error": "ratelimited"}"#), Verdict::Later(_)));
}
