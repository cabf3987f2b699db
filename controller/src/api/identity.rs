//! Names that must stay the same from one day to the next, made by hashing.

use serde::Serialize;
use sha2::{Digest, Sha256};
use weir_engine::Revision;

use super::process::ProcessSpec;

/// Returns the canary's id in metric names: 16 hex digits.
#[must_use]
pub fn canary_id(namespace: &str, name: &str) -> String {
    hash(["canary", namespace, name])
}

/// Returns the value of the token header that leads to the canary. It is a routing key, and gateways take it out of what clients
/// send. But where a request comes another way, by a sidecar or before a gateway has the filter, whoever knows it chooses his arm
/// uncounted. So it is not to be guessed: the uid is random, and only who may read the Canary knows it. Without one (the same for
/// [`weir standalone`](crate::standalone), whose one listener always takes it out) it is made of the names alone.
#[must_use]
pub fn canary_token(namespace: &str, name: &str, uid: &str) -> String {
    match uid {
        "" => hash(["token", namespace, name]),
        uid => hash(["token", namespace, name, uid]),
    }
}

/// Returns the identity of what a process runs: everything in its spec but the number of replicas.
///
/// Fields that are not set are not hashed, so that a Weir that knows more fields gives an old spec the same revision.
#[must_use]
pub fn revision(spec: &ProcessSpec) -> Revision {
    let mut spec = spec.clone();
    spec.replicas = None;
    Revision(hash(["process", &canonical(&spec)]))
}

/// Writes JSON with sorted keys: `serde_json`'s map is a `BTreeMap`.
fn canonical(value: &impl Serialize) -> String {
    serde_json::to_value(value).map(|value| value.to_string()).unwrap_or_default()
}

fn hash<const N: usize>(parts: [&str; N]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        // The length before the text: ("a", "bc") and ("ab", "c") differ.
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    sha.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_change() {
        // They are in the counters of running gateways: a changed hash would lose every count.
        assert_eq!(canary_id("shop", "cart"), "6b31d19cc274a06a");
        assert_eq!(canary_token("shop", "cart", ""), "7774dac1958b565c");
        assert_ne!(canary_id("shop", "cart"), canary_token("shop", "cart", ""));
        assert_ne!(canary_id("sho", "pcart"), canary_id("shop", "cart"));
        assert!(weir_wire::names::is_id(&canary_id("", "")));
    }

    #[test]
    fn a_token_cannot_be_guessed_from_the_names() {
        let tokens = ["", "6f5c2d1e-0000-4000-8000-000000000001", "6f5c2d1e-0000-4000-8000-000000000002"];
        let tokens: std::collections::BTreeSet<_> =
            tokens.iter().map(|uid| canary_token("shop", "cart", uid)).collect();
        assert_eq!(tokens.len(), 3);
    }

    #[test]
    fn a_revision_is_what_runs_and_not_how_often() {
        let spec = ProcessSpec { command: vec!["serve".into()], ..ProcessSpec::default() };
        let more = ProcessSpec { replicas: Some(3), ..spec.clone() };
        let other = ProcessSpec { command: vec!["serve".into(), "--fast".into()], ..spec.clone() };
        assert_eq!(revision(&spec), revision(&more));
        assert_ne!(revision(&spec), revision(&other));
    }
}
