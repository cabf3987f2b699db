//! The VirtualServices of a Canary under earlier names, which share hosts with today's.

use std::sync::Arc;

use serde_json::Value;

use super::super::earlier::of_earlier_name;
use super::super::origin::{Origin, origin, spec_before};
use crate::api::service::Free;
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::executor::Executor;
use crate::kubernetes::kinds::VirtualService;
use crate::kubernetes::render::{self, Names, Ownership};
use crate::kubernetes::stores::Stores;

/// Returns the VirtualServices that a Canary has under another name than the one that its spec has.
pub(super) fn virtual_services(stores: &Stores, names: &Names) -> Vec<Arc<VirtualService>> {
    of_earlier_name(&stores.virtual_services, names, std::slice::from_ref(&names.apex))
}

impl Executor<'_> {
    /// Has them lead to the arms as today's does, for the hosts that they have.
    pub(in super::super) async fn lead_earlier_virtual_services(&self, ports: &[Value]) -> Result<(), ActError> {
        for live in virtual_services(self.stores, self.names) {
            let (ownership, original) = match origin(Some(&live), self.names) {
                Origin::Made => (Ownership::Owned, None),
                Origin::Adopted(original) => (Ownership::Adopted, original),
                Origin::Missing | Origin::Foreign | Origin::Claimed => continue,
            };
            let mut spec = self.spec.clone();
            if spec.service.r#match.is_empty() {
                let kept = original.as_deref().map(render::kept_conditions).unwrap_or_default();
                spec.service.r#match = kept.into_iter().filter_map(|it| it.as_object().cloned().map(Free)).collect();
            }
            let settings = render::settings(&spec_before(&live, self.names));
            let wanted = of_live(&live, self.names, self.routes(&spec, ownership, ports.len() > 1, &settings));
            let adopted = ownership == Ownership::Adopted;
            let wanted = if adopted { render::adopt(wanted, original.as_deref()) } else { wanted };
            self.ensure_earlier(&self.stores.virtual_services, &wanted).await?;
        }
        Ok(())
    }

    /// Gives back those that were adopted; the others lead to the service that users call until they go with the Canary.
    pub(super) async fn give_back_earlier_virtual_services(
        &self,
        routes: impl Fn(Ownership) -> Value,
    ) -> Result<(), ActError> {
        let cache = &self.stores.virtual_services;
        for live in virtual_services(self.stores, self.names) {
            let wanted = |ownership| of_live(&live, self.names, routes(ownership));
            match origin(Some(&live), self.names) {
                Origin::Made => self.ensure_earlier(cache, &wanted(Ownership::Owned)).await?,
                _ => self.give_back(cache, &live, wanted).await?,
            }
        }
        Ok(())
    }
}

/// Returns routes under the name of a live VirtualService: with its hosts, gateways and namespaces, and its routes to other ports.
fn of_live(live: &VirtualService, names: &Names, mut routes: Value) -> Value {
    routes["metadata"]["name"] = live.name().into();
    let body = live.body();
    let Some(spec) = routes["spec"].as_object_mut() else { return routes };
    for field in ["hosts", "gateways", "exportTo"] {
        spec.remove(field);
        spec.extend(body["spec"].get(field).map(|value| (field.to_owned(), value.clone())));
    }
    let to_port = format!("{}/port-", names.primary_route());
    let is_kept = |route: &&Value| route["name"].as_str().is_some_and(|name| name.starts_with(&to_port));
    let kept: Vec<Value> = body["spec"]["http"].as_array().into_iter().flatten().filter(is_kept).cloned().collect();
    if let Some(http) = spec.get_mut("http").and_then(Value::as_array_mut) {
        http.splice(..0, kept);
    }
    routes
}
