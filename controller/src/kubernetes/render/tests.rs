//! Golden files: every object, from one Canary and one target. `UPDATE_GOLDEN=1` rewrites them.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::*;
use crate::api::{CanarySpec, ScalerReplicas, TargetKind};
use crate::gateway_config::RouteNames;
use crate::kubernetes::api_server::cover::covers;
use crate::kubernetes::api_server::object::Cached;
use crate::kubernetes::kinds::config::ConfigKind;
use crate::kubernetes::kinds::{EnvoyFilter, Labels, Target};

mod accidents;
mod filters;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/kubernetes/render/golden")
}

fn subject() -> (Names, CanarySpec, Target, Value) {
    let text = std::fs::read_to_string(folder().join("canary.yaml")).unwrap();
    let mut documents = serde_saphyr::from_multiple::<Value>(&text).unwrap().into_iter();
    let (canary, target) = (documents.next().unwrap(), documents.next().unwrap());
    let spec: CanarySpec = serde_json::from_value(canary["spec"].clone()).unwrap();
    let names = Names::new("shop", "cart", "6f5c2d1e-0000-4000-8000-000000000001", &spec);
    let live = Cached::new(serde_json::from_value(target.clone()).unwrap()).unwrap();
    (names, spec, Target::Deployment(live.into()), target)
}

fn labels_of(names: &Names, target: &Target) -> ArmLabels {
    ArmLabels::new(names, Some(target), None, target.pod_labels()).unwrap()
}

fn main(spec: &CanarySpec, target: &Value) -> MainPort {
    main_port(spec, &target["spec"]["template"], &[], &[])
}

fn golden(name: &str, objects: &[Value]) {
    let text: Vec<String> = objects.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect();
    let text = text.join("---\n");
    let path = folder().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{}: UPDATE_GOLDEN=1 rewrites it", path.display());
}

#[test]
fn the_primary_is_the_target_under_its_own_label() {
    let (names, _, target, raw) = subject();
    let labels = labels_of(&names, &target);
    let wanted = primary(
        &names,
        &labels,
        "0123456789",
        &snapshot(TargetKind::Deployment, &raw["spec"]),
        &Configs::new(),
        Some(2),
    );
    golden("primary.yaml", std::slice::from_ref(&wanted));
    // What the server makes of it is what was wanted: nothing is written a second time.
    assert!(covers(&wanted, &wanted));
}

/// A template that names a config in every place that there is.
fn reader() -> Value {
    let key = |name: &str| json!({"name": name, "key": "k"});
    let optional = |name: &str| json!({"name": name, "optional": true});
    json!({
        "metadata": {"labels": {"app": "cart"}},
        "spec": {
            "initContainers": [{
                "name": "init", "envFrom": [{"secretRef": {"name": "init-keys"}}],
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": key("init-settings")}}],
            }],
            "containers": [{
                "name": "cart", "envFrom": [{"configMapRef": {"name": "settings"}}, {"configMapRef": optional("extra")}],
                "env": [
                    {"name": "B", "value": "plain"},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "D", "valueFrom": {"secretKeyRef": key("keys")}},
                    {"name": "E", "valueFrom": {"configMapKeyRef": optional("settings")}},
                ],
            }],
            "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "configMap": {"name": "files", "defaultMode": 420}},
                {"name": "c", "secret": {"secretName": "certificate", "optional": true}},
                {"name": "d", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"configMap": {"name": "projected"}}, {"secret": {"name": "rotated"}},
                ]}},
            ],
        },
    })
}

#[test]
fn every_place_that_names_a_config_is_found() {
    let found: Vec<(String, bool)> = references(&reader()).iter().map(|it| (it.key(), it.required)).collect();
    let expected = [
        ("configmap/init-settings", true),
        ("secret/init-keys", true),
        ("secret/keys", true),
        ("configmap/settings", false),
        ("configmap/settings", true),
        ("configmap/extra", false),
        ("configmap/files", true),
        ("secret/certificate", false),
        ("configmap/projected", true),
        ("secret/rotated", true),
    ];
    assert_eq!(found, expected.map(|(key, required)| (key.to_owned(), required)));
    assert_eq!(references(&json!({"spec": {"containers": [{"name": "cart"}]}})), []);
}

