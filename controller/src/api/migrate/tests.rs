//! What is changed, what is told, and what stays.

use super::*;

const MIXED: &str = "\
# The shop's own.
apiVersion: flagger.app/v1beta1   # was v1alpha3
kind: Canary
metadata: {name: cart, namespace: shop}
spec:
  # apiVersion: flagger.app/v1beta1
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: cart}
  service: {port: 80}
  analysis:
    interval: 1m
    stepWeight: 10
    webhooks:
    - {name: load, url: \"http://tester/\", metadata: {cmd: \"hey http://cart-canary.shop/\"}}
---
kind: Canary
apiVersion: flagger.app/v1beta1
metadata: {name: broken
---
{\"kind\": \"MetricTemplate\", \"apiVersion\": \"flagger.app/v1beta1\", \"metadata\": {\"name\": \"errors\"}, \"spec\": {\"provider\": {\"type\": \"prometheus\", \"address\": \"http://prometheus\"}, \"query\": \"up\"}}
--- # not ours
apiVersion: v1
kind: ConfigMap
metadata: {name: note}
data: {text: 'apiVersion: flagger.app/v1beta1'}
---
apiVersion: v1
kind: List
items:
- apiVersion: flagger.app/v1beta1
  kind: Canary
  metadata: {name: one}
  spec: {targetRef: {kind: Deployment, name: one}, service: {port: 80, gateways: [public]}, analysis: {stepWeight: 5}}
- apiVersion: apps/v1
  kind: Deployment
- apiVersion: flagger.app/v1beta1
  kind: Canary
  metadata: {name: other}
  spec: {targetRef: {kind: Deployment, name: other}, service: {port: 80, gateways: [public]}, analysis: {stepWeight: 5}}
";

#[test]
fn only_the_version_of_flaggers_objects_changes() {
    let migration = migrate(MIXED, "shop.yaml");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(MIXED), lines(&migration.text));
    assert_eq!(before.len(), after.len());
    let changed: Vec<(usize, &str)> =
        (1..).zip(before.iter().zip(&after)).filter(|(_, (a, b))| a != b).map(|(n, (_, b))| (n, b.as_str())).collect();
    let version = |line: &str| line.replace("flagger.app", "weir.dev");
    assert_eq!(
        changed,
        [2, 19, 29, 35].map(|n| (n, version(&before[n - 1]))).iter().map(|(n, l)| (*n, l.as_str())).collect::<Vec<_>>()
    );
    assert_eq!(migration.changed, 4);
}

#[test]
fn what_does_not_parse_is_named_and_stays_as_it_was() {
    let migration = migrate(MIXED, "shop.yaml");
    let problems: Vec<String> = migration.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("shop.yaml, document 2, line 1"), "{problems:?}");
    assert!(migration.text.contains("apiVersion: flagger.app/v1beta1\nmetadata: {name: broken\n"));
}

#[test]
fn what_changes_its_meaning_is_told_by_field() {
    let migration = migrate(MIXED, "shop.yaml");
    let fields: Vec<&str> = migration.remarks.iter().map(|remark| remark.field.as_str()).collect();
    assert!(fields.contains(&"spec.service.gateways"), "{fields:?}");
    let gated = MIXED.replace("{port: 80}", "{port: 80, gateways: [public]}");
    let remarks = migrate(&gated, "shop.yaml").remarks;
    assert!(remarks.iter().any(|remark| remark.field == "spec.analysis.webhooks[0].metadata.cmd"), "{remarks:?}");
    assert!(!fields.contains(&"spec.analysis.webhooks[0].metadata.cmd"), "sidecars see it: {fields:?}");
}

#[test]
fn an_object_of_a_version_that_flagger_itself_has_left_is_named_with_what_to_write() {
    let text = "apiVersion: flagger.app/v1alpha3\nkind: Canary\nmetadata: {name: shop}\nspec: {canaryAnalysis: {stepWeight: 5}}\n";
    let migration = migrate(text, "old.yaml");
    assert_eq!((migration.text.as_str(), migration.changed), (text, 0));
    let problems: Vec<String> = migration.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("v1alpha3") && problems[0].contains("call canaryAnalysis analysis"), "{problems:?}");
}

#[test]
fn what_the_api_server_gives_back_is_changed_at_its_versions_alone() {
    let applied = r#"{"apiVersion":"flagger.app/v1beta1","kind":"Canary","metadata":{"name":"one"}}"#;
    let item = |name: &str| {
        format!(
            "- apiVersion: flagger.app/v1beta1\n  kind: Canary\n  metadata:\n    annotations:\n      \
             kubectl.kubernetes.io/last-applied-configuration: |\n        {applied}\n    finalizers: [finalizer.flagger.app]\n    \
             managedFields: [{{apiVersion: flagger.app/v1beta1}}]\n    name: {name}\n    uid: 0a1b\n  \
             spec: {{targetRef: {{kind: Pod, name: {name}}}, service: {{port: 80}}, analysis: {{stepWeight: 5}}}}\n  status: {{phase: \
             Succeeded}}\n"
        )
    };
    let text = format!("apiVersion: v1\nitems:\n{}{}kind: List\n", item("one"), item("other"));
    let migration = migrate(&text, "list.yaml");
    let versions = |text: &str| text.lines().filter(|line| line.starts_with("- apiVersion: weir.dev/v1beta1")).count();
    assert_eq!((migration.changed, versions(&migration.text)), (2, 2), "{}", migration.text);
    assert_eq!(migration.text.matches("weir.dev").count(), 2, "{}", migration.text);
    // Each is judged, where it stands.
    let problems: Vec<String> = migration.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].starts_with("list.yaml, document 1, line 25: spec.targetRef.kind: \"Pod\""), "{problems:?}");
    let told: BTreeSet<&str> = migration.remarks.iter().map(|remark| remark.field.as_str()).collect();
    assert_eq!(told, BTreeSet::from(["metadata.finalizers", "metadata.uid", "spec.service.gateways", "status"]));
}

