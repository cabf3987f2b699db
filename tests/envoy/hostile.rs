//! Hostile clients before two equal arms: they tell the arms apart where they can, and misbehave on the canary's answers only.
//! No good release is tripped by them, and no gateway grows.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use weir_wire::names::{Arm, Kind};
use weir_wire::{Affinity, Canary, Limits};

use crate::harness::client::{Client, Client2};
use crate::harness::config::{canary, config};
use crate::harness::envoy::{Gateway, Options};
use crate::harness::metrics::Metrics;

/// What one behaviour is tried.
const TIMES: usize = 24;

/// A canary at 50 % whose guard trips at the third failure of any kind, or, for arms that a client chooses, at the fourth.
fn guarded() -> Canary {
    let mut canary = canary(5_000);
    canary.limits = vec![Limits {
        epoch: 1,
        comparison: vec![[0, 3]],
        absolute: vec![[1, 4]],
        end: [1_000_000, 1_000_000],
        ..Limits::default()
    }];
    canary
}

async fn gateway() -> Gateway {
    let options = Options { buffer: Some(65_536), ..Options::default() };
    Gateway::start_with(options, &config(vec![guarded()])).await
}

/// Waits until all requests have ended, and checks that the canary was tried and no guard tripped.
async fn settled(gateway: &Gateway) -> Metrics {
    let ended = |metrics: &Metrics| {
        metrics.arm(Arm::Canary)[0] > 0 && [Arm::Primary, Arm::Canary].iter().all(|arm| metrics.under_way(*arm) == 0)
    };
    let metrics = gateway.metrics_when("every request has ended", ended).await;
    assert_eq!(metrics.trip(), [0, 0], "{metrics:#?}");
    metrics
}

/// The same, of behaviours that are no failure of any arm.
async fn unharmed(gateway: &Gateway) -> Metrics {
    let metrics = settled(gateway).await;
    let judged_badly = [Arm::Primary, Arm::Canary].map(|arm| metrics.arm(arm)[2..].iter().sum::<u64>());
    assert_eq!(judged_badly, [0, 0], "{metrics:#?}");
    metrics
}

type Stream2 = (http::Response<h2::RecvStream>, h2::SendStream<Bytes>);

async fn connect2(gateway: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(gateway).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    send
}

/// Asks the shop over HTTP/2 and returns with the response's headers.
async fn head2(send: &h2::client::SendRequest<Bytes>, path: &str, end: bool) -> Option<Stream2> {
    let mut send = send.clone().ready().await.ok()?;
    let request = http::Request::get(format!("http://shop.example.com{path}")).body(()).unwrap();
    let (answer, stream) = send.send_request(request, end).ok()?;
    Some((answer.await.ok()?, stream))
}

fn is_canary(answer: &http::Response<h2::RecvStream>) -> bool {
    answer.headers().get("x-served-by").is_some_and(|name| name == "canary")
}