#[test]
fn the_primary_reads_copies_of_what_is_tracked_and_the_rest_as_it_is() {
    let (names, _, target, _) = subject();
    let labels = labels_of(&names, &target);
    let tracked =
        ["configmap/init-settings", "secret/init-keys", "secret/keys", "configmap/settings", "configmap/files"];
    let more = ["secret/certificate", "configmap/projected"];
    let mut configs: Configs =
        tracked.into_iter().chain(more).map(|key| (key.to_owned(), format!("{:0<16}", key.len()))).collect();
    // One that does not exist yet: its coming must be analysed first.
    configs.insert("configmap/extra".into(), String::new());
    let spec = json!({"template": reader()});
    let served = json!({
        "data": {"a": "1"}, "binaryData": {"b": "AA=="}, "immutable": false,
        "metadata": {"name": "settings", "labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}},
    });
    let secret = json!({"type": "kubernetes.io/basic-auth", "data": {"username": "YQ=="}});
    golden(
        "configs.yaml",
        &[
            primary(&names, &labels, "0123456789", &snapshot(TargetKind::Deployment, &spec), &configs, Some(2)),
            copy(&names, ConfigKind::ConfigMap, "settings", &configs["configmap/settings"], &served),
            copy(&names, ConfigKind::Secret, "keys", &configs["secret/keys"], &secret),
        ],
    );
}

#[test]
fn a_copy_is_of_one_content_for_one_canary() {
    let (names, ..) = subject();
    let other = Names { canary: "basket".into(), ..names.clone() };
    let long = "x".repeat(253);
    // Of an optional one that cannot exist.
    let strange = "ä部".repeat(60);
    let made = [
        copy_name(&names, "settings", "0000000000000000"),
        copy_name(&names, "settings", "0000000000000001"),
        copy_name(&other, "settings", "0000000000000000"),
        copy_name(&names, &long, "0000000000000000"),
        copy_name(&names, &strange, "0000000000000000"),
        copy_name(&names, &format!("x{strange}"), "0000000000000000"),
    ];
    assert!(made.iter().all(|name| name.len() <= 253), "{made:?}");
    assert_eq!(made.iter().collect::<std::collections::BTreeSet<_>>().len(), made.len());
}

#[test]
fn pods_are_started_anew_once_for_each_content_and_never_for_another_reason() {
    let configs = |content: &str| Configs::from([("configmap/settings".to_owned(), content.to_owned())]);
    let (old, new) = (configs("old"), configs("new"));
    let first = mark(None, &old, "1-a").unwrap();
    // Another rollout of the same content, a new image for instance.
    assert_eq!(mark(Some(&first), &old, "2-b"), None);
    let second = mark(Some(&first), &new, "3-c").unwrap();
    assert!(started_with(Some(&second), &new) && !started_with(Some(&second), &old));
    // Back at the former content, pods that were started for it before may have read the one between.
    assert_ne!(mark(Some(&second), &old, "4-d"), Some(first));
}

#[test]
fn what_pods_were_started_with_is_no_new_revision() {
    let template = |annotations: Value| {
        let annotations = (!annotations.is_null()).then(|| ("annotations".to_owned(), annotations));
        let metadata: serde_json::Map<_, _> =
            [("labels".to_owned(), json!({"app": "cart"}))].into_iter().chain(annotations).collect();
        template_of(&json!({"template": {"metadata": metadata}}))
    };
    assert_eq!(template(json!({STARTED_WITH: "a.1"})), template(Value::Null));
    assert_eq!(template(json!({STARTED_WITH: "a.1", "team": "cart"})), template(json!({"team": "cart"})));
}

#[test]
fn each_arm_has_a_service_and_a_policy() {
    let (names, spec, _, raw) = subject();
    let ports = ports(&spec, &raw["spec"]["template"], &main(&spec, &raw));
    let labels = |value: &str| [("app".to_owned(), value.to_owned())].into();
    golden(
        "services.yaml",
        &[
            service(&names, &spec, Role::Primary, &labels("cart-primary"), &ports),
            destination_rule(&names, &spec, None, &names.primary_service()),
            service(&names, &spec, Role::Canary, &labels("cart"), &ports),
            destination_rule(&names, &spec, None, &names.canary_service()),
            service(&names, &spec, Role::Apex(Ownership::Adopted), &labels("cart-primary"), &ports),
        ],
    );
}

#[test]
fn the_primary_is_scaled_like_the_target_by_what_it_is_itself_busy_with() {
    let (mut names, canary, target, _) = subject();
    names.scaler = Some("cart".into());
    let labels = labels_of(&names, &target);
    let metric = |selector: Value| json!({"name": "requests", "selector": selector});
    let average = json!({"type": "AverageValue", "averageValue": "100"});
    let described = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"});
    let own = json!({"matchLabels": {"app": "cart", "code": "200"}});
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"},
        "minReplicas": 2, "maxReplicas": 8,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            {"type": "Pods", "pods": {"metric": metric(own.clone()), "target": average}},
            {"type": "Object", "object": {"describedObject": described, "metric": metric(own.clone()), "target": average}},
            {"type": "External", "external": {"metric": metric(own), "target": average}},
        ],
    });
    let bounds = ScalerReplicas { min_replicas: Some(3), max_replicas: None };
    golden("scaler.yaml", &[scaler(&names, "cart-primary", &labels, &bounds, &spec)]);
    assert!(concerns(&canary, "cart-primary"));
}

#[test]
fn requests_with_the_token_go_to_the_canary_and_all_others_to_the_primary() {
    let (names, spec, ..) = subject();
    golden("routes.yaml", &[virtual_service(&names, &spec, Arms::Both, Ownership::Owned, false, &Map::new())]);
    golden(
        "routes-given-back.yaml",
        &[virtual_service(&names, &spec, Arms::Apex, Ownership::Released, false, &Map::new())],
    );
}

