//! A takeover from Flagger that cannot be, or that nobody asks for any more: Flagger goes on as if there had been none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::not_taken::suspended;
use super::server::{Answer, ApiServer};
use super::stage::{NAMESPACE, Stage, canary, object};
use super::take_over::{FLAGGERS, MADE, asking, controllers, flagger};

/// Waits until Flagger's Canary is suspended.
async fn is_suspended(server: &ApiServer) {
    for _ in 0..600 {
        if suspended(server) == true {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("Flagger is told nothing");
}

/// Whether everything is as Flagger left it before anybody asked for a takeover.
fn goes_on(server: &ApiServer, case: &str) {
    let theirs = server.get(FLAGGERS, NAMESPACE, "shop").unwrap();
    let spec = &theirs["spec"];
    assert_eq!((&spec["suspend"], &spec["revertOnDeletion"]), (&Value::Null, &json!(true)), "{case}: {theirs:#}");
    assert_eq!(controllers(server), vec![json!("flagger.app/v1beta1"); MADE.len()], "{case}");
    for (plural, name) in MADE {
        let object = server.get(plural, NAMESPACE, name).unwrap();
        let owners = object["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!((owners.len(), &owners[0]["uid"]), (1, &theirs["metadata"]["uid"]), "{case}: {object:#}");
        let marks = [
            &object["metadata"]["labels"]["weir.dev/canary"],
            &object["metadata"]["annotations"]["weir.dev/inherited-revision"],
        ];
        assert!(marks.iter().all(|mark| mark.is_null()), "{case}: {object:#}");
    }
    assert_eq!(server.get("deployments", NAMESPACE, "shop").unwrap()["spec"]["replicas"], 0, "{case}");
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_is_deleted_after_any_write_of_a_takeover_leaves_somebody_who_serves() {
    let (mut given_back, mut taken) = (0, 0);
    for kept in 0..20 {
        let case = format!("after {kept} writes");
        let server = flagger("Succeeded", "v1");
        let before = server.get("deployments", NAMESPACE, "shop-primary").unwrap();
        let mut canary = asking();
        canary["spec"]["revertOnDeletion"] = true.into();
        server.apply("flux", &canary);
        let count = AtomicUsize::new(0);
        server.script(move |write| {
            let own = ["Event", "Lease"].contains(&&*write.kind);
            let at = if own { 0 } else { count.fetch_add(1, Ordering::SeqCst) };
            (at > kept).then_some(Answer::Hang)
        });
        let stage = Stage::start(&server);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let server = stage.kill();
        server.behave();
        server.delete("canaries", NAMESPACE, "shop");
        let primary = |server: &ApiServer| server.get("deployments", NAMESPACE, "shop-primary");
        let target = |server: &ApiServer| server.get("deployments", NAMESPACE, "shop").unwrap();
        let serves = |server: &ApiServer| {
            let available = target(server)["status"]["availableReplicas"].as_i64().unwrap_or_default();
            assert!(primary(server).is_some() || available > 0, "{case}: nobody serves");
        };
        serves(&server);
        let stage = Stage::start(&server);
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            serves(&server);
        }
        assert!(server.get("canaries", NAMESPACE, "shop").is_none(), "{case}: {:#}", stage.status("shop"));
        match primary(&server) {
            Some(primary) => {
                given_back += 1;
                goes_on(&server, &case);
                assert_eq!(primary["metadata"]["uid"], before["metadata"]["uid"], "{case}");
                assert_eq!(primary["spec"]["template"], before["spec"]["template"], "{case}");
            }
            // All of it had changed hands: then it is given back as any other Canary's.
            None => {
                taken += 1;
                assert_eq!(stage.get("services", "shop")["spec"]["selector"], json!({"app": "shop"}), "{case}");
            }
        }
    }
    assert!(given_back > 8 && taken > 0, "{given_back} given back, {taken} taken");
}

#[tokio::test(start_paused = true)]
async fn a_takeover_that_the_api_server_refuses_in_its_middle_says_so_and_is_called_off_with_its_annotation() {
    for kind in ["Deployment", "ConfigMap", "Service", "VirtualService"] {
        let server = flagger("Succeeded", "v1");
        server.script(move |write| {
            (write.kind == kind && write.verb == "patch").then_some(Answer::Refused(403, "Forbidden", "not now"))
        });
        server.apply("flux", &asking());
        let stage = Stage::start(&server);
        stage.reason("shop", "WriteRefused").await;
        assert!(stage.said("shop").1.contains("not now"), "{:?}", stage.said("shop"));
        assert_eq!(stage.get("canaries", "shop")["metadata"]["finalizers"], json!(["weir.dev/canary"]));
        assert_eq!(suspended(&server), true, "{kind}");
        server.behave();
        // Before the next try.
        server.edit("canaries", NAMESPACE, "shop", |canary| canary["metadata"]["annotations"] = json!({}));
        tokio::time::sleep(Duration::from_secs(30)).await;
        goes_on(&server, kind);
        assert_eq!(stage.said("shop").0, "ControlledByFlagger", "{kind}");
        assert!(stage.status("shop")["takenOver"].is_null(), "{kind}: {:#}", stage.status("shop"));
        // Nobody is told anything again and again, and the next one who asks has it.
        stage.rest().await;
        assert_eq!(stage.changed().await, [""; 0], "{kind}");
        server.apply("flux", &asking());
        stage.phase("shop", "Initialized").await;
        assert_eq!(controllers(&server), vec![json!("weir.dev/v1beta1"); MADE.len()], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn flagger_is_told_nothing_where_what_it_controls_could_not_be_looked_after() {
    type Prepare = fn(&ApiServer, &mut Value);
    let rows: [(&str, Prepare); 6] = [
        ("ConfigMissing", |server, _| server.delete("configmaps", NAMESPACE, "settings")),
        ("AutoscalerMissing", |_, canary| {
            canary["spec"]["autoscalerRef"] = json!({"kind": "HorizontalPodAutoscaler", "name": "shop"});
        }),
        ("MetricUnanswerable", |_, canary| {
            let metric = json!({"name": "errors", "query": "up", "thresholdRange": {"max": 1}});
            canary["spec"]["analysis"]["metrics"] = json!([metric]);
        }),
        ("TargetTaken", |server, _| {
            let mut first = canary("a-first", json!({}));
            first["spec"]["targetRef"]["name"] = "shop".into();
            server.apply("flux", &first);
        }),
        ("RoutesElsewhere", |server, _| {
            // The user's own, which Flagger adopted.
            server.edit("virtualservices", NAMESPACE, "shop", |routes| {
                routes["metadata"].as_object_mut().unwrap().remove("ownerReferences");
                let elsewhere = json!({"route": [{"destination": {"host": "elsewhere"}}]});
                routes["spec"]["http"].as_array_mut().unwrap().push(elsewhere);
            });
        }),
        ("NameTaken", |server, _| {
            server.edit("destinationrules", NAMESPACE, "shop-canary", |rule| {
                rule["metadata"].as_object_mut().unwrap().remove("ownerReferences");
            });
        }),
    ];
    for (reason, prepare) in rows {
        let server = flagger("Succeeded", "v1");
        let mut canary = asking();
        prepare(&server, &mut canary);
        server.apply("flux", &canary);
        let stage = Stage::start(&server);
        stage.reason("shop", reason).await;
        let changed = stage.changed().await;
        assert!(!changed.iter().any(|write| write.ends_with(" shop") || write.contains("shop-primary")), "{changed:?}");
        assert_eq!(suspended(&server), Value::Null, "{reason}");
        assert!(stage.get("canaries", "shop")["metadata"]["finalizers"].is_null(), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn flagger_goes_on_where_what_is_needed_goes_missing_after_it_was_told() {
    let server = flagger("Succeeded", "v1");
    server.apply("flux", &asking());
    let stage = Stage::start(&server);
    is_suspended(&server).await;
    let settings = server.get("configmaps", NAMESPACE, "settings").unwrap();
    server.delete("configmaps", NAMESPACE, "settings");
    stage.reason("shop", "ConfigMissing").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    goes_on(&server, "without its settings");
    // Once it is there the takeover goes on.
    server.apply("flux", &object("v1", "ConfigMap", "settings", Value::Null));
    server.edit("configmaps", NAMESPACE, "settings", |config| config["data"] = settings["data"].clone());
    stage.phase("shop", "Initialized").await;
    assert_eq!(controllers(&server), vec![json!("weir.dev/v1beta1"); MADE.len()]);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_is_deleted_while_flagger_is_told_has_it_go_on() {
    let server = flagger("Succeeded", "v1");
    server.apply("flux", &asking());
    let stage = Stage::start(&server);
    is_suspended(&server).await;
    server.delete("canaries", NAMESPACE, "shop");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(stage.get("canaries", "shop").is_null());
    goes_on(&server, "deleted");
}
