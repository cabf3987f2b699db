//! Metrics that others answer, by MetricTemplates.

use super::kubectl::{apply, kubectl, until};
use super::stage::{Release, Stage, ground, variable};

/// Namespace of what Canaries of other namespaces share.
const LIBRARY: &str = "weir-test-prometheus";

/// Three steps, each with a metric that a MetricTemplate of another namespace answers.
const STEPS: &str = "{interval: 2s, threshold: 2, stepWeights: [10, 30, 50], metrics: [{name: error-rate, interval: 1m, \
                     templateRef: {name: error-rate, namespace: weir-test-prometheus}, thresholdRange: {max: 1}}]}";

/// Has a service answer every query with a number, as a Prometheus does, and makes the template that asks it.
///
/// That a real Prometheus is understood is shown by the tests of `weir standalone`; here it is what the cluster adds.
fn answered(number: &str) {
    let namespace = LIBRARY;
    let image = variable("WEIR_DEMO_IMAGE");
    let answer = format!(
        r#"{{"status": "success", "data": {{"resultType": "vector", "result": [{{"metric": {{}}, "value": [1, "{number}"]}}]}}}}"#
    );
    apply(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: answers-{number}, namespace: {namespace}}}
data: {{query: '{answer}'}}
---
apiVersion: v1
kind: Service
metadata: {{name: prometheus, namespace: {namespace}}}
spec: {{selector: {{app: prometheus}}, ports: [{{port: 9090}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: prometheus, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: prometheus}}}}
  template:
    metadata: {{labels: {{app: prometheus}}}}
    spec:
      containers:
      - name: prometheus
        image: {image}
        imagePullPolicy: IfNotPresent
        args: [serve, --address, 0.0.0.0, --port, "9090", --files, /files]
        readinessProbe: {{httpGet: {{path: /healthz, port: 9090}}, periodSeconds: 1, timeoutSeconds: 10}}
        resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}
        volumeMounts: [{{name: files, mountPath: /files}}]
      volumes: [{{name: files, configMap: {{name: answers-{number}, items: [{{key: query, path: api/v1/query}}]}}}}]
---
apiVersion: weir.dev/v1beta1
kind: MetricTemplate
metadata: {{name: error-rate, namespace: {namespace}}}
spec:
  provider: {{type: prometheus, address: "http://prometheus.{namespace}.svc.cluster.local:9090"}}
  query: |
    100 * sum(rate(requests_total{{workload="{{{{ target }}}}",code=~"5.."}}[{{{{ interval }}}}]))
"#
    ));
    kubectl(&["-n", namespace, "rollout", "status", "deployment", "prometheus", "--timeout=2m"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_template_lets_a_release_go_on_or_takes_it_back() {
    let stage = Stage::bare("metrics").await;
    ground(LIBRARY, "prometheus.example.com");
    stage.initialize(STEPS).await;
    let stalled = || stage.status()["conditions"].as_array()?.iter().find(|it| it["type"] == "Stalled").cloned();
    let missing = until("the template is missed", || stalled().filter(|it| it["status"] == "True")).await;
    assert_eq!(missing["reason"], "MetricUnanswerable", "{missing}");
    answered("0.5");
    until("it is missed no more", || stalled().is_none_or(|it| it["status"] != "True").then_some(())).await;
    let traffic = stage.traffic(20.0);
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    answered("31");
    stage.release(&Release::good("v3"));
    let status = stage.phase("Failed").await;
    assert_eq!(traffic.finish().await.totals().1, 0);
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("error-rate 31.00 > 1"), "{message}");
    let events = stage.events().join("\n");
    assert!(events.contains("Halt shop.weir-test-metrics advancement error-rate 31.00 > 1"), "{events}");
    stage.strike();
    kubectl(&["delete", "namespace", LIBRARY, "--wait=false"]);
}
