//! A service that a running Flagger releases: left alone until somebody asks, then taken over as it is.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment, object, routes};

/// The objects of Flagger's around `shop`, all controlled by its Canary.
pub(super) const MADE: [(&str, &str); 8] = [
    ("deployments", "shop-primary"),
    ("services", "shop"),
    ("services", "shop-primary"),
    ("services", "shop-canary"),
    ("destinationrules", "shop-primary"),
    ("destinationrules", "shop-canary"),
    ("virtualservices", "shop"),
    ("configmaps", "settings-primary"),
];

pub(super) const FLAGGERS: &str = "canaries.flagger.app";

fn target(version: &str) -> Value {
    let mut target = deployment("shop", &[("app", "shop")], version);
    target["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    target
}

fn settings(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": {"a": value}})
}

/// Somebody applies a Canary of Flagger's, which gets this phase.
pub(super) fn flagger_comes(server: &ApiServer, phase: &str) {
    let target = json!({"kind": "Deployment", "name": "shop"});
    let spec = json!({"targetRef": target, "service": {"port": 80}, "revertOnDeletion": true});
    let mut theirs = object("flagger.app/v1beta1", "Canary", "shop", spec);
    theirs["status"] = json!({"phase": phase, "lastTransitionTime": "2026-06-01T00:00:00Z"});
    theirs["metadata"]["finalizers"] = json!(["finalizer.flagger.app"]);
    server.put("flagger", &theirs);
}

/// A cluster as Flagger leaves it, whose primary runs `v1` and whose target declares `version`.
pub(super) fn flagger(phase: &str, version: &str) -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &settings("settings", "1"));
    let mut declared = target(version);
    declared["spec"]["replicas"] = 0.into();
    server.apply("flux", &declared);
    flagger_comes(&server, phase);
    let uid = server.get(FLAGGERS, NAMESPACE, "shop").unwrap()["metadata"]["uid"].clone();
    let owner = json!([{
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "shop", "uid": uid, "controller": true, "blockOwnerDeletion": true,
    }]);
    let make = |mut made: Value| {
        made["metadata"]["ownerReferences"] = owner.clone();
        server.put("flagger", &made);
    };
    make(settings("settings-primary", "1"));
    let mut primary = target("v1");
    primary["metadata"]["name"] = "shop-primary".into();
    primary["spec"]["replicas"] = 2.into();
    primary["spec"]["selector"]["matchLabels"]["app"] = "shop-primary".into();
    let template = &mut primary["spec"]["template"];
    template["metadata"]["labels"]["app"] = "shop-primary".into();
    template["metadata"]["annotations"] = json!({"flagger-id": "5c6b"});
    template["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"] = "settings-primary".into();
    make(primary);
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]);
    for (name, label) in [("shop", "shop-primary"), ("shop-primary", "shop-primary"), ("shop-canary", "shop")] {
        let mut service = super::stage::service(name, label, ports.clone());
        service["metadata"]["labels"] = json!({"app": name});
        make(service);
    }
    for name in ["shop-primary", "shop-canary"] {
        make(object("networking.istio.io/v1", "DestinationRule", name, json!({"host": name})));
    }
    let to = |host: &str, weight: i64| json!({"destination": {"host": host}, "weight": weight});
    let http = json!([{"route": [to("shop-primary", 100), to("shop-canary", 0)]}]);
    make(routes("shop", &["shop.example.com", "shop"], &["public"], http));
    server
}

fn ours() -> Value {
    canary("shop", json!({"hosts": ["shop.example.com"], "gateways": ["public"]}))
}

pub(super) fn asking() -> Value {
    let mut canary = ours();
    canary["metadata"]["annotations"] = json!({"weir.dev/take-over": "flagger"});
    canary
}

pub(super) fn controllers(server: &ApiServer) -> Vec<Value> {
    let owner = |(plural, name): (&str, &str)| {
        let object = server.get(plural, NAMESPACE, name).unwrap_or_else(|| panic!("{plural} {name} is gone"));
        object["metadata"]["ownerReferences"][0]["apiVersion"].clone()
    };
    MADE.map(owner).to_vec()
}

/// Asks for the takeover, and waits until the Canary has this phase.
pub(super) async fn taken_over(server: &ApiServer, phase: &str) -> Stage {
    server.apply("flux", &asking());
    let stage = Stage::start(server);
    stage.phase("shop", phase).await;
    stage
}

