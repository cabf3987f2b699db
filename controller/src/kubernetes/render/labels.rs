//! By which labels the pods of both arms are found.
//!
//! The primary's pods have one label of the target's otherwise, `-primary` added to it. Its Deployment's selector is immutable, so
//! it stays what it was when it was made, whatever the target's becomes; its Service finds what runs.

use super::names::Names;
use crate::kubernetes::kinds::{Labels, Target};

/// Labels of the arms of one Canary, for one revision of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArmLabels {
    /// The label that tells the primary's pods from the target's.
    pub(crate) key: String,
    /// Its value on the target's pods.
    pub(crate) value: String,
    /// Its value on the primary's pods.
    pub(crate) own: String,
    /// The selector of the primary's Deployment, and labels of its pods.
    pub(crate) selector: Labels,
    /// What the primary's Service and the one that users call select.
    pub(crate) primary: Labels,
    /// What the canary's Service selects, and the one that users call when Weir goes; nothing without a target.
    pub(crate) canary: Option<Labels>,
}

impl ArmLabels {
    /// Returns the labels of the arms, where the primary runs, or is to run, a revision whose pods have the labels `pods`.
    ///
    /// # Errors
    /// In words, when the pods of one arm cannot be told from the other's.
    pub(crate) fn new(
        names: &Names,
        target: Option<&Target>,
        primary: Option<&Target>,
        pods: &Labels,
    ) -> Result<Self, String> {
        let matched = target.map(Target::selector);
        let live = primary.map(Target::selector);
        // What this very revision is told apart by already, if it is.
        let renamed = live.into_iter().flatten().find_map(|(key, own)| {
            let value = pods.get(key)?;
            (*own == format!("{value}-primary")).then(|| (key.clone(), value.clone()))
        });
        let (key, value) = match renamed {
            Some(renamed) => renamed,
            None => names.selector(matched.unwrap_or(pods))?,
        };
        let selector = live.cloned().unwrap_or_else(|| {
            let mut selector = matched.cloned().unwrap_or_default();
            selector.insert(key.clone(), format!("{value}-primary"));
            selector
        });
        let own = selector.get(&key).cloned().unwrap_or_else(|| format!("{value}-primary"));
        let mut labels = Self { key, value, own, selector, primary: Labels::new(), canary: matched.cloned() };
        let rendered = labels.of_primary(pods);
        labels.primary = labels.service(&rendered, matched, primary);
        if labels.canary.as_ref().is_some_and(|canary| selects(canary, &rendered))
            || target.is_some_and(|target| selects(&labels.primary, target.pod_labels()))
        {
            return Err(format!(
                "the pods of {}s {} and {} have the same labels, so requests cannot be told apart: give {} another value \
                 of the label {}",
                names.kind.word(),
                names.target,
                names.primary(),
                names.target,
                labels.key
            ));
        }
        Ok(labels)
    }

    /// Returns the labels of the primary's pods.
    #[must_use]
    pub(crate) fn of_primary(&self, pods: &Labels) -> Labels {
        let mut rendered = pods.clone();
        if let Some(value) = rendered.get_mut(&self.key) {
            value.clone_from(&self.own);
        }
        rendered.extend(self.selector.clone());
        rendered
    }

    /// Has the primary's Service go on selecting by the labels that its `live` one selects by, where all pods have them: those that
    /// it finds, and the `primary`'s next ones of a revision whose pods have the labels `pods`. With fewer labels it would find
    /// another workload's pods, while the primary's are being replaced.
    #[must_use]
    pub(crate) fn keeping_narrow(mut self, live: Option<&Labels>, primary: Option<&Target>, pods: &Labels) -> Self {
        let rendered = self.of_primary(pods);
        for (key, value) in live.into_iter().flatten() {
            let of_target = self.canary.as_ref().is_some_and(|target| target.contains_key(key));
            let has = |labels: &Labels| labels.get(key) == Some(value);
            if of_target && has(&rendered) && primary.is_some_and(|primary| has(primary.pod_labels())) {
                self.primary.insert(key.clone(), value.clone());
            }
        }
        self
    }

