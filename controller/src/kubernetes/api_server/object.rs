//! Objects of the API as Weir keeps them: the few fields that it looks at, and the rest as text.
//!
//! A typed copy of somebody else's object loses the fields that its types do not know, and Weir copies pod templates. A parsed
//! tree of everything is several times the size of its text. So each kind has a small view, read with the object, and the
//! kinds that are copied or compared keep their text, with sorted keys.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::MANAGED_BY;
use super::owners::Owners;
use super::sizers::{others_size, weir_sizes};
use crate::api::limits::{SPEC, STORED, size_problem};

/// Annotation of a Deployment and of its versions: which of them is the newest.
pub(crate) const DEPLOYMENT_REVISION: &str = "deployment.kubernetes.io/revision";

/// Annotations of a pod that say at which port Istio's agent answers: the user's own, and what the injection makes of it.
pub(crate) const AGENT_PORTS: [&str; 2] = ["status.sidecar.istio.io/port", "prometheus.io/port"];

/// Annotation of a pod that is in Istio's ambient mode.
pub(crate) const AMBIENT: &str = "ambient.istio.io/redirection";
/// Label of a pod, before Istio 1.12 an annotation, that says whether it gets a sidecar.
pub(crate) const INJECT: &str = "sidecar.istio.io/inject";
/// Label of a pod, or of the namespace of those that have none of their own, that is to be in a mode: `ambient`, or `none`.
pub(crate) const MODE: &str = "istio.io/dataplane-mode";
/// Annotations of a pod that say which of its connections are redirected into its sidecar, each with the value by which all are: the
/// injection writes most of them into every pod.
pub(crate) const REDIRECTION: [(&str, &str); 5] = [
    ("sidecar.istio.io/interceptionMode", "REDIRECT"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", ""),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", ""),
    ("traffic.sidecar.istio.io/includeOutboundPorts", ""),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "*"),
];

/// What Weir looks at in one kind of object.
pub(crate) trait Projection: Clone + Debug + DeserializeOwned + Send + Sync + 'static {
    /// API group; empty for the core group.
    const GROUP: &'static str;
    /// Version of the group.
    const VERSION: &'static str;
    /// The kind.
    const KIND: &'static str;
    /// The kind's name in paths.
    const PLURAL: &'static str;
    /// Whether the object is copied or compared, so that its text is kept.
    const KEEP_RAW: bool;
    /// Whether a write of it never waits for others: it may take requests away from a canary.
    const URGENT: bool = false;
    /// Whether a write of its spec may replace pods.
    const HAS_PODS: bool = false;
    /// Which objects are watched, by their fields; all if there is none.
    const FIELDS: Option<&'static str> = None;
    /// Objects of a list that are in memory at a time: parsed whole, each is ten times the size of what is kept.
    const PAGE: u32 = 100;

    /// The version by which this cluster serves it.
    #[must_use]
    fn version() -> &'static str {
        Self::VERSION
    }

    /// Drops what nobody looks at of the metadata, where the object is neither copied nor compared: of some there are very many.
    fn trim(metadata: &mut ObjectMeta) {
        if !Self::KEEP_RAW {
            let known = [DEPLOYMENT_REVISION, AMBIENT, INJECT];
            let looked_at = |key: &str, value: &str| {
                let unusual = || REDIRECTION.iter().any(|(known, usual)| *known == key && *usual != value);
                is_ours(key) || known.contains(&key) || AGENT_PORTS.contains(&key) || unusual()
            };
            metadata.annotations = only(metadata.annotations.take(), looked_at);
            let is_hashed = metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("pod-template-hash"));
            metadata.owner_references = metadata.owner_references.take().and_then(|mut owners| {
                // The ReplicaSet of a Deployment's pod is found by their labels, and there are very many of these pods.
                owners.retain(|owner| owner.kind != "ReplicaSet" || !is_hashed);
                (!owners.is_empty()).then_some(owners)
            });
            metadata.generate_name = None;
        }
    }

    /// Drops what is too large to be kept, where that depends on more than one field.
    fn bound(&mut self, _metadata: &ObjectMeta) {}

    /// Returns whether anybody needs to look again, where `older` is what was known.
    fn is_changed(&self, _older: &Self) -> bool {
        true
    }
}

/// An object of the API.
#[derive(Clone, Debug)]
pub(crate) struct Cached<V> {
    /// Who it is.
    pub(crate) metadata: ObjectMeta,
    /// What Weir looks at.
    pub(crate) fields: V,
    /// Everything but `metadata`, `apiVersion` and `kind`, with sorted keys; empty where the kind is not kept whole.
    body: Box<str>,
    /// Who wrote which field; of objects that are kept whole and have something of Weir's.
    owners: Option<Box<Owners>>,
    /// Whether somebody else than Weir and the controllers of Kubernetes says how many replicas there are.
    pub(crate) sized_by_others: bool,
    /// Whether Weir does, and nobody has changed the number since.
    pub(crate) sized_by_weir: bool,
}

/// Returns how the API calls a kind.
///
/// Calls go through [`DynamicObject`] for every kind: the client's code is compiled once, and not once for each.
#[must_use]
pub(crate) fn resource<V: Projection>() -> ApiResource {
    let version = V::version();
    let api_version = if V::GROUP.is_empty() { version.to_owned() } else { format!("{}/{version}", V::GROUP) };
    ApiResource {
        group: V::GROUP.into(),
        version: version.into(),
        api_version,
        kind: V::KIND.into(),
        plural: V::PLURAL.into(),
    }
}

