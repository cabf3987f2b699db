//! What a Canary has under an earlier name: the routes and the Services that users called before `service.name` or `targetRef` changed.
//!
//! Who calls them goes on doing so, and of two routes for one host the older one is taken. So they lead to today's arms as soon as the primary
//! can serve, and what was adopted under them is given back when the Canary goes: before that its target has no pods.

use std::sync::Arc;

use serde_json::Value;

use super::origin::{Origin, origin};
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::object::{Cached, Projection};
use crate::kubernetes::executor::Executor;
use crate::kubernetes::kinds::{Labels, Service};
use crate::kubernetes::render::{self, CANARY_LABEL, Names, Ownership, Role};
use crate::kubernetes::stores::Stores;

/// An object of a Canary under an earlier name.
pub(crate) struct Earlier {
    /// Its kind and name.
    pub(crate) what: String,
    /// Whether somebody had it before Weir.
    pub(crate) adopted: bool,
}

impl Earlier {
    pub(super) fn of<V: Projection>(live: &Arc<Cached<V>>, names: &Names) -> Self {
        let adopted = matches!(origin(Some(live), names), Origin::Adopted(_));
        Self { what: format!("{} {}", V::KIND, live.name()), adopted }
    }
}

/// Returns what a Canary has of a kind under other names than `own`.
pub(super) fn of_earlier_name<V: Projection>(cache: &Cache<V>, names: &Names, own: &[String]) -> Vec<Arc<Cached<V>>> {
    let mut found = cache.of(&names.namespace);
    found.retain(|it| it.label(CANARY_LABEL) == Some(&names.canary) && !own.iter().any(|own| own == it.name()));
    found
}

fn services(stores: &Stores, names: &Names) -> Vec<Arc<Service>> {
    of_earlier_name(&stores.services, names, &[names.apex.clone(), names.primary_service(), names.canary_service()])
}

/// Returns what a Canary has under an earlier name: routes and Services, those of the arms too.
pub(crate) fn left_behind(stores: &Stores, names: &Names) -> Vec<Earlier> {
    let services = services(stores, names);
    let services = services.iter().map(|live| Earlier::of(live, names));
    super::routes_left_behind(stores, names).into_iter().chain(services).collect()
}

/// Returns the Services that users called by an earlier name; those of the arms of that time are called by routes alone.
pub(super) fn called(stores: &Stores, names: &Names) -> Vec<Arc<Service>> {
    let all = services(stores, names);
    let is_there = |base: &str| base == names.apex || all.iter().any(|it| it.name() == base);
    let of_arm = |name: &str| ["-primary", "-canary"].iter().filter_map(|arm| name.strip_suffix(arm)).any(is_there);
    all.iter().filter(|it| !of_arm(it.name())).cloned().collect()
}

impl Executor<'_> {
    /// Has what is called by an earlier name lead to the arms: routes as those of today, Services to the primary, which is found by
    /// `selector` and has these `ports`.
    ///
    /// # Errors
    /// When the API refuses a write.
    pub(super) async fn lead_earlier(&self, ports: &[Value], selector: &Labels) -> Result<(), ActError> {
        self.lead_earlier_routes(ports).await?;
        for live in called(self.stores, self.names) {
            if let Some(wanted) = self.of_earlier(&live, ports, selector) {
                self.ensure_earlier(&self.stores.services, &wanted).await?;
            }
        }
        Ok(())
    }

    /// Renders a Service of an earlier name; nothing where it is somebody else's again.
    fn of_earlier(&self, live: &Service, ports: &[Value], selector: &Labels) -> Option<Value> {
        let (ownership, original) = match origin(Some(live), self.names) {
            Origin::Made => (Ownership::Owned, None),
            Origin::Adopted(original) => (Ownership::Adopted, original),
            Origin::Missing | Origin::Foreign | Origin::Claimed => return None,
        };
        let wanted = self.service_of(live, ownership, ports, selector);
        Some(if ownership == Ownership::Adopted { render::adopt(wanted, original.as_deref()) } else { wanted })
    }

    /// Its ports are those that it had, and its own one leads where today's does.
    fn service_of(&self, live: &Service, ownership: Ownership, ports: &[Value], selector: &Labels) -> Value {
        let mut of_live = live.body()["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let number = ports.first().map(|port| port["port"].clone()).unwrap_or_default();
        let only = of_live.len() == 1;
        for port in &mut of_live {
            if let Some(fields) = port.as_object_mut() {
                // The machine's own, which the API server gives.
                fields.remove("nodePort");
            }
            if let Some(own) = ports.first().filter(|_| only || render::is_of(port, &number)) {
                port["targetPort"] = own["targetPort"].clone();
            }
        }
        let names = Names { apex: live.name().to_owned(), ..self.names.clone() };
        render::service(&names, self.spec, Role::Apex(ownership), selector, &of_live)
    }

    /// Gives back what is called by an earlier name: what was adopted is what it was, and what goes with the Canary leads to the target until
    /// then.
    pub(super) async fn give_back_earlier_services(&self, ports: &[Value], selector: &Labels) -> Result<(), ActError> {
        for live in called(self.stores, self.names) {
            let made = matches!(origin(Some(&live), self.names), Origin::Made);
            let service =
                |ownership| self.service_of(&live, if made { Ownership::Owned } else { ownership }, ports, selector);
            match made {
                true => self.ensure_earlier(&self.stores.services, &service(Ownership::Owned)).await?,
                false => self.give_back(&self.stores.services, &live, service).await?,
            }
        }
        Ok(())
    }
}