#[test]
fn ports_of_the_containers_are_added_where_they_are_asked_for() {
    let (_, mut spec, _, raw) = subject();
    spec.service.port_discovery = Some(true);
    let found = ports(&spec, &raw["spec"]["template"], &main(&spec, &raw));
    let names: Vec<_> = found.iter().map(|port| port["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["http", "metrics"]);
}

#[test]
fn a_target_whose_pods_cannot_be_told_apart_is_refused() {
    let (names, ..) = subject();
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    assert_eq!(names.selector(&labels(&[("x", "1")])), Ok(("x".into(), "1".into())));
    assert_eq!(names.selector(&labels(&[("name", "n"), ("tier", "web")])), Ok(("name".into(), "n".into())));
    let long = "l".repeat(56);
    let problem = names.selector(&labels(&[("app", &long)])).unwrap_err();
    assert!(problem.contains("of 56 characters: 55 is the limit, as -primary is added"), "{problem}");
    assert!(names.selector(&labels(&[("app", &long[..55])])).is_ok());
    assert!(names.selector(&labels(&[("x", "1"), ("y", "2")])).unwrap_err().contains("add one of them"));
}

#[test]
fn an_empty_creation_time_is_no_new_revision() {
    let with = json!({"template": {"metadata": {"creationTimestamp": null, "labels": {"app": "cart"}}}});
    let without = json!({"template": {"metadata": {"labels": {"app": "cart"}}}});
    assert_eq!(template_of(&with), template_of(&without));
}

#[test]
fn an_adopted_object_remembers_what_it_was_and_becomes_it_again() {
    let (names, spec, ..) = subject();
    let before = json!({
        "metadata": {
            "name": "cart", "namespace": "shop", "uid": "8c1f", "resourceVersion": "17",
            "labels": {"app.kubernetes.io/managed-by": "Helm", "tier": "web"}, "annotations": {"team": "cart"},
        },
        "spec": {"hosts": ["shop.example.com"], "http": [{"route": [{"destination": {"host": "cart"}}]}]},
        "status": {"observedGeneration": 3},
    });
    let wanted = virtual_service(&names, &spec, Arms::Both, Ownership::Adopted, false, &Map::new());
    let text = remember(&before, &wanted, Vec::new()).unwrap();
    golden("routes-adopted.yaml", &[adopt(wanted, Some(&text))]);
    let restored = restored(&wanted_of("VirtualService"), &before["metadata"], &text, None).unwrap();
    golden("routes-restored.yaml", &[restored]);
}

#[test]
fn of_a_service_only_what_weir_changes_is_remembered() {
    let (names, spec, _, raw) = subject();
    let ports = ports(&spec, &raw["spec"]["template"], &main(&spec, &raw));
    let wanted = service(
        &names,
        &spec,
        Role::Apex(Ownership::Adopted),
        &[("app".to_owned(), "cart-primary".to_owned())].into(),
        &ports,
    );
    let before = json!({
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"selector": {"app": "cart"}, "ports": [{"port": 80, "nodePort": 30080}], "clusterIP": "10.0.0.1"},
    });
    let text = remember(&before, &wanted, Vec::new()).unwrap();
    let restored = restored(&wanted_of("Service"), &before["metadata"], &text, None).unwrap();
    assert_eq!(restored["spec"], json!({"selector": {"app": "cart"}, "ports": [{"port": 80, "nodePort": 30080}]}));
}

#[test]
fn what_is_too_large_to_be_remembered_is_not_adopted() {
    let (names, spec, ..) = subject();
    let wanted = virtual_service(&names, &spec, Arms::Both, Ownership::Adopted, false, &Map::new());
    let long = "x".repeat(100_000);
    let before = json!({"metadata": {"name": "cart"}, "spec": {"hosts": [long]}});
    assert!(remember(&before, &wanted, Vec::new()).unwrap_err().contains("service.name"));
}

fn wanted_of(kind: &str) -> (&'static str, &str) {
    (if kind == "Service" { "v1" } else { "networking.istio.io/v1" }, kind)
}

#[test]
fn keys_that_say_whose_an_object_is_are_not_taken_from_the_user() {
    let (names, mut spec, _, _) = subject();
    let keys =
        ["weir.dev/original", "x.weir.dev/a", "flagger.app/config", "kustomize.toolkit.fluxcd.io/reconcile", "team"];
    let map: std::collections::BTreeMap<String, String> = keys.map(|key| (key.to_owned(), "x".to_owned())).into();
    let extra = crate::api::service::ExtraMetadata { labels: map.clone(), annotations: map };
    spec.service.apex = Some(extra);
    let service =
        service(&names, &spec, Role::Apex(Ownership::Adopted), &[("app".to_owned(), "cart".to_owned())].into(), &[]);
    let routes = virtual_service(&names, &spec, Arms::Both, Ownership::Adopted, false, &Map::new());
    for object in [service, routes] {
        let metadata = &object["metadata"];
        assert_eq!(metadata["annotations"], json!({"team": "x"}));
        let labels: Vec<&String> = metadata["labels"].as_object().unwrap().keys().collect();
        assert_eq!(labels, ["app.kubernetes.io/managed-by", "team", "weir.dev/canary"]);
    }
}
