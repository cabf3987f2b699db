//! ConfigMaps and Secrets that a pod template refers to, and the primary's copies of them.
//!
//! A copy is called `CONFIG-primary-HASH`, after what it was made from and what is in it, and never changes. Flagger's is
//! `CONFIG-primary` and is overwritten; then a promotion changes what the pods of the former revision read before they are
//! replaced, an undone one finds the former content gone, and of two Canaries that share a ConfigMap each promotes what only
//! the other has analysed. Here every revision of every Canary has its own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::names::{Names, owned};
use crate::kubernetes::kinds::config::{ConfigKind, HASH, hex};
use crate::text::floor;

/// What a revision's pods read: `configmap/NAME` or `secret/NAME`, and 16 hex digits of its content; none for an optional one
/// that does not exist.
pub(crate) type Configs = BTreeMap<String, String>;

/// Annotation of a kept pod template: its [`Configs`].
pub(crate) const CONFIGS: &str = "weir.dev/configs";
/// Annotation of a target's pod template: with which content its pods were started, and for which rollout.
///
/// Environment variables are read when a container starts, so pods must start anew when their configs change. This annotation
/// makes the Deployment replace them one by one, even where they have all the traffic. It is no part of the revision. Neither
/// Flux nor Argo CD touches an annotation that Git says nothing of; the size of the Deployment is no alternative: nobody
/// could tell afterwards which pods came of it.
pub(crate) const STARTED_WITH: &str = "weir.dev/started-with";

/// Longest name of a ConfigMap or Secret.
const LONGEST: usize = 253;

/// One place of a pod template that names a ConfigMap or a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// What it names.
    pub(crate) kind: ConfigKind,
    /// The object's name.
    pub(crate) name: String,
    /// Whether pods do not start without it.
    pub(crate) required: bool,
    /// Where it stands, as a JSON pointer.
    at: String,
    field: &'static str,
}

impl Reference {
    /// Returns the object's name in [`Configs`].
    #[must_use]
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.kind.word().to_lowercase(), self.name)
    }
}

/// Finds every ConfigMap and Secret that a pod template refers to: in volumes, projected ones too, and in the environment of
/// containers and init containers.
#[must_use]
pub(crate) fn references(template: &Value) -> Vec<Reference> {
    let mut places = Vec::new();
    let items = |pointer: &str| template.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    for containers in ["/spec/initContainers", "/spec/containers"] {
        for container in (0..items(containers)).map(|i| format!("{containers}/{i}")) {
            for at in (0..items(&format!("{container}/env"))).map(|i| format!("{container}/env/{i}/valueFrom")) {
                places.push((ConfigKind::ConfigMap, format!("{at}/configMapKeyRef"), "name"));
                places.push((ConfigKind::Secret, format!("{at}/secretKeyRef"), "name"));
            }
            for at in (0..items(&format!("{container}/envFrom"))).map(|i| format!("{container}/envFrom/{i}")) {
                places.push((ConfigKind::ConfigMap, format!("{at}/configMapRef"), "name"));
                places.push((ConfigKind::Secret, format!("{at}/secretRef"), "name"));
            }
        }
    }
    for volume in (0..items("/spec/volumes")).map(|i| format!("/spec/volumes/{i}")) {
        places.push((ConfigKind::ConfigMap, format!("{volume}/configMap"), "name"));
        places.push((ConfigKind::Secret, format!("{volume}/secret"), "secretName"));
        let sources = format!("{volume}/projected/sources");
        for at in (0..items(&sources)).map(|i| format!("{sources}/{i}")) {
            places.push((ConfigKind::ConfigMap, format!("{at}/configMap"), "name"));
            places.push((ConfigKind::Secret, format!("{at}/secret"), "name"));
        }
    }
    let found = places.into_iter().filter_map(|(kind, at, field)| {
        let place = template.pointer(&at)?;
        let name = place[field].as_str().filter(|name| !name.is_empty())?.to_owned();
        Some(Reference { kind, name, required: place["optional"] != true, at, field })
    });
    found.collect()
}

/// Makes a pod template refer to the primary's copies of what is tracked.
pub(super) fn refer_to_copies(template: &mut Value, names: &Names, configs: &Configs) {
    for reference in references(template) {
        let Some(hash) = configs.get(&reference.key()) else { continue };
        if let Some(place) = template.pointer_mut(&reference.at) {
            place[reference.field] = copy_name(names, &reference.name, hash).into();
        }
    }
}

/// Returns the name of the primary's copy of a config with this content. A missing config has a copy's name too, so creating it later
/// changes the revision and starts an analysis.
#[must_use]
pub(crate) fn copy_name(names: &Names, config: &str, hash: &str) -> String {
    let own = hex([names.canary.as_str(), hash]);
    // What is cut off is that of two objects whose names are the same for 228 bytes. Names of objects are ASCII; that of an optional
    // one, which may not exist, is whatever a template says.
    let config = floor(config, LONGEST - HASH - "-primary-".len());
    format!("{config}-primary-{own}")
}

/// Renders the primary's copy of a config, from what the API served of it. Nothing but its content is taken over: neither
/// Flux's labels, by which it would take the copy for its own, nor anybody else's.
#[must_use]
pub(crate) fn copy(names: &Names, kind: ConfigKind, config: &str, hash: &str, served: &Value) -> Value {
    let mut object: Map<String, Value> = ["type", "data", "binaryData"]
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), served.get(field).filter(|value| !value.is_null())?.clone())))
        .collect();
    object.insert("apiVersion".into(), "v1".into());
    object.insert("kind".into(), kind.word().into());
    object.insert("metadata".into(), json!(owned(names, &copy_name(names, config, hash))));
    object.insert("immutable".into(), true.into());
    object.into()
}

/// Returns what stands for all of some configs.
#[must_use]
pub(crate) fn digest(configs: &Configs) -> String {
    hex([&json!(configs).to_string()])
}

/// Returns how a target's pods must be marked, where what they are marked with is not it. An earlier rollout may have seen the
/// same content before another: then its pods may have read either, so the mark names the rollout too.
#[must_use]
pub(crate) fn mark(marked: Option<&str>, configs: &Configs, run: &str) -> Option<String> {
    let digest = digest(configs);
    (!started_with(marked, configs)).then(|| format!("{digest}.{run}"))
}

/// Returns whether pods that are marked so were started with these configs.
#[must_use]
pub(crate) fn started_with(marked: Option<&str>, configs: &Configs) -> bool {
    let marked = marked.and_then(|mark| mark.split_once('.')).map(|(content, _)| content);
    marked == Some(&digest(configs))
}
