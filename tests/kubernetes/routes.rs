//! Which requests a release splits: its own, and no other's.

use serde_json::Value;

use super::STEPS;
use super::bounds::HARM;
use super::kubectl::{apply, kubectl, object, until};
use super::resting::assigned;
use super::stage::{Release, Stage, canary};

fn share(stage: &Stage, name: &str) {
    let (host, paths) = (stage.host(), format!("[{{uri: {{prefix: /{name}}}}}]"));
    let service = format!("{{port: 80, targetPort: 8080, gateways: [public], hosts: [{host}], match: {paths}}}");
    apply(&canary(&stage.namespace, name, "progressDeadlineSeconds: 120", &service, STEPS));
}

async fn phase(stage: &Stage, name: &str, wanted: &str) {
    until(&format!("{name} is {wanted}"), || {
        (object(&stage.namespace, "canary", name)?["status"]["phase"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_canaries_on_one_host_split_only_their_own_requests() {
    let stage = Stage::bare("paths").await;
    for name in ["a", "b"] {
        stage.deploy(name, &Release::good(&format!("{name}1")));
        share(&stage, name);
    }
    phase(&stage, "a", "Initialized").await;
    phase(&stage, "b", "Initialized").await;
    let (to_a, to_b) = (stage.traffic_to("/a/x", 40.0, &[]), stage.traffic_to("/b/x", 40.0, &[]));
    stage.deploy("a", &Release::good("a2"));
    phase(&stage, "a", "Succeeded").await;
    let (a, b) = (to_a.finish().await, to_b.finish().await);
    println!("/a: {:?}\n/b: {:?}", a.summary(), b.summary());
    assert_eq!((a.totals().1, b.totals().1), (0, 0));
    assert!(a.of("a1").ok > 0 && a.of("a2").ok > 0);
    assert_eq!(b.revisions.keys().collect::<Vec<_>>(), ["b1"]);
    // What the rollout has counted is what one path was sent, and nothing of the other's.
    let evidence = object(&stage.namespace, "canary", "a").unwrap()["status"]["evidence"].clone();
    let counted = |field: &str| evidence[field].as_u64().unwrap_or_default();
    assert!(counted("canaryRequests") + counted("primaryRequests") <= a.totals().0, "{evidence}");
    assert_eq!(assigned(&stage.namespace, "b"), 0, "what rests beside it is not counted");
    let other = object(&stage.namespace, "canary", "b").unwrap()["status"]["phase"].clone();
    assert_eq!(other, Value::from("Initialized"));
    for name in ["a", "b"] {
        kubectl(&["-n", &stage.namespace, "delete", "canary", name, "--wait"]);
    }
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_delegated_to_splits_only_what_is_delegated() {
    let stage = Stage::bare("delegated").await;
    let (namespace, host) = (&stage.namespace, stage.host());
    stage.deploy("rest", &Release::good("r1"));
    apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: rest, namespace: {namespace}}}
spec: {{selector: {{app: rest}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: root, namespace: {namespace}}}
spec:
  hosts: [{host}]
  gateways: [public]
  http:
  - {{name: shop, match: [{{uri: {{prefix: /shop}}}}], delegate: {{name: shop}}}}
  - {{name: rest, route: [{{destination: {{host: rest}}}}]}}
"#
    ));
    stage.release(&Release::good("v1"));
    stage.canary_of("{port: 80, targetPort: 8080, delegation: true}", "progressDeadlineSeconds: 120", STEPS);
    stage.phase("Initialized").await;
    let (to_shop, to_rest) = (stage.traffic_to("/shop/x", 50.0, &[]), stage.traffic_to("/x", 20.0, &[]));
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let shop = to_shop.finish().await;
    println!("delegated: {}", serde_json::to_string(&shop.summary()).unwrap());
    assert_eq!((shop.totals().1, shop.unsent), (0, 0), "{:?}", shop.summary());
    assert!(shop.of("v1").ok > 0 && shop.of("v2").ok > 0);
    let to_shop = stage.traffic_to("/shop/x", 100.0, &[]);
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v3") });
    stage.phase("Failed").await;
    stage.rested().await;
    let (shop, rest) = (to_shop.finish().await, to_rest.finish().await);
    println!("delegated, bad: {}", serde_json::to_string(&shop.summary()).unwrap());
    assert!(HARM.contains(&shop.totals().1), "{:?}", shop.summary());
    assert_eq!(rest.totals().1, 0);
    assert_eq!(rest.revisions.keys().collect::<Vec<_>>(), ["r1"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_forges_the_token_gains_nothing() {
    let one = "{interval: 6s, threshold: 2, iterations: 3, match: [{headers: {x-beta: {exact: \"1\"}}}], metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}";
    let stage = Stage::set("forged", one).await;
    let routes = object(&stage.namespace, "virtualservice", "shop").unwrap();
    let token = routes["spec"]["http"][0]["match"][0]["headers"]["x-weir-token"]["exact"].as_str().unwrap().to_owned();
    let honest = stage.traffic_to("/", 20.0, &[("x-beta", "1")]);
    let forger = stage.traffic_to("/", 20.0, &[("x-weir-token", &token)]);
    stage.release(&Release::good("v2"));
    until("the test has begun", || (honest.tally().of("v2").ok > 20).then_some(())).await;
    let seen = forger.finish().await;
    println!("forged: {:?}", seen.summary());
    assert_eq!((seen.totals().1, seen.of("v2").ok), (0, 0), "{:?}", seen.summary());
    stage.phase("Succeeded").await;
    let seen = honest.finish().await;
    println!("chosen: {:?}", seen.summary());
    assert_eq!(seen.totals().1, 0, "{:?}", seen.summary());
    stage.strike();
}
