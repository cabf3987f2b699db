//! Which namespaces may have gateways: those that the chart names, and those that an admin has labelled.

use super::Stores;

/// Label of a namespace whose pods may be gateways: whoever may write pods there may not set it.
pub(crate) const GATEWAYS_LABEL: &str = "weir.dev/gateways";
/// Its value.
pub(crate) const ALLOWED: &str = "allowed";

impl Stores {
    /// Returns whether pods of a namespace may be gateways.
    pub(crate) fn is_gateway_namespace(&self, namespace: &str) -> bool {
        let labelled =
            || self.namespaces.get("", namespace).is_some_and(|it| it.label(GATEWAYS_LABEL) == Some(ALLOWED));
        self.settings.gateway_namespaces.iter().any(|known| known == namespace) || labelled()
    }
}
