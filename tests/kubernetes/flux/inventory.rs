//! What Flux has applied, by its own inventories, and that it is still what was applied: not pruned, not frozen, not drifted.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::kubectl::{kubectl, object, until};
use super::kustomizations;

/// Objects whose status is written at any time, by others and by Flux itself: that of a Canary says how many callers it has.
const RESTLESS: [&str; 4] = ["Canary", "Deployment", "HorizontalPodAutoscaler", "Kustomization"];

/// The objects of all inventories, as they are now, by `namespace_name_group_kind`.
pub(super) struct Inventory(BTreeMap<String, Value>);

impl Inventory {
    pub(super) fn now() -> Self {
        let mut found = BTreeMap::new();
        for kustomization in kustomizations() {
            for entry in kustomization["status"]["inventory"]["entries"].as_array().into_iter().flatten() {
                let id = entry["id"].as_str().unwrap().to_owned();
                let parts: Vec<&str> = id.split('_').collect();
                let [namespace, name, group, kind] = parts[..] else { panic!("{id}") };
                let kind = if group.is_empty() {
                    kind.to_owned()
                } else {
                    format!("{kind}.{}.{group}", entry["v"].as_str().unwrap())
                };
                let mut arguments = vec!["get", &kind, name, "-o", "json", "--show-managed-fields=false"];
                if !namespace.is_empty() {
                    arguments.extend(["-n", namespace]);
                }
                found.insert(id.clone(), serde_json::from_str(&kubectl(&arguments)).unwrap());
            }
        }
        assert!(found.len() > 20, "{:?}", found.keys());
        Self(found)
    }

    /// Everything is the object that it was, and nothing is kept from Flux.
    pub(super) fn is_whole_since(&self, before: &Self) {
        assert!(self.0.keys().eq(before.0.keys()), "{:?}\n{:?}", self.0.keys(), before.0.keys());
        for (id, object) in &self.0 {
            let meta = &object["metadata"];
            assert_eq!(meta["uid"], before.0[id]["metadata"]["uid"], "{id} was deleted and made again");
            assert!(meta["deletionTimestamp"].is_null(), "{id} is deleted");
            let frozen = ["reconcile", "ssa", "prune"].map(|word| format!("kustomize.toolkit.fluxcd.io/{word}"));
            for annotation in frozen {
                assert!(meta["annotations"][&annotation].is_null(), "{id} has {annotation}");
            }
        }
    }

    /// Has Flux apply everything once more: where nothing has drifted, it writes nothing.
    pub(super) async fn drifts_nowhere() {
        let before = Self::now();
        let all: Vec<String> =
            kustomizations().iter().map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().to_string();
        for name in &all {
            let request = format!("reconcile.fluxcd.io/requestedAt={now}");
            kubectl(&["-n", "flux-system", "annotate", "--overwrite", &format!("kustomization/{name}"), &request]);
            until(&format!("{name} is applied again"), || {
                let it = object("flux-system", "kustomization", name)?;
                (it["status"]["lastHandledReconcileAt"] == now.as_str() && super::is_ready(&it)).then_some(())
            })
            .await;
        }
        let after = Self::now();
        after.is_whole_since(&before);
        for (id, object) in &after.0 {
            // The request itself is written into these.
            let asked = object["metadata"]["annotations"]["reconcile.fluxcd.io/requestedAt"] == now.as_str();
            let restless = asked || RESTLESS.iter().any(|kind| object["kind"] == *kind);
            for field in ["generation", "resourceVersion"] {
                let fixed = field == "generation" || !restless;
                let (was, is) = (&before.0[id]["metadata"][field], &object["metadata"][field]);
                assert!(!fixed || was == is, "{id} was written again: its {field} was {was} and is {is}");
            }
        }
    }
}
