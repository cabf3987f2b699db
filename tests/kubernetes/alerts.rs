//! Alerts of a release as a chat receives them: a provider, its Secret and the chat in a namespace of their own.

use serde_json::{Value, json};

use super::STEPS;
use super::kubectl::{apply, kubectl, run, until};
use super::stage::{Stage, ground, variable};

/// Namespace of the chat, of the AlertProvider and of its Secret.
const CHAT: &str = "weir-test-chat";

/// Has a service stand for Slack's methods and for a program that is told of errors, and makes the providers that lead to it.
fn chat() {
    let (namespace, image) = (CHAT, variable("WEIR_DEMO_IMAGE"));
    let base = format!("http://chat.{namespace}.svc.cluster.local:8080");
    let answer = json!({"ok": true, "channel": "C1", "ts": "1503435956.000247"});
    apply(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: answers, namespace: {namespace}}}
data: {{answer: '{answer}'}}
---
apiVersion: v1
kind: Service
metadata: {{name: chat, namespace: {namespace}}}
spec: {{selector: {{app: chat}}, ports: [{{port: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: chat, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: chat}}}}
  template:
    metadata: {{labels: {{app: chat}}}}
    spec:
      containers:
      - name: chat
        image: {image}
        imagePullPolicy: IfNotPresent
        args: [serve, --address, 0.0.0.0, --port, "8080", --record, --files, /files]
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1, timeoutSeconds: 10}}
        resources: {{requests: {{cpu: 50m, memory: 8Mi}}}}
        volumeMounts: [{{name: files, mountPath: /files}}]
      volumes:
      - name: files
        configMap:
          name: answers
          items: [{{key: answer, path: api/chat.postMessage}}, {{key: answer, path: api/chat.update}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: slack, namespace: {namespace}}}
stringData: {{token: xoxb-1, address: "{base}/api/chat.postMessage"}}
---
apiVersion: weir.dev/v1beta1
kind: AlertProvider
metadata: {{name: slack, namespace: {namespace}, annotations: {{weir.dev/shared: "true"}}}}
spec: {{type: slack, channel: releases, secretRef: {{name: slack}}}}
---
apiVersion: weir.dev/v1beta1
kind: AlertProvider
metadata: {{name: private, namespace: {namespace}}}
spec: {{type: webhook, address: "{base}/private"}}
"#
    ));
    kubectl(&["-n", namespace, "rollout", "status", "deployment", "chat", "--timeout=2m"]);
}

/// Returns what was posted to the chat, or nothing while nobody can ask it.
fn posted(path: &str) -> Vec<Value> {
    let raw = format!("/api/v1/namespaces/{CHAT}/services/chat:8080/proxy/recorded");
    let Ok(text) = run("kubectl", &["get", "--raw", &raw], "") else { return Vec::new() };
    let mut all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.retain(|posted| posted["path"] == path);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_release_is_one_message_in_a_chat_with_its_numbers_and_who_may_not_be_told_is_named() {
    let stage = Stage::bare("alerts").await;
    ground(CHAT, "chat.example.com");
    chat();
    apply(&format!(
        r#"
apiVersion: weir.dev/v1beta1
kind: AlertProvider
metadata: {{name: errors, namespace: {}}}
spec: {{type: webhook, address: "http://chat.{CHAT}.svc.cluster.local:8080/errors"}}
"#,
        stage.namespace
    ));
    let alerts = format!(
        "{{alerts: [{{name: team, providerRef: {{name: slack, namespace: {CHAT}}}}}, \
         {{name: on-call, severity: error, providerRef: {{name: errors}}}}, \
         {{name: others, providerRef: {{name: private, namespace: {CHAT}}}}}], "
    );
    stage.initialize(&STEPS.replacen('{', &alerts, 1)).await;
    stage.stops_a_bad_release("v2").await;

    // The chat: one message of the release, which stands as it ended, with the steps in its thread.
    let shows = |update: &Value| update["body"]["text"].as_str().is_some_and(|text| text.contains("was taken back"));
    let update = until("the chat shows the end", || posted("/api/chat.update").into_iter().rfind(shows)).await;
    assert_eq!((&update["authorization"], &update["body"]["channel"]), (&json!("Bearer xoxb-1"), &json!("C1")));
    let fields = update["body"]["attachments"][0]["fields"].to_string();
    for fact in ["Revision", "Weight", "canary failed ", "Reason", "Next"] {
        assert!(fields.contains(fact), "{fact}: {update:#}");
    }
    let messages = posted("/api/chat.postMessage");
    let top = |message: &&Value| message["body"].get("thread_ts").is_none();
    let mut texts: Vec<String> =
        messages.iter().filter(top).map(|message| message["body"]["text"].to_string()).collect();
    // What is answered too late is sent again.
    texts.dedup();
    assert!(texts.len() == 2 && texts[0].contains("set up") && texts[1].contains("is being released"), "{texts:?}");
    assert!(messages.len() > texts.len(), "a thread with the steps");
    let kept = stage.status()["alerts"].clone();
    assert_eq!((&kept[0]["channel"], &kept[0]["timestamp"]), (&json!("C1"), &json!("1503435956.000247")), "{kept}");

    // The program: the error, and nothing else.
    let error = until("the error is told", || posted("/errors").into_iter().next()).await;
    let about = &error["body"]["metadata"];
    assert_eq!((&error["body"]["name"], &about["severity"]), (&json!("shop"), &json!("error")), "{error:#}");
    assert!(about["requests"].as_str().unwrap().starts_with("canary failed "), "{error:#}");
    assert!(posted("/errors").iter().all(|other| other["body"] == error["body"]), "{:#?}", posted("/errors"));

    // Whose chat is not shared is named, and was sent nothing.
    let failing = until("it is said who cannot be told", || {
        let conditions = stage.status()["conditions"].as_array()?.clone();
        conditions.into_iter().find(|it| it["type"] == "AlertsFailing" && it["status"] == "True")
    })
    .await;
    assert!(failing["message"].as_str().unwrap().contains(&format!("AlertProvider {CHAT}/private: ")), "{failing}");
    assert_eq!(posted("/private"), Vec::<Value>::new());
    stage.strike();
    kubectl(&["delete", "namespace", CHAT, "--wait=false"]);
}
