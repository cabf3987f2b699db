//! What a status says of programs that are not asked, and why.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment};

/// A Deployment and its Canary with more in its analysis.
fn objects(more: &Value) -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    let mut object = canary("shop", json!({}));
    object["spec"]["analysis"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.apply("flux", &object);
    server
}

#[tokio::test(start_paused = true)]
async fn a_gate_at_an_address_that_is_not_called_says_so_and_what_to_do() {
    let gate = json!({"name": "gate", "type": "confirm-rollout", "url": "http://me:secret@169.254.169.254/latest?token=secret"});
    let stage = Stage::start(&objects(&json!({"webhooks": [gate]})));
    stage.phase("shop", "Initialized").await;
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.reason("shop", "WaitingForGate").await;
    stage.rest().await;
    let (_, message) = stage.said("shop");
    for part in ["http://169.254.169.254/latest: 169.254.169.254 is a link-local address", "calls.allowedAddresses"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!stage.get("canaries", "shop")["status"].to_string().contains("secret"), "{message}");
}

fn template(annotations: Value) -> Value {
    let provider =
        json!({"type": "prometheus", "address": "http://prometheus:9090", "headers": {"authorization": ["Bearer b"]}});
    json!({
        "apiVersion": "weir.dev/v1beta1", "kind": "MetricTemplate",
        "metadata": {"name": "errors", "namespace": "monitoring", "annotations": annotations},
        "spec": {"provider": provider, "query": "up"},
    })
}

#[tokio::test(start_paused = true)]
async fn a_template_with_credentials_is_lent_to_other_namespaces_only_where_it_says_so() {
    let metric = json!({
        "name": "errors", "thresholdRange": {"max": 1}, "templateRef": {"name": "errors", "namespace": "monitoring"},
    });
    let server = objects(&json!({"metrics": [metric]}));
    server.apply("flux", &template(json!({"team": "shop"})));
    let stage = Stage::start(&server);
    stage.reason("shop", "MetricUnanswerable").await;
    let (_, message) = stage.said("shop");
    let why = "spec.analysis.metrics[0]: MetricTemplate monitoring/errors: it sends headers, so a Canary of another namespace may \
               use it only where it says so: give it the annotation weir.dev/shared: \"true\", or name a template of ";
    assert!(message.contains(why) && message.contains(NAMESPACE) && !message.contains("Bearer"), "{message}");
    server.apply("flux", &template(json!({"weir.dev/shared": "true"})));
    stage.rest().await;
    assert!(!stage.is("shop", "Stalled"), "{:?}", stage.said("shop"));
}