/// Deletes Flagger's Canary, and with it what it controls.
pub(super) fn flagger_goes(server: &ApiServer) {
    server.delete(FLAGGERS, NAMESPACE, "shop");
    assert!(server.get(FLAGGERS, NAMESPACE, "shop").is_none(), "something holds Flagger's Canary");
}

#[tokio::test(start_paused = true)]
async fn what_flagger_controls_is_never_written_and_the_status_says_how_to_have_it() {
    let server = flagger("Succeeded", "v1");
    server.apply("flux", &ours());
    let stage = Stage::start(&server);
    stage.reason("shop", "ControlledByFlagger").await;
    assert!(stage.is("shop", "Stalled"));
    let (_, message) = stage.said("shop");
    let command = "kubectl -n shop annotate canaries.weir.dev shop weir.dev/take-over=flagger";
    assert!(message.contains("Deployment shop-primary") && message.contains(command), "{message}");
    assert_eq!(stage.changed().await, [""; 0]);
    server.apply("flux", &target("v2"));
    assert_eq!(stage.changed().await, [""; 0]);
    assert_eq!(controllers(&server), vec![json!("flagger.app/v1beta1"); MADE.len()]);
    // Its own deletion waits for nothing.
    server.delete("canaries", NAMESPACE, "shop");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert!(server.get("canaries", NAMESPACE, "shop").is_none());
    assert_eq!(controllers(&server), vec![json!("flagger.app/v1beta1"); MADE.len()]);
}