/// Reads a spec of Weir's own kinds, or why it cannot be read: an object that an older schema let in must not stop the watch of all.
pub(crate) fn read_spec<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Result<T, String>, D::Error> {
    read_within(deserializer, SPEC)
}

/// As [`read_spec`], for a kind that decides itself whether a spec above the limit was stored before there was one.
pub(crate) fn read_stored_spec<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Result<T, String>, D::Error> {
    read_within(deserializer, STORED * SPEC)
}

fn read_within<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
    limit: usize,
) -> Result<Result<T, String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if let Some(text) = size_problem(value.to_string().len(), limit) {
        // Not kept: every object is in memory.
        return Ok(Err(format!("spec: {text}")));
    }
    Ok(serde_json::from_value(value).map_err(|error| error.to_string()))
}

/// Stands for a spec that is not there.
pub(crate) fn no_spec<T>() -> Result<T, String> {
    Err("the spec is missing".into())
}

/// Returns whether a label or annotation is Weir's, or one of Flagger's that Weir honours.
pub(crate) fn is_ours(key: &str) -> bool {
    key.contains("weir.dev/") || key.contains("flagger.app/")
}

/// Returns some of an object's labels or annotations; nothing where none is left.
pub(crate) fn only(
    map: Option<BTreeMap<String, String>>,
    kept: impl Fn(&str, &str) -> bool,
) -> Option<BTreeMap<String, String>> {
    let mut map = map?;
    map.retain(|key, value| kept(key, value));
    (!map.is_empty()).then_some(map)
}

impl<V: Projection> Cached<V> {
    /// Keeps an object that the API served.
    ///
    /// # Errors
    /// When a field that Weir looks at is not of the type that it must be.
    pub(crate) fn new(object: DynamicObject) -> Result<Self, serde_json::Error> {
        let DynamicObject { mut metadata, data, .. } = object;
        let fields = metadata.managed_fields.take().unwrap_or_default();
        let ours = V::KEEP_RAW && metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(MANAGED_BY));
        let owners = ours.then(|| Box::new(Owners::of(&fields)));
        let (sized_by_others, sized_by_weir) =
            (V::KEEP_RAW && others_size(&fields), V::KEEP_RAW && weir_sizes(&fields));
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        V::trim(&mut metadata);
        let body = if V::KEEP_RAW { data.to_string().into() } else { Box::default() };
        let mut fields: V = serde_json::from_value(data)?;
        fields.bound(&metadata);
        Ok(Self { metadata, fields, body, owners, sized_by_others, sized_by_weir })
    }

    /// Returns who wrote which field, where something of the object is Weir's.
    #[must_use]
    pub(crate) fn owners(&self) -> Option<&Owners> {
        self.owners.as_deref()
    }

    /// Returns the version of the object.
    #[must_use]
    pub(crate) fn version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }

    /// Returns whether a text is one of the values of an object that is kept whole, or the name of a field.
    #[must_use]
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.body.contains(&format!("\"{text}\""))
    }

    /// Returns everything but the metadata.
    #[must_use]
    pub(crate) fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the object as it would be written, for comparison with what is wanted.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        let mut body = self.body();
        if let Some(map) = body.as_object_mut() {
            map.insert("metadata".into(), serde_json::to_value(&self.metadata).unwrap_or_default());
        }
        body
    }

    /// Returns the object's name.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the object's namespace.
    #[must_use]
    pub(crate) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Returns a label's value.
    #[must_use]
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns an annotation's value.
    #[must_use]
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns whether somebody deleted it and it is not gone yet.
    #[must_use]
    pub(crate) fn deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::kinds::{Pod, ReplicaSet};

    #[test]
    fn what_nobody_looks_at_is_not_kept() {
        let owner = |kind: &str| serde_json::json!({"apiVersion": "v1", "kind": kind, "name": "a", "uid": "u"});
        let object = |kind: &str, label: &str| {
            let metadata = serde_json::json!({
                "name": "a", "labels": {"app": "a", label: "a"}, "ownerReferences": [owner(kind)], "generateName": "a-",
                "annotations": {DEPLOYMENT_REVISION: "3", "weir.dev/x": "y", "example.com/long": "text"},
            });
            serde_json::from_value(serde_json::json!({"apiVersion": "v1", "kind": "Any", "metadata": metadata}))
                .unwrap()
        };
        let set: ReplicaSet = Cached::new(object("Deployment", "pod-template-hash")).unwrap();
        assert_eq!((set.annotation(DEPLOYMENT_REVISION), set.annotation("weir.dev/x")), (Some("3"), Some("y")));
        assert_eq!((set.annotation("example.com/long"), set.label("app")), (None, Some("a")));
        assert!(set.metadata.owner_references.is_some() && set.metadata.generate_name.is_none());
        let of_set = |label: &str| Cached::new(object("ReplicaSet", label)).map(|pod: Pod| pod.metadata).unwrap();
        assert!(of_set("pod-template-hash").owner_references.is_none());
        assert!(of_set("rollouts-pod-template-hash").owner_references.is_some(), "nobody else says whose it is");
    }
}
