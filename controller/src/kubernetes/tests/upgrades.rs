//! A cluster as an older Weir left it: no pod of a primary is restarted, and no Canary that worked is stalled.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment, edit_state, object};

/// Returns the primary as the Weir of f19ce8d wrote it: without a note of its rendering, with one label in its selector.
fn former(stage: &Stage, name: &str, key: &str, edit: impl FnOnce(&mut Value)) -> Value {
    let live = stage.get("deployments", &format!("{name}-primary"));
    let target = stage.get("deployments", name);
    let mut template = target["spec"]["template"].clone();
    let own = format!("{}-primary", template["metadata"]["labels"][key].as_str().unwrap());
    template["metadata"]["labels"][key] = own.clone().into();
    template["metadata"]["annotations"]["weir.dev/revision"] =
        live["spec"]["template"]["metadata"]["annotations"]["weir.dev/revision"].clone();
    edit(&mut template);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": live["metadata"]["name"], "namespace": NAMESPACE, "labels": live["metadata"]["labels"],
            "ownerReferences": live["metadata"]["ownerReferences"],
        },
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {key: own}}, "template": template,
            "strategy": {"type": "RollingUpdate"}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
        },
    })
}

/// Has the older Weir's primary in place of today's.
fn put(server: &ApiServer, former: &Value) {
    server.delete("deployments", NAMESPACE, former["metadata"]["name"].as_str().unwrap());
    server.apply("weir", former);
}

fn beside_itself() -> Value {
    json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "shop"}}, "topologyKey": "kubernetes.io/hostname"},
    ]}})
}

fn target(version: &str) -> Value {
    let mut target = deployment("shop", &[("app", "shop")], version);
    target["spec"]["template"]["spec"]["affinity"] = beside_itself();
    target
}

