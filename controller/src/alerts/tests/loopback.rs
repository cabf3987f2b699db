//! Alerts to a real HTTP server, directly and through a proxy.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::alerts::http::Http;
use crate::outbound::Outbound;

/// Slack's methods on loopback: what they were asked, and who asked.
async fn slack_server() -> (String, Arc<Mutex<Vec<(String, String, Value)>>>) {
    let heard: Arc<Mutex<Vec<(String, String, Value)>>> = Arc::default();
    let (log, listener) = (heard.clone(), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let answer = move |request: axum::extract::Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let header = |name: &str| parts.headers[name].to_str().unwrap().to_owned();
        let heard = (parts.uri.path().to_owned(), header("authorization"), serde_json::from_slice(&body).unwrap());
        assert!(header("content-type").starts_with("application/json"));
        let number = log.lock().len();
        log.lock().push(heard);
        if number == 0 {
            return (axum::http::StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], String::new());
        }
        let said = json!({"ok": true, "channel": "C1", "ts": "1503435956.000247"}).to_string();
        (axum::http::StatusCode::OK, [("x-number", "1")], said)
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    (format!("http://{address}/api/chat.postMessage"), heard)
}

#[tokio::test]
async fn a_real_server_is_sent_a_rollout_by_the_methods_of_slack() {
    let (address, heard) = slack_server().await;
    let secret = json!({"address": address, "token": "xoxb-1"});
    let mut told = Told::new(&slack(), &secret, "info", Arc::new(Http(Outbound::new(None))));
    told.tell(Severity::Info, "NewRevision", "r1");
    told.tell(Severity::Error, "EvidenceBad", "r1");
    while told.counted().0 < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let heard = heard.lock().clone();
    let paths: Vec<&str> = heard.iter().map(|(path, ..)| path.as_str()).collect();
    let (post, update) = ("/api/chat.postMessage", "/api/chat.update");
    // The first one was told to come later.
    assert_eq!(paths, [post, post, update, post]);
    assert!(heard.iter().all(|(_, token, _)| token == "Bearer xoxb-1"));
    assert_eq!(heard[2].2["ts"], "1503435956.000247");
    assert_eq!(heard[3].2["thread_ts"], "1503435956.000247");
}

/// A proxy that connects where it is asked to; returns its address and, later, whom it was asked for.
async fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let log = asked.clone();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (mut client, mut first) = (BufReader::new(client), String::new());
            client.read_line(&mut first).await.unwrap();
            let mut line = String::new();
            while client.read_line(&mut line).await.unwrap() > 2 {
                line.clear();
            }
            let target = first.split(' ').nth(1).unwrap().to_owned();
            log.lock().push(first.trim_end().to_owned());
            let mut server = TcpStream::connect(&target).await.unwrap();
            client.get_mut().write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (format!("http://{address}"), asked)
}

#[tokio::test]
async fn a_proxy_is_asked_to_connect_and_sees_no_more_than_that() {
    let ((address, heard), (proxy, asked)) = (slack_server().await, proxy().await);
    let spec = json!({"type": "slack", "address": address, "proxy": proxy, "secretRef": {"name": "chat"}});
    let mut told = Told::new(&spec, &json!({"token": "x"}), "info", Arc::new(Http(Outbound::new(None))));
    told.tell(Severity::Info, "NewRevision", "r1");
    while told.counted().0 < 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let host = address.split('/').nth(2).unwrap();
    // The first one was told to come later.
    assert_eq!((heard.lock().len(), asked.lock().clone()), (2, vec![format!("CONNECT {host} HTTP/1.1"); 2]));
}