async fn read2(answer: http::Response<h2::RecvStream>) {
    let mut body = answer.into_body();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_after_the_headers_that_name_the_canary_are_not_given_up_requests() {
    let gateway = gateway().await;
    let send = connect2(gateway.address).await;
    for _ in 0..TIMES {
        let (answer, mut stream) = head2(&send, "/large", true).await.unwrap();
        if is_canary(&answer) {
            stream.send_reset(h2::Reason::CANCEL);
        } else {
            read2(answer).await;
        }
    }
    unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_of_the_canary_that_are_left_unread_for_a_while_are_not_given_up_requests() {
    let gateway = gateway().await;
    let address = gateway.address;
    let downloads = (0..TIMES).map(|_| {
        tokio::spawn(async move {
            let send = connect2(address).await;
            let (answer, mut stream) = head2(&send, "/large", true).await.unwrap();
            if is_canary(&answer) {
                tokio::time::sleep(Duration::from_millis(1_200)).await;
                stream.send_reset(h2::Reason::CANCEL);
            } else {
                read2(answer).await;
            }
        })
    });
    for download in downloads.collect::<Vec<_>>() {
        download.await.unwrap();
    }
    unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_closed_at_the_canarys_headers_are_not_given_up_requests() {
    let gateway = gateway().await;
    for _ in 0..TIMES {
        let mut client = Client::connect(gateway.address).await;
        client.send(b"GET /large HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await;
        if client.head().await.served_by() == "primary" {
            drop(Client::connect(gateway.address).await.get("/").await);
        }
    }
    unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trickled_uploads_do_not_keep_the_canary_from_others() {
    let mut admitted = guarded();
    admitted.weight = weir_wire::Weight::FULL;
    admitted.admission = 3;
    let gateway = Gateway::start(&config(vec![admitted])).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(gateway.address).await;
        client.send(b"POST / HTTP/1.1\r\nhost: shop.example.com\r\ncontent-length: 1000\r\n\r\nx").await;
        held.push(client);
    }
    gateway.metrics_when("all places are held", |metrics| metrics.arm(Arm::Canary)[0] == 3).await;
    let mut other = Client::connect(gateway.address).await;
    assert_eq!(other.get("/").await.served_by(), "primary", "nothing is known of the canary yet");
    let mut served_by = String::new();
    for _ in 0..200 {
        for client in &mut held {
            client.send(b"x").await;
        }
        served_by = other.get("/").await.served_by().to_owned();
        if served_by == "canary" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(served_by, "canary", "their places are free after some seconds");
    drop(held);
    settled(&gateway).await;
}

/// A canary that requests with a header are answered by.
async fn chosen() -> Gateway {
    let mut matched = guarded();
    matched.conditions = serde_json::from_str(r#"[{"headers": {"x-beta": {"exact": "1"}}}]"#).unwrap();
    Gateway::start(&config(vec![matched])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_chooses_the_canary_cannot_fail_it_alone() {
    let gateway = chosen().await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..TIMES {
        assert_eq!(client.ask("shop.example.com", "/status/500", &[("x-beta", "1")]).await.status, 500);
    }
    let metrics = settled(&gateway).await;
    assert_eq!((metrics.arm(Arm::Canary)[2], metrics.kind(Arm::Canary, Kind::Unjudged)), (3, TIMES as u64 - 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_chooses_the_canary_cannot_make_it_slow_by_its_uploads() {
    let gateway = chosen().await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..TIMES {
        client.send(b"POST / HTTP/1.1\r\nhost: shop.example.com\r\nx-beta: 1\r\ncontent-length: 2\r\n\r\na").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.send(b"b").await;
        assert_eq!(client.answer().await.status, 200);
    }
    let metrics = unharmed(&gateway).await;
    let slow: u64 = [1, 2].map(|bucket| metrics.kind(Arm::Canary, Kind::Latency(bucket))).iter().sum();
    assert_eq!((metrics.arm(Arm::Canary)[1], slow), (TIMES as u64, 3), "{metrics:#?}");
}

/// A canary with a cookie, and a cookie that leads to it.
async fn sticky() -> (Gateway, String) {
    let mut sticky = guarded();
    sticky.affinity = Some(Affinity { cookie: "weir".into(), ..Affinity::default() });
    let gateway = Gateway::start(&config(vec![sticky])).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..200 {
        let answer = client.get("/").await;
        if answer.served_by() == "canary" {
            return (gateway, answer.header("set-cookie").to_owned());
        }
    }
    panic!("no cookie leads to the canary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_to_the_canary_by_its_cookie_cannot_fail_it_alone() {
    let (gateway, cookie) = sticky().await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..TIMES {
        assert_eq!(client.ask("shop.example.com", "/status/500", &[("cookie", &cookie)]).await.status, 500);
    }
    assert_eq!(settled(&gateway).await.arm(Arm::Canary)[2], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_doubled_and_broken_cookies_are_new_clients_or_none() {
    let (gateway, _) = sticky().await;
    let mut client = Client::connect(gateway.address).await;
    let many = format!("{}weir=0000000000000001", "weir=x; ".repeat(500));
    for value in
        ["weir=", "weir==", "weir=ffffffffffffffff; weir=0000000000000000", "weir=zzzzzzzzzzzzzzzz", ";;;", &many]
    {
        for _ in 0..4 {
            assert_eq!(client.ask("shop.example.com", "/", &[("cookie", value)]).await.status, 200);
        }
    }
    unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_hosts_are_the_shop_or_nobodys_and_trap_nothing() {
    let gateway = gateway().await;
    for host in
        ["SHOP.example.COM", "shop.example.com:80", "shop.example.com:", "shop.example.com.", "*", "[::1]:1", "a:b:c"]
    {
        for _ in 0..4 {
            let mut client = Client::connect(gateway.address).await;
            assert!([200, 400, 404].contains(&client.ask(host, "/", &[]).await.status), "{host}");
        }
    }
    unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smuggled_headers_and_requests_reach_no_arm_that_was_not_chosen() {
    let gateway = gateway().await;
    let token = crate::harness::config::TOKEN;
    let smuggled = [
        format!("GET / HTTP/1.1\r\nhost: shop.example.com\r\nx-weir-token: {token}\r\nX-Weir-Token: {token}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: shop.example.com\r\nx-weir-token : {token}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: shop.example.com\r\nconnection: x-weir-token\r\nx-weir-token: {token}\r\n\r\n"),
        "POST / HTTP/1.1\r\nhost: shop.example.com\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /status/500 HTTP/1.1\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nhost: shop.example.com\r\nhost: other.example.com\r\n\r\n".into(),
    ];
    for text in smuggled.iter().cycle().take(TIMES * 2) {
        let mut client = Client::connect(gateway.address).await;
        client.send(text.as_bytes()).await;
        client.head().await;
    }
    let metrics = settled(&gateway).await;
    assert_eq!(metrics.arm(Arm::Canary)[2], 0, "{metrics:#?}");
    assert_eq!(gateway.canary.seen.requests(), metrics.arm(Arm::Canary)[0], "nothing came around the filter");
    assert_eq!(gateway.canary.seen.tokens() + gateway.primary.seen.tokens(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_redirects_and_direct_answers_counts_for_none() {
    let mut flooded = guarded();
    flooded.hosts.extend(["secure.example.com".into(), "direct.example.com".into()]);
    let gateway = Gateway::start(&config(vec![flooded])).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..100 {
        client.ask("secure.example.com", "/", &[]).await;
        client.ask("direct.example.com", "/closed", &[]).await;
    }
    let metrics = unharmed(&gateway).await;
    let judged = |arm| metrics.arm(arm)[1];
    assert_eq!(judged(Arm::Primary) + judged(Arm::Canary), 0, "no success either: {metrics:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_do_not_exist_and_deadlines_of_ones_own_fail_no_arm() {
    let gateway = gateway().await;
    let mut client = Client2::connect(gateway.address).await;
    for _ in 0..TIMES {
        client.post("/grpc-only/12", "application/grpc").await;
        client.post("/grpc/5", "application/grpc").await;
        let mut client = Client::connect(gateway.address).await;
        client.send(b"PROPFIND /status/501 HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await;
        assert_eq!(client.head().await.status, 501);
    }
    let metrics = unharmed(&gateway).await;
    let told = [Arm::Primary, Arm::Canary].map(|arm| metrics.kind(arm, Kind::ClientError));
    assert_eq!(told.iter().sum::<u64>(), 3 * TIMES as u64, "they are counted, for a comparison of the arms");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_close_at_once_or_never_are_successes() {
    let gateway = gateway().await;
    let mut open = Vec::new();
    for number in 0..TIMES {
        let mut client = Client::connect(gateway.address).await;
        let head = "HTTP/1.1\r\nhost: shop.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        client.send(format!("GET /upgrade/quiet {head}").as_bytes()).await;
        assert_eq!(client.head().await.status, 101);
        if number % 2 == 0 {
            open.push(client);
        }
    }
    let successes = |metrics: &Metrics| metrics.arm(Arm::Primary)[1] + metrics.arm(Arm::Canary)[1];
    gateway.metrics_when("every upgrade is a success", |metrics| successes(metrics) == TIMES as u64).await;
    unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_that_are_left_at_will_are_successes() {
    let gateway = gateway().await;
    for after in [0, 50, 300].iter().cycle().take(TIMES) {
        let mut client = Client::connect(gateway.address).await;
        client.send(b"GET /events HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200);
        tokio::time::sleep(Duration::from_millis(*after)).await;
    }
    assert_eq!(unharmed(&gateway).await.latency(Arm::Canary), [0; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_the_protocol_is_the_clients_doing() {
    let gateway = gateway().await;
    for _ in 0..TIMES {
        let mut client = Client::connect(gateway.address).await;
        client
            .send(b"POST / HTTP/1.1\r\nhost: shop.example.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        client.send(b"not a chunk\r\n\r\n").await;
        client.head().await;
    }
    let metrics = settled(&gateway).await;
    assert_eq!(metrics.arm(Arm::Canary)[2], 0, "{metrics:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_pages_asked_for_again_and_again_are_no_failures() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..100 {
        assert_eq!(client.get("/status/404").await.status, 404);
    }
    let metrics = unharmed(&gateway).await;
    let told = [Arm::Primary, Arm::Canary].map(|arm| metrics.kind(arm, Kind::ClientError));
    assert_eq!(told.iter().sum::<u64>(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_fail_both_arms_alike_trip_no_comparison() {
    let mut compared = guarded();
    // As the controller writes it: the limit rises with the primary's failures.
    compared.limits[0].comparison = (0..64).map(|y| [y, 12 + 2 * y]).collect();
    compared.limits[0].absolute = vec![];
    let gateway = Gateway::start(&config(vec![compared])).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..60 {
        assert_eq!(client.get("/status/500").await.status, 500);
    }
    settled(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_leaves_nothing_behind() {
    const ROUNDS: usize = 20;
    const STREAMS: usize = 100;
    let gateway = gateway().await;
    let flood = async |rounds| {
        for _ in 0..rounds {
            let send = connect2(gateway.address).await;
            for _ in 0..STREAMS {
                let Ok(mut send) = send.clone().ready().await else { break };
                let request = http::Request::get("http://shop.example.com/hang").body(()).unwrap();
                let Ok((_, mut stream)) = send.send_request(request, true) else { break };
                stream.send_reset(h2::Reason::CANCEL);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        settled(&gateway).await;
        gateway.memory()
    };
    let after_some = flood(ROUNDS / 4).await;
    let after_many = flood(ROUNDS).await;
    assert!(after_many < after_some + 64 * 1024, "{after_some} KiB, then {after_many} KiB");
    assert_eq!(Client::connect(gateway.address).await.get("/").await.status, 200);
}
