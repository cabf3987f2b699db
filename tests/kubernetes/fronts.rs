//! More gateways than one: several workloads in several namespaces, and several Gateways in front of one workload.

use super::bounds::HARM;
use super::kubectl::{apply, kubectl, object, run, until};
use super::people::ask;
use super::stage::{Release, Stage, canary, open};
use super::{ONE_STEP, STEPS};

/// Starts a gateway as Istio's own chart does, in a namespace that is allowed to have one; returns the address of its Service.
fn front(namespace: &str, name: &str, labels: &str) -> String {
    allow(namespace);
    start(namespace, name, labels)
}

/// Says that pods of a namespace may be gateways, as an admin does.
fn allow(namespace: &str) {
    kubectl(&["label", "namespace", namespace, "weir.dev/gateways=allowed", "--overwrite"]);
}

/// Starts a gateway.
fn start(namespace: &str, name: &str, labels: &str) -> String {
    apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http2, port: 80}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      annotations: {{inject.istio.io/templates: gateway}}
      labels: {{app: {name}, sidecar.istio.io/inject: "true", {labels}}}
    spec:
      terminationGracePeriodSeconds: 5
      securityContext: {{sysctls: [{{name: net.ipv4.ip_unprivileged_port_start, value: "0"}}]}}
      containers:
      - name: istio-proxy
        image: auto
        imagePullPolicy: IfNotPresent
        resources: {{requests: {{cpu: 100m, memory: 32Mi}}}}
        readinessProbe: {{httpGet: {{path: /healthz/ready, port: 15021}}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 4}}
"#
    ));
    kubectl(&["-n", namespace, "get", "svc", name, "-o", "jsonpath={.spec.clusterIP}"])
}

fn started(namespace: &str, name: &str) {
    kubectl(&["-n", namespace, "rollout", "status", "deployment", name, "--timeout=360s"]);
}