#[tokio::test(start_paused = true)]
async fn a_service_of_flaggers_is_taken_over_as_it_is_and_outlives_flaggers_canary() {
    let server = flagger("Succeeded", "v1");
    let before = server.get("deployments", NAMESPACE, "shop-primary").unwrap();
    let stage = taken_over(&server, "Initialized").await;
    let theirs = server.get(FLAGGERS, NAMESPACE, "shop").unwrap();
    assert_eq!((&theirs["spec"]["suspend"], &theirs["spec"]["revertOnDeletion"]), (&json!(true), &json!(false)));
    assert_eq!(controllers(&server), vec![json!("weir.dev/v1beta1"); MADE.len()]);
    let status = stage.status("shop");
    assert_eq!(status["takenOver"]["from"], "canaries.flagger.app shop", "{status:#}");
    assert_eq!(status["takenOver"]["revision"], status["lastPromotedSpec"], "{status:#}");
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert!(stage.condition("shop", "Hazard")[2].contains("canaries.flagger.app shop is still there"), "{status:#}");
    flagger_goes(&server);
    stage.rest().await;
    let after = stage.get("deployments", "shop-primary");
    assert_eq!(after["spec"]["template"], before["spec"]["template"], "a pod is replaced");
    assert_eq!((&after["metadata"]["uid"], &after["spec"]["replicas"]), (&before["metadata"]["uid"], &json!(2)));
    assert_eq!(after["metadata"]["annotations"]["weir.dev/inherited-revision"], status["lastPromotedSpec"]);
    assert_eq!(controllers(&server).len(), MADE.len());
    assert_eq!(stage.condition("shop", "Hazard")[2], "");
    assert_eq!(stage.written().await, [""; 0]);
    // The first promotion: what Flagger wrote of the pods is gone in the one write that changes them.
    stage.edit("canaries", "shop", |canary| canary["spec"]["skipAnalysis"] = true.into());
    server.writes();
    server.apply("flux", &target("v2"));
    stage.phase("shop", "Succeeded").await;
    let changes =
        |write: &super::server::Write| write.name == "shop-primary" && write.kind == "Deployment" && write.code < 300;
    let writes: Vec<String> = server.writes().iter().filter(|it| changes(it)).map(ToString::to_string).collect();
    stage.rest().await;
    let template = &stage.get("deployments", "shop-primary")["spec"]["template"];
    assert!(template["metadata"]["annotations"]["flagger-id"].is_null(), "{template:#}");
    let reads = template["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"].as_str().unwrap();
    assert!(reads.starts_with("settings-primary-"), "{reads}");
    assert_eq!(template["spec"]["containers"][0]["image"], "shop:v2");
    assert!(writes.iter().all(|write| write.starts_with("apply")), "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_of_flaggers_is_waited_for() {
    let server = flagger("Progressing", "v2");
    server.apply("flux", &asking());
    let stage = Stage::start(&server);
    stage.reason("shop", "TakingOver").await;
    assert_eq!(stage.changed().await, [""; 0]);
    assert!(stage.said("shop").1.contains("its phase is Progressing"), "{:?}", stage.said("shop"));
    assert!(!stage.is("shop", "Stalled") && stage.condition("shop", "Ready")[0] == "Unknown");
    server.edit(FLAGGERS, NAMESPACE, "shop", |theirs| theirs["status"]["phase"] = "Promoting".into());
    assert_eq!(stage.changed().await, [""; 0]);
    server.edit(FLAGGERS, NAMESPACE, "shop", |theirs| theirs["status"]["phase"] = "Succeeded".into());
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(controllers(&server), vec![json!("weir.dev/v1beta1"); MADE.len()]);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_flagger_begins_while_it_is_suspended_goes_on_and_is_waited_for() {
    let server = flagger("Succeeded", "v2");
    server.apply("flux", &asking());
    let stage = Stage::start(&server);
    stage.reason("shop", "TakingOver").await;
    // A look of Flagger's that began before.
    server.edit(FLAGGERS, NAMESPACE, "shop", |theirs| theirs["status"]["phase"] = "Progressing".into());
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let theirs = server.get(FLAGGERS, NAMESPACE, "shop").unwrap();
    assert!(theirs["spec"]["suspend"].is_null(), "{theirs:#}");
    assert_eq!(controllers(&server), vec![json!("flagger.app/v1beta1"); MADE.len()]);
    server.edit(FLAGGERS, NAMESPACE, "shop", |theirs| theirs["status"]["phase"] = "Succeeded".into());
    stage.phase("shop", "Progressing").await;
    assert_eq!(controllers(&server), vec![json!("weir.dev/v1beta1"); MADE.len()]);
}

#[tokio::test(start_paused = true)]
async fn what_the_target_declares_beyond_the_primary_is_analysed_and_the_primary_can_come_back() {
    let server = flagger("Succeeded", "v2");
    let before = server.get("deployments", NAMESPACE, "shop-primary").unwrap()["spec"]["template"].clone();
    let stage = taken_over(&server, "Progressing").await;
    flagger_goes(&server);
    stage.rest().await;
    assert_eq!(stage.get("deployments", "shop-primary")["spec"]["template"], before);
    let status = stage.status("shop");
    let kept = stage.get("controllerrevisions", &format!("shop-{}", status["lastPromotedSpec"].as_str().unwrap()));
    assert_eq!(kept["data"]["template"]["spec"]["containers"][0]["image"], "shop:v1", "{status:#}");
    assert_eq!(status["phase"], "Progressing");
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_flagger_took_back_is_not_tried_again() {
    let server = flagger("Failed", "v2");
    server.edit(FLAGGERS, NAMESPACE, "shop", |theirs| {
        theirs["status"]["lastTransitionTime"] = "2999-01-01T00:00:00Z".into()
    });
    let stage = taken_over(&server, "Failed").await;
    stage.rest().await;
    assert_eq!(stage.said("shop").0, "FailedRevision");
    assert_eq!(stage.get("deployments", "shop")["spec"]["replicas"], 0);
    server.apply("flux", &target("v3"));
    stage.phase("shop", "Progressing").await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_dies_between_any_two_writes_of_a_takeover_leaves_it_to_the_next_one() {
    for kept in 0..14 {
        let server = flagger("Succeeded", "v1");
        let before = server.get("deployments", NAMESPACE, "shop-primary").unwrap()["spec"]["template"].clone();
        server.apply("flux", &asking());
        let count = std::sync::atomic::AtomicUsize::new(0);
        server.script(move |write| {
            let own = ["Event", "Lease"].contains(&&*write.kind);
            let at = if own { 0 } else { count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) };
            (at > kept).then_some(super::server::Answer::Hang)
        });
        let stage = Stage::start(&server);
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        let server = stage.kill();
        server.behave();
        let stage = Stage::start(&server);
        stage.phase("shop", "Initialized").await;
        flagger_goes(&server);
        stage.rest().await;
        assert_eq!(controllers(&server), vec![json!("weir.dev/v1beta1"); MADE.len()], "{kept}");
        assert_eq!(stage.get("deployments", "shop-primary")["spec"]["template"], before, "{kept}");
        assert_eq!(stage.written().await, [""; 0], "{kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_over_and_is_given_back_outlives_weirs_canary_too() {
    let server = flagger("Succeeded", "v1");
    let stage = taken_over(&server, "Initialized").await;
    flagger_goes(&server);
    stage.edit("canaries", "shop", |canary| canary["spec"]["revertOnDeletion"] = true.into());
    stage.rest().await;
    server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    assert!(server.get("canaries", NAMESPACE, "shop").is_none());
    for (plural, name) in [("services", "shop"), ("virtualservices", "shop")] {
        let object = stage.get(plural, name);
        assert!(object["metadata"]["uid"].is_string(), "{plural} is gone");
        assert!(object["metadata"]["labels"]["weir.dev/canary"].is_null(), "{object:#}");
    }
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "shop"}));
    assert!(stage.get("deployments", "shop-primary").is_null());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_flagger_adopted_is_given_back_as_it_was_before_flagger() {
    let server = flagger("Succeeded", "v1");
    for plural in ["services", "virtualservices"] {
        server.edit(plural, NAMESPACE, "shop", |object| {
            object["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        });
    }
    let spec = json!({"hosts": ["shop.example.com"], "gateways": ["public"], "http": [{"route": [{"destination": {"host": "shop"}}], "timeout": "7s"}]});
    server.edit("virtualservices", NAMESPACE, "shop", |routes| {
        routes["metadata"]["annotations"] = json!({"flagger.kubernetes.io/original-configuration": spec.to_string()});
    });
    let stage = taken_over(&server, "Initialized").await;
    flagger_goes(&server);
    stage.rest().await;
    server.delete("canaries", NAMESPACE, "shop");
    stage.rest().await;
    assert_eq!(stage.get("virtualservices", "shop")["spec"], spec);
    assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "shop"}));
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_flagger_waits_at_is_no_rollout_and_weir_releases_what_waits() {
    let server = flagger("Waiting", "v2");
    let stage = taken_over(&server, "Progressing").await;
    assert_eq!(controllers(&server), vec![json!("weir.dev/v1beta1"); MADE.len()]);
    flagger_goes(&server);
    stage.rest().await;
    assert_eq!(
        stage.get("deployments", "shop-primary")["spec"]["template"]["spec"]["containers"][0]["image"],
        "shop:v1"
    );
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_and_routes_inside_of_the_mesh_change_hands_too() {
    let server = flagger("Succeeded", "v1");
    let owner = server.get("services", NAMESPACE, "shop").unwrap()["metadata"]["ownerReferences"].clone();
    for (name, manager) in [("shop", "flux"), ("shop-primary", "flagger")] {
        let of = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
        let spec = json!({"scaleTargetRef": of, "minReplicas": 2, "maxReplicas": 3});
        let mut scaler = object("autoscaling/v2", "HorizontalPodAutoscaler", name, spec);
        if manager == "flagger" {
            scaler["metadata"]["ownerReferences"] = owner.clone();
        }
        server.put(manager, &scaler);
    }
    server.edit("virtualservices", NAMESPACE, "shop", |routes| {
        routes["spec"]["hosts"] = json!(["shop"]);
        routes["spec"]["gateways"] = json!(["mesh"]);
    });
    let scaler = || server.get("horizontalpodautoscalers", NAMESPACE, "shop-primary").unwrap_or_default();
    let uid = scaler()["metadata"]["uid"].clone();
    let mut canary = canary("shop", json!({}));
    canary["metadata"]["annotations"] = json!({"weir.dev/take-over": "flagger"});
    canary["spec"]["autoscalerRef"] = json!({"kind": "HorizontalPodAutoscaler", "name": "shop"});
    server.apply("flux", &canary);
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    flagger_goes(&server);
    stage.rest().await;
    let taken = scaler();
    assert_eq!((&taken["metadata"]["uid"], &taken["spec"]["minReplicas"]), (&uid, &json!(2)), "{taken:#}");
    assert_eq!(taken["metadata"]["ownerReferences"][0]["apiVersion"], "weir.dev/v1beta1");
    assert_eq!(controllers(&server), vec![json!("weir.dev/v1beta1"); MADE.len()]);
    assert_eq!(stage.get("virtualservices", "shop")["spec"]["gateways"], json!(["mesh"]));
    assert_eq!(stage.get("deployments", "shop-primary")["spec"]["replicas"], 2);
}
