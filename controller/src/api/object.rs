//! The frame around every object: who it is.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// API group of Weir's kinds.
pub const GROUP: &str = "weir.dev";
/// Version of the group.
pub const VERSION: &str = "v1beta1";

/// An object of some kind, as it stands in a file or in the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Object<Spec> {
    /// `weir.dev/v1beta1`.
    pub api_version: String,
    /// `Canary`, `Process`, …
    pub kind: String,
    /// Who it is.
    pub metadata: Metadata,
    /// What the user wants.
    pub spec: Spec,
}

/// Who an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// The object's name, unique among its kind in the namespace. Lower-case letters, digits, `-` and `.`.
    pub name: String,
    /// The namespace. Default: `default`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Labels, free to use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, free to use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The namespace of an object that names none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

fn default_namespace() -> String {
    DEFAULT_NAMESPACE.into()
}

impl<Spec> fmt::Display for Object<Spec> {
    /// Writes `namespace/name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.metadata.namespace, self.metadata.name)
    }
}

/// Returns what is wrong with `name` as the name of an object.
pub(crate) fn name_problem(name: &str) -> Option<String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let edges = bytes.first().is_some_and(|b| inner(*b)) && bytes.last().is_some_and(|b| inner(*b));
    let fits = name.len() <= 253 && bytes.iter().all(|b| inner(*b) || matches!(b, b'-' | b'.'));
    (!edges || !fits).then(|| {
        format!(
            "{name:?} is not a name: use lower-case letters, digits, - and ., and begin and end with a letter or digit"
        )
    })
}

/// Returns whether an object can have a label: a name, behind an optional prefix and a slash, and a value, which may be empty.
#[must_use]
pub(crate) fn is_label(key: &str, value: &str) -> bool {
    let is_name = |text: &str| {
        let ends = |at: Option<char>| at.is_some_and(|c| c.is_ascii_alphanumeric());
        let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        text.len() <= 63 && ends(text.chars().next()) && ends(text.chars().last()) && fits
    };
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_prefix = |prefix: &str| name_problem(prefix).is_none() && prefix.split('.').all(is_name);
    prefix.is_none_or(is_prefix) && is_name(name) && (value.is_empty() || is_name(value))
}

/// Returns whether a text is the name of a namespace.
#[must_use]
pub(crate) fn is_namespace(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()];
    let fits = ends.iter().all(|byte| byte.is_some_and(inner)) && name.bytes().all(|byte| inner(byte) || byte == b'-');
    fits && name.len() <= 63
}
