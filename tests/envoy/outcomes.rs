//! How requests are judged, one row for each rule.

use std::time::Duration;

use weir_wire::names::{Arm, Cohort, Kind};

use crate::harness::client::{self, Client, Client2};
use crate::harness::config::{ID, canary, config};
use crate::harness::envoy::{Gateway, Options};
use crate::harness::metrics::Metrics;

const SOON: Duration = Duration::from_millis(300);
/// Longer than a client has to wait for the rest of a response to have given it up, shorter than the route's timeout.
const GIVEN_UP: Duration = Duration::from_millis(1_300);

/// A gateway that sends everything to the canary.
async fn gateway() -> Gateway {
    Gateway::start(&config(vec![canary(10_000)])).await
}

/// As [`gateway`], with routes that wait for two seconds.
async fn hurried() -> Gateway {
    let options = Options { timeout: "2s", ..Options::default() };
    Gateway::start_with(options, &config(vec![canary(10_000)])).await
}

/// As [`gateway`], with latencies that are far apart, and routes that wait for all of them.
async fn patient(latency_ms: Vec<u32>) -> Gateway {
    let mut canary = canary(10_000);
    canary.latency_ms = latency_ms;
    let options = Options { timeout: "60s", ..Options::default() };
    Gateway::start_with(options, &config(vec![canary])).await
}