    /// Returns what the primary's Service selects: all that tells its pods from others', of what all of its pods have.
    fn service(&self, rendered: &Labels, matched: Option<&Labels>, primary: Option<&Target>) -> Labels {
        let mut found = self.selector.clone();
        for key in matched.into_iter().flat_map(Labels::keys) {
            let Some(value) = rendered.get(key) else { continue };
            // Pods of two revisions run while one takes over from the other.
            let all = primary
                .is_none_or(|primary| primary.progress().is_settled() && primary.pod_labels().get(key) == Some(value));
            if all {
                found.insert(key.clone(), value.clone());
            }
        }
        found
    }
}

/// Returns whether pods with these labels are found.
fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kubernetes::api_server::object::Cached;
    use serde_json::json;

    fn labels(text: &str) -> Labels {
        text.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
    }

    fn workload(selector: &str, pods: &str) -> Target {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": labels(selector)}, "template": {"metadata": {"labels": labels(pods)}}},
        });
        Target::Deployment(Arc::new(Cached::new(serde_json::from_value(object).unwrap()).unwrap()))
    }

    fn names() -> Names {
        Names {
            namespace: "n".into(),
            canary: "web".into(),
            target: "web".into(),
            apex: "web".into(),
            ..Names::default()
        }
    }

    #[test]
    fn the_primary_is_found_by_what_all_of_its_pods_have() {
        // Target, primary as it is, labels of the revision's pods; selector, pods and Service of the primary.
        let rows = [
            ("app=web", "", "app=web", "app=web-primary", "app=web-primary", "app=web-primary"),
            // All that tells it from others under one name.
            (
                "name=shop,part=web",
                "",
                "name=shop,part=web,v=1",
                "name=shop-primary,part=web",
                "name=shop-primary,part=web,v=1",
                "name=shop-primary,part=web",
            ),
            // Made by an older Weir: its selector stays, its Service is as narrow as can be.
            (
                "name=shop,part=web",
                "name=shop-primary;name=shop-primary,part=web",
                "name=shop,part=web",
                "name=shop-primary",
                "name=shop-primary,part=web",
                "name=shop-primary,part=web",
            ),
            // Another key on the target: what runs is found as before, and so is what comes.
            (
                "name=web",
                "app=web-primary;app=web-primary",
                "app=web",
                "app=web-primary",
                "app=web-primary",
                "app=web-primary",
            ),
            (
                "name=web",
                "app=web-primary;app=web-primary",
                "name=web",
                "app=web-primary",
                "app=web-primary,name=web-primary",
                "app=web-primary",
            ),
            // Another value.
            (
                "app=front",
                "app=web-primary;app=web-primary",
                "app=front",
                "app=web-primary",
                "app=web-primary",
                "app=web-primary",
            ),
        ];
        for (target, primary, pods, selector, own, service) in rows {
            let primary = primary.split_once(';').map(|(selector, pods)| workload(selector, pods));
            let target = workload(target, target);
            let found = ArmLabels::new(&names(), Some(&target), primary.as_ref(), &labels(pods)).unwrap();
            assert_eq!(found.selector, labels(selector), "{pods}");
            assert_eq!(found.of_primary(&labels(pods)), labels(own), "{pods}");
            assert_eq!(found.primary, labels(service), "{pods}");
            assert_eq!(found.canary.unwrap(), *target.selector());
        }
    }

    #[test]
    fn a_target_with_the_primarys_own_label_is_refused() {
        let (target, primary) =
            (workload("app=web-primary", "app=web-primary"), workload("app=web-primary", "app=web-primary"));
        let problem = ArmLabels::new(&names(), Some(&target), Some(&primary), &labels("app=web")).unwrap_err();
        assert!(problem.contains("another value of the label app"), "{problem}");
    }
}
