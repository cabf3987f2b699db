//! The workloads that can be released, of whichever kind: the target of a Canary, and the primary that Weir makes like it.
//!
//! The one place that tells kinds of workloads apart. A kind has a file here, with all that is its own, and a variant of
//! [`Target`]; every match is exhaustive, so that the compiler names what a new kind must say. An enum and not a trait: the kinds
//! are few and known, all but a handful of questions have one answer for all of them, and a reader finds each answer in one place.

mod deployment;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use serde_json::{Value, json};

use super::{Labels, Pod, ReplicaSet};
use crate::api::TargetKind;
use crate::kubernetes::api_server::object::resource;
use crate::kubernetes::api_server::owners::Owners;

use deployment::Deployment;
pub(crate) use deployment::DeploymentView;

/// A workload that can be released.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A Deployment.
    Deployment(Arc<Deployment>),
}

/// What every kind has, and says alike.
struct Common<'a> {
    metadata: &'a ObjectMeta,
    selector: &'a Labels,
    pod_labels: &'a Labels,
    pod_annotations: &'a Labels,
    owners: Option<&'a Owners>,
}

/// How far a workload's controller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress<'a> {
    /// Whether the numbers are of the newest spec.
    pub(crate) observed: bool,
    /// Pods that are wanted.
    pub(crate) wanted: i64,
    /// Pods.
    pub(crate) pods: i64,
    /// Pods of the newest template.
    pub(crate) updated: i64,
    /// Pods that have been ready for long enough.
    pub(crate) available: i64,
    /// Why pods are not made, in the words of Kubernetes.
    pub(crate) refused: Option<&'a str>,
}

impl Progress<'_> {
    /// Returns whether all pods are of the newest template.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        self.observed && self.pods == self.updated
    }

    /// Returns whether all pods that are wanted are of the newest template and take requests.
    #[must_use]
    pub(crate) fn is_up(&self) -> bool {
        self.observed && self.wanted > 0 && self.available.min(self.updated) >= self.wanted
    }
}

impl Target {
    fn common(&self) -> Common<'_> {
        match self {
            Self::Deployment(it) => Common {
                metadata: &it.metadata,
                selector: &it.fields.spec.selector.match_labels,
                pod_labels: &it.fields.spec.template.metadata.labels,
                pod_annotations: &it.fields.spec.template.metadata.annotations,
                owners: it.owners(),
            },
        }
    }

    /// Returns its kind.
    #[must_use]
    pub(crate) fn kind(&self) -> TargetKind {
        match self {
            Self::Deployment(_) => TargetKind::Deployment,
        }
    }

    /// Returns its metadata.
    #[must_use]
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        self.common().metadata
    }

    /// Returns its name.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Returns its namespace.
    #[must_use]
    pub(crate) fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// Returns whether it is being deleted.
    #[must_use]
    pub(crate) fn deleted(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    /// Returns the labels by which it finds its pods.
    #[must_use]
    pub(crate) fn selector(&self) -> &Labels {
        self.common().selector
    }

    /// Returns the labels of its pods.
    #[must_use]
    pub(crate) fn pod_labels(&self) -> &Labels {
        self.common().pod_labels
    }

    /// Returns the value of an annotation of its pods.
    #[must_use]
    pub(crate) fn pod_annotation(&self, key: &str) -> Option<&str> {
        self.common().pod_annotations.get(key).map(String::as_str)
    }

    /// Returns who wrote which field, where something of it is Weir's.
    #[must_use]
    pub(crate) fn owners(&self) -> Option<&Owners> {
        self.common().owners
    }

    /// Returns what is asked of it.
    #[must_use]
    pub(crate) fn spec(&self) -> Value {
        match self {
            Self::Deployment(it) => it.body()["spec"].take(),
        }
    }

    /// Returns its pod template.
    #[must_use]
    pub(crate) fn template(&self) -> Value {
        self.spec()["template"].take()
    }

    /// Returns it as it would be written, for comparison with what is wanted.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Deployment(it) => it.json(),
        }
    }

    /// Returns whether a text is one of its values, or the name of a field.
    #[must_use]
    pub(crate) fn mentions(&self, text: &str) -> bool {
        match self {
            Self::Deployment(it) => it.mentions(text),
        }
    }

    /// Returns how many pods it asks for, if it says so.
    #[must_use]
    pub(crate) fn replicas(&self) -> Option<i64> {
        match self {
            Self::Deployment(it) => it.fields.spec.replicas,
        }
    }

    /// Returns how many pods somebody else than Weir and an autoscaler has it ask for, if somebody does.
    #[must_use]
    pub(crate) fn declared_replicas(&self) -> Option<u32> {
        let by_others = match self {
            Self::Deployment(it) => it.sized_by_others,
        };
        self.replicas().filter(|_| by_others).and_then(|replicas| u32::try_from(replicas).ok())
    }

    /// Returns whether Weir said last how many pods it asks for.
    #[must_use]
    pub(crate) fn sized_by_weir(&self) -> bool {
        match self {
            Self::Deployment(it) => it.sized_by_weir,
        }
    }

    /// Returns how far its controller is.
    #[must_use]
    pub(crate) fn progress(&self) -> Progress<'_> {
        match self {
            Self::Deployment(it) => it.progress(),
        }
    }

    /// Returns those of a namespace's pods that are of its newest template.
    #[must_use]
    pub(crate) fn newest_pods(&self, pods: Vec<Arc<Pod>>, replica_sets: &[Arc<ReplicaSet>]) -> Vec<Arc<Pod>> {
        match self {
            Self::Deployment(it) => it.newest_pods(pods, replica_sets),
        }
    }

    /// Returns whether an update by its strategy may leave so many replicas without any pod that serves.
    #[must_use]
    pub(crate) fn update_stops(&self, replicas: u32) -> bool {
        match self {
            Self::Deployment(it) => it.update_stops(replicas),
        }
    }
}

impl TargetKind {
    /// As what Weir itself runs.
    pub(crate) const OWN: Self = Self::Deployment;

    /// Returns how the API calls the kind.
    #[must_use]
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => resource::<DeploymentView>(),
        }
    }

    /// Returns an object of the kind, as it is applied.
    #[must_use]
    pub(crate) fn object(self, metadata: impl Into<Value>, spec: impl Into<Value>) -> Value {
        let (metadata, spec): (Value, Value) = (metadata.into(), spec.into());
        json!({"apiVersion": self.api_version(), "kind": self.word(), "metadata": metadata, "spec": spec})
    }

    /// Returns what a spec says of a number of pods.
    #[must_use]
    pub(crate) fn size(self, replicas: i64) -> Value {
        match self {
            Self::Deployment => json!({"replicas": replicas}),
        }
    }

    /// Returns the parts of a spec that say how it is rolled out, which the primary has from the target beside the template.
    #[must_use]
    pub(crate) fn rollout_fields(self) -> &'static [&'static str] {
        match self {
            Self::Deployment => &deployment::ROLLOUT_FIELDS,
        }
    }
}
