//! What `docs/flagger.md` says of a field, `weir migrate` says of an object that uses it.

use std::collections::BTreeSet;

use weir_controller::alerts::unsendable;
use weir_controller::api::{Known, migrate, read as objects};
use weir_controller::unanswerable;

use crate::markdown::{read, spans};

/// Flagger's objects, which use what differs.
const OBJECTS: &str = "\
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: one, namespace: shop}
spec:
  provider: nginx
  targetRef: {apiVersion: extensions/v1beta1, kind: DaemonSet, name: one}
  autoscalerRef: {apiVersion: keda.sh/v1alpha1, kind: ScaledObject, name: one}
  suspend: true
  service: {port: 80, appProtocol: tcp, headless: true}
  analysis:
    interval: 5s
    threshold: 5
    stepWeight: 20
    maxWeight: 50
    metrics:
    - {name: request-success-rate, interval: 1m, thresholdRange: {min: 99}}
    - {name: request-duration, templateRef: {name: slow}, thresholdRange: {max: 500}}
    alerts: [{name: on call, providerRef: {name: chat, namespace: ops}}]
    webhooks: [{name: more, type: confirm-traffic-increase, url: 'http://gate/', timeout: 20m, muteAlert: true}]
    sessionAffinity: {cookieName: arm, primaryCookieName: primary}
---
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: other, namespace: shop}
spec:
  targetRef: {kind: Deployment, name: other}
  service: {port: 80}
  analysis: {iterations: 10, metrics: [{name: request-duration, thresholdRange: {max: 500}}]}
---
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: steps, namespace: shop}
spec: {targetRef: {kind: Deployment, name: steps}, service: {port: 80}, analysis: {stepWeights: [10, 5]}}
---
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: thin, namespace: shop}
spec: {targetRef: {kind: Deployment, name: thin}, service: {port: 80}, analysis: {stepWeight: 0.001}}
---
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: slow, namespace: shop}
spec: {provider: {type: datadog}, query: up}
---
apiVersion: flagger.app/v1beta1
kind: MetricTemplate
metadata: {name: known, namespace: shop}
spec: {provider: {type: prometheus, address: 'http://me:secret@prometheus'}, query: up}
---
apiVersion: flagger.app/v1beta1
kind: AlertProvider
metadata: {name: chat, namespace: ops}
spec: {type: slack, secretRef: {name: chat}, proxy: 'http://proxy:3128'}
---
apiVersion: flagger.app/v1beta1
kind: AlertProvider
metadata: {name: teams, namespace: ops}
spec: {type: msteams, address: 'https://teams/'}
---
apiVersion: flagger.app/v1beta1
kind: AlertProvider
metadata: {name: pager, namespace: ops}
spec: {type: pager, address: 'https://pager/'}
";

/// The fields of a kind that the page says differ, by their paths in the object.
fn differing(page: &str, heading: &str, prefix: &str) -> Vec<String> {
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.contains("| differs |"));
    let fields = rows.flat_map(|row| spans(row.split('|').nth(1).unwrap()));
    fields.map(|field| format!("{prefix}.{field}")).collect()
}

/// A path without the numbers of items.
fn plain(path: &str) -> String {
    let parts = path.split('[').enumerate();
    parts.map(|(i, part)| if i == 0 { part } else { part.split_once(']').unwrap().1 }).collect()
}

#[test]
fn migrate_names_every_field_that_differs() {
    let migration = migrate(OBJECTS, "flagger.yaml");
    let unusable = objects(&migration.text, "").into_iter().flatten().filter_map(|parsed| match parsed.object {
        Known::MetricTemplate(template) => unanswerable(&template),
        Known::AlertProvider(provider) => unsendable(&provider.spec),
        _ => None,
    });
    let told: BTreeSet<String> = migration
        .problems
        .iter()
        .chain(&migration.remarks)
        .cloned()
        .chain(unusable)
        .map(|it| plain(&it.field))
        .collect();
    let page = read("docs/flagger.md");
    let (mut missing, mut rows) = (Vec::new(), 0);
    for (heading, prefix) in [
        ("spec", "spec"),
        ("spec.service", "spec.service"),
        ("spec.analysis", "spec.analysis"),
        ("MetricTemplate", "spec"),
        ("AlertProvider", "spec"),
    ] {
        for field in differing(&page, heading, prefix) {
            rows += 1;
            // A bound is told of with its range.
            let range =
                field.rsplit_once('.').map(|(range, _)| range).filter(|range| range.ends_with("thresholdRange"));
            if !told.contains(&field) && !range.is_some_and(|range| told.contains(range)) {
                missing.push(field);
            }
        }
    }
    assert!(rows >= 30, "{rows}");
    assert!(missing.is_empty(), "docs/flagger.md says that these differ, and weir migrate does not: {missing:?}");
}
