//! The chart's objects as Helm renders them: what holds for each of them, and for each pod.

use serde_json::{Value, json};

use super::installing::{manifests, rendered};

/// The objects of a rendering.
fn objects(values: &[&str]) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(&rendered(values).unwrap()).unwrap();
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// The template of a pod of that name.
fn pod<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    let found = objects.iter().find(|it| it["metadata"]["name"] == name && it.pointer("/spec/template/spec").is_some());
    &found.unwrap_or_else(|| panic!("no pods of {name}"))["spec"]["template"]
}

#[test]
fn what_takes_weir_away_may_run_wherever_the_controller_may() {
    let settings = json!({
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "platform",
        "nodeSelector": {"pool": "platform"},
        "tolerations": [{"key": "platform", "operator": "Exists"}],
        "affinity": {
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []},
        },
    });
    let mut values = settings.clone();
    values["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    values["podLabels"] = json!({"tier": "platform"});
    values["podAnnotations"] = json!({"who": "platform"});
    let values: Vec<String> = values
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(key, value)| ["--set-json".into(), format!("{key}={value}")])
        .collect();
    let objects = objects(&values.iter().map(String::as_str).collect::<Vec<_>>());
    let pods: Vec<&str> = objects
        .iter()
        .filter(|it| it.pointer("/spec/template/spec").is_some())
        .map(|it| it["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(pods, ["weir", "weir-uninstall"]);
    for name in pods {
        let template = pod(&objects, name);
        let (spec, container) = (&template["spec"], &template["spec"]["containers"][0]);
        for (field, value) in settings.as_object().unwrap().iter().filter(|(field, _)| *field != "affinity") {
            assert_eq!(spec[field], *value, "{name}");
        }
        assert_eq!(spec["affinity"]["nodeAffinity"], settings["affinity"]["nodeAffinity"], "{name}");
        assert_eq!(container["resources"]["limits"], json!({"cpu": "1", "memory": "1Gi"}), "{name}");
        assert_eq!(template["metadata"]["labels"]["tier"], "platform", "{name}");
        assert_eq!(template["metadata"]["annotations"]["who"], "platform", "{name}");
        // Neither is for a sidecar, and both keep to the strictest of the API server's standards.
        assert_eq!(template["metadata"]["labels"]["sidecar.istio.io/inject"], "false", "{name}");
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]), "{name}");
    }
    // Where replicas keep apart there may be no node without one.
    assert!(pod(&objects, "weir-uninstall")["spec"]["affinity"]["podAntiAffinity"].is_null());
    // The Service leads to the controller alone.
    assert!(pod(&objects, "weir-uninstall")["metadata"]["labels"]["app.kubernetes.io/name"].is_null());
    // Where pods reach nothing that is not named, both are.
    let closed = ["--set", "networkPolicy.restrictEgress=true"];
    let policies = self::objects(&closed).iter().filter(|it| it["kind"] == "NetworkPolicy").count();
    assert_eq!(policies, 2);
}

/// What `helm upgrade --reuse-values` leaves of values that are new to it: nothing, and so the defaults hold.
fn first_difference(a: &str, b: &str) -> String {
    let (a, b) = (a.lines(), b.lines());
    a.zip(b).find(|(a, b)| a != b).map_or_else(|| "one is longer".into(), |(a, b)| format!("{a} for {b}"))
}

#[test]
fn a_value_that_an_earlier_chart_did_not_have_is_its_default() {
    let values = std::fs::read_to_string(manifests().join("chart/values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let plain = rendered(&["--set", "replicas=2"]).unwrap();
    // An image is nobody's default, and `replicas` has been there since the first chart.
    let old = ["image", "replicas"];
    let groups: Vec<&String> = values.as_object().unwrap().keys().filter(|key| !old.contains(&key.as_str())).collect();
    assert!(groups.len() > 30);
    for group in groups {
        let without = rendered(&["--set", &format!("replicas=2,{group}=null")]);
        let without = without.unwrap_or_else(|error| panic!("{group}: {error}"));
        // Limits are the user's to leave out.
        if group == "resources" {
            continue;
        }
        assert!(without == plain, "{group}: {}", first_difference(&without, &plain));
    }
    // A part of a group is new too.
    for field in ["uninstall.timeout", "networkPolicy.apiServerPorts", "module.sha256", "alerts.secrets", "page.from"] {
        let without = rendered(&["--set", &format!("replicas=2,{field}=null")]).unwrap();
        assert!(without == plain, "{field}: {}", first_difference(&without, &plain));
    }
}

#[test]
fn common_labels_are_on_every_object_and_pod_and_select_nothing() {
    let everything = [
        "--set",
        "commonLabels.team=releases,podMonitor.enabled=true,serviceMonitor.enabled=true,prometheusRule.enabled=true,dashboards.enabled=true,\
         admissionPolicy.enabled=true,page.enabled=true,networkPolicy.restrictEgress=true,replicas=2",
    ];
    for some in [&[][..], &["--set", "watchNamespaces={shop},callerNamespaces={web}"]] {
        let objects = objects(&[&everything[..], some].concat());
        assert!(objects.len() > 20);
        for object in &objects {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            assert_eq!(object["metadata"]["labels"]["team"], "releases", "{name}");
            let selects =
                ["/spec/selector/matchLabels/team", "/spec/selector/team", "/spec/podSelector/matchLabels/team"];
            assert!(selects.iter().all(|path| object.pointer(path).is_none()), "{name}");
        }
        for name in ["weir", "weir-uninstall"] {
            assert_eq!(pod(&objects, name)["metadata"]["labels"]["team"], "releases");
        }
    }
}
