//! What `weir lint` says beside what the API server says of the same objects.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::people::plugin;
use super::stage::installed;
use super::turn::Turn;

/// Changes of a Canary that works: the place, and what comes there. Nothing takes the field away.
fn changes() -> Vec<(&'static str, Option<Value>)> {
    let hosts = |n: usize| (0..n).map(|i| json!(format!("h{i}.of-{n}.example.com"))).collect::<Vec<_>>();
    let metric = |fields: Value| {
        let mut metric = json!({"name": "errors", "thresholdRange": {"max": 1}, "query": "up"});
        metric.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Some(json!([metric]))
    };
    let service = |fields: Value| {
        let mut service = json!({"port": 80, "gateways": ["public"]});
        service.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Some(service)
    };
    vec![
        ("/spec/provider", Some(json!("istio"))),
        ("/spec/provider", Some(json!("linkerd"))),
        ("/spec/suspend", Some(json!("yes"))),
        ("/spec/sevice", Some(json!({}))),
        ("/spec/targetRef", None),
        ("/spec/targetRef/kind", Some(json!("DaemonSet"))),
        ("/spec/targetRef/name", Some(json!("v1.cart"))),
        ("/spec/targetRef/apiVersion", Some(json!(7))),
        ("/spec/progressDeadlineSeconds", Some(json!(-1))),
        ("/spec/progressDeadlineSeconds", Some(json!("600"))),
        ("/spec/service", None),
        ("/spec/service/port", None),
        ("/spec/service/port", Some(json!(0))),
        ("/spec/service/port", Some(json!(70000))),
        ("/spec/service/targetPort", Some(json!("http"))),
        ("/spec/service/targetPort", Some(json!("has space"))),
        ("/spec/service/hosts", Some(hosts(64).into())),
        ("/spec/service/hosts", Some(hosts(65).into())),
        ("/spec/service/name", Some(json!("Cart"))),
        ("/spec/service", service(json!({"appProtocol": "TCP"}))),
        ("/spec/service", service(json!({"delegation": true}))),
        ("/spec/service", service(json!({"callers": [{"namespace": "web"}]}))),
        ("/spec/service", service(json!({"gateways": ["public", "mesh"], "callers": [{"namespace": "web"}]}))),
        ("/spec/service", service(json!({"trafficDistribution": "Near"}))),
        ("/spec/service", service(json!({"apex": {"labels": {"weir.dev/a": "b"}}}))),
        ("/spec/service", service(json!({"apex": {"labels": {"team": "b"}}}))),
        ("/spec/service", service(json!({"retries": {"attempts": 3, "perTryTimeout": "1s"}}))),
        ("/spec/analysis", None),
        ("/spec/analysis/interval", Some(json!("1 minute"))),
        ("/spec/analysis/interval", Some(json!("1m30s"))),
        ("/spec/analysis/stepWeight", Some(json!(0))),
        ("/spec/analysis/stepWeight", Some(json!(101))),
        ("/spec/analysis/stepWeight", Some(json!("10"))),
        ("/spec/analysis/stepWeights", Some(json!([]))),
        ("/spec/analysis/stepWeights", Some(json!([5]))),
        ("/spec/analysis/threshold", Some(json!(-1))),
        ("/spec/analysis/match", Some(json!([{"headers": {"x": {"exact": "y"}}}]))),
        ("/spec/analysis/match", Some(json!([{"header": {"x": {"exact": "y"}}}]))),
        ("/spec/analysis/metrics", metric(json!({}))),
        ("/spec/analysis/metrics", metric(json!({"query": "u".repeat(8193)}))),
        ("/spec/analysis/metrics", metric(json!({"thresholdRange": {"max": "1"}}))),
        ("/spec/analysis/metrics", metric(json!({"treshold": 1}))),
        ("/spec/analysis/webhooks", webhook(json!({}))),
        ("/spec/analysis/webhooks", webhook(json!({"type": "before"}))),
        ("/spec/analysis/webhooks", webhook(json!({"url": null}))),
        ("/spec/analysis/webhooks", webhook(json!({"metadata": {"cmd": 7}}))),
        ("/metadata/lables", Some(json!({}))),
        ("/metadata/labels", Some(json!({"a b": "c"}))),
        ("/metadata/labels", Some(json!({"a": "b c"}))),
        ("/metadata/annotations", Some(json!({"a": true}))),
        ("/metadata/annotations", Some(json!({"A.b/c": "d e"}))),
    ]
}

fn canary(number: usize, (at, value): &(&str, Option<Value>)) -> String {
    let mut object = json!({
        "apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": name(number)},
        "spec": {
            "targetRef": {"kind": "Deployment", "name": name(number)}, "metricsServer": "http://prometheus.test:9090",
            "service": {"port": 80, "gateways": ["public"], "hosts": [format!("{}.example.com", name(number))]},
            "analysis": {"interval": "30s", "threshold": 2, "stepWeight": 10},
        },
    });
    let (parent, field) = at.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(field.to_owned(), value.clone()),
        None => parent.remove(field),
    };
    object.to_string()
}

fn name(number: usize) -> String {
    format!("c{number:02}")
}

#[tokio::test(flavor = "multi_thread")]
async fn lint_refuses_what_the_api_server_refuses() {
    let _turn = Turn::beside().await;
    installed().await;
    let changes = changes();
    let documents: Vec<String> = changes.iter().enumerate().map(|(number, change)| canary(number, change)).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("canaries.yaml");
    // Without the first line kubectl takes all of it for JSON.
    std::fs::write(&file, format!("---\n{}", documents.join("\n---\n"))).unwrap();
    let file = file.to_str().unwrap();
    // One that is refused keeps kubectl from none of the others.
    let tried =
        Command::new("kubectl").args(["create", "--dry-run=server", "-o", "name", "-f", file]).output().unwrap();
    let accepted = String::from_utf8(tried.stdout).unwrap();
    let accepted: BTreeSet<&str> = accepted.lines().filter_map(|line| line.rsplit('/').next()).collect();
    let linted = plugin(&["lint", "-f", file]);
    let said = String::from_utf8(linted.stdout).unwrap() + &String::from_utf8(linted.stderr).unwrap();
    let of = |line: &str| line.split_once(", document ")?.1.split([',', ':']).next()?.parse::<usize>().ok();
    let refused: BTreeSet<usize> = said.lines().filter(|line| line.starts_with("error")).filter_map(of).collect();
    let mut by_weir_alone = Vec::new();
    for (number, (at, value)) in changes.iter().enumerate() {
        let (by_server, by_lint) = (!accepted.contains(&*name(number)), refused.contains(&(number + 1)));
        let text = String::from_utf8_lossy(&tried.stderr);
        assert!(by_lint || !by_server, "{at} {value:?}: refused by the API server, and not by lint\n{said}\n{text}");
        if by_lint && !by_server {
            by_weir_alone.push((*at, value.clone()));
        }
    }
    // What the definition cannot say is `Stalled` in the cluster; and the API server compares a whole number with the whole part of a least one.
    let expected = [
        ("/spec/analysis/interval", Some(json!("1 minute"))),
        ("/spec/analysis/stepWeight", Some(json!(0))),
        ("/spec/analysis/webhooks", webhook(json!({"type": "before"}))),
    ];
    assert_eq!(by_weir_alone, expected, "{said}");
    assert!(accepted.len() > 10 && refused.len() > 25, "{accepted:?}");
}

fn webhook(fields: Value) -> Option<Value> {
    let mut webhook = json!({"name": "gate", "type": "rollout", "url": "http://gate.test/"});
    webhook.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Some(json!([webhook]))
}
