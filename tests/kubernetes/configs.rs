//! ConfigMaps and Secrets that are released like code: what the service is called, and whether it fails, stands in them.

use serde_json::{Value, json};

use super::bounds::HARM;
use super::kubectl::{apply, kubectl, object, run, until};
use super::stage::{SYSTEM, Stage, install, install_with, variable};
use super::{ONE_STEP, STEPS};

/// Writes the ConfigMap that the service is called and behaves by.
fn settings(stage: &Stage, version: &str, failures: &str) {
    let namespace = &stage.namespace;
    apply(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, namespace: {namespace}, labels: {{kustomize.toolkit.fluxcd.io/name: apps}}}}
data: {{VERSION: "{version}", FAILURES: "{failures}"}}
binaryData: {{seal: AAEC}}
"#
    ));
}

/// Writes a Secret, with one more line of its metadata.
fn secret(stage: &Stage, name: &str, line: &str, password: &str) {
    let namespace = &stage.namespace;
    apply(&format!(
        r#"
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}, {line}}}
type: kubernetes.io/basic-auth
stringData: {{password: "{password}"}}
"#
    ));
}

/// Writes the target: a service that is what its settings say, and reads Secrets.
fn deploy(stage: &Stage, secrets: &[&str]) {
    let (namespace, image) = (&stage.namespace, variable("WEIR_DEMO_IMAGE"));
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"secretRef": {"name": name}})).collect();
    let from: Vec<Value> = [json!({"configMapRef": {"name": "settings"}})].into_iter().chain(secrets).collect();
    let from = json!(from);
    apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: shop
        image: {image}
        imagePullPolicy: IfNotPresent
        args: [serve, --address, 0.0.0.0, --port, "8080", --version, $(VERSION), --failure-ratio, $(FAILURES)]
        envFrom: {from}
        volumeMounts: [{{name: settings, mountPath: /settings}}]
        lifecycle: {{preStop: {{sleep: {{seconds: 8}}}}}}
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1, timeoutSeconds: 10}}
        resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}
      volumes: [{{name: settings, configMap: {{name: settings}}}}]
"#
    ));
}