/// Waits until the canary has had so many requests, and returns [success, failure, abandoned].
async fn counted(gateway: &Gateway, assigned: u64) -> [u64; 3] {
    let ended = |metrics: &Metrics| {
        let [all, rest @ ..] = metrics.arm(Arm::Canary);
        all == assigned && rest.iter().sum::<u64>() == assigned
    };
    let [_, rest @ ..] = gateway.metrics_when("all requests have ended", ended).await.arm(Arm::Canary);
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_is_a_failure_and_a_clients_is_not() {
    let gateway = gateway().await;
    for (status, n) in [(200, 1), (204, 2), (304, 3), (404, 4), (429, 5), (500, 6), (503, 7), (599, 8)] {
        for _ in 0..n {
            // Envoy answers nothing but the head to these two, and so the connection is of no further use here.
            let answer = Client::connect(gateway.address).await.get(&format!("/status/{status}")).await;
            assert_eq!(answer.status, status);
        }
    }
    assert_eq!(counted(&gateway, 36).await, [15, 21, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_to_head_and_one_in_many_pieces_are_successes() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    client.send(b"HEAD /status/200 HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.get("/large").await.body.len(), 1_000_000);
    assert_eq!(counted(&gateway, 2).await, [2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_is_a_failure() {
    let gateway = gateway().await;
    for path in ["/cut", "/cut/headers"] {
        let answer = Client::connect(gateway.address).await.get(path).await;
        assert_eq!(answer.status, 200, "the headers had come");
    }
    let mut client = Client2::connect(gateway.address).await;
    client.post("/cut", "text/plain").await;
    client.post("/cut/headers", "text/plain").await;
    assert_eq!(counted(&gateway, 4).await, [0, 4, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_response_is_a_failure_whoever_says_so() {
    let gateway = hurried().await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.get("/cut/at-once").await.status, 503, "upstream connection termination");
    assert_eq!(client.get("/hang").await.status, 504, "upstream request timeout");
    assert_eq!(Client2::connect(gateway.address).await.post("/cut/at-once", "text/plain").await.status, 503);
    assert_eq!(counted(&gateway, 3).await, [0, 3, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_healthy_upstream_is_a_failure_of_the_arm_that_was_chosen() {
    let mut lonely = canary(10_000);
    lonely.hosts = vec!["lonely.example.com".into()];
    let gateway = Gateway::start(&config(vec![lonely])).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.ask("lonely.example.com", "/", &[]).await.status, 503);
    assert_eq!(counted(&gateway, 1).await, [0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_a_failure() {
    let mut gateway = gateway().await;
    gateway.canary.stop().await;
    assert_eq!(Client::connect(gateway.address).await.get("/").await.status, 503);
    assert_eq!(counted(&gateway, 1).await, [0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_abandons_its_request() {
    let gateway = patient(vec![100, 5_000]).await;
    let given_up = Duration::from_secs(6);
    client::leave(gateway.address, "/hang", SOON).await;
    client::leave(gateway.address, "/stall", given_up).await;
    let mut client = Client2::connect(gateway.address).await;
    client.reset("/hang", SOON).await;
    client.reset("/stall", given_up).await;
    assert_eq!(counted(&gateway, 4).await, [0, 0, 4]);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.latency(Arm::Canary), [0, 2, 2], "slow for every edge below its age");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_after_the_response_had_its_answer() {
    let gateway = gateway().await;
    for _ in 0..20 {
        let mut client = Client::connect(gateway.address).await;
        client.get("/").await;
    }
    assert_eq!(counted(&gateway, 20).await, [20, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_statuses_of_the_server_are_failures_in_trailers_and_trailers_only() {
    let gateway = gateway().await;
    let mut client = Client2::connect(gateway.address).await;
    let failures = [2, 4, 13, 14, 15];
    for status in 0..=16 {
        for kind in ["grpc", "grpc-only"] {
            let answer = client.post(&format!("/{kind}/{status}"), "application/grpc").await;
            assert_eq!((answer.status, answer.grpc_status), (200, status.to_string()));
        }
    }
    let failed = 2 * failures.len() as u64;
    assert_eq!(counted(&gateway, 34).await, [34 - failed, failed, 0]);
    let client_errors = 2 * (17 - failures.len() as u64 - 2);
    assert_eq!(gateway.metrics().await.kind(Arm::Canary, Kind::ClientError), client_errors, "all but OK and CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_error_that_the_gateway_makes_is_a_failure() {
    let gateway = gateway().await;
    let answer = Client2::connect(gateway.address).await.post("/cut/at-once", "application/grpc").await;
    assert_eq!((answer.status, answer.grpc_status.as_str()), (200, "14"));
    assert_eq!(counted(&gateway, 1).await, [0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unary_call_has_a_latency_and_a_stream_of_messages_has_none() {
    let gateway = gateway().await;
    let mut client = Client2::connect(gateway.address).await;
    // The first call teaches the filter that this service speaks gRPC.
    client.post("/grpc/0", "application/grpc").await;
    for _ in 0..3 {
        client.post("/grpc/0", "application/grpc").await;
        client.post("/grpc-stream/0", "application/grpc").await;
    }
    assert_eq!(counted(&gateway, 7).await, [7, 0, 0]);
    assert_eq!(gateway.metrics().await.latency(Arm::Canary).iter().sum::<u64>(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_a_success_without_latency() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    let upgrade =
        b"GET /upgrade HTTP/1.1\r\nhost: shop.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.send(upgrade).await;
    assert_eq!(client.head().await.status, 101);
    drop(client);
    assert_eq!(counted(&gateway, 1).await, [1, 0, 0]);
    assert_eq!(gateway.metrics().await.latency(Arm::Canary), [0; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_judged_when_it_is_accepted_though_the_connection_stays_and_says_nothing() {
    let gateway = gateway().await;
    let mut client = Client::connect(gateway.address).await;
    let upgrade =
        b"GET /upgrade/quiet HTTP/1.1\r\nhost: shop.example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.send(upgrade).await;
    assert_eq!(client.head().await.status, 101);
    assert_eq!(counted(&gateway, 1).await, [1, 0, 0]);
    drop(client);
    assert_eq!(Client::connect(gateway.address).await.get("/").await.status, 200);
    assert_eq!(counted(&gateway, 2).await, [2, 0, 0], "and not once more at its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_have_no_latency() {
    let gateway = hurried().await;
    client::leave(gateway.address, "/events", SOON).await;
    client::leave(gateway.address, "/events", GIVEN_UP).await;
    // The route's timeout, 2 s, ends the third.
    let mut client = Client::connect(gateway.address).await;
    client.send(b"GET /events HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(counted(&gateway, 3).await, [3, 0, 0]);
    assert_eq!(gateway.metrics().await.latency(Arm::Canary), [0; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_answers_by_itself_counts_for_neither_arm() {
    let mut everywhere = canary(10_000);
    everywhere.hosts = vec!["secure.example.com".into(), "direct.example.com".into()];
    let gateway = Gateway::start(&config(vec![everywhere])).await;
    let mut client = Client::connect(gateway.address).await;
    for (host, path, status) in
        [("secure.example.com", "/", 301), ("direct.example.com", "/", 200), ("direct.example.com", "/closed", 503)]
    {
        assert_eq!(client.ask(host, path, &[]).await.status, status);
    }
    let metrics = gateway
        .metrics_when("all have ended", |metrics| {
            metrics.arm(Arm::Canary)[0] == 3 && metrics.under_way(Arm::Canary) == 0
        })
        .await;
    assert_eq!(metrics.arm(Arm::Canary), [3, 0, 0, 0]);
    assert_eq!(metrics.latency(Arm::Canary), [0; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn latencies_are_counted_between_their_edges() {
    let gateway = patient(vec![2_000, 8_000]).await;
    let mut client = Client::connect(gateway.address).await;
    for (path, n) in [("/", 5), ("/delay/4000", 2), ("/delay/10000", 1)] {
        for _ in 0..n {
            client.get(path).await;
        }
    }
    assert_eq!(counted(&gateway, 8).await, [8, 0, 0]);
    assert_eq!(gateway.metrics().await.latency(Arm::Canary), [5, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_its_epoch_and_one_that_outlives_eight_is_late() {
    // Both pushes come while the requests are under way, however busy the machine is.
    let options = Options { timeout: "60s", ..Options::default() };
    let gateway = Gateway::start_with(options, &config(vec![canary(10_000)])).await;
    let in_epoch = |epoch| {
        let mut canary = canary(10_000);
        canary.epoch = epoch;
        config(vec![canary])
    };
    let begin = async || {
        let mut client = Client::connect(gateway.address).await;
        client.send(b"GET /delay/6000 HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await;
        client
    };
    let mut first = begin().await;
    gateway.metrics_when("it is under way", |metrics| metrics.arm(Arm::Canary)[0] == 1).await;
    gateway.push(&in_epoch(2)).await;
    let mut second = begin().await;
    gateway.metrics_when("both are under way", |metrics| metrics.arm(Arm::Canary)[0] == 2).await;
    gateway.push(&in_epoch(9)).await;
    first.answer().await;
    second.answer().await;
    let metrics = gateway
        .metrics_when("both have ended", |metrics| metrics.late() == 1 && metrics.arm(Arm::Canary)[1] == 1)
        .await;
    let success = |slot| metrics.slot(slot, Arm::Canary, Cohort::Draw, Kind::Success);
    assert_eq!([success(1), success(2)], [0, 1], "epoch 1 has lost its slot to epoch 9, epoch 2 has its own: {ID}");
}
