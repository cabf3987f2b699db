//! Secrets of the folder, for those who read them beside the supervisor's turns.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;

use crate::api::Secret;
use crate::outbound::Secrets;

/// The Secrets of the folder, by `namespace/name`.
#[derive(Clone, Debug, Default)]
pub(crate) struct FolderSecrets(Arc<Mutex<BTreeMap<String, Secret>>>);

impl FolderSecrets {
    /// Takes in what the folder holds now.
    pub(crate) fn set(&self, secrets: BTreeMap<String, Secret>) {
        *self.0.lock() = secrets;
    }
}

impl Secrets for FolderSecrets {
    fn read(&self, namespace: &str, name: &str) -> BoxFuture<'static, Result<BTreeMap<String, String>, String>> {
        let found = self.0.lock().get(&format!("{namespace}/{name}")).map(|secret| secret.content.clone());
        Box::pin(ready(found.ok_or_else(|| "it is not in the folder; add it".to_owned())))
    }
}
