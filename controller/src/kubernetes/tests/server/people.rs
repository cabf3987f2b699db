//! What others than Weir write.

use serde_json::Value;

use super::ApiServer;
use super::request::{key, key_of};
use super::store::Writer;

impl ApiServer {
    /// A person applies an object.
    pub(in crate::kubernetes) fn apply(&self, manager: &str, object: &Value) {
        let writer = Writer { manager, force: true, subresource: "" };
        let inner = &mut *self.inner();
        let written = inner.store.apply(key_of(object), object, &writer);
        written.unwrap_or_else(|refusal| panic!("{}", refusal.message));
        inner.settle();
    }

    /// Somebody makes an object, or replaces it.
    pub(in crate::kubernetes) fn put(&self, manager: &str, object: &Value) {
        let inner = &mut *self.inner();
        let written = inner.store.update(key_of(object), object, manager);
        written.unwrap_or_else(|refusal| panic!("{}", refusal.message));
        inner.settle();
    }

    /// A person edits an object.
    pub(in crate::kubernetes) fn edit(&self, plural: &str, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(plural, namespace, name).unwrap_or_else(|| panic!("{plural} {name}"));
        edit(&mut object);
        let inner = &mut *self.inner();
        let written = inner.store.update(key(plural, namespace, name), &object, "kubectl-edit");
        written.unwrap_or_else(|refusal| panic!("{}", refusal.message));
        inner.settle();
    }

    /// Somebody gives a Deployment a size by its subresource `scale`, as autoscalers and `kubectl scale` do.
    pub(in crate::kubernetes) fn scale(&self, manager: &str, namespace: &str, name: &str, replicas: i64) {
        let mut object = self.get("deployments", namespace, name).unwrap_or_else(|| panic!("{name}"));
        object["spec"]["replicas"] = replicas.into();
        let inner = &mut *self.inner();
        let written = inner.store.update_part(key("deployments", namespace, name), &object, manager, "scale");
        written.unwrap_or_else(|refusal| panic!("{}", refusal.message));
        inner.settle();
    }

    /// A person deletes an object.
    pub(in crate::kubernetes) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let inner = &mut *self.inner();
        let deleted = inner.store.delete(&key(plural, namespace, name));
        deleted.unwrap_or_else(|refusal| panic!("{}", refusal.message));
        inner.settle();
    }
}
