//! What Canaries of other namespaces may use: a MetricTemplate, an AlertProvider, and the credentials that go with it.

use super::Stores;
use crate::alerts::Provider;
use crate::api::Rules;
use crate::checks::Template;
use crate::kubernetes::api_server::object::{Cached, Projection};

/// Annotation of an object that Canaries of every namespace may name.
const SHARED: &str = "weir.dev/shared";

impl Stores {
    /// Returns what a Canary of the namespace `of` may know of a MetricTemplate. One of another namespace that sends credentials
    /// along would lend them to whoever names it; a Canary that worked with it before that was a rule goes on.
    pub(crate) fn template(&self, of: &str, namespace: &str, name: &str, rules: Rules) -> Template {
        let Some(template) = self.templates.get(namespace, name) else {
            return if self.templates.has_synced() { Template::Missing } else { Template::NotKnownYet };
        };
        let spec = match &template.fields.spec {
            Ok(spec) => spec.clone(),
            Err(problem) => return Template::Unusable(problem.clone()),
        };
        match spec.provider.credentials() {
            Some(what) if rules != Rules::Former && !self.may_use(of, &template) => Template::Unusable(format!(
                "it sends {what}, so a Canary of another namespace may use it only where it says so: give it the annotation \
                 {SHARED}: \"true\", or name a template of {of}"
            )),
            _ => Template::Found(spec),
        }
    }

    /// Returns whether Canaries of the namespace `of` may use an object with what it keeps to itself: it is their own, of Weir's
    /// own namespace, of one that the administrator named, or its owner says so.
    fn may_use<V: Projection>(&self, of: &str, object: &Cached<V>) -> bool {
        let namespace = object.namespace();
        let own = [of, self.settings.namespace.as_str()].contains(&namespace);
        let named = self.settings.shared_namespaces.iter().any(|shared| shared == namespace);
        own || named || [object.annotation(SHARED), object.label(SHARED)].contains(&Some("true"))
    }

    /// Returns what a Canary's namespace may know of an AlertProvider.
    pub(crate) fn alert_provider(&self, of: &str, namespace: &str, name: &str) -> Provider {
        let Some(provider) = self.alert_providers.get(namespace, name) else {
            return if self.alert_providers.has_synced() { Provider::Missing } else { Provider::NotKnownYet };
        };
        if !self.may_use(of, &provider) {
            return Provider::Unusable(format!(
                "it is of another namespace and not shared: give it the annotation {SHARED}: \"true\", or name one of {of}"
            ));
        }
        provider.fields.spec.clone().map_or_else(Provider::Unusable, Provider::Found)
    }
}
