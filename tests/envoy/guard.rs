//! The guard, in the process and with no controller: what stops a run, and for how long.

use std::time::Instant;

use weir_wire::names::Arm;
use weir_wire::{Canary, Limits};

use crate::harness::client::{self, Client};
use crate::harness::config::{canary, config};
use crate::harness::envoy::{Gateway, Options};
use crate::harness::metrics::Metrics;

/// Tables that are easy to count along with: three failures of the canary while the primary has none, four failures in all.
fn guarded(parts: u32) -> Canary {
    let mut canary = canary(parts);
    canary.limits = vec![Limits {
        epoch: canary.epoch,
        comparison: vec![[0, 3], [1, 6]],
        absolute: vec![[4, 4], [1_000, 40]],
        end: [1, 100_000],
        ..Limits::default()
    }];
    canary
}

/// Sends requests one after the other and returns how many failed.
async fn failures(gateway: &Gateway, path: &str, headers: &[(&str, &str)], n: usize) -> usize {
    let mut client = Client::connect(gateway.address).await;
    let mut failed = 0;
    for _ in 0..n {
        failed += usize::from(client.ask("shop.example.com", path, headers).await.status == 500);
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn the_comparison_stops_a_failing_canary_by_itself() {
    let gateway = Gateway::start(&config(vec![guarded(5_000)])).await;
    assert_eq!(failures(&gateway, "/fail/canary", &[], 200).await, 3, "the limit, and not one more");
    let metrics = gateway.metrics_when("the trip is told", |metrics| metrics.trip() == [1, 1]).await;
    assert_eq!(metrics.arm(Arm::Canary)[2], 3);
    assert_eq!(gateway.canary.seen.requests(), metrics.arm(Arm::Canary)[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_fails_too_moves_the_limit() {
    let gateway = Gateway::start(&config(vec![guarded(5_000)])).await;
    assert_eq!(failures(&gateway, "/status/500", &[], 1).await, 1);
    let mut only_primary = guarded(0);
    only_primary.limits = guarded(0).limits;
    gateway.push(&config(vec![only_primary])).await;
    assert_eq!(failures(&gateway, "/fail/primary", &[], 2).await, 2, "more than the table is stated for");
    let mut back = guarded(10_000);
    back.limits[0].absolute = vec![];
    gateway.push(&config(vec![back])).await;
    assert_eq!(failures(&gateway, "/fail/canary", &[], 20).await, 20, "beyond its end a table does not trip");
    assert_eq!(gateway.metrics().await.trip(), [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_absolute_test_stops_what_no_draw_compares() {
    let mut matched = guarded(0);
    matched.conditions = serde_json::from_str(r#"[{"headers": {"x-insider": {"exact": "yes"}}}]"#).unwrap();
    let gateway = Gateway::start(&config(vec![matched])).await;
    let mut failed = 0;
    for _ in 0..50 {
        // A client each: of one alone, three failures count.
        failed += failures(&gateway, "/fail/canary", &[("x-insider", "yes")], 1).await;
    }
    assert_eq!(failed, 4, "four of four");
    gateway.metrics_when("the trip is told", |metrics| metrics.trip() == [1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_add_up_across_workers() {
    let options = Options { concurrency: 2, ..Options::default() };
    let gateway = Gateway::start_with(options, &config(vec![guarded(10_000)])).await;
    // Connections go to workers as the kernel likes; many of them reach both.
    let mut failed = 0;
    for _ in 0..40 {
        failed += failures(&gateway, "/fail/canary", &[], 1).await;
    }
    assert_eq!(failed, 3, "not three per worker");
    gateway.metrics_when("the trip is told", |metrics| metrics.trip() == [1, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_without_endpoints_is_tried_once_a_second_by_all_workers_together() {
    let mut lonely = guarded(10_000);
    lonely.hosts = vec!["lonely.example.com".into()];
    let options = Options { concurrency: 2, ..Options::default() };
    let gateway = Gateway::start_with(options, &config(vec![lonely])).await;
    let began = Instant::now();
    let mut failed = 0;
    for _ in 0..40 {
        let status = Client::connect(gateway.address).await.ask("lonely.example.com", "/", &[]).await.status;
        failed += u64::from(status == 503);
    }
    let seconds = began.elapsed().as_secs();
    assert!((1..=1 + seconds).contains(&failed), "{failed} failed in {seconds} s");
    let all = |metrics: &Metrics| metrics.refused() == 40 - failed && metrics.arm(Arm::Canary)[2] == failed;
    let metrics = gateway.metrics_when("all are counted", all).await;
    assert_eq!(metrics.arm(Arm::Primary)[0], 0, "what was kept from the canary is in no arm");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_survives_pushes_of_its_run_and_ends_with_another() {
    let gateway = Gateway::start(&config(vec![guarded(10_000)])).await;
    assert_eq!(failures(&gateway, "/fail/canary", &[], 10).await, 3);
    for epoch in 2..=4 {
        let mut next = guarded(10_000);
        next.epoch = epoch;
        next.limits[0].epoch = epoch;
        gateway.push(&config(vec![next])).await;
        assert_eq!(failures(&gateway, "/fail/canary", &[], 10).await, 0);
        gateway.metrics_when("the trip is told", |metrics| metrics.trip() == [1, 1]).await;
    }
    let mut other = guarded(10_000);
    (other.run, other.epoch, other.limits[0].epoch) = ("r2".into(), 5, 5);
    gateway.push(&config(vec![other])).await;
    gateway.metrics_when("the trip is over", |metrics| metrics.trip() == [0, 0]).await;
    assert_eq!(failures(&gateway, "/fail/canary", &[], 10).await, 3, "another run, another verdict");
    gateway.metrics_when("the second trip is told", |metrics| metrics.trip() == [5, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_judged_by_its_own_epochs_table() {
    let gateway = Gateway::start(&config(vec![guarded(10_000)])).await;
    let slow: Vec<_> = (0..3)
        .map(|_| {
            let address = gateway.address;
            tokio::spawn(async move { Client::connect(address).await.get("/hang").await.status })
        })
        .collect();
    gateway.metrics_when("they are under way", |metrics| metrics.arm(Arm::Canary)[0] == 3).await;
    let mut next = guarded(10_000);
    next.epoch = 2;
    next.limits
        .insert(0, Limits { epoch: 2, comparison: vec![[0, 50]], absolute: vec![], end: [50, 0], ..Limits::default() });
    gateway.push(&config(vec![next])).await;
    for one in slow {
        assert_eq!(one.await.unwrap(), 504);
    }
    gateway.metrics_when("epoch 1 tripped", |metrics| metrics.trip() == [1, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_admission_the_harm_is_bounded_however_late_the_failures_come() {
    let mut canary = guarded(10_000);
    canary.admission = 5;
    let gateway = Gateway::start(&config(vec![canary])).await;
    let waiting: Vec<_> = (0..60)
        .map(|_| {
            let address = gateway.address;
            tokio::spawn(async move { Client::connect(address).await.get("/fail-late/canary").await.status })
        })
        .collect();
    let mut failed = 0;
    for one in waiting {
        failed += usize::from(one.await.unwrap() == 500);
    }
    assert!(failed <= 3 + 5, "{failed} failed: the limit is 3, and 5 may have been under way");
    client::many(gateway.address, "/fail/canary", 50).await;
}
