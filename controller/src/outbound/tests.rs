//! Calls over real sockets on loopback.

use super::*;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A server that answers everything with this; connections are counted by what is left to accept.
async fn server(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

async fn call(outbound: &Outbound, namespace: &str, url: &str) -> Result<Answer, HttpError> {
    outbound.call(namespace, get(url), Certificates::Verified, TIMEOUT).await
}

/// A server that never answers: returns its address and its connections.
async fn hanging() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, calls) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = tell.send(stream);
        }
    });
    (address, calls)
}

#[tokio::test]
async fn a_server_that_hangs_delays_no_other_namespaces_calls() {
    let outbound = Outbound::new(None);
    let (hangs, mut calls) = hanging().await;
    let ours = server(answer("200 OK", "1")).await;
    for tenant in 0..10 {
        for _ in 0..40 {
            let outbound = outbound.clone();
            let url = format!("http://{hangs}/");
            tokio::spawn(async move {
                let _ =
                    outbound.call(&format!("evil-{tenant}"), get(&url), Certificates::Verified, TIMEOUT * 100).await;
            });
        }
    }
    // As many as there can be are under way, and kept.
    let mut kept = Vec::new();
    for _ in 0..276 {
        kept.push(calls.recv().await.unwrap());
    }
    for _ in 0..10 {
        assert_eq!(call(&outbound, "shop", &format!("http://{ours}/")).await.unwrap().status, 200);
    }
    tokio::task::yield_now().await;
    assert!(calls.try_recv().is_err(), "no tenant has more than its share");
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_read() {
    let outbound = Outbound::new(None);
    let fits = server(answer("200 OK", &"a".repeat(LONGEST))).await;
    let whole = call(&outbound, "shop", &format!("http://{fits}/")).await.unwrap().whole();
    assert_eq!(whole.unwrap().len(), LONGEST);
    let longer = server(answer("502 Bad Gateway", &"a".repeat(LONGEST + 1))).await;
    let cut = call(&outbound, "shop", &format!("http://{longer}/")).await.unwrap();
    assert_eq!((cut.status.as_u16(), cut.body.len()), (502, LONGEST));
    let text = cut.whole().unwrap_err().to_string();
    assert_eq!(text, "502 Bad Gateway, and the answer is longer than 16 KiB, which is all that is read");
    // A head is no way around: hyper keeps no more of one.
    let head = server(format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "a".repeat(1 << 20))).await;
    assert!(call(&outbound, "shop", &format!("http://{head}/")).await.is_err());
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (there, mut calls) = hanging().await;
    let from = server(answer(&format!("307 Temporary Redirect\r\nlocation: http://{there}/"), "")).await;
    let answered = call(&Outbound::new(None), "shop", &format!("http://{from}/")).await.unwrap();
    assert_eq!(answered.status, 307);
    assert!(calls.try_recv().is_err());
}

#[tokio::test]
async fn in_a_cluster_no_connection_is_opened_to_an_address_that_is_not_called() {
    let (address, mut calls) = hanging().await;
    let port = address.port();
    let outbound = Outbound::new(Some(Arc::default()));
    let hosts = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"];
    let with_tls = hosts.map(|host| format!("https://{host}"));
    // The last ones are no addresses to anybody but the system's resolver.
    let plain = hosts.into_iter().chain(["127.1", "0x7f000001", "2130706433"]).map(|host| format!("http://{host}"));
    for origin in plain.chain(with_tls) {
        let refused = call(&outbound, "shop", &format!("{origin}:{port}/")).await;
        let Err(HttpError::Forbidden(why)) = refused else { panic!("{origin}: {refused:?}") };
        assert!(
            why.contains("which Weir does not call in a cluster") && why.contains("calls.allowedAddresses"),
            "{why}"
        );
    }
    assert!(calls.try_recv().is_err());
}

#[tokio::test]
async fn in_a_cluster_the_api_server_is_not_called_unless_it_is_allowed() {
    let ours = server(answer("200 OK", "")).await;
    let loopback: IpAddr = [127, 0, 0, 1].into();
    let rules = AddressRules::new(vec![loopback.into()]);
    rules.set_api_server(vec![(loopback, Some(ours.port()))]);
    let url = format!("http://localhost:{}/", ours.port());
    assert_eq!(call(&Outbound::new(Some(Arc::new(rules))), "shop", &url).await.unwrap().status, 200);
}

#[test]
fn an_address_is_shown_without_what_may_be_a_secret() {
    let shown = |address: &str| shown_address(&address.parse().unwrap());
    assert_eq!(shown("https://me:secret@hooks.example:8443/a/b?token=secret"), "https://hooks.example:8443/a/b");
    assert_eq!(shown("http://p"), "http://p/");
}
