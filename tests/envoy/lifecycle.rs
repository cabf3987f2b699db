//! What happens over configuration updates, restarts and refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_wire::names::{Arm, Metric};
use weir_wire::{Affinity, Config};

use crate::harness::client::Client;
use crate::harness::config::{canary, config, now};
use crate::harness::envoy::{Gateway, Options};

/// Pushes one configuration after the other while clients ask, and checks that every request so far was counted, once.
async fn push_under_load(gateway: &Gateway, configs: impl Iterator<Item = Config>) {
    let before = gateway.primary.seen.requests() + gateway.canary.seen.requests();
    let go_on = Arc::new(AtomicBool::new(true));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (address, go_on) = (gateway.address, Arc::clone(&go_on));
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let mut answered = 0;
                while go_on.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/").await.status, 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for config in configs {
        gateway.push(&config).await;
    }
    go_on.store(false, Ordering::Relaxed);
    let mut answered = before;
    for client in clients {
        answered += client.await.unwrap();
    }
    let metrics = gateway
        .metrics_when("every request is counted", |metrics| {
            metrics.arm(Arm::Primary)[1] + metrics.arm(Arm::Canary)[1] == answered
        })
        .await;
    assert_eq!(metrics.arm(Arm::Canary)[0], gateway.canary.seen.requests());
    assert_eq!(metrics.arm(Arm::Primary)[0], gateway.primary.seen.requests());
    assert_eq!(metrics.late(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_count_is_lost_over_fifty_updates_under_load() {
    let options = Options { concurrency: 2, ..Options::default() };
    let gateway = Gateway::start_with(options, &config(vec![canary(3_000)])).await;
    let updates = (0..50).map(|update| {
        let mut canary = canary(3_000 + update);
        canary.epoch = 1 + u64::from(update) / 10;
        config(vec![canary])
    });
    push_under_load(&gateway, updates).await;
    assert_eq!(gateway.stat("listener_manager.listener_modified").await, 0, "no listener was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_count_is_lost_when_the_vms_are_replaced() {
    let options = Options { concurrency: 2, ..Options::default() };
    let mut gateway = Gateway::start_with(options, &config(vec![canary(3_000)])).await;
    let boot = gateway.metrics().await.get(Metric::Boot);
    for round in 1..=5 {
        gateway.options.vm = Some(format!("round {round}"));
        let updates = (0..4).map(|update| {
            let mut canary = canary(3_000);
            canary.epoch = round + update / 2;
            config(vec![canary])
        });
        push_under_load(&gateway, updates).await;
    }
    assert_eq!(gateway.metrics().await.get(Metric::Boot), boot, "what the VMs share outlives them");
    assert!(gateway.stat("wasm.envoy.wasm.runtime.v8.created").await >= 5 * 3, "they were replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_without_the_callback_for_cookies_does_all_the_rest() {
    let options = Options { restricted: true, ..Options::default() };
    let sticky = |affinity| {
        let mut canary = canary(10_000);
        canary.affinity = affinity;
        config(vec![canary])
    };
    let gateway = Gateway::start_with(options, &sticky(None)).await;
    let mut client = Client::connect(gateway.address).await;
    let answer = client.get("/").await;
    assert_eq!((answer.served_by(), answer.header("set-cookie")), ("canary", ""));
    assert_eq!(client.get("/status/500").await.status, 500);
    let metrics = gateway.metrics_when("both are counted", |metrics| metrics.arm(Arm::Canary)[0] == 2).await;
    assert_eq!(metrics.arm(Arm::Canary), [2, 1, 1, 0]);
    gateway.push(&sticky(Some(Affinity { cookie: "weir".into(), ..Affinity::default() }))).await;
    assert!(client.get("/").await.header("set-cookie").starts_with("weir="));
    gateway.push(&sticky(None)).await;
    assert_eq!(client.get("/").await.header("set-cookie"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_and_the_main_thread_report_a_generation() {
    for concurrency in [1, 2] {
        let first = config(vec![canary(0)]);
        let options = Options { concurrency, ..Options::default() };
        let gateway = Gateway::start_with(options, &first).await;
        let vms = u64::from(concurrency) + 1;
        let boot = gateway.metrics().await.get(Metric::Boot);
        assert!(boot > 0);
        for _ in 0..10 {
            let next = config(vec![canary(0)]);
            gateway.push(&next).await;
            let metrics = gateway.metrics().await;
            assert_eq!((metrics.vms(next.generation), metrics.get(Metric::Boot)), (vms, boot));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_process_is_another_one() {
    let first = config(vec![canary(10_000)]);
    let mut gateway = Gateway::start(&first).await;
    let boot = gateway.metrics().await.get(Metric::Boot);
    gateway.restart(&serde_json::to_string(&first).unwrap()).await;
    gateway.acknowledged(&first).await;
    let metrics = gateway.metrics().await;
    assert_ne!(metrics.get(Metric::Boot), boot);
    assert_eq!(metrics.get(Metric::Disarmed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_with_a_stale_configuration_serves_the_primary_until_a_newer_push() {
    let mut stale = config(vec![canary(10_000)]);
    let mut gateway = Gateway::start(&stale).await;
    stale.generation += 1;
    stale.armed_until = now() - 1;
    gateway.push(&stale).await;
    let mut client = Client::connect(gateway.address).await;
    assert_eq!(client.get("/").await.served_by(), "canary", "a process with shared state ignores the date");

    gateway.restart(&serde_json::to_string(&stale).unwrap()).await;
    gateway.acknowledged(&stale).await;
    let mut client = Client::connect(gateway.address).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.served_by(), "primary");
    }
    assert_eq!(gateway.metrics().await.get(Metric::Disarmed), 1);

    let mut renewed = stale.clone();
    (renewed.generation, renewed.armed_until) = (stale.generation + 1, now() + 3_600);
    gateway.push(&renewed).await;
    assert_eq!(client.get("/").await.served_by(), "canary");
    gateway.metrics_when("it is armed again", |metrics| metrics.get(Metric::Disarmed) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_serves_for_its_primary_loses_no_request_while_weir_is_away_and_gateways_restart() {
    // A failed promotion, and nobody has renewed the configuration for the ten minutes that gateways wait.
    let mut alone = canary(10_000);
    (alone.fallback, alone.run) = (true, "r2".into());
    let mut config = config(vec![alone]);
    (config.armed_until, config.expires_at) = (now() - 660, now() - 60);
    let mut gateway = Gateway::start(&config).await;
    gateway.primary.stop().await;
    for restart in [false, true] {
        if restart {
            gateway.restart(&serde_json::to_string(&config).unwrap()).await;
            gateway.acknowledged(&config).await;
        }
        let mut client = Client::connect(gateway.address).await;
        for _ in 0..100 {
            let answer = client.get("/").await;
            assert_eq!((answer.status, answer.served_by()), (200, "canary"), "restarted: {restart}");
        }
        // What would take every other canary's requests has come to pass.
        gateway.metrics_when("it is known to be late", |metrics| metrics.get(Metric::Disarmed) == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_refused_with_one_line_and_the_previous_one_stays() {
    let gateway = Gateway::start(&config(vec![canary(10_000)])).await;
    let mut client = Client::connect(gateway.address).await;
    let with = |field: &str, value: serde_json::Value| {
        let mut config = serde_json::to_value(config(vec![canary(0)])).unwrap();
        config["canaries"][0][field] = value;
        config.to_string()
    };
    let bad = [
        ("{".to_owned(), "does not parse"),
        (String::new(), "does not parse"),
        ("[".repeat(100_000), "does not parse"),
        (
            format!("{{\"version\": 1, \"generation\": 1, \"armed_until\": 1, \"new\": {}", "[".repeat(100_000)),
            "does not parse",
        ),
        (r#"{"version": 1, "generation": 0, "armed_until": 0}"#.to_owned(), "generation: must be at least 1"),
        (r#"{"version": 2, "generation": "x"}"#.to_owned(), "version: 2"),
        (with("weight", 10_001.into()), "weight 10001 is out of range"),
        (with("id", "short".into()), "canaries[0] (shop/cart): id"),
        (with("match", serde_json::json!([{"headers": {"a": {"regex": "("}}}])), "match[0].headers.a"),
    ];
    for (number, (text, named)) in bad.iter().enumerate() {
        gateway.write(text);
        let refused = number as u64 + 1;
        gateway.stat_when("extension_config_discovery.http_filter.weir.config_fail", refused).await;
        let log = gateway.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("configuration refused")).collect();
        assert_eq!(lines.len(), number + 1, "{log}");
        assert!(lines[number].contains(named), "{}", lines[number]);
        assert_eq!(client.get("/").await.served_by(), "canary");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_go_forward_only() {
    let newer = config(vec![canary(10_000)]);
    let gateway = Gateway::start(&newer).await;
    let mut client = Client::connect(gateway.address).await;
    let mut older = config(vec![canary(0)]);
    for (generation, refused, named) in
        [(newer.generation - 1, 1, "is older than"), (newer.generation, 2, "was accepted before with another content")]
    {
        older.generation = generation;
        gateway.write(&serde_json::to_string(&older).unwrap());
        gateway.stat_when("extension_config_discovery.http_filter.weir.config_fail", refused).await;
        assert!(gateway.log().contains(named), "{}", gateway.log());
        assert_eq!(client.get("/").await.served_by(), "canary");
    }
    // The same once more: nothing to do, and nothing to complain about.
    gateway.push(&newer).await;
    older.generation = newer.generation + 1;
    gateway.push(&older).await;
    assert_eq!(client.get("/").await.served_by(), "primary");
}