fn filters(namespace: &str) -> Vec<String> {
    let own = ["-n", namespace, "get", "envoyfilters", "-l", "app.kubernetes.io/managed-by=weir", "-o", "name"];
    kubectl(&own).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_canary_on_gateways_in_several_namespaces_is_released_through_all_of_them_as_through_one() {
    let stage = Stage::bare("fronts").await;
    let (near, far) = (stage.namespace.clone(), format!("{}-far", stage.namespace));
    let _ = run("kubectl", &["delete", "namespace", &far, "--ignore-not-found", "--wait"], "");
    kubectl(&["create", "namespace", &far]);
    let labels = "weir-test: fronts";
    let second = front(&near, "second", labels);
    open(&stage.namespace, "second", &format!("{{{labels}}}"), stage.host());
    let service = format!("{{port: 80, targetPort: 8080, gateways: [public, second], hosts: [{}]}}", stage.host());
    stage.release(&Release::good("v1"));
    started(&near, "second");
    stage.canary_of(&service, "progressDeadlineSeconds: 120", ONE_STEP);
    stage.phase("Initialized").await;
    until("both gateways are known", || (stage.status()["gateways"]["acknowledged"] == 2).then_some(())).await;
    stage.rested().await;
    let traffic = [stage.traffic(40.0), stage.traffic_through(&second, "/", 40.0, &[])];
    stage.release_into_traffic(&Release::good("v2")).await;
    // A third one comes in mid-rollout, in another namespace, where the same Gateway finds it.
    ask(&stage, "pause", 1);
    let third = front(&far, "third", labels);
    started(&far, "third");
    until("the gateway that came uses the weight", || (stage.status()["gateways"]["acknowledged"] == 3).then_some(()))
        .await;
    let [through_first, through_second] = traffic;
    let traffic = [through_first, through_second, stage.traffic_through(&third, "/", 40.0, &[])];
    ask(&stage, "resume", 2);
    // Until the primary runs it too, only the canary answers as v2.
    let by_clients = until("the analysis is over", || {
        let sum = traffic.iter().map(|traffic| traffic.tally().of("v2").ok).sum::<u64>();
        (stage.status()["phase"] != "Progressing").then_some(sum)
    })
    .await;
    let status = stage.phase("Succeeded").await;
    stage.rested().await;
    let counted = status["evidence"]["canaryRequests"].as_u64().unwrap();
    println!("three gateways: {counted} requests of the canary counted, {by_clients} seen by clients");
    assert!(counted * 10 >= by_clients * 8, "{counted} of {by_clients}: {status}");
    for (number, traffic) in traffic.into_iter().enumerate() {
        let tally = traffic.finish().await;
        println!("gateway {number}: {}", serde_json::to_string(&tally.summary()).unwrap());
        assert_eq!((tally.totals().1, tally.unsent), (0, 0), "gateway {number}: {:?}", tally.summary());
        assert!(tally.of("v2").ok > 0);
    }

    let traffic = [
        stage.traffic(40.0),
        stage.traffic_through(&second, "/", 40.0, &[]),
        stage.traffic_through(&third, "/", 40.0, &[]),
    ];
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v3") });
    stage.phase("Failed").await;
    stage.rested().await;
    let mut failed = 0;
    for traffic in traffic {
        failed += traffic.finish().await.totals().1;
    }
    println!("bad through three gateways: {failed} failed");
    assert!((1..=3 * HARM.end()).contains(&failed), "{failed} failed");

    kubectl(&["-n", &near, "delete", "canary", "shop", "--wait"]);
    for namespace in [&near, &far] {
        until(&format!("the filter leaves {namespace}"), || filters(namespace).is_empty().then_some(())).await;
    }
    kubectl(&["delete", "namespace", &far, "--wait=false"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_find_the_same_pods_by_different_labels_share_one_filter() {
    let stage = Stage::bare("shared").await;
    let namespace = stage.namespace.clone();
    let address = front(&namespace, "front", "weir-test: shared, lane: shared");
    let other = format!("other.{}", stage.host());
    open(&stage.namespace, "one", "{weir-test: shared}", stage.host());
    open(&stage.namespace, "two", "{lane: shared, app: front}", &other);
    started(&namespace, "front");
    stage.release(&Release::good("v1"));
    stage.deploy("other", &Release::good("o1"));
    let service =
        |gateway: &str, host: &str| format!("{{port: 80, targetPort: 8080, gateways: [{gateway}], hosts: [{host}]}}");
    let half = "{interval: 3s, threshold: 2, stepWeights: [20], metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}";
    stage.canary_of(&service("one", stage.host()), "progressDeadlineSeconds: 120", half);
    stage.phase("Initialized").await;
    apply(&canary(&namespace, "other", "progressDeadlineSeconds: 120", &service("two", &other), half));
    let state = |name: &str| object(&namespace, "canary", name).unwrap_or_default()["status"].clone();
    until("the other one is initialized", || (state("other")["phase"] == "Initialized").then_some(())).await;
    assert_eq!(filters(&namespace).len(), 2, "{:?}", filters(&namespace));
    let traffic = [
        stage.traffic_through(&address, "/", 50.0, &[]),
        stage.traffic_through(&address, "/", 50.0, &[("host", &other)]),
    ];
    stage.release(&Release::good("v2"));
    stage.deploy("other", &Release::good("o2"));
    for name in ["shop", "other"] {
        // Drawn once for each request: a second filter would draw again, and 36 of a hundred would come out.
        let status = until(&format!("{name} is released"), || {
            let status = state(name);
            (status["phase"] == "Succeeded").then_some(status)
        })
        .await;
        println!("{name}: {}", status["evidence"]);
    }
    for traffic in traffic {
        let tally = traffic.finish().await;
        assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    }
    // The one whose labels the filter bears goes; the other's requests go on being split.
    kubectl(&["-n", &namespace, "delete", "canary", "shop", "--wait"]);
    let traffic = stage.traffic_through(&address, "/", 50.0, &[("host", &other)]);
    stage.deploy("other", &Release { arguments: &["--failure-ratio", "1"], ..Release::good("o3") });
    until("the other one is taken back", || (state("other")["phase"] == "Failed").then_some(())).await;
    let tally = traffic.finish().await;
    assert!(HARM.contains(&tally.totals().1), "{:?}", tally.summary());
    kubectl(&["-n", &namespace, "delete", "canary", "other", "--wait"]);
    until("the filter leaves", || filters(&namespace).is_empty().then_some(())).await;
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_find_some_pods_both_and_others_not_are_told_so() {
    let stage = Stage::bare("across").await;
    let namespace = stage.namespace.clone();
    for (name, labels) in [("left", "a: across"), ("middle", "a: across, b: across"), ("right", "b: across")] {
        front(&namespace, name, labels);
    }
    open(&stage.namespace, "a", "{a: across}", stage.host());
    open(&stage.namespace, "b", "{b: across}", stage.host());
    for name in ["left", "middle", "right"] {
        started(&namespace, name);
    }
    stage.release(&Release::good("v1"));
    let service = format!("{{port: 80, targetPort: 8080, gateways: [a, b], hosts: [{}]}}", stage.host());
    stage.canary_of(&service, "progressDeadlineSeconds: 120", STEPS);
    let message = until("the status says what is wrong", || {
        let status = stage.status();
        let stalled = status["conditions"].as_array()?.iter().find(|it| it["type"] == "Stalled")?.clone();
        (stalled["reason"] == "GatewaysOverlap").then(|| stalled["message"].to_string())
    })
    .await;
    assert!(message.contains("a=across") && message.contains("b=across"), "{message}");
    until("one of them has the filter", || (filters(&namespace).len() == 2).then_some(())).await;
    // One selector for all of them, as the status says.
    kubectl(&["-n", &namespace, "label", "pods", "-l", "app in (left, right)", "a=across", "b=across", "--overwrite"]);
    stage.phase("Initialized").await;
    // While the pods had their labels one after the other, each of the two selectors could stand for both for a moment.
    until("one filter is left, of ever one", || {
        let all = filters(&namespace);
        let inserted = all.iter().filter(|name| name.contains("/weir-filter-")).count();
        assert!(inserted <= 1, "{all:?}");
        (all.len() == 2).then_some(())
    })
    .await;
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_of_the_mesh_that_nobody_with_a_sidecar_calls_is_told_so() {
    let stage = Stage::bare("mesh").await;
    stage.release(&Release::good("v1"));
    stage.canary_of("{port: 80, targetPort: 8080, gateways: [mesh]}", "progressDeadlineSeconds: 120", STEPS);
    stage.phase("Initialized").await;
    until("it is told", || {
        let (reason, message) = stage.condition("GatewayBound");
        let told = reason == "NoCaller" && message.contains("no request from inside of the mesh passes the filter");
        told.then_some(())
    })
    .await;
    // A rollout says why it does not go on.
    stage.release(&Release::good("v2"));
    until("the rollout says so too", || (stage.status()["reason"] == "NoCaller").then_some(())).await;
    // With a gateway it goes on.
    stage.canary(STEPS);
    let _traffic = stage.traffic(50.0);
    let status = stage.phase("Succeeded").await;
    let bound = status["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "GatewayBound").unwrap();
    assert_eq!(bound["status"], "True", "{bound}");
    stage.strike();
}
