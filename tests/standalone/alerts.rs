//! Alerts and webhooks of a whole release, as the servers of others receive them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::site::{ANALYSIS, Site, canary};

/// One request: its path, its `authorization`, its body.
type Heard = (String, String, Value);

/// A server that writes down what it is sent, and answers as Slack's methods do.
struct Chat {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Chat {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Heard>>>::default());
        let log = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone()));
            }
        });
        Self { address, heard }
    }

    /// Returns what was sent to a path.
    fn sent(&self, path: &str) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|(to, ..)| to == path).cloned().collect()
    }
}

async fn serve(stream: TcpStream, log: Arc<Mutex<Vec<Heard>>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut path, mut token, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("authorization", value)) => token = value.to_owned(),
            None => path = line.split(' ').nth(1).unwrap().to_owned(),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    log.lock().unwrap().push((path, token, serde_json::from_slice(&body).unwrap()));
    let answer = json!({"ok": true, "channel": "C1", "ts": "1503435956.000247"}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
    stream.get_mut().write_all((head + &answer).as_bytes()).await
}

fn providers(chat: &Chat) -> String {
    let address = chat.address;
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: slack}}\n\
         stringData: {{token: xoxb-1, address: \"http://{address}/api/chat.postMessage\"}}\n---\n\
         apiVersion: weir.dev/v1beta1\nkind: AlertProvider\nmetadata: {{name: slack}}\n\
         spec: {{type: slack, channel: releases, secretRef: {{name: slack}}}}\n---\n\
         apiVersion: weir.dev/v1beta1\nkind: AlertProvider\nmetadata: {{name: bot}}\n\
         spec: {{type: webhook, address: \"http://{address}/bot\"}}\n"
    )
}

#[tokio::test]
async fn a_release_is_told_to_a_chat_in_one_message_and_to_programs_event_by_event() {
    let (mut site, chat) = (Site::new(), Chat::start().await);
    site.write("chat.yaml", &providers(&chat));
    site.arguments = vec!["--cluster-name".into(), "here".into()];
    let address = chat.address;
    let told = format!(
        "{{alerts: [{{name: team, providerRef: {{name: slack}}}}, {{name: errors, severity: error, providerRef: {{name: bot}}}}], \
         webhooks: [{{name: events, type: event, url: \"http://{address}/events\"}}, \
         {{name: end, type: post-rollout, url: \"http://{address}/end\"}}], "
    );
    let analysis = ANALYSIS.replacen('{', &told, 1);
    let declare = |site: &Site, version: &str| {
        let canary = canary("shop", "*", &analysis);
        site.write("shop.yaml", &format!("{}---\n{canary}", site.process("shop", version, "")));
    };
    declare(&site, "v1");
    site.start();
    site.until("initialized", |view| view["phase"] == "Initialized").await;
    let load = site.load();
    site.switch(r#"{"failure_ratio": 1}"#);
    declare(&site, "v2");
    let failed = site.until_ended("Failed").await;
    site.switch("{}");
    declare(&site, "v3");
    site.until("the next release", |view| view["run"] != "" && view["phase"] != "Failed").await;
    site.until_ended("Succeeded").await;
    let revision = failed["ended"]["revision"].as_str().unwrap()[..8].to_owned();
    let _ = load.finish().await;
    site.eventually("told how both ended", async || chat.sent("/end").len() == 2 && chat.sent("/bot").len() == 1).await;

    // Programs: the end of each release with its phase, everything that happened, and only errors as an alert.
    let phases: Vec<Value> = chat.sent("/end").into_iter().map(|(_, _, body)| body["phase"].clone()).collect();
    assert_eq!(phases, ["Failed", "Succeeded"]);
    let events = chat.sent("/events");
    let texts = |events: &[Heard]| -> Vec<String> {
        events.iter().map(|(_, _, body)| body["metadata"]["eventMessage"].as_str().unwrap().to_owned()).collect()
    };
    for text in [
        "Initialization done! shop.default",
        "Advance shop.default canary weight 30",
        "Canary failed! Scaling down shop.default",
    ] {
        assert!(texts(&events).iter().any(|told| told == text), "{text}: {:#?}", texts(&events));
    }
    let (_, _, alert) = chat.sent("/bot").remove(0);
    assert_eq!(alert["metadata"]["title"], format!("default/shop: revision {revision} was taken back"), "{alert:#}");
    assert_eq!((&alert["metadata"]["severity"], &alert["metadata"]["cluster"]), (&json!("error"), &json!("here")));
    assert!(alert["metadata"]["requests"].as_str().unwrap().starts_with("canary failed "), "{alert:#}");

    // The chat: a message for the first setup and for each of the two releases, the newest edit of which says how it ended.
    site.eventually("the chat shows the end", async || {
        let edits = chat.sent("/api/chat.update");
        edits.last().is_some_and(|(_, _, body)| body["text"].as_str().unwrap().ends_with("is in production"))
    })
    .await;
    let posts = chat.sent("/api/chat.postMessage");
    let top = posts.iter().filter(|(_, _, body)| body.get("thread_ts").is_none());
    assert_eq!(top.count(), 3, "{posts:#?}");
    assert!(posts.iter().all(|(_, token, _)| token == "Bearer xoxb-1"));
}

#[tokio::test]
async fn a_chat_that_hangs_or_refuses_holds_no_release_up_and_is_named() {
    let (mut site, silent) = (Site::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let hanging = silent.local_addr().unwrap();
    let provider = |name: &str, address: String| {
        format!(
            "apiVersion: weir.dev/v1beta1\nkind: AlertProvider\nmetadata: {{name: {name}}}\n\
             spec: {{type: webhook, address: \"http://{address}/\"}}\n---\n"
        )
    };
    // Nobody listens on port 9; the other takes connections and never answers.
    site.write("chat.yaml", &(provider("hangs", hanging.to_string()) + &provider("refuses", "127.0.0.1:9".into())));
    let alerts = "{alerts: [{name: a, providerRef: {name: hangs}}, {name: b, providerRef: {name: refuses}}, \
                  {name: c, providerRef: {name: nobody}}], ";
    let analysis = ANALYSIS.replacen('{', alerts, 1);
    let declare = |site: &Site, version: &str| {
        let canary = canary("shop", "*", &analysis);
        site.write("shop.yaml", &format!("{}---\n{canary}", site.process("shop", version, "")));
    };
    declare(&site, "v1");
    site.start();
    site.until("initialized", |view| view["phase"] == "Initialized").await;
    let load = site.load();
    declare(&site, "v2");
    site.until_ended("Succeeded").await;
    assert_eq!(load.finish().await.totals().1, 0);
    site.eventually("both are named", async || {
        let Some(list) = site.list().await else { return false };
        let problems = list["problems"].to_string();
        problems.contains("default/shop: AlertProvider default/refuses: ")
            && problems
                .contains("default/shop: spec.analysis.alerts[2] (c): AlertProvider default/nobody: there is none")
    })
    .await;
}