/// The copies that Weir made of one kind: names and contents.
fn copies(stage: &Stage, kind: &str) -> Vec<Value> {
    let own = ["-n", &stage.namespace, "get", kind, "-l", "weir.dev/canary=shop", "-o", "json"];
    let list: Value = serde_json::from_str(&kubectl(&own)).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// What the primary's containers read their environment from.
fn read_by(workload: &Value) -> Vec<String> {
    let sources = workload["spec"]["template"]["spec"]["containers"][0]["envFrom"].as_array().unwrap();
    let name = |source: &Value| {
        let name = source.pointer("/configMapRef/name").or(source.pointer("/secretRef/name"));
        name.unwrap().as_str().unwrap().to_owned()
    };
    sources.iter().map(name).collect()
}

fn primary(stage: &Stage) -> Value {
    object(&stage.namespace, "deployment", "shop-primary").unwrap()
}

fn rollouts(stage: &Stage) -> usize {
    stage.events().iter().filter(|text| text.starts_with("New revision detected!")).count()
}

async fn set(name: &str) -> Stage {
    let stage = Stage::bare(name).await;
    settings(&stage, "v1", "0");
    deploy(&stage, &[]);
    stage.canary(STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_config_map_is_a_new_revision_and_is_promoted_with_its_content() {
    let stage = set("config-map").await;
    let before = copies(&stage, "configmap");
    assert_eq!(before.len(), 1, "{before:?}");
    let (copy, read) = (&before[0], read_by(&primary(&stage)));
    assert_eq!(copy["metadata"]["name"], *read[0], "the primary reads its own copy");
    assert_eq!(copy["data"]["VERSION"], "v1");
    assert_eq!(copy["binaryData"]["seal"], "AAEC");
    assert_eq!(copy["metadata"]["ownerReferences"][0]["kind"], "Canary");
    assert!(copy["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"].is_null());
    let tracked = stage.status()["trackedConfigs"]["configmap/settings"].clone();
    assert_eq!(tracked.as_str().unwrap().len(), 16);

    stage.canary(ONE_STEP);
    let traffic = stage.traffic(50.0);
    settings(&stage, "v2", "0");
    until("some requests are answered by what is analysed", || (traffic.tally().of("v2").ok > 0).then_some(())).await;
    assert_eq!(read_by(&primary(&stage)), read, "production has what was not analysed to its end");
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    assert!(tally.of("v1").ok > 0);
    assert_ne!(stage.status()["trackedConfigs"]["configmap/settings"], tracked);
    assert!(stage.events().iter().any(|it| it == "Configuration changed: configmap/settings"), "{:?}", stage.events());
    let after = copies(&stage, "configmap");
    assert_eq!(after.len(), 1, "what nothing reads any more is gone: {after:?}");
    assert_eq!((&after[0]["data"]["VERSION"], rollouts(&stage)), (&json!("v2"), 1));
    assert_eq!(after[0]["metadata"]["name"], *read_by(&primary(&stage))[0]);
    let traffic = stage.traffic(50.0);
    until("production is what was analysed", || (traffic.tally().of("v2").ok > 20).then_some(())).await;
    let tally = traffic.finish().await;
    assert_eq!((tally.of("v1").ok, tally.totals().1), (0, 0), "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_changes_during_its_own_run_is_analysed_again_and_never_promoted_unseen() {
    let stage = set("config-race").await;
    stage.canary(&STEPS.replace("interval: 2s", "interval: 8s"));
    let traffic = stage.traffic(50.0);
    settings(&stage, "v2", "0");
    until("v2 is analysed", || (traffic.tally().of("v2").ok > 5).then_some(())).await;
    // The target is not touched: only what its pods have read at their start is old.
    settings(&stage, "v3", "0");
    until("the analysis starts again", || {
        stage.events().iter().any(|it| it.contains("Restarting analysis")).then_some(())
    })
    .await;
    // A pod of v2 that ends answers what was sent to it.
    let mut late = 0;
    until("v3 is analysed alone", || {
        let tally = traffic.tally();
        let (v2, v3) = (tally.of("v2").ok, tally.of("v3").ok);
        let still = v2 == late && v3 > 5;
        late = v2;
        still.then_some(())
    })
    .await;
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    assert_eq!(tally.of("v2").ok, late, "the former content was judged as the new one: {:?}", tally.summary());
    // Every version that the primary ever had is still there as a ReplicaSet.
    let sets = ["-n", &stage.namespace, "get", "replicasets", "-l", "app=shop-primary", "-o", "json"];
    let sets: Value = serde_json::from_str(&kubectl(&sets)).unwrap();
    let read: Vec<_> = sets["items"].as_array().unwrap().iter().flat_map(read_by).collect();
    let last = copies(&stage, "configmap");
    assert_eq!(read.len(), 2, "v1 and v3, and nothing between: {read:?}");
    assert_eq!((last.len(), &last[0]["data"]["VERSION"]), (1, &json!("v3")));
    assert!(read.contains(&read_by(&primary(&stage))[0]));
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_opts_out_is_left_alone() {
    let stage = Stage::bare("config-secret").await;
    settings(&stage, "v1", "0");
    secret(&stage, "keys", "labels: {team: shop}", "a-password-of-the-keys");
    secret(&stage, "rotated", r#"annotations: {flagger.app/config-tracking: disabled}"#, "first");
    deploy(&stage, &["keys", "rotated"]);
    stage.canary(STEPS);
    stage.phase("Initialized").await;
    let read = read_by(&primary(&stage));
    assert_eq!(read[2], "rotated", "{read:?}");
    let tracked = stage.status()["trackedConfigs"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(tracked, ["configmap/settings", "secret/keys"]);
    // A Secret's content is in Secrets and nowhere else.
    let made = copies(&stage, "secret");
    assert_eq!((made.len(), &made[0]["type"]), (1, &json!("kubernetes.io/basic-auth")));
    assert_eq!(made[0]["metadata"]["name"], *read[1]);
    let content = made[0]["data"]["password"].as_str().unwrap();
    for kind in ["canaries", "controllerrevisions", "configmaps", "deployments", "events"] {
        let text = kubectl(&["-n", &stage.namespace, "get", kind, "-o", "json"]);
        assert!(!text.contains(content) && !text.contains("a-password-of-the-keys"), "{kind} tell a Secret's content");
    }
    // The rotation starts nothing: the first rollout is that of the keys.
    secret(&stage, "rotated", r#"annotations: {flagger.app/config-tracking: disabled}"#, "second");
    stage.rested().await;
    secret(&stage, "keys", "labels: {team: shop}", "another");
    let traffic = stage.traffic(50.0);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    assert_eq!(rollouts(&stage), 1, "{:?}", stage.events());
    assert_eq!(read_by(&primary(&stage))[2], "rotated");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_config_is_taken_back_and_production_keeps_its_own() {
    let stage = set("config-bad").await;
    let traffic = stage.traffic(100.0);
    settings(&stage, "v2", "1");
    stage.phase("Failed").await;
    stage.rested().await;
    let (_, failed) = traffic.finish().await.totals();
    assert!(HARM.contains(&failed), "{failed} failed");
    // Pods of the primary that start now must not read what failed, though it is still what Git says.
    kubectl(&["-n", &stage.namespace, "delete", "pods", "-l", "app=shop-primary", "--wait"]);
    kubectl(&["-n", &stage.namespace, "rollout", "status", "deployment/shop-primary", "--timeout=180s"]);
    stage.reachable().await;
    let traffic = stage.traffic(50.0);
    until("production answers", || (traffic.tally().of("v1").ok > 20).then_some(())).await;
    settings(&stage, "v1", "0");
    stage.phase("Succeeded").await;
    let tally = traffic.finish().await;
    assert_eq!((tally.totals().1, tally.of("v2").ok), (0, 0), "{:?}", tally.summary());
    until("people are told", || {
        stage.events().iter().any(|text| text.contains("is back at the primary's revision")).then_some(())
    })
    .await;
    assert_eq!(rollouts(&stage), 1);
    stage.strike();
}

// It waits for two minutes of the cluster's own time, and all that wants to be alone waits for it.
#[cfg(feature = "kubernetes-full")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_cannot_start_without_is_named_and_its_absence_is_no_change() {
    let stage = Stage::bare("config-missing").await;
    deploy(&stage, &[]);
    stage.canary(STEPS);
    let stalled = || {
        let conditions = stage.status()["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|it| it["type"] == "Stalled" && it["status"] == "True")
    };
    let said = until("the Canary is stalled", &stalled).await;
    assert_eq!(said["reason"], "ConfigMissing");
    assert!(said["message"].as_str().unwrap().contains("ConfigMap settings"), "{said}");
    settings(&stage, "v1", "0");
    stage.phase("Initialized").await;
    stage.rested().await;
    let generation = primary(&stage)["metadata"]["generation"].clone();
    kubectl(&["-n", &stage.namespace, "delete", "configmap", "settings"]);
    until("the Canary is stalled again", &stalled).await;
    settings(&stage, "v1", "0");
    until("the Canary works again", || stalled().is_none().then_some(())).await;
    assert_eq!((rollouts(&stage), &primary(&stage)["metadata"]["generation"]), (0, &generation));
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_tracking_on_or_off_starts_no_rollout_and_restarts_nothing() {
    let stage = Stage::bare_alone("config-switch").await;
    let account = format!("--as=system:serviceaccount:{SYSTEM}:weir");
    let may = |verb: &str| run("kubectl", &["auth", "can-i", verb, "secrets", "-A", &account], "").is_ok();
    install_with(&["--set", "configTracking.enabled=false,alerts.secrets=false"]);
    assert!(!may("get") && !may("list"), "rights that nobody needs");
    settings(&stage, "v1", "0");
    deploy(&stage, &[]);
    stage.canary(STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    let untracked = primary(&stage);
    assert_eq!(read_by(&untracked), ["settings"]);
    // Pods are replaced when their template changes, and only then.
    let pods = || primary(&stage)["spec"]["template"].clone();
    let running = pods();

    install();
    assert!(may("get") && may("list") && !may("patch"));
    until("what is tracked is told", || stage.status()["trackedConfigs"]["configmap/settings"].as_str().map(drop))
        .await;
    assert_eq!((rollouts(&stage), pods()), (0, running));
    let traffic = stage.traffic(50.0);
    settings(&stage, "v2", "0");
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    let (tracked, running) = (read_by(&primary(&stage)), pods());
    assert_ne!(tracked, ["settings"]);

    install_with(&["--set", "configTracking.enabled=false,alerts.secrets=false"]);
    until("nothing is told to be tracked", || stage.status()["trackedConfigs"].is_null().then_some(())).await;
    assert_eq!((rollouts(&stage), pods(), read_by(&primary(&stage))), (1, running.clone(), tracked.clone()));
    install();
    until("what is tracked is told", || stage.status()["trackedConfigs"]["configmap/settings"].as_str().map(drop))
        .await;
    assert_eq!((rollouts(&stage), pods(), read_by(&primary(&stage))), (1, running, tracked));
    stage.strike();
}
