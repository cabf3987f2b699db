//! Hostile clients among others: a fifth of the traffic, and whole runs of a good release, each with the limits of a first epoch.

use weir_wire::names::Arm;
use weir_wire::{Canary, Limits};

use crate::harness::client::Client;
use crate::harness::config::{canary, config};
use crate::harness::envoy::{Gateway, Options};

/// Runs of a release.
const RUNS: u64 = 15;
/// Requests of polite clients in each of them; a fifth of all are hostile.
const POLITE: usize = 80;
const HOSTILE: usize = 20;

/// A canary at 20 % whose guard trips at the third failed draw, or at the fourth failure of any kind.
fn run(number: u64) -> Canary {
    let mut canary = canary(2_000);
    (canary.run, canary.epoch) = (format!("r{number}"), number);
    canary.limits = vec![Limits {
        epoch: number,
        comparison: vec![[0, 3]],
        absolute: vec![[1, 4]],
        end: [1_000_000, 1_000_000],
        ..Limits::default()
    }];
    canary
}

/// One hostile request: what of it the arm decides is misbehaved on for the canary only.
async fn misbehave(gateway: &Gateway, how: usize) {
    let mut client = Client::connect(gateway.address).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n\r\n");
    match how % 8 {
        // It closes at the headers that name the canary, and reads the primary's answer.
        0 => {
            client.send(get("/large").as_bytes()).await;
            if client.head().await.served_by() == "primary" {
                drop(Client::connect(gateway.address).await.get("/").await);
            }
        }
        1 => client.send(b"POST / HTTP/1.1\r\nhost: shop.example.com\r\ncontent-length: 1000\r\n\r\nx").await,
        2 => {
            client.send(b"POST / HTTP/1.1\r\nhost: shop.example.com\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;
            client.head().await;
        }
        3 => drop(client.get("/status/404").await),
        4 => drop(client.ask("shop.example.com", "/", &[("x-weir-token", crate::harness::config::TOKEN)]).await),
        5 => {
            client.send(get("/events").as_bytes()).await;
            client.head().await;
        }
        6 => {
            let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n\r\n";
            client.send(get("/upgrade/quiet").replace("\r\n\r\n", &format!("\r\n{upgrade}")).as_bytes()).await;
            client.head().await;
        }
        _ => drop(client.ask("shop.example.com", "/", &[("cookie", "weir=zz; weir=; ;;=")]).await),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_at_a_fifth_of_the_traffic_trip_the_guard_in_none_of_fifteen_runs() {
    let options = Options { buffer: Some(65_536), ..Options::default() };
    let gateway = Gateway::start_with(options, &config(vec![run(1)])).await;
    let mut first = 0;
    for number in 1..=RUNS {
        if number > 1 {
            gateway.push(&config(vec![run(number)])).await;
        }
        let mut client = Client::connect(gateway.address).await;
        for at in 0..POLITE {
            assert_eq!(client.get("/").await.status, 200);
            if at % (POLITE / HOSTILE) == 0 {
                misbehave(&gateway, at / (POLITE / HOSTILE)).await;
            }
        }
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.trip(), [0, 0], "run {number}: {metrics:#?}");
        if number == RUNS / 3 {
            first = gateway.memory();
        }
    }
    let ended = |arm| move |metrics: &crate::harness::metrics::Metrics| metrics.under_way(arm) == 0;
    for arm in [Arm::Primary, Arm::Canary] {
        gateway.metrics_when("every request has ended", ended(arm)).await;
    }
    let metrics = gateway.metrics().await;
    assert_eq!((metrics.trip(), metrics.arm(Arm::Canary)[2]), ([0, 0], 0), "{metrics:#?}");
    assert!(metrics.arm(Arm::Canary)[0] > RUNS * 10, "the canary was tried");
    let last = gateway.memory();
    assert!(last < first + 32 * 1024, "{first} KiB after five runs, {last} KiB after fifteen");
}
