//! The filter is off but for the requests of Canaries that are being released, through the real istiod.

use serde_json::{Value, json};

use super::STEPS;
use super::kubectl::{kubectl, run, until};
use super::stage::{Release, SYSTEM, Stage, open};

/// Returns how many requests of a Canary were given an arm, as Weir knows.
pub(crate) fn assigned(namespace: &str, canary: &str) -> u64 {
    let path = format!("/api/v1/namespaces/{SYSTEM}/services/weir:8080/proxy/metrics");
    let metrics = run("kubectl", &["get", "--raw", &path], "").unwrap_or_default();
    let labels = format!("weir_requests_assigned_total{{namespace=\"{namespace}\",canary=\"{canary}\",");
    let values = metrics.lines().filter_map(|line| line.strip_prefix(&labels)?.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

/// Returns the filters of the ingress gateway.
fn filters() -> Vec<Value> {
    let own = ["-n", "istio-ingress", "get", "envoyfilters", "-l", "app.kubernetes.io/managed-by=weir", "-o", "json"];
    let list: Value = serde_json::from_str(&kubectl(&own)).unwrap();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Returns the object that inserts the filter into the listeners.
fn inserted() -> Value {
    let starts =
        |filter: &&Value| filter["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("weir-filter-"));
    filters().iter().find(starts).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_from_a_new_revision_on_until_its_end_and_at_no_other_time() {
    let stage = Stage::set("resting", STEPS).await;
    let namespace = &stage.namespace;
    let traffic = stage.traffic(50.0);
    until("served at rest", || (traffic.tally().of("v1").ok > 100).then_some(())).await;
    assert_eq!(assigned(namespace, "shop"), 0, "a Canary at rest is not counted");
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let name = format!("{namespace}/shop");
    until("the gateways forget it", || {
        (!filters().iter().any(|filter| filter.to_string().contains(&name))).then_some(())
    })
    .await;
    // The gateway hears of it some time after the object says it.
    let mut last = (0, 0);
    until("it counts no more, and serves", || {
        let now = (assigned(namespace, "shop"), traffic.tally().totals().0);
        if now.0 != last.0 {
            last = now;
        }
        (last.0 > 100 && now.1 > last.1 + 200).then_some(())
    })
    .await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "switching costs no request: {:?}", tally.summary());
    let condition = stage.status()["conditions"].as_array().and_then(|all| {
        all.iter().find(|condition| condition["type"] == "GatewayBound").map(|condition| condition["reason"].clone())
    });
    assert_eq!(condition, Some(json!("Bound")));
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_an_earlier_weir_inserted_is_switched_off_under_a_rollout_that_goes_on() {
    let stage = Stage::set_alone("inserted", &STEPS.replace("interval: 2s", "interval: 300s")).await;
    let traffic = stage.traffic(50.0);
    // As an earlier version left it: on for all requests. The controller is away while it is written.
    let scale = |replicas: &str| {
        kubectl(&["-n", SYSTEM, "scale", "deployment", "weir", &format!("--replicas={replicas}")]);
        kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/weir", "--timeout=360s"]);
    };
    stage.release_into_traffic(&Release::good("v2")).await;
    scale("0");
    let pods = ["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=weir", "-o", "name"];
    until("the controller is gone", || kubectl(&pods).is_empty().then_some(())).await;
    let mut filter = inserted();
    filter["spec"]["configPatches"][0]["patch"]["value"]["disabled"] = json!(false);
    filter["metadata"].as_object_mut().unwrap().remove("managedFields");
    run("kubectl", &["replace", "-f", "-"], &filter.to_string()).unwrap();
    scale("1");
    until("it is off but on the routes of the rollout", || {
        (inserted()["spec"]["configPatches"][0]["patch"]["value"]["disabled"] == json!(true)).then_some(())
    })
    .await;
    let before = assigned(&stage.namespace, "shop");
    until("it counts on", || (assigned(&stage.namespace, "shop") > before + 200).then_some(())).await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    assert_eq!(stage.status()["phase"], "Progressing");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_istiod_gives_no_gateway_are_told_and_the_release_goes_on_once_they_are_there() {
    let stage = Stage::bare("unseen").await;
    let (namespace, host) = (stage.namespace.clone(), stage.host().to_owned());
    // The Gateway admits the host for another namespace alone, so that istiod drops the Canary's routes.
    open(&namespace, "public", "{istio: ingressgateway}", &format!("elsewhere/{host}"));
    stage.initialize(STEPS).await;
    let traffic = stage.traffic(20.0);
    stage.release(&Release::good("v2"));
    let (_, told) = until("it is told", || {
        let (reason, message) = stage.condition("GatewayBound");
        (reason == "RoutesUnseen").then_some((reason, message))
    })
    .await;
    assert!(told.contains("does a server of the Gateway admit its hosts"), "{told}");
    assert_eq!(stage.status()["canaryWeight"].as_f64(), Some(0.0), "{:#}", stage.status());
    assert!(
        inserted()["spec"]["configPatches"][0]["patch"]["value"]["disabled"] == json!(true),
        "off for everybody else"
    );
    open(&namespace, "public", "{istio: ingressgateway}", &host);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert!(tally.of("v2").ok > 0, "{:?}", tally.summary());
    stage.strike();
}
