//! What is known of ConfigMaps and Secrets: a hash of what is in each, and never what it is.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::kubernetes::api_server::hash_key::HashKey;
use crate::kubernetes::api_server::object::{Cached, Projection, is_ours, only};

/// Annotations by which an object's owner says that it is not to be tracked: Weir's, and that of those who come from Flagger.
const OPT_OUT: [&str; 2] = ["weir.dev/config-tracking", "flagger.app/config-tracking"];
/// What the annotation's value begins with then, as with Flagger.
const DISABLED: &str = "disable";
/// Kinds of Secret that an application's own configuration comes in. Tokens and certificates that a cluster's machinery
/// writes and rotates by itself are none of it.
const TRACKED: [&str; 5] = ["", "Opaque", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth", "kubernetes.io/tls"];
/// ConfigMaps of the same kind: everybody's certificates of the cluster and of the mesh.
const UNTRACKED: [&str; 2] = ["kube-root-ca.crt", "istio-ca-root-cert"];
/// Helm's records of releases: of no use to a pod, up to a megabyte each, and many.
const NOT_HELMS: &str = "type!=helm.sh/release.v1";
/// Objects of a list that are in memory at a time: each may have a megabyte.
const PAGE: u32 = 50;

/// Length of a hash in a name: 64 bits, of contents of one object.
pub(crate) const HASH: usize = 16;
/// Which kind of object a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConfigKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl ConfigKind {
    /// Returns the kind's name.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// A ConfigMap or a Secret.
pub(crate) trait Config: Projection {
    /// Which of the two.
    const CONFIG: ConfigKind;

    /// Returns what is known of its content.
    fn digest(&self) -> &ContentDigest;

    /// Returns 16 hex digits of its content, as they stand in names and statuses: with a key, if there is one, where the content
    /// is nobody's business.
    fn hash(&self, key: Option<&HashKey>) -> String {
        match (Self::CONFIG, key) {
            (ConfigKind::Secret, Some(key)) => short(key.sign(self.digest()).as_ref()),
            _ => short(self.digest()),
        }
    }

    /// Returns whether this is the hash of its content, with the key or in the form that hashes had before there was one.
    fn has_hash(&self, hash: &str, key: Option<&HashKey>) -> bool {
        self.hash(key) == hash || self.hash(None) == hash
    }

    /// Returns whether objects like this one are part of a revision.
    fn trackable(&self) -> bool;
}

/// The sha256 of a content. It stays in memory.
pub(crate) type ContentDigest = [u8; 32];

/// A ConfigMap.
#[derive(Clone, Debug)]
pub(crate) struct ConfigMapView {
    content: ContentDigest,
}

/// A Secret.
#[derive(Clone, Debug)]
pub(crate) struct SecretView {
    content: ContentDigest,
    trackable: bool,
}

/// The object as it is served. It lives as long as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    data: Option<BTreeMap<String, String>>,
    binary_data: Option<BTreeMap<String, String>>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Served {
    fn content(&self) -> ContentDigest {
        let empty = BTreeMap::new();
        let part = |part: &Option<_>| json!(part.as_ref().unwrap_or(&empty)).to_string();
        sha256([&part(&self.data), &part(&self.binary_data)])
    }
}

impl<'de> Deserialize<'de> for ConfigMapView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { content: Served::deserialize(deserializer)?.content() })
    }
}

impl<'de> Deserialize<'de> for SecretView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let served = Served::deserialize(deserializer)?;
        Ok(Self { content: served.content(), trackable: TRACKED.contains(&served.kind.as_deref().unwrap_or_default()) })
    }
}

impl Projection for ConfigMapView {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "ConfigMap";
    const PLURAL: &'static str = "configmaps";
    const KEEP_RAW: bool = false;
    const PAGE: u32 = PAGE;

    fn trim(metadata: &mut ObjectMeta) {
        trim(metadata);
    }
}

impl Projection for SecretView {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Secret";
    const PLURAL: &'static str = "secrets";
    const KEEP_RAW: bool = false;
    const FIELDS: Option<&'static str> = Some(NOT_HELMS);
    const PAGE: u32 = PAGE;

    fn trim(metadata: &mut ObjectMeta) {
        trim(metadata);
    }
}

impl Config for ConfigMapView {
    const CONFIG: ConfigKind = ConfigKind::ConfigMap;

    fn digest(&self) -> &ContentDigest {
        &self.content
    }

    fn trackable(&self) -> bool {
        true
    }
}

impl Config for SecretView {
    const CONFIG: ConfigKind = ConfigKind::Secret;

    fn digest(&self) -> &ContentDigest {
        &self.content
    }

    fn trackable(&self) -> bool {
        self.trackable
    }
}

impl<V: Config> Cached<V> {
    /// Returns what is known of the object, if it is one that is tracked.
    #[must_use]
    pub(crate) fn tracked(&self) -> Option<&V> {
        let opted_out = OPT_OUT.iter().any(|key| self.annotation(key).is_some_and(|it| it.starts_with(DISABLED)));
        let machinery = V::CONFIG == ConfigKind::ConfigMap && UNTRACKED.contains(&self.name());
        (self.fields.trackable() && !machinery && !opted_out).then_some(&self.fields)
    }
}

