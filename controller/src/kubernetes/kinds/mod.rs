//! The kinds of object that Weir watches, each with the fields that it looks at.
//!
//! Every field has a default: an object that one day lacks a field, or has one more, must not stop the watch of its kind.

pub(super) mod admission;
pub(crate) mod alert_provider;
mod builtin;
pub(crate) mod canary;
pub(crate) mod config;
pub mod crd;
pub(crate) mod istio;
pub(crate) mod metric_template;
mod target;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

pub(crate) use builtin::*;
pub(crate) use istio::*;
pub(crate) use target::*;

/// Labels or a selector of labels.
pub(crate) type Labels = BTreeMap<String, String>;

/// Returns labels as people write them.
pub(crate) fn labels_text(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Returns whether a selector finds something with these labels.
pub(crate) fn selects(selector: &Labels, labels: Option<&Labels>) -> bool {
    labels.is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Some lists are served as `null` when they are empty.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Some fields are served as `null` when they are empty.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $view:ident, $group:expr, $version:expr, $plural:literal, $whole:literal $(, $served:path)?) => {
        $(#[$doc])*
        #[allow(dead_code, reason = "some kinds are only ever named by what is looked at in them")]
        pub(crate) type $name = Cached<$view>;
        impl Projection for $view {
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const KIND: &'static str = stringify!($name);
            const PLURAL: &'static str = $plural;
            const KEEP_RAW: bool = $whole;

            $(fn version() -> &'static str {
                $served()
            })?
        }
    };
}

use kind;
