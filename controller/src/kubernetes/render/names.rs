//! Names of the objects around one Canary.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::api::limits::SERVICE_NAME;
use crate::api::{AutoscalerKind, CanarySpec, GROUP, RouterKind, TargetKind, VERSION, canary_token};
use crate::kubernetes::api_server::{MANAGED_BY, MANAGER};
use crate::kubernetes::kinds::{Labels, Target};

/// Label of everything that belongs to a Canary: its name.
pub(crate) const CANARY_LABEL: &str = "weir.dev/canary";
/// Annotation of a primary's pods: which revision they run.
pub(crate) const REVISION: &str = "weir.dev/revision";

/// Annotation of a primary that another controller made: which revision its pods ran when Weir took it over. They have no
/// [`REVISION`] until their first promotion, since writing one would replace them.
pub(crate) const INHERITED: &str = "weir.dev/inherited-revision";

/// Returns the revision that a primary's pods are to run.
#[must_use]
pub(crate) fn revision_of(primary: &Target) -> Option<&str> {
    primary.pod_annotation(REVISION).or_else(|| inherited_revision(primary))
}

/// Returns the revision that a primary's pods run since before Weir took it over.
#[must_use]
pub(crate) fn inherited_revision(primary: &Target) -> Option<&str> {
    let noted = primary.metadata().annotations.as_ref()?.get(INHERITED)?;
    primary.pod_annotation(REVISION).is_none().then_some(noted)
}

/// Longest name of a Service, and longest value of a label.
const LABEL: usize = 63;
/// Longest one that leaves room for `-primary`.
const BASE: usize = LABEL - "-primary".len();

/// Labels that may tell one workload's pods from another's, in Flagger's order.
const SELECTOR_LABELS: [&str; 3] = ["app", "name", "app.kubernetes.io/name"];

/// Names of the objects around one Canary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Namespace of all of them.
    pub(crate) namespace: String,
    /// The Canary.
    pub(crate) canary: String,
    /// The Canary's uid, for ownership.
    pub(crate) uid: String,
    /// Value of the token header that leads to the canary.
    pub(crate) token: String,
    /// Who sends requests to the arms.
    pub(crate) router: RouterKind,
    /// The target's kind, and the primary's.
    pub(crate) kind: TargetKind,
    /// The target.
    pub(crate) target: String,
    /// The service that users call.
    pub(crate) apex: String,
    /// The target's HorizontalPodAutoscaler, if the Canary names one.
    pub(crate) scaler: Option<String>,
    /// The uid of another controller's Canary, while it is looked at whether what that controls can be taken over: it counts as this Canary's.
    pub(crate) former: Option<String>,
}

