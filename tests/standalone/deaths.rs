//! Everything dies: the canary, Envoy, Weir; at the worst moment, and in every phase.

use std::fs;
use std::time::Duration;

use crate::bounds::HARM;
use crate::site::{PATIENCE, Site, pause, send};

#[tokio::test]
async fn a_release_that_goes_bad_as_weir_is_killed_costs_at_most_ten() {
    let (mut site, load) = Site::releasing(30.0).await;
    site.kill();
    site.switch(r#"{"failure_ratio": 1}"#);
    let before = load.tally();
    // Nobody but the filter is there to notice.
    site.eventually("served by the primary alone", async || {
        let tally = load.tally();
        tally.of("v2").failed > 0 && tally.of("v1").ok > before.of("v1").ok + 200
    })
    .await;
    let alone = load.tally().totals().1;
    site.start();
    site.until_ended("Failed").await;
    let tally = load.finish().await;
    assert!((1..=2 * HARM.end()).contains(&tally.totals().1), "{:?}\n{}", tally.summary(), site.log());
    assert_eq!(tally.totals().1, alone, "more failed when weir came back: {:?}\n{}", tally.summary(), site.log());
}

#[tokio::test]
async fn a_canary_that_crashes_again_and_again_costs_at_most_ten_and_its_rollout_ends() {
    let (site, load) = Site::releasing(30.0).await;
    let mut killed = Vec::new();
    let began = std::time::Instant::now();
    while site.view_of("shop").await.is_none_or(|view| view["phase"] != "Failed") {
        for pid in site.processes("canary") {
            if !killed.contains(&pid) {
                send("KILL", pid);
                killed.push(pid);
            }
        }
        assert!(began.elapsed() < PATIENCE, "the rollout does not end\n{}", site.log());
        pause().await;
    }
    let tally = load.finish().await;
    assert!(tally.totals().1 <= 2 * HARM.end(), "{:?}\n{}", tally.summary(), site.log());
}

#[tokio::test]
async fn weir_killed_in_every_phase_goes_on_where_it_stood_without_a_dropped_request() {
    let mut site = Site::serving().await;
    let load = site.load();
    site.release("v2", "");
    let mut seen = Vec::new();
    let began = std::time::Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "the rollout does not end; killed at {seen:?}\n{}", site.log());
        let Some(view) = site.view_of("shop").await else {
            pause().await;
            continue;
        };
        let stand = (view["phase"].to_string(), view["weight"].to_string(), view["step"].is_object());
        if view["phase"] == "Succeeded" {
            break;
        }
        if view["phase"] != "Initialized" && !seen.contains(&stand) {
            seen.push(stand);
            site.kill();
            site.start();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(seen.len() >= 3, "killed at {seen:?} only");
    site.eventually("served by v2", async || load.tally().of("v2").ok > 100).await;
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "killed at {seen:?}: {:?}\n{}", tally.summary(), site.log());
}

#[tokio::test]
async fn events_survive_the_death_of_weir() {
    let (mut site, load) = Site::releasing(30.0).await;
    site.kill();
    site.start();
    site.until_ended("Succeeded").await;
    drop(load);
    let before = site.ask(&["describe", "canary", "shop"]);
    let story = [
        "Initialization done!",
        "New revision detected!",
        "Starting canary analysis",
        "canary weight 10",
        "canary weight 30",
        "Promotion completed!",
    ];
    let at: Vec<_> = story.iter().map(|text| before.find(text)).collect();
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{story:?} at {at:?} in\n{before}");
    assert!(story.iter().all(|text| before.matches(text).count() == 1), "told twice:\n{before}");
    // A state file of the version before, which did not keep them, is no less good.
    site.kill();
    let file = site.path(".weir/canaries/default~shop.json");
    let mut memory: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(memory.as_object_mut().unwrap().remove("events").is_some());
    fs::write(&file, memory.to_string()).unwrap();
    site.start();
    site.until("read again", |view| view["reason"] == "UpToDate").await;
    assert!(!site.ask(&["describe", "canary", "shop"]).contains("Promotion completed!"));
}

#[tokio::test]
async fn an_envoy_that_is_killed_comes_back_and_the_rollout_goes_on() {
    let (site, load) = Site::releasing(30.0).await;
    let before = site.envoy();
    send("KILL", before);
    site.until_ended("Succeeded").await;
    assert_ne!(site.envoy(), before);
    site.eventually("served by v2", async || load.tally().of("v2").ok > 100).await;
    let tally = load.finish().await;
    // What had no connection had no answer; no revision failed anything.
    assert_eq!((tally.of("v1").failed, tally.of("v2").failed), (0, 0), "{:?}", tally.summary());
}

#[tokio::test]
async fn envoy_and_weir_killed_together_lose_nothing_that_was_decided() {
    let (mut site, load) = Site::releasing(10.0).await;
    site.kill();
    send("KILL", site.envoy());
    site.start();
    site.until_ended("Succeeded").await;
    let tally = load.finish().await;
    assert_eq!((tally.of("v1").failed, tally.of("v2").failed), (0, 0), "{:?}", tally.summary());
}

#[tokio::test]
async fn an_interrupt_leaves_nothing_running_and_the_next_start_goes_on() {
    let mut site = Site::serving().await;
    let load = site.load();
    site.release("v2", "");
    site.until_ended("Succeeded").await;
    drop(load);
    assert!(site.interrupt().await.success(), "{}", site.log());
    assert_eq!(site.running(), Vec::<i32>::new());
    std::net::TcpListener::bind(site.listen).expect("nobody listens any more");
    // What was promoted is in production, also where the file says something else by then.
    site.release("v3", ", --unready");
    site.start();
    site.eventually("served by v2", async || site.get(&[]).await.is_some_and(|answer| answer.body.contains("v2")))
        .await;
    site.until("rolling out", |view| view["reason"] == "CanaryNotReady").await;
}

#[tokio::test]
async fn a_primary_that_dies_is_started_again() {
    let site = Site::serving().await;
    let before = site.processes("primary");
    send("KILL", before[0]);
    site.eventually("another process serves", async || {
        site.processes("primary") != before && site.get(&[]).await.is_some_and(|answer| answer.status == 200)
    })
    .await;
    assert!(site.log().contains("process ended"), "{}", site.log());
}