#[test]
fn shapes_that_yaml_allows_are_one_and_the_same() {
    for shape in [
        "apiVersion: &v flagger.app/v1beta1\nkind: Canary\n",
        "\"kind\": 'Canary'\n'apiVersion': \"flagger.app/v1beta1\" # flagger.app/v1beta1\n",
        "kind: Canary\r\napiVersion:\r\n  flagger.app/v1beta1\r\n",
        "{kind: Canary, metadata: {labels: {apiVersion: flagger.app/v1beta1}}, apiVersion: flagger.app/v1beta1}",
        "---\n# flagger.app/v1beta1\nkind: Canary\nmetadata: {annotations: {a: \"apiVersion: flagger.app/v1beta1\"}}\napiVersion: !!str flagger.app/v1beta1\n",
        "\u{feff}--- {apiVersion: flagger.app/v1beta1, kind: Canary}\n",
        "kind: CanaryList\nitems: [{kind: Canary, apiVersion: flagger.app/v1beta1}]\n",
    ] {
        let migration = migrate(shape, "shape.yaml");
        let versions = |text: &str| {
            let value = value(&parts(text)[0].body).unwrap();
            items(&value).map_or(&value, |items| &items[0])["apiVersion"].clone()
        };
        assert_eq!(migration.changed, 1, "{shape}");
        assert_eq!(versions(&migration.text), "weir.dev/v1beta1", "{}", migration.text);
        let rest = |text: &str, version: &str| text.replacen(version, "", 1).len();
        assert_eq!(rest(&migration.text, "weir.dev/v1beta1"), rest(shape, FLAGGER), "{}", migration.text);
    }
    // One anchor, two objects.
    let shared =
        "kind: List\nitems:\n- {apiVersion: &v flagger.app/v1beta1, kind: Canary}\n- {apiVersion: *v, kind: Canary}\n";
    assert_eq!(migrate(shared, "a").text, shared.replace("flagger.app", "weir.dev"));
}

#[test]
fn a_text_without_flaggers_objects_stays_as_it_is() {
    let text = "\u{feff}kind: Canary\r\napiVersion: weir.dev/v1beta1\r\n";
    assert_eq!(migrate(text, "a.yaml").text, text);
    assert_eq!(migrate("", "a.yaml").text, "");
}

#[test]
fn what_still_means_flaggers_objects_is_told_with_its_field() {
    let text = "\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
patches:
- target: {group: flagger.app, kind: Canary}
  patch: |-
    apiVersion: flagger.app/v1beta1
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: apps}
spec:
  healthChecks:
  - {apiVersion: flagger.app/v1beta1, kind: Canary, name: shop}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: List
  items:
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRole
    metadata:
      annotations: {kubectl.kubernetes.io/last-applied-configuration: '[\"flagger.app\"]', docs: https://docs.flagger.app/usage}
    rules:
    - apiGroups: [apps, flagger.app]
";
    let migration = migrate(text, "all.yaml");
    assert_eq!((migration.text.as_str(), &migration.problems[..]), (text, &[][..]));
    let told: Vec<String> = migration
        .remarks
        .iter()
        .map(|remark| format!("{}:{} {} {}", remark.place.document, remark.place.line, remark.field, remark.text))
        .map(|text| text.split_once(':').map(|(_, rest)| rest.to_owned()).unwrap())
        .map(|text| text.split_once(": it stays").unwrap().0.to_owned())
        .collect();
    let expected = [
        "4 patches[0].target.group still names Flagger (flagger.app)",
        "5 patches[0].patch still names Flagger (flagger.app/v1beta1)",
        "13 spec.healthChecks[0].apiVersion still names Flagger (flagger.app/v1beta1)",
        "26 rules[0].apiGroups[1] still names Flagger (flagger.app)",
    ];
    assert_eq!(told, expected);
}

#[test]
fn lists_in_lists_and_escaped_json_are_changed_too() {
    let nested = "kind: List\nitems:\n- kind: List\n  items: [{kind: Canary, apiVersion: flagger.app/v1beta1}]\n";
    let migration = migrate(nested, "a");
    assert_eq!((migration.changed, migration.text), (1, nested.replace("flagger.app", "weir.dev")));
    let escaped = r#"{"kind":"Canary","apiVersion":"flagger.app\/v1beta1","metadata":{"name":"flagger.app/v1beta1"}}"#;
    let migration = migrate(escaped, "a");
    assert_eq!(migration.text, escaped.replace(r"flagger.app\/", "weir.dev/"));
    // What ends a document ends it without dashes too.
    let ended =
        "kind: Canary\napiVersion: flagger.app/v1beta1\n...\nkind: Canary\napiVersion: flagger.app/v1beta1\n...\n";
    let migration = migrate(ended, "a");
    assert_eq!((migration.changed, migration.text), (2, ended.replace("flagger.app", "weir.dev")));
}

#[test]
fn what_is_nearly_weirs_is_a_problem() {
    for header in ["apiVersion: weir.dev/v1\nkind: Canary", "apiVersion: weir.dev/v1beta1\nkind: Canry", "kind: Canary"]
    {
        assert_eq!(migrate(header, "a").problems.len(), 1, "{header}");
    }
}