impl Names {
    /// Returns whether an object is to be taken over.
    #[must_use]
    pub(crate) fn takes_over(&self, metadata: &ObjectMeta) -> bool {
        let mut owners = metadata.owner_references.iter().flatten();
        self.former.is_some()
            && owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == self.former.as_ref())
    }

    /// Returns the names around a Canary.
    #[must_use]
    pub(crate) fn new(namespace: &str, canary: &str, uid: &str, spec: &CanarySpec) -> Self {
        Self {
            namespace: namespace.into(),
            canary: canary.into(),
            uid: uid.into(),
            token: canary_token(namespace, canary, uid),
            // A spec of another kind has no plan, so nothing is made of it.
            router: RouterKind::of(spec.provider.as_deref()).unwrap_or_default(),
            kind: TargetKind::of(&spec.target_ref.kind).unwrap_or_default(),
            target: spec.target_ref.name.clone(),
            apex: spec.apex().into(),
            scaler: spec
                .autoscaler_ref
                .as_ref()
                .filter(|it| AutoscalerKind::of(&it.kind).is_some())
                .map(|it| it.name.clone()),
            former: None,
        }
    }

    /// Returns the workload in production.
    #[must_use]
    pub(crate) fn primary(&self) -> String {
        format!("{}-primary", self.target)
    }

    /// Returns the service of the primary.
    #[must_use]
    pub(crate) fn primary_service(&self) -> String {
        format!("{}-primary", self.apex)
    }

    /// Returns the service of the canary.
    #[must_use]
    pub(crate) fn canary_service(&self) -> String {
        format!("{}-canary", self.apex)
    }

    /// Returns the name of the route to the primary, which the filter may compare.
    #[must_use]
    pub(crate) fn primary_route(&self) -> String {
        format!("{}/{}", self.namespace, self.canary)
    }

    /// Returns the name of the route to the canary. No Canary's name has a `/`, so no other route is called so.
    #[must_use]
    pub(crate) fn canary_route(&self) -> String {
        format!("{}/{}/canary", self.namespace, self.canary)
    }

    /// Returns the name under which a revision's pod template is kept.
    #[must_use]
    pub(crate) fn snapshot(&self, revision: &str) -> String {
        format!("{}-{revision}", self.canary)
    }

    /// Returns what is wrong with the names as names of objects and labels.
    #[must_use]
    pub(crate) fn problem(&self) -> Option<String> {
        let (canary, apex) = (&self.canary, &self.apex);
        if canary.len() > LABEL {
            let length = canary.len();
            return Some(format!(
                "the name of a Canary is a label of its objects: at most {LABEL} characters, not {length}"
            ));
        }
        let mut bytes = apex.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
        let fits = apex.len() <= BASE && !apex.ends_with('-') && first;
        let rest = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        (!fits || !rest).then(|| {
            format!(
                "{apex:?} cannot be the name of a Service with -primary added: give service.name at most {BASE} lower-case letters, \
                 digits and -, with a letter first and no dot"
            )
        })
    }

    /// Returns the label that tells the primary's pods from the target's: the key, and the value on the target.
    ///
    /// # Errors
    /// When the target's selector has none that can.
    pub(crate) fn selector(&self, labels: &Labels) -> Result<(String, String), String> {
        let known = SELECTOR_LABELS.iter().find_map(|key| labels.get_key_value(*key));
        let only = labels.iter().next().filter(|_| labels.len() == 1);
        let (key, value) = known.or(only).ok_or_else(|| {
            format!(
                "{} {} has none of the labels {} in spec.selector.matchLabels, so its pods cannot be told from the \
                 primary's: add one of them",
                self.kind.word(),
                self.target,
                SELECTOR_LABELS.join(", ")
            )
        })?;
        let (length, limit) = (value.len(), SERVICE_NAME);
        if length > limit {
            return Err(format!(
                "{} {} has {key}={value} in spec.selector.matchLabels, of {length} characters: {limit} is the limit, as \
                 -primary is added for the primary's pods",
                self.kind.word(),
                self.target
            ));
        }
        Ok((key.clone(), value.clone()))
    }
}

/// Returns whether an object of this name is one of those around a Canary.
#[must_use]
pub(crate) fn concerns(spec: &CanarySpec, name: &str) -> bool {
    let base = |base: &str| name == base || matches!(name.strip_prefix(base), Some("-primary" | "-canary"));
    let scaler = spec.autoscaler_ref.as_ref().filter(|it| AutoscalerKind::of(&it.kind).is_some());
    base(&spec.target_ref.name) || base(spec.apex()) || scaler.is_some_and(|scaler| base(&scaler.name))
}

/// Whom an object around a Canary belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// To the Canary, and goes with it.
    Owned,
    /// To somebody who had it before Weir: it outlives the Canary.
    Adopted,
    /// To nobody any more: it stays where Weir made it.
    Released,
}

/// Returns the metadata of an object that goes with its Canary.
#[must_use]
pub(crate) fn owned(names: &Names, name: &str) -> Map<String, Value> {
    held(names, name, Ownership::Owned)
}

/// Returns the metadata of an object around a Canary.
pub(super) fn held(names: &Names, name: &str, ownership: Ownership) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("name".into(), name.into());
    metadata.insert("namespace".into(), names.namespace.clone().into());
    if ownership != Ownership::Released {
        let labels = json!({MANAGED_BY: MANAGER, CANARY_LABEL: names.canary});
        metadata.insert("labels".into(), labels);
    }
    if ownership == Ownership::Owned {
        let owner = json!([{
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Canary", "name": names.canary, "uid": names.uid,
            "controller": true, "blockOwnerDeletion": true,
        }]);
        metadata.insert("ownerReferences".into(), owner);
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_too_long_or_of_another_form_is_refused_with_the_limit() {
        let spec = json!({"targetRef": {"kind": "Deployment", "name": "shop"}, "service": {}, "analysis": {}});
        let names = Names::new("shop", "shop", "", &serde_json::from_value(spec).unwrap());
        let problem = |canary: &str, apex: &str| {
            let names = Names { canary: canary.into(), apex: apex.into(), ..names.clone() };
            names.problem().unwrap_or_default()
        };
        assert!(problem(&"a".repeat(64), "shop").contains("at most 63"));
        for apex in [&"b".repeat(56), "2048", "shop.v1"] {
            let problem = problem("shop", apex);
            assert!(problem.contains("service.name") && problem.contains("at most 55"), "{problem}");
        }
        assert_eq!(problem(&"a".repeat(63), &"b".repeat(55)), "");
        assert_eq!(problem("2048.v1", "shop"), "");
    }
}
