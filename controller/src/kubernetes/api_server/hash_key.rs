//! The key of the hashes by which Secrets are known in names and statuses. Many may read those who may not read Secrets; without
//! the key none of them can try passwords, or see which namespaces have the same one.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use ring::hmac;

use crate::kubernetes::api_server::apply::{ActError, is_status, with_timeout};
use crate::kubernetes::api_server::{MANAGED_BY, MANAGER};
use crate::telemetry::Chain;

/// The Secret's name. Whoever deletes it has each revision that reads a Secret released anew.
const NAME: &str = "weir-hash-key";
/// Its only field.
const FIELD: &str = "key";
/// Time to the next try.
const RETRY: Duration = Duration::from_secs(2);

/// A key.
#[derive(Debug)]
pub(crate) struct HashKey(hmac::Key);

impl HashKey {
    /// Takes a key of any length.
    #[must_use]
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Returns what stands for a content.
    #[must_use]
    pub(crate) fn sign(&self, content: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, content)
    }

    /// Reads the key, and makes it if there is none. Nothing where the API server allows neither: hashes then have no key, as
    /// before there was one. Where it does not answer, this asks again: a key that comes later would change every hash.
    pub(crate) async fn load(client: Client, namespace: &str) -> Option<Self> {
        let api = Api::namespaced(client, namespace);
        loop {
            match read_or_create(&api, namespace).await {
                Ok(key) => return Some(key),
                Err(ActError::Write { source, .. }) if refused(&source) => {
                    tracing::warn!(error = %Chain(&*source), "hashes of Secrets have no key");
                    return None;
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "key of the hashes of Secrets not read"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn read_or_create(api: &Api<Secret>, namespace: &str) -> Result<HashKey, ActError> {
    let known = with_timeout("get", "Secret", NAME, api.get_opt(NAME)).await?;
    let bytes = |secret: &Secret| Some(secret.data.as_ref()?.get(FIELD)?.0.clone());
    if let Some(known) = known {
        // An empty one is a key too: whoever emptied it would otherwise have everything released anew, again and again.
        return Ok(HashKey::new(&bytes(&known).unwrap_or_default()));
    }
    let new: [u8; 32] = rand::random();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(namespace.into()),
            labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([(FIELD.to_owned(), ByteString(new.to_vec()))].into()),
        immutable: Some(true),
        ..Secret::default()
    };
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    with_timeout("create", "Secret", NAME, api.create(&params, &secret)).await?;
    Ok(HashKey::new(&new))
}

/// Returns whether asking again is of no use. 409: another replica was faster, and its key is read next.
fn refused(error: &kube::Error) -> bool {
    [403, 404, 422].iter().any(|code| is_status(error, *code))
}