/// Returns 16 hex digits that stand for some texts, in this order.
#[must_use]
pub(crate) fn hex<const N: usize>(texts: [&str; N]) -> String {
    short(&sha256(texts))
}

fn sha256<const N: usize>(texts: [&str; N]) -> ContentDigest {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

fn short(hash: &[u8]) -> String {
    hash[..HASH / 2].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Leaves of an object's metadata what is looked at: there may be very many of these objects.
fn trim(metadata: &mut ObjectMeta) {
    let whole = std::mem::take(metadata);
    *metadata = ObjectMeta {
        name: whole.name,
        namespace: whole.namespace,
        resource_version: whole.resource_version,
        deletion_timestamp: whole.deletion_timestamp,
        owner_references: whole.owner_references.filter(|owners| owners.iter().any(|owner| owner.kind == "Canary")),
        labels: only(whole.labels, |key, _| is_ours(key)),
        annotations: only(whole.annotations, |key, _| is_ours(key)),
        ..ObjectMeta::default()
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn kept<V: Config>(object: Value) -> Cached<V> {
        Cached::new(serde_json::from_value(object).unwrap()).unwrap()
    }

    fn config_map(content: Value) -> Cached<ConfigMapView> {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}});
        object.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
        kept(object)
    }

    #[test]
    fn the_hash_is_of_all_content_and_of_nothing_else() {
        let of = |content| config_map(content).fields.hash(None);
        let plain = of(json!({"data": {"a": "1", "b": "2"}}));
        assert_eq!(plain, of(json!({"data": {"b": "2", "a": "1"}, "binaryData": null, "immutable": true})));
        assert_eq!(plain.len(), 16);
        // Flagger hashes and copies `data` alone (defect B9).
        let others = [
            json!({"data": {"a": "1", "b": "3"}}),
            json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AA=="}}),
            json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AQ=="}}),
            json!({"binaryData": {"a": "1", "b": "2"}}),
            json!({}),
        ];
        let hashes: std::collections::BTreeSet<String> = others.into_iter().map(of).chain([plain]).collect();
        assert_eq!(hashes.len(), 6);
    }

    #[test]
    fn the_hash_of_a_secret_cannot_be_guessed_without_the_key() {
        let secret: Cached<SecretView> = kept(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"pin": "MTIzNA=="},
        }));
        let (one, other) = (HashKey::new(&[1; 32]), HashKey::new(&[2; 32]));
        let hashes = [secret.fields.hash(None), secret.fields.hash(Some(&one)), secret.fields.hash(Some(&other))];
        assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        // The former form is that of those before there was a key, and is still known for the same content.
        assert_eq!(hashes[0], hex([r#"{"pin":"MTIzNA=="}"#, "{}"]));
        assert!(secret.fields.has_hash(&hashes[0], Some(&one)) && secret.fields.has_hash(&hashes[1], Some(&one)));
        assert!(!secret.fields.has_hash(&hashes[2], Some(&one)));
        // What everybody may read needs no key, so its revisions stay what they were.
        let settings = config_map(json!({"data": {"a": "1"}}));
        assert_eq!(settings.fields.hash(None), settings.fields.hash(Some(&one)));
    }

    #[test]
    fn nothing_of_a_secret_but_its_hash_is_kept() {
        let secret: Cached<SecretView> = kept(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"password": "aHVudGVyMg=="},
            "metadata": {
                "name": "keys", "namespace": "shop", "labels": {"team": "cart"}, "managedFields": [{"manager": "kubectl"}],
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"password\":\"aHVudGVyMg==\"}}",
                },
            },
        }));
        let known = format!("{secret:?}");
        assert!(!known.contains("aHVudGVyMg") && !known.contains("team"), "{known}");
        assert!(secret.tracked().is_some());
    }

    #[test]
    fn what_opts_out_and_what_a_cluster_writes_itself_is_not_tracked() {
        let secret = |kind: &str, key: &str, value: &str| -> Cached<SecretView> {
            let metadata = json!({"name": "keys", "annotations": {key: value}});
            kept(json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata}))
        };
        let rows = [
            ("Opaque", "a", "b", true),
            ("kubernetes.io/tls", "weir.dev/config-tracking", "enabled", true),
            ("kubernetes.io/basic-auth", "weir.dev/config-tracking", "disabled", false),
            ("kubernetes.io/ssh-auth", "flagger.app/config-tracking", "disable", false),
            ("kubernetes.io/service-account-token", "a", "b", false),
            ("kubernetes.io/dockerconfigjson", "a", "b", false),
        ];
        let everybodys = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}});
        assert!(kept::<ConfigMapView>(everybodys).tracked().is_none());
        for (kind, key, value, expected) in rows {
            assert_eq!(secret(kind, key, value).tracked().is_some(), expected, "{kind} {key}: {value}");
        }
    }
}