/// A Canary at rest, with an affinity of its pods to themselves.
async fn at_rest() -> Stage {
    let server = ApiServer::default();
    server.apply("flux", &target("v1"));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    stage
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_restarts_no_pod_and_what_is_rendered_otherwise_comes_with_the_promotion() {
    let edits: [fn(&mut Value); 3] = [
        // As f19ce8d rendered it: the affinity speaks of the target.
        |_| {},
        |template| {
            template["metadata"]["labels"]["weir.dev/arm"] = "primary".into();
            template["metadata"]["annotations"]["weir.dev/more"] = "once".into();
        },
        |template| {
            template["spec"].as_object_mut().unwrap().remove("affinity");
            template["spec"]["terminationGracePeriodSeconds"] = 7.into();
        },
    ];
    for (row, edit) in edits.into_iter().enumerate() {
        let stage = at_rest().await;
        let today = stage.get("deployments", "shop-primary")["spec"]["template"].clone();
        let former = former(&stage, "shop", "app", edit);
        let server = stage.kill();
        put(&server, &former);
        let before = server.get("deployments", NAMESPACE, "shop-primary").unwrap();
        assert_ne!(before["spec"]["template"], today, "{row}");
        let stage = Stage::start(&server);
        stage.rest().await;
        let template = || stage.get("deployments", "shop-primary")["spec"]["template"].clone();
        assert_eq!(template(), before["spec"]["template"], "{row}");
        assert!(!stage.is("shop", "Stalled") && stage.said("shop").0 == "UpToDate", "{row}: {:?}", stage.said("shop"));
        assert_eq!(stage.written().await, [""; 0], "{row}");
        // The Services lead there all the same.
        assert_eq!(stage.get("services", "shop-primary")["spec"]["selector"], json!({"app": "shop-primary"}));
        // A rollout under way changes nothing of it either.
        server.apply("flux", &target("v2"));
        stage.phase("shop", "Progressing").await;
        assert_eq!(template(), before["spec"]["template"], "{row}");
        stage.edit("canaries", "shop", |canary| canary["spec"]["skipAnalysis"] = true.into());
        server.apply("flux", &target("v3"));
        stage.phase("shop", "Succeeded").await;
        stage.rest().await;
        let mut expected = today;
        expected["spec"]["containers"][0]["image"] = "shop:v3".into();
        expected["metadata"]["annotations"] = template()["metadata"]["annotations"].clone();
        assert_eq!(template(), expected, "{row}");
        assert_eq!(expected["metadata"]["annotations"].as_object().unwrap().len(), 1, "{row}: {expected:#}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_rendered_as_today_gets_the_note_and_nothing_else() {
    let stage = Stage::initialized().await;
    let former = former(&stage, "shop", "app", |_| {});
    let server = stage.kill();
    put(&server, &former);
    let before = server.get("deployments", NAMESPACE, "shop-primary").unwrap();
    let stage = Stage::start(&server);
    stage.rest().await;
    let after = stage.get("deployments", "shop-primary");
    assert_eq!(after["spec"], before["spec"]);
    assert!(after["metadata"]["annotations"]["weir.dev/rendering"].is_string(), "{after:#}");
    assert_eq!(stage.written().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_added_by_hand_before_an_upgrade_stays_until_the_promotion_and_what_is_overwritten_does_not() {
    let stage = Stage::initialized().await;
    let former = former(&stage, "shop", "app", |_| {});
    let server = stage.kill();
    put(&server, &former);
    server.edit("deployments", NAMESPACE, "shop-primary", |primary| {
        primary["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    });
    let stage = Stage::start(&server);
    stage.rest().await;
    let pods = || stage.get("deployments", "shop-primary")["spec"]["template"]["spec"].clone();
    assert_eq!(pods()["nodeSelector"], json!({"disk": "ssd"}));
    assert_eq!(stage.written().await, [""; 0]);
    stage.edit("deployments", "shop-primary", |primary| {
        primary["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
    });
    stage.rest().await;
    assert_eq!(pods()["containers"][0]["image"], "shop:v1");
    assert_eq!(pods()["nodeSelector"], json!({"disk": "ssd"}));
    stage.edit("canaries", "shop", |canary| canary["spec"]["skipAnalysis"] = true.into());
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Succeeded").await;
    stage.rest().await;
    assert!(pods()["nodeSelector"].is_null() && pods()["containers"][0]["image"] == "shop:v2", "{:#}", pods());
}

#[tokio::test(start_paused = true)]
async fn services_of_two_primaries_with_one_label_stay_apart_while_pods_are_replaced() {
    let (name, part) = ("app.kubernetes.io/name", "app.kubernetes.io/component");
    let server = ApiServer::default();
    for workload in ["web", "worker"] {
        server.apply("flux", &deployment(workload, &[(name, "shop"), (part, workload)], "v1"));
        let mut canary = canary(workload, json!({}));
        canary["spec"]["skipAnalysis"] = true.into();
        server.apply("flux", &canary);
    }
    let stage = Stage::start(&server);
    for workload in ["web", "worker"] {
        stage.phase(workload, "Initialized").await;
    }
    stage.rest().await;
    let both = ["web", "worker"].map(|workload| former(&stage, workload, name, |_| {}));
    let server = stage.kill();
    both.iter().for_each(|former| put(&server, former));
    let stage = Stage::start(&server);
    stage.rest().await;
    let selector = |name: &str| stage.get("services", name)["spec"]["selector"].clone();
    let own = json!({name: "shop-primary", part: "web"});
    assert_eq!((selector("web-primary"), selector("web")), (own.clone(), own.clone()));
    server.stick("web-primary", true);
    server.apply("flux", &deployment("web", &[(name, "shop"), (part, "web")], "v2"));
    stage.phase("web", "Promoting").await;
    stage.rest().await;
    assert_eq!((selector("web-primary"), selector("web")), (own.clone(), own));
    let deployment = stage.get("deployments", "web-primary")["spec"]["selector"].clone();
    assert_eq!(deployment, json!({"matchLabels": {name: "shop-primary"}}), "what it is made with, it keeps");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_goes_on_with_the_memory_of_an_older_weir() {
    let stage = Stage::initialized().await;
    stage.server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    stage.rest().await;
    let server = stage.kill();
    server.edit("canaries", NAMESPACE, "shop", |canary| {
        edit_state(canary, |state| {
            let mut without = |of: &str, fields: &[&str]| {
                let map = state.pointer_mut(of).unwrap().as_object_mut().unwrap();
                fields.iter().for_each(|field| drop(map.remove(*field)));
            };
            without("/run", &["window_retired_warm", "window_kept", "undecided"]);
            without("/traffic", &["only_matched", "fallback", "filter"]);
        });
        // A condition that nobody knew then, and a spec above limits that are younger.
        canary["spec"]["service"]["hosts"] = (0..70).map(|i| Value::from(format!("h{i}.example.com"))).collect();
    });
    let before = server.get("deployments", NAMESPACE, "shop-primary").unwrap()["spec"].clone();
    let stage = Stage::start(&server);
    stage.rest().await;
    assert!(!stage.is("shop", "Stalled") && stage.is("shop", "Ready"), "{:#}", stage.status("shop"));
    assert_eq!(stage.status("shop")["phase"], "Progressing");
    assert!(stage.is("shop", "NoEffect"), "the limit is a remark");
    assert_eq!(stage.get("deployments", "shop-primary")["spec"], before);
}

#[tokio::test(start_paused = true)]
async fn a_workload_under_the_targets_label_is_told_and_stalls_no_canary_that_works() {
    let stage = Stage::initialized().await;
    let mut worker = deployment("worker", &[("app", "shop"), ("part", "worker")], "v1");
    worker["spec"]["selector"]["matchLabels"] = json!({"part": "worker"});
    stage.server.apply("flux", &worker);
    stage.rest().await;
    assert!(!stage.is("shop", "Stalled") && stage.is("shop", "Hazard"), "{:#}", stage.status("shop"));
    let told = stage.events().into_iter().find(|(text, _)| text.contains("Deployment worker"));
    assert_eq!(told.map(|(_, times)| times), Some(1), "{:?}", stage.events());
    stage.server.delete("deployments", NAMESPACE, "worker");
    stage.rest().await;
    assert!(!stage.is("shop", "Hazard"), "{:#}", stage.status("shop"));
}

/// Has a Canary's status be as the older Weir left it, with a spec that it took.
fn stored_before_limits(server: &ApiServer, spec: impl FnOnce(&mut Value)) {
    server.edit("canaries", NAMESPACE, "shop", |canary| spec(&mut canary["spec"]));
    let generation = server.get("canaries", NAMESPACE, "shop").unwrap()["metadata"]["generation"].clone();
    server.edit("canaries", NAMESPACE, "shop", |canary| {
        edit_state(canary, |state| {
            state.as_object_mut().unwrap().remove("todaysRules").unwrap();
        });
        canary["status"]["observedGeneration"] = generation;
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_since_there_are_limits_goes_on_in_a_canary_that_worked_until_its_spec_changes() {
    let stage = Stage::initialized().await;
    let server = stage.kill();
    let mut lent = object(
        "weir.dev/v1beta1",
        "MetricTemplate",
        "errors",
        json!({"provider": {"type": "prometheus", "address": "http://prometheus", "headers": {"authorization": ["Basic a"]}}, "query": "up"}),
    );
    lent["metadata"]["namespace"] = "monitoring".into();
    server.apply("flux", &lent);
    stored_before_limits(&server, |spec| {
        spec["analysis"]["metrics"] = json!([{"name": "errors", "templateRef": {"name": "errors", "namespace": "monitoring"}, "thresholdRange": {"max": 1}}]);
        spec["analysis"]["match"] = json!([{"headers": {"x-a": {"regex": "(?:a*){20000}"}}}]);
        spec["service"]["hosts"] = (0..300).map(|i| Value::from(format!("h{i}.example.com"))).collect();
    });
    let stage = Stage::start(&server);
    stage.rest().await;
    let goes_on = |stage: &Stage| {
        let status = stage.status("shop");
        assert!(!stage.is("shop", "Stalled") && stage.is("shop", "Ready"), "{status:#}");
    };
    goes_on(&stage);
    let told = stage.condition("shop", "NoEffect")[2].clone();
    for field in ["spec.service.hosts", "spec.analysis.match[0].headers.x-a"] {
        assert!(told.contains(field), "{told}");
    }
    // The next controller goes on with it too, and a release begins.
    let server = stage.kill();
    let stage = Stage::start(&server);
    stage.rest().await;
    goes_on(&stage);
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
    stage.phase("shop", "Progressing").await;
    goes_on(&stage);
    // Whoever edits it is told, whatever he edits.
    stage.edit("canaries", "shop", |canary| canary["spec"]["analysis"]["threshold"] = 3.into());
    stage.reason("shop", "InvalidSpec").await;
    assert!(stage.is("shop", "Stalled"), "{:#}", stage.status("shop"));
}

#[tokio::test(start_paused = true)]
async fn a_spec_above_the_limit_goes_on_in_a_canary_that_worked_until_it_changes() {
    let long = |bytes: usize| json!([{"name": "gate", "url": "http://gate.test/", "type": "confirm-promotion", "metadata": {"a": "a".repeat(bytes)}}]);
    for (bytes, goes_on) in [(100_000, true), (300_000, false)] {
        let server = Stage::initialized().await.kill();
        stored_before_limits(&server, |spec| spec["analysis"]["webhooks"] = long(bytes));
        let stage = Stage::start(&server);
        stage.rest().await;
        assert_eq!(!stage.is("shop", "Stalled"), goes_on, "{bytes}: {:?}", stage.said("shop"));
        if goes_on {
            assert!(
                stage.condition("shop", "NoEffect")[2].contains("65536 is the limit"),
                "{:#}",
                stage.status("shop")
            );
            server.apply("flux", &deployment("shop", &[("app", "shop")], "v2"));
            stage.phase("shop", "Progressing").await;
            stage.edit("canaries", "shop", |canary| canary["spec"]["analysis"]["threshold"] = 3.into());
            stage.reason("shop", "InvalidSpec").await;
        }
    }
    // And no other one comes in by that door.
    let stage = Stage::initialized().await;
    stage.edit("canaries", "shop", |canary| canary["spec"]["analysis"]["webhooks"] = long(100_000));
    stage.reason("shop", "InvalidSpec").await;
    let kept = stage.stores.canaries.get(NAMESPACE, "shop").unwrap();
    assert!(kept.fields.spec.is_err(), "it is not in memory");
}

#[tokio::test(start_paused = true)]
async fn a_new_canary_is_read_by_todays_rules_by_the_next_controller_too() {
    let stage = Stage::initialized().await;
    stage.edit("canaries", "shop", |canary| {
        canary["spec"]["analysis"]["match"] = json!([{"headers": {"x-a": {"regex": "(?:a*){20000}"}}}]);
    });
    stage.reason("shop", "InvalidSpec").await;
    let server = stage.kill();
    let stage = Stage::start(&server);
    stage.rest().await;
    assert!(stage.is("shop", "Stalled"), "{:#}", stage.status("shop"));
}
