//! What the actions of one Canary have in common: whom they are for, and how an object is compared and written.

use std::sync::Arc;

use serde_json::Value;

use crate::api::CanarySpec;
use crate::kubernetes::api_server::apply::{ActError, apply};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::cover::covers;
use crate::kubernetes::api_server::object::{Kept, View};
use crate::kubernetes::configs::Declared;
use crate::kubernetes::kinds::{Deployment, Labels, Service};
use crate::kubernetes::render::{CANARY_LABEL, Names};
use crate::kubernetes::stores::World;

/// Carries out the actions of one Canary: its methods stand beside the objects that they write.
pub(crate) struct Executor<'a> {
    /// The cluster.
    pub(crate) world: &'a Arc<World>,
    /// The objects' names.
    pub(crate) names: &'a Names,
    /// What the user wants.
    pub(crate) spec: &'a CanarySpec,
    /// The target, if it exists.
    pub(crate) target: Option<&'a Arc<Deployment>>,
    /// What it declares, if that can be told.
    pub(crate) declared: Option<&'a Declared>,
    /// How the target's pods must be marked that are started from now on, where they are not.
    pub(crate) mark: Option<String>,
    /// Whether a revision is under analysis: nothing of it is for the primary yet.
    pub(crate) analysing: bool,
    /// Whether the target takes the traffic back for good.
    pub(crate) leaving: bool,
}

impl Executor<'_> {
    pub(in crate::kubernetes) fn selector(&self, kept: &Value) -> Result<(String, String), ActError> {
        match self.target {
            Some(target) => self.selector_of(&target.view.spec.selector.match_labels),
            None => {
                let labels = serde_json::from_value(kept["template"]["metadata"]["labels"].clone()).unwrap_or_default();
                self.selector_of(&labels)
            }
        }
    }

    pub(in crate::kubernetes) fn selector_of(&self, labels: &Labels) -> Result<(String, String), ActError> {
        self.names.selector(labels).map_err(ActError::Impossible)
    }

    /// Writes an object where the live one is not what is wanted.
    pub(in crate::kubernetes) async fn ensure<V: View>(
        &self,
        cache: &Cache<V>,
        wanted: &Value,
    ) -> Result<(), ActError> {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let live = cache.get(&self.names.namespace, name);
        self.refuse_stranger(live.as_deref())?;
        if live.is_some_and(|live| covers(&live.json(), &comparable(wanted))) {
            return Ok(());
        }
        apply(&self.world.api, cache, wanted).await.map(drop)
    }

    /// Writes a service where the live one is not what is wanted. Ports that somebody else added stay.
    pub(in crate::kubernetes) async fn ensure_service(&self, wanted: &Value) -> Result<(), ActError> {
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let live = self.world.services.get(&self.names.namespace, name);
        self.refuse_stranger(live.as_deref())?;
        if live.is_some_and(|live: Arc<Service>| service_is(&live.json(), wanted)) {
            return Ok(());
        }
        apply(&self.world.api, &self.world.services, wanted).await.map(drop)
    }

    pub(in crate::kubernetes) fn refuse_stranger<V: View>(&self, live: Option<&Kept<V>>) -> Result<(), ActError> {
        stranger(self.world, live, self.names).map_or(Ok(()), |problem| Err(ActError::Impossible(problem)))
    }
}

/// Returns whose an object is, where it belongs to another Canary: two must not write one object in turn.
pub(in crate::kubernetes) fn stranger<V: View>(world: &World, live: Option<&Kept<V>>, names: &Names) -> Option<String> {
    let live = live?;
    let owner = live.label(CANARY_LABEL).filter(|owner| *owner != names.canary)?;
    world.canaries.get(&names.namespace, owner)?;
    let (kind, name) = (V::KIND, live.name());
    Some(format!("{kind} {name} belongs to Canary {owner}: give one of the two another service.name"))
}

/// Returns what of a wanted object is compared: everything but what the API sets itself.
pub(crate) fn comparable(wanted: &Value) -> Value {
    let mut wanted = wanted.clone();
    if let Some(map) = wanted.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    wanted
}

fn service_is(live: &Value, wanted: &Value) -> bool {
    let mut rest = comparable(wanted);
    let ports = rest["spec"].as_object_mut().and_then(|spec| spec.remove("ports")).unwrap_or_default();
    let live_ports = live.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    // The selector is one value: a label more selects other pods.
    live.pointer("/spec/selector") == rest.pointer("/spec/selector")
        && covers(live, &rest)
        && ports.as_array().into_iter().flatten().all(|port| live_ports.iter().any(|live| covers(live, port)))
}
