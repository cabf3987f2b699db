//! What an admin says of the mesh.

use super::ApiServer;

impl ApiServer {
    /// The mesh's root namespace, or from now on another one.
    pub(in crate::kubernetes) fn root_namespace(&self, another: Option<&str>) -> String {
        let mut inner = self.inner();
        inner.root_namespace = another.map(str::to_owned).or(inner.root_namespace.take());
        inner.root_namespace.clone().unwrap_or_else(|| "istio-system".into())
    }
}
