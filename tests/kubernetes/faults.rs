//! Revisions that are bad in every way that a revision can be, and objects that somebody breaks.

use serde_json::Value;
use weir_demo::tally::Tally;

use super::STEPS;
use super::bounds::HARM;
use super::kubectl::{kubectl, object, run, until};
use super::stage::{Release, Stage};

/// What the status says of the newest revision.
fn promoted(status: &Value) -> &str {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|it| it["type"] == "Promoted").unwrap()["message"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_fails_one_request_in_twenty_is_taken_back() {
    let stage = Stage::set("twentieth", STEPS).await;
    let traffic = stage.traffic(100.0);
    stage.release(&Release { arguments: &["--failure-ratio", "0.05"], ..Release::good("v2") });
    stage.phase("Failed").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    println!("one in twenty: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!(tally.of("v1").failed, 0);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_release_is_taken_back_by_its_latency_and_nobody_sees_an_error() {
    let analysis = "{interval: 2s, threshold: 2, stepWeights: [10, 30, 50], metrics: [{name: request-duration, thresholdRange: {max: 200}}]}";
    let stage = Stage::set("slow", analysis).await;
    let traffic = stage.traffic(100.0);
    stage.release(&Release { arguments: &["--latency-ms", "700"], ..Release::good("v2") });
    let status = stage.phase("Failed").await;
    println!("slow release: {}", status["message"]);
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_crashes_gets_no_request_and_is_taken_back_without_waiting_for_the_deadline() {
    let stage = Stage::set("crash", STEPS).await;
    let traffic = stage.traffic(20.0);
    // An argument that the service does not know: it ends at once, again and again.
    stage.release(&Release { arguments: &["--no-such-argument"], ..Release::good("v2") });
    let status = stage.phase("Failed").await;
    assert!(promoted(&status).contains("CrashLoopBackOff"), "{status}");
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    // A Canary that is deleted waits for a target that can take the traffic over: this one never could.
    stage.release(&Release::good("v3"));
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_never_gets_ready_gets_no_request_and_is_taken_back_at_the_deadline() {
    let stage = Stage::set("unready", STEPS).await;
    stage.canary_with("progressDeadlineSeconds: 8", STEPS);
    let traffic = stage.traffic(20.0);
    stage.release(&Release { arguments: &["--unready"], ..Release::good("v2") });
    let status = stage.phase("Failed").await;
    assert!(promoted(&status).contains("not ready within 8s"), "{status}");
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!((tally.totals().1, tally.of("v2").ok), (0, 0));
    // A target that cannot serve holds the deletion of its Canary.
    stage.release(&Release::good("v1"));
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_stop_being_ready_in_mid_rollout_lose_their_weight_at_once_and_get_it_back() {
    let stage = Stage::set("flapping", "{interval: 15s, threshold: 5, stepWeights: [30, 50]}").await;
    let traffic = stage.traffic(100.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    stage.switch(r#"{"ready": false}"#).await;
    until("the weight is 0", || (stage.status()["canaryWeight"].as_f64() == Some(0.0)).then_some(())).await;
    assert_eq!(stage.status()["phase"], "Progressing");
    stage.switch(r#"{"ready": true}"#).await;
    stage.phase("Succeeded").await;
    let tally = traffic.finish().await;
    println!("flapping: {}", serde_json::to_string(&tally.summary()).unwrap());
    // A gateway may hear that the pods are gone before it hears of the weight. It answers the first request that it has chosen
    // for them itself, and chooses them no more; others may have been on their way.
    assert_eq!((tally.of("v1").failed, tally.of("v2").failed), (0, 0), "{:?}", tally.summary());
    assert!(tally.totals().1 <= *HARM.end(), "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_revision_in_mid_rollout_is_analysed_from_the_beginning_and_the_old_one_never_promoted() {
    let stage = Stage::set("newer", &STEPS.replace("interval: 2s", "interval: 6s")).await;
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    stage.release(&Release::good("v3"));
    let primary_runs = |version: &str| {
        let primary = object(&stage.namespace, "deployment", "shop-primary").unwrap_or_default();
        primary["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .is_some_and(|it| it.iter().any(|it| it == version))
    };
    until("v3 is promoted", || {
        assert!(!primary_runs("v2"), "the revision that was replaced was promoted");
        (stage.status()["phase"] == "Succeeded" && primary_runs("v3")).then_some(())
    })
    .await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_breaks_during_its_promotion_gets_its_former_revision_back_and_a_fix_is_analysed() {
    let stage = Stage::set("stranded", STEPS).await;
    stage.canary_with("progressDeadlineSeconds: 90", STEPS);
    let traffic = stage.traffic(50.0);
    // Healthy wherever it runs but in the primary's pods.
    stage.release(&Release { arguments: &["--unready-at", "shop-primary-"], ..Release::good("v2") });
    stage.phase("Failed").await;
    until("people are told", || stage.events().iter().any(|text| text.starts_with("Promotion of shop")).then_some(()))
        .await;
    until("the primary serves everything again", || {
        let status = stage.status();
        let back = status["canaryWeight"].as_f64() == Some(0.0) && status["reason"] == "PromotionFailed";
        (back && status["gateways"]["serving"] == status["gateways"]["acknowledged"]).then_some(())
    })
    .await;
    let message = stage.status()["message"].to_string();
    assert!(message.contains("was not promoted: the primary did not come up"), "{message}");
    let primary = || object(&stage.namespace, "deployment", "shop-primary").unwrap().to_string();
    assert!(primary().contains("\"v1\"") && !primary().contains("\"v2\""), "{}", primary());
    // What was under way ends.
    let mut before = traffic.tally();
    until("the canary answers none of a hundred", || {
        let now = traffic.tally();
        if now.of("v2").ok != before.of("v2").ok {
            before = now;
            return None;
        }
        (now.totals().0 > before.totals().0 + 100).then_some(())
    })
    .await;
    stage.release(&Release::good("v3"));
    let starts = || stage.events().iter().filter(|text| text.starts_with("Starting canary analysis")).count();
    stage.phase("Succeeded").await;
    assert_eq!(starts(), 2, "{:?}", stage.events());
    stage.rested().await;
    let tally = traffic.finish().await;
    println!("primary broke: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert!(primary().contains("\"v3\""), "{}", primary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_edits_or_deletes_is_repaired_and_no_user_notices_afterwards() {
    let stage = Stage::set_alone("edited", STEPS).await;
    let namespace = &stage.namespace;
    // Routes that somebody led to nobody are that until they are repaired and istiod has said so: mostly it hears of both at once.
    let traffic = stage.traffic(50.0);
    let route = || object(namespace, "virtualservice", "shop").unwrap_or_default()["spec"]["http"].clone();
    let before = route();
    let patch = r#"[{"op": "replace", "path": "/spec/http/1/route/0/destination/host", "value": "shop-canary"}]"#;
    kubectl(&["-n", namespace, "patch", "virtualservice", "shop", "--type", "json", "-p", patch]);
    until("the routes are repaired", || (route() == before).then_some(())).await;
    let since = |at: &Tally| (traffic.tally().of("v1").ok - at.of("v1").ok, traffic.tally().totals().1 - at.totals().1);
    let mut last = traffic.tally();
    until("a second's requests are all answered", || match since(&last) {
        (_, 1..) => {
            last = traffic.tally();
            None
        }
        (answered, 0) => (answered >= 50).then_some(()),
    })
    .await;
    let edited = traffic.finish().await;
    println!("routes edited: {}", serde_json::to_string(&edited.summary()).unwrap());
    assert_eq!(edited.of("v1").failed, 0, "{:?}", edited.summary());
    let traffic = stage.traffic(50.0);
    // A filter object by hand, in both parts: the small one is deleted, then the one that inserts the filter.
    let own = ["-n", "istio-ingress", "-l", "app.kubernetes.io/managed-by=weir"];
    let filters = || -> Vec<String> {
        let list = ["get", "envoyfilters", "-o", "name"].iter().chain(&own).copied().collect::<Vec<_>>();
        kubectl(&list).lines().map(str::to_owned).collect()
    };
    let (all, count) = (filters(), filters().len());
    assert_eq!(count, 2, "{all:?}");
    for filter in &all {
        kubectl(&["-n", "istio-ingress", "delete", filter]);
        until(&format!("{filter} is there again"), || filters().contains(filter).then_some(())).await;
    }
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    assert!(tally.of("v2").ok > 0);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_deleted_in_mid_rollout_leaves_the_traffic_with_the_primary_and_says_so() {
    let stage = Stage::set("gone", "{interval: 5s, threshold: 2, stepWeights: [10, 50]}").await;
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    kubectl(&["-n", &stage.namespace, "delete", "deployment", "shop", "--wait"]);
    until("the status says that the target is missing", || {
        let status = stage.status();
        let stalled = status["conditions"].as_array()?.iter().find(|it| it["type"] == "Stalled")?.clone();
        let off = status["canaryWeight"].as_f64() == Some(0.0);
        // Until every gateway has taken that over, requests still go to pods that are ending.
        let taken = status["gateways"]["serving"] == status["gateways"]["acknowledged"];
        (stalled["reason"] == "TargetMissing" && off && taken).then_some(())
    })
    .await;
    let tally = traffic.finish().await;
    // Pods that are deleted while they serve: what they had under way ends, and a connection may not.
    println!("target deleted: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!(tally.of("v1").failed, 0);
    // It comes back, with another revision, and is released as any other.
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v3"));
    stage.phase("Succeeded").await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_when_it_is_applied_with_a_message_that_helps() {
    let stage = Stage::set("refused", STEPS).await;
    for (part, patch, said) in [
        ("a weight above 100", r#"{"spec": {"analysis": {"stepWeights": [10, 130]}}}"#, "100"),
        ("an unknown kind", r#"{"spec": {"targetRef": {"kind": "Pod"}}}"#, "kind"),
        ("a negative threshold", r#"{"spec": {"analysis": {"threshold": -1}}}"#, "threshold"),
    ] {
        let answer =
            run("kubectl", &["-n", &stage.namespace, "patch", "canary", "shop", "--type", "merge", "-p", patch], "");
        let refusal = answer.expect_err(part);
        assert!(refusal.contains(said), "{part}: {refusal}");
    }
    stage.strike();
}
