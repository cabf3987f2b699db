//! Turns Flagger's objects into Weir's: one word of each changes, and what changes its meaning is told.
//!
//! The text is edited and not written anew, so that order, comments and everybody else's objects stay as they are.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::canary::CanarySpec;
use super::object::{GROUP, Object, VERSION};
use super::plan::reading;
use super::problem::Problem;
use super::read::{Known, Parsed, items, parts, read, value};

/// Flagger's objects as they are written.
const FLAGGER: &str = "flagger.app/v1beta1";
/// The kinds that both have.
const KINDS: [&str; 3] = ["Canary", "MetricTemplate", "AlertProvider"];

/// A text with Weir's objects in place of Flagger's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Migration {
    /// The text. A document that cannot be read is in it as it was.
    pub text: String,
    /// How many objects were changed.
    pub changed: usize,
    /// What cannot be read, and what Weir refuses.
    pub problems: Vec<Problem>,
    /// What has another meaning than Flagger gives it, or none.
    pub remarks: Vec<Problem>,
}

/// Returns a text with Weir's objects in place of Flagger's. `file` is the name for people.
#[must_use]
pub fn migrate(text: &str, file: &str) -> Migration {
    let mut migration = Migration::default();
    for part in parts(text) {
        let (part, changed) = changed(part.text, &part.body);
        migration.text += &part;
        migration.changed += changed;
    }
    for document in read(&migration.text, file) {
        match document {
            Ok(parsed) => migration.check(parsed),
            Err(problem) => migration.problems.push(problem),
        }
    }
    migration
}

/// Where a document names the version of an object, and of the items of a list.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Versions {
    #[serde(rename = "apiVersion")]
    api_version: Option<Spanned<Value>>,
    kind: Value,
    items: Vec<Self>,
}

impl Versions {
    /// Returns where in the text the versions of Flagger's objects begin.
    fn of_flagger(&self) -> Vec<usize> {
        let is_ours = KINDS.iter().any(|kind| self.kind == *kind);
        let own = self.api_version.as_ref().filter(|version| is_ours && version.value == FLAGGER);
        let offset = own.and_then(|version| version.defined.span().byte_offset());
        let own = offset.and_then(|offset| usize::try_from(offset).ok());
        own.into_iter().chain(self.items.iter().flat_map(Self::of_flagger)).collect()
    }
}

/// Returns a document with Weir's objects in place of Flagger's, and how many.
fn changed(text: &str, body: &str) -> (String, usize) {
    let of = |object: &Value| object["apiVersion"] == FLAGGER && KINDS.iter().any(|kind| object["kind"] == *kind);
    let document = value(body).unwrap_or_default();
    let count = items(&document).map_or(usize::from(of(&document)), |items| items.iter().filter(|it| of(it)).count());
    if count == 0 {
        return (text.to_owned(), 0);
    }
    let versions: Versions = serde_saphyr::from_str(body).unwrap_or_default();
    // A byte order mark is before the body. One anchor may be the version of several objects.
    let before = text.len() - body.len();
    let places: BTreeSet<usize> = versions.of_flagger().into_iter().map(|at| at + before).collect();
    let count = if places.is_empty() { 0 } else { count };
    let mut changed = text.to_owned();
    for at in places.into_iter().rev() {
        // The value begins here: with an anchor, a tag or a quote at most.
        if let Some(found) = changed.get(at..).and_then(|rest| rest.find(FLAGGER)) {
            changed.replace_range(at + found..at + found + FLAGGER.len(), &format!("{GROUP}/{VERSION}"));
        }
    }
    (changed, count)
}

impl Migration {
    fn check(&mut self, parsed: Parsed) {
        let Parsed { place, object, warnings } = parsed;
        if object != Known::Other {
            self.remarks.extend(warnings);
        } else {
            // What is Flagger's still, and not turned into ours: nobody would look after it.
            self.problems.extend(warnings.into_iter().filter(|warning| warning.text.starts_with("flagger.app/")));
        }
        let Known::Canary(canary) = object else { return };
        let read = reading(&canary.metadata.namespace, &canary.metadata.name, &canary.spec);
        let at = |problem: Problem| problem.at(&place);
        self.problems.extend(read.plan.err().into_iter().flatten().map(at));
        self.remarks.extend(read.remarks.into_iter().chain(read.deprecated).chain(differences(&canary)).map(at));
    }
}

/// Returns what works with Flagger and waits for ever with Weir.
fn differences(canary: &Object<CanarySpec>) -> Vec<Problem> {
    let spec = &canary.spec;
    let mut found = Vec::new();
    if spec.service.gateways.iter().all(|gateway| gateway == "mesh") && spec.service.delegation != Some(true) {
        let text = "names no gateway: requests are split in the sidecars of callers in the Canary's namespace; name callers elsewhere in \
                    service.callers";
        found.push(Problem::new("spec.service.gateways", text));
    }
    found
}

#[cfg(test)]
mod tests {
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
        let changed: Vec<(usize, &str)> = (1..)
            .zip(before.iter().zip(&after))
            .filter(|(_, (a, b))| a != b)
            .map(|(n, (_, b))| (n, b.as_str()))
            .collect();
        let version = |line: &str| line.replace("flagger.app", "weir.dev");
        assert_eq!(
            changed,
            [2, 19, 29, 35]
                .map(|n| (n, version(&before[n - 1])))
                .iter()
                .map(|(n, l)| (*n, l.as_str()))
                .collect::<Vec<_>>()
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
        assert!(
            problems[0].contains("v1alpha3") && problems[0].contains("call canaryAnalysis analysis"),
            "{problems:?}"
        );
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
        let versions =
            |text: &str| text.lines().filter(|line| line.starts_with("- apiVersion: weir.dev/v1beta1")).count();
        assert_eq!((migration.changed, versions(&migration.text)), (2, 2), "{}", migration.text);
        assert_eq!(migration.text.matches("weir.dev").count(), 2, "{}", migration.text);
        // Each is judged, where it stands.
        let problems: Vec<String> = migration.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[1].starts_with("list.yaml, document 1, line 15: spec.targetRef.kind: \"Pod\""),
            "{problems:?}"
        );
        let told: BTreeSet<&str> = migration.remarks.iter().map(|remark| remark.field.as_str()).collect();
        assert_eq!(told, BTreeSet::from(["metadata.finalizers", "metadata.uid", "spec.service.gateways"]));
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
        let shared = "kind: List\nitems:\n- {apiVersion: &v flagger.app/v1beta1, kind: Canary}\n- {apiVersion: *v, kind: Canary}\n";
        assert_eq!(migrate(shared, "a").text, shared.replace("flagger.app", "weir.dev"));
    }

    #[test]
    fn a_text_without_flaggers_objects_stays_as_it_is() {
        let text = "\u{feff}kind: Canary\r\napiVersion: weir.dev/v1beta1\r\n";
        assert_eq!(migrate(text, "a.yaml").text, text);
        assert_eq!(migrate("", "a.yaml").text, "");
    }
}
