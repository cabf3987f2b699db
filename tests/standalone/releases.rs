//! Releases, good and bad, with everything around them well.

use crate::bounds::HARM;
use crate::site::{ANALYSIS, Site, canary};

#[tokio::test]
async fn a_good_release_is_promoted_without_a_failed_request() {
    let site = Site::serving().await;
    let load = site.load();
    site.release("v2", "");
    let view = site.until_ended("Succeeded").await;
    assert_eq!(view["ended"]["result"], "promoted");
    site.eventually("served by v2 alone", async || {
        load.tally().of("v2").ok > 100 && site.processes("canary").is_empty()
    })
    .await;
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}\n{}", tally.summary(), site.log());
    assert!(tally.of("v1").ok > 0 && tally.of("v2").ok > 0);
}

#[tokio::test]
async fn a_release_that_fails_from_its_first_request_costs_at_most_five() {
    let site = Site::serving().await;
    let load = site.load();
    site.switch(r#"{"failure_ratio": 1}"#);
    site.release("v2", "");
    let view = site.until_ended("Failed").await;
    assert_eq!(view["weight"], 0.0);
    assert_eq!(view["ended"]["result"], "rolledback");
    let tally = load.finish().await;
    assert!(HARM.contains(&tally.totals().1), "{:?}\n{}", tally.summary(), site.log());
    assert_eq!(tally.totals().1, tally.of("v2").failed);
}

#[tokio::test]
async fn a_release_that_goes_bad_after_healthy_steps_costs_at_most_ten() {
    let (site, load) = Site::releasing(30.0).await;
    site.switch(r#"{"failure_ratio": 1}"#);
    site.until_ended("Failed").await;
    let tally = load.finish().await;
    assert!((1..=2 * HARM.end()).contains(&tally.totals().1), "{:?}\n{}", tally.summary(), site.log());
}

#[tokio::test]
async fn a_canary_that_is_never_ready_gets_no_request_and_its_rollout_ends() {
    let site = Site::serving().await;
    let load = site.load();
    let canary = canary("shop", "*", ANALYSIS) + "  progressDeadlineSeconds: 15\n";
    site.switch(r#"{"ready": false}"#);
    site.write("shop.yaml", &format!("{}---\n{canary}", site.process("shop", "v2", "")));
    let view = site.until("waiting", |view| view["reason"] == "CanaryNotReady").await;
    assert_eq!(view["weight"], 0.0);
    let view = site.until_ended("Failed").await;
    assert_eq!(view["ended"]["reason"], "ProgressDeadlineExceeded");
    assert!(view["ended"]["message"].as_str().unwrap().contains("status 503"), "{view:#}");
    let tally = load.finish().await;
    assert_eq!((tally.totals().1, tally.of("v2").ok), (0, 0), "{:?}", tally.summary());
}

#[tokio::test]
async fn a_revision_that_comes_in_the_middle_of_a_rollout_is_analysed_from_the_start() {
    let (site, load) = Site::releasing(30.0).await;
    let slow = ANALYSIS.replace("interval: 1s", "interval: 10s");
    site.write("shop.yaml", &format!("{}---\n{}", site.process("shop", "v3", ""), canary("shop", "*", &slow)));
    site.until("analysing v3", |view| view["weight"] == 10.0).await;
    site.until_ended("Succeeded").await;
    site.eventually("served by v3", async || load.tally().of("v3").ok > 50).await;
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}\n{}", tally.summary(), site.log());
}

#[tokio::test]
async fn other_numbers_of_replicas_are_no_revision_and_drop_no_request() {
    let site = Site::serving().await;
    let load = site.load();
    for replicas in [3, 1] {
        let process = site.process("shop", "v1", "") + &format!("  replicas: {replicas}\n");
        site.write("shop.yaml", &format!("{process}---\n{}", canary("shop", "*", ANALYSIS)));
        site.eventually("scaled", async || site.processes("primary").len() == replicas).await;
        site.until("ready", |view| view["primary"]["readiness"] == "ready").await;
    }
    let view = site.view_of("shop").await.unwrap();
    assert_eq!(view["phase"], "Initialized");
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}\n{}", tally.summary(), site.log());
}

#[tokio::test]
async fn a_client_that_sends_the_token_itself_gains_nothing() {
    let site = Site::serving().await;
    let slow = ANALYSIS.replace("interval: 1s", "interval: 60s").replace("[10, 30]", "[0.01, 30]");
    site.write("shop.yaml", &format!("{}---\n{}", site.process("shop", "v2", ""), canary("shop", "*", &slow)));
    site.until("at its first weight", |view| view["weight"] == 0.01).await;
    let routes = std::fs::read(site.path(".weir/envoy/routes.json")).unwrap();
    let routes: serde_json::Value = serde_json::from_slice(&routes).unwrap();
    let token = routes.pointer("/resources/0/virtual_hosts/0/routes/0/match/headers/0/string_match/exact").unwrap();
    let header = format!("x-weir-token: {}", token.as_str().unwrap());
    let mut canary = 0;
    for _ in 0..50 {
        let answer = site.get(&[&header]).await.unwrap();
        assert_eq!(answer.status, 200);
        canary += u32::from(answer.body.contains("v2"));
    }
    // One in ten thousand is drawn; two of fifty are not.
    assert!(canary <= 1, "{canary} of 50 forged requests reached the canary");
}

#[tokio::test]
async fn a_canary_that_is_deleted_stops_and_can_come_back() {
    let site = Site::serving().await;
    std::fs::remove_file(site.path("shop.yaml")).unwrap();
    site.eventually("gone", async || site.view_of("shop").await.is_none() && site.processes("primary").is_empty())
        .await;
    site.release("v1", "");
    site.until("initialized", |view| view["phase"] == "Initialized").await;
    assert_eq!(site.get(&[]).await.unwrap().status, 200);
}
