//! Which namespaces may have gateways, and which callers of Canaries elsewhere: those that the chart names, and those that an admin
//! has labelled.

use std::collections::BTreeSet;

use super::Stores;

/// Label of a namespace whose pods may be gateways: whoever may write pods there may not set it.
pub(crate) const GATEWAYS_LABEL: &str = "weir.dev/gateways";
/// Label of a namespace whose pods may be callers of other namespaces' Canaries: their sidecars get the filter.
pub(crate) const CALLERS_LABEL: &str = "weir.dev/callers";
/// The value of both.
pub(crate) const ALLOWED: &str = "allowed";

impl Stores {
    /// Returns whether pods of a namespace may be gateways.
    pub(crate) fn is_gateway_namespace(&self, namespace: &str) -> bool {
        self.settings.gateway_namespaces.iter().any(|known| known == namespace)
            || self.is_labelled(namespace, GATEWAYS_LABEL)
    }

    /// Returns whether sidecars of a namespace may have the filter, for a Canary of the namespace `of`. What is written into the
    /// mesh's root namespace holds everywhere, so nobody's may there. With rights in some namespaces all are those.
    pub(crate) fn may_call(&self, of: &str, namespace: &str) -> bool {
        let settings = &self.settings;
        let all =
            || !settings.is_restricted() || settings.watched_with_proxies().iter().any(|known| known == namespace);
        let named = || settings.caller_namespaces.iter().any(|known| known == namespace || (known == "*" && all()));
        namespace != settings.root_namespace
            && (of == namespace || named() || self.is_labelled(namespace, CALLERS_LABEL))
    }

    /// Returns the namespaces that are known: those with rights, where there are rights in some alone.
    pub(crate) fn known_namespaces(&self) -> BTreeSet<String> {
        match self.settings.is_restricted() {
            true => self.settings.watched_with_proxies().into_iter().collect(),
            false => self.namespaces.all().iter().map(|it| it.name().to_owned()).collect(),
        }
    }

    fn is_labelled(&self, namespace: &str, label: &str) -> bool {
        self.namespaces.get("", namespace).is_some_and(|it| it.label(label) == Some(ALLOWED))
    }
}
