//! Turns Flagger's objects into Weir's: one word of each changes, and what changes its meaning is told.
//!
//! The text is edited and not written anew, so that order, comments and everybody else's objects stay as they are.

use regex_lite::Regex;
use serde_json::Value;

use super::canary::CanarySpec;
use super::object::{GROUP, Object, VERSION};
use super::plan::reading;
use super::problem::Problem;
use super::read::{Known, Parsed, parts, read, value};

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

/// Returns a document with Weir's objects in place of Flagger's, and how many.
fn changed(text: &str, body: &str) -> (String, usize) {
    let of = |object: &Value| object["apiVersion"] == FLAGGER && KINDS.iter().any(|kind| object["kind"] == *kind);
    let document = value(body).unwrap_or_default();
    let count = match document["items"].as_array() {
        Some(items) if document["kind"] == "List" => items.iter().filter(|item| of(item)).count(),
        _ => usize::from(of(&document)),
    };
    // A key, in quotes or not, with this value: in a list's items too, but not in a text or a comment.
    let version = Regex::new(r#"(?m)^([^#\n]*?["']?apiVersion["']?\s*:\s*["']?)flagger\.app/v1beta1\b"#);
    match version {
        Ok(version) if count > 0 => {
            (version.replacen(text, count, format!("${{1}}{GROUP}/{VERSION}")).into_owned(), count)
        }
        _ => (text.to_owned(), 0),
    }
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
- apiVersion: apps/v1
  kind: Deployment
- apiVersion: flagger.app/v1beta1
  kind: Canary
  metadata: {name: other}
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
            [2, 19, 29, 34]
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
    fn a_text_without_flaggers_objects_stays_as_it_is() {
        let text = "\u{feff}kind: Canary\r\napiVersion: weir.dev/v1beta1\r\n";
        assert_eq!(migrate(text, "a.yaml").text, text);
        assert_eq!(migrate("", "a.yaml").text, "");
    }
}
