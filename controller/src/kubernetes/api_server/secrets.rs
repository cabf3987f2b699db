//! Reads Secrets when they are needed, for programs that users name. Nothing of their content is kept.

use std::collections::BTreeMap;
use std::fmt;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::outbound::Secrets;
use crate::telemetry::Chain;

/// Types of Secret that a person writes credentials into. A token of a ServiceAccount has a field `token` too: whoever may name a
/// Secret would have that sent wherever he likes.
const CREDENTIALS: [&str; 3] = ["", "Opaque", "kubernetes.io/basic-auth"];

/// The Secrets of a cluster.
#[derive(Clone)]
pub(crate) struct ClusterSecrets(pub(crate) Client);

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecrets")
    }
}

impl Secrets for ClusterSecrets {
    fn read(&self, namespace: &str, name: &str) -> BoxFuture<'static, Result<BTreeMap<String, String>, String>> {
        let (api, name) = (Api::<Secret>::namespaced(self.0.clone(), namespace), name.to_owned());
        Box::pin(async move {
            let secret = api.get_opt(&name).await.map_err(|error| Chain(&error).to_string())?;
            let secret = secret.ok_or("it does not exist: create it")?;
            let kind = secret.type_.unwrap_or_default();
            if !CREDENTIALS.contains(&kind.as_str()) {
                return Err(format!("it is of type {kind}, which is not read: use one of type Opaque"));
            }
            let text = |(key, value): (String, k8s_openapi::ByteString)| Some((key, String::from_utf8(value.0).ok()?));
            Ok(secret.data.unwrap_or_default().into_iter().filter_map(text).collect())
        })
    }
}
