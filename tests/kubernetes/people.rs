//! What a person asks for: by an annotation, guarded by RBAC, and read through the API server.

use super::kubectl::{kubectl, object, until};
use super::stage::{Release, SYSTEM, Stage};

/// Asks for a verb, as the README says.
fn ask(stage: &Stage, verb: &str, time: u32) {
    let verb = format!("weir.dev/verb={verb} {time}");
    kubectl(&["-n", &stage.namespace, "annotate", "canary", "shop", "--overwrite", &verb]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_pauses_resumes_and_aborts_by_an_annotation() {
    let stage = Stage::set("people", "{interval: 2s, threshold: 2, stepWeights: [10, 30, 50]}").await;
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    ask(&stage, "pause", 1);
    until("the rollout is paused", || (stage.status()["reason"] == "Paused").then_some(())).await;
    let weight = stage.status()["canaryWeight"].as_f64();
    // The same view that `weir get canaries` and `weir why` print, from the controller's own API.
    let path = format!("/api/v1/namespaces/{SYSTEM}/services/weir:8080/proxy/api/v1/canaries");
    until("the controller's API says so too", || {
        let list: serde_json::Value = serde_json::from_str(&kubectl(&["get", "--raw", &path])).ok()?;
        let shop = list["items"].as_array()?.iter().find(|it| it["namespace"] == stage.namespace.as_str())?.clone();
        (shop["reason"] == "Paused" && shop["weight"].as_f64() == weight).then_some(())
    })
    .await;
    ask(&stage, "resume", 2);
    stage.phase("Succeeded").await;
    stage.rested().await;
    // Another one, which a person takes back.
    stage.release_into_traffic(&Release::good("v3")).await;
    ask(&stage, "abort", 3);
    stage.phase("Failed").await;
    stage.rested().await;
    let primary = object(&stage.namespace, "deployment", "shop-primary").unwrap().to_string();
    assert!(primary.contains("\"v2\"") && !primary.contains("\"v3\""), "{primary}");
    assert_eq!(traffic.finish().await.totals().1, 0);
    stage.strike();
}
