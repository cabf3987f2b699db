//! How requests reach the arms: the Service that users call, and the routes that a router of some kind makes of a Canary.
//!
//! Routers are told apart here alone. A kind of router has a file (and a folder for its parts): its routes, who else has the
//! hosts, which gateways its requests come through, and the policies that hold for the arms. Every match is exhaustive, so that
//! the compiler names what a new kind must say.

mod apex;
mod earlier;
mod istio;
mod origin;
mod own_endpoints;
mod speech;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use weir_engine::Timestamp;

use crate::api::{CanarySpec, RouterKind};
use crate::gateway_config::RequestMatch;
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::executor::Executor;
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::kinds::{Labels, Pod, Target};
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::Stores;
use crate::kubernetes::target::flagger::Around;

#[cfg(test)]
pub(in crate::kubernetes) use apex::ownership_after_deletion;
pub(crate) use apex::{apex_conflict, restore_all};
pub(crate) use earlier::{Earlier, left_behind};
pub(crate) use istio::{Callers, Served, TakenHost};
pub(crate) use origin::controlled_apex;
pub(crate) use own_endpoints::own_endpoints;
pub(in crate::kubernetes) use speech::{SPEECH, Speech};

/// Returns why the routes can be neither made nor adopted: one word, and a sentence.
fn routes_conflict(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    match names.router {
        RouterKind::Istio => istio::routes_conflict(stores, names, spec),
    }
}

/// Takes over what routes that were there before a Canary say, and the Canary does not: adopting them loses no request.
pub(crate) fn keep_of_before(stores: &Stores, names: &Names, spec: &mut CanarySpec) {
    match names.router {
        RouterKind::Istio => istio::keep_of_before(stores, names, spec),
    }
}

/// Returns whose an object of the router is that must be the Canary's own alone, where it is not.
#[must_use]
pub(crate) fn foreign_policy(stores: &Stores, names: &Names) -> Option<String> {
    match names.router {
        RouterKind::Istio => istio::foreign_policy(stores, names),
    }
}

/// Returns the routes that Weir made for a Canary under another name than the one that its spec has.
fn routes_left_behind(stores: &Stores, names: &Names) -> Vec<Earlier> {
    match names.router {
        RouterKind::Istio => istio::routes_left_behind(stores, names),
    }
}

/// Returns the routes under the apex's name that another controller may undo, a sentence each.
fn controlled_routes(stores: &Stores, names: &Names) -> Option<String> {
    match names.router {
        RouterKind::Istio => istio::controlled_routes(stores, names),
    }
}

/// Returns which host of a Canary on its gateways an older Canary of its own namespace has for all of its requests, a sentence each.
#[must_use]
pub(crate) fn hosts_behind(stores: &Stores, names: &Names, spec: &CanarySpec) -> Vec<String> {
    match names.router {
        RouterKind::Istio => istio::hosts_behind(stores, names, spec),
    }
}

/// Returns the policies for the service that users call which its gateways go by, and which say nothing of the arms.
#[must_use]
pub(crate) fn policies_of_gateways(stores: &Stores, names: &Names) -> Vec<String> {
    match names.router {
        RouterKind::Istio => istio::policies_of_gateways(stores, names),
    }
}

/// Returns the router's objects around a Canary, whosever they are.
#[must_use]
pub(crate) fn around(stores: &Stores, names: &Names) -> Vec<Around> {
    match names.router {
        RouterKind::Istio => istio::around(stores, names),
    }
}

/// Returns all of the router's objects in a Canary's namespace that could stand around one.
#[must_use]
pub(crate) fn all_around(stores: &Stores, names: &Names) -> Vec<Around> {
    match names.router {
        RouterKind::Istio => istio::all_around(stores, names),
    }
}

/// Returns whether routes, whoever made them, give the canary a share by themselves.
#[must_use]
pub(crate) fn shares_with_canary(stores: &Stores, names: &Names) -> bool {
    match names.router {
        RouterKind::Istio => istio::shares_with_canary(stores, names),
    }
}

/// Returns by what else than such routes a Canary of Flagger's with this spec routes.
#[must_use]
pub(crate) fn routes_by_others(stores: &Stores, names: &Names, spec: &Value) -> Option<String> {
    match names.router {
        RouterKind::Istio => istio::routes_by_others(stores, names, spec),
    }
}

/// Returns who calls a Canary from inside of the mesh, if it is called from there at all.
#[must_use]
pub(crate) fn callers(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Callers> {
    match names.router {
        RouterKind::Istio => istio::callers(stores, names, spec),
    }
}

/// Returns the callers of a Canary whose requests pass no sidecar, and so no filter; with the annotation that leads them past the one that
/// they have.
pub(crate) fn callers_without_sidecar(
    stores: &Stores,
    names: &Names,
    callers: &Callers,
) -> Vec<(Arc<Pod>, Option<&'static str>)> {
    match names.router {
        RouterKind::Istio => istio::callers_without_sidecar(stores, names, callers),
    }
}

/// Returns the callers of a Canary in namespaces that may have none.
pub(crate) fn refused_callers(stores: &Stores, names: &Names, callers: &Callers) -> impl Iterator<Item = Arc<Pod>> {
    match names.router {
        RouterKind::Istio => istio::refused_callers(stores, names, callers),
    }
}

/// Returns whether a pod is one of a Canary's own, which nobody counts as a caller.
pub(crate) fn is_of_arms(stores: &Stores, names: &Names) -> impl Fn(&Pod) -> bool + use<> {
    match names.router {
        RouterKind::Istio => istio::is_of_arms(stores, names),
    }
}

/// Returns the users' own routes inside of the mesh for the service that a Canary's callers ask for, a sentence each.
#[must_use]
pub(crate) fn routes_beside(stores: &Stores, names: &Names, callers: &Callers) -> Vec<String> {
    match names.router {
        RouterKind::Istio => istio::routes_beside(stores, names, callers),
    }
}

/// Returns why the arms that callers' sidecars would choose between cannot be chosen: one word, and a sentence.
#[must_use]
pub(crate) fn headless_arms(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    match names.router {
        RouterKind::Istio => istio::headless_arms(stores, names, spec),
    }
}

/// Returns the hosts for which the routes are for callers of the Canary's own namespace alone; none where they are for all.
#[must_use]
pub(crate) fn narrowed_by<'a>(stores: &Stores, names: &Names, spec: &'a CanarySpec) -> Vec<&'a str> {
    let live = stores.virtual_services.get(&names.namespace, &names.apex);
    match names.router {
        RouterKind::Istio => istio::narrowed_by(stores, names, spec, live.as_deref()),
    }
}

/// Returns what hides a Canary's Services from its callers, a sentence each; nothing as long as it is not known.
#[must_use]
pub(crate) fn hiding(stores: &Arc<Stores>, names: &Names, callers: &Callers, fresh: Duration) -> Option<Vec<String>> {
    match names.router {
        RouterKind::Istio => istio::hiding(stores, names, callers, fresh),
    }
}

/// Returns which host of a Canary inside of the mesh is another one's of its own namespace: the word for it, and a sentence.
#[must_use]
pub(crate) fn shared_host(stores: &Stores, names: &Names, spec: &CanarySpec) -> Option<Fault> {
    match names.router {
        RouterKind::Istio => istio::shared_host(stores, names, spec),
    }
}

/// Returns why no request of callers inside of the mesh can be seen at the port that an adopted Service has: the word for it, and a sentence.
#[must_use]
pub(crate) fn unread_port(stores: &Stores, names: &Names, spec: &CanarySpec, target: &Target) -> Option<Fault> {
    match names.router {
        RouterKind::Istio => istio::unread_port(stores, names, spec, target),
    }
}

/// Returns the token of a Canary's routes while a rollout is under way.
#[must_use]
pub(crate) fn token_under_way(stores: &Stores, names: &Names) -> String {
    match names.router {
        RouterKind::Istio => istio::token_under_way(stores, names),
    }
}

/// Returns whether the routes lead to the canary by themselves, without the filter.
#[must_use]
pub(crate) fn leads_to_canary(stores: &Stores, names: &Names) -> bool {
    match names.router {
        RouterKind::Istio => istio::leads_to_canary(stores, names),
    }
}

/// Returns how the requests of a Canary are found on a gateway.
#[must_use]
pub(crate) fn request_match(stores: &Stores, names: &Names, spec: &CanarySpec, since: Timestamp) -> RequestMatch {
    match names.router {
        RouterKind::Istio => istio::request_match(stores, names, spec, since),
    }
}

/// Returns the hosts of a Canary that are another namespace's.
#[must_use]
pub(crate) fn taken_hosts(stores: &Stores, names: &Names, spec: &CanarySpec) -> Vec<TakenHost> {
    match names.router {
        RouterKind::Istio => istio::taken_hosts(stores, names, spec),
    }
}

/// Returns what is known of the hosts of a Canary that something else than routes of Weir's kind serves for another namespace.
#[must_use]
pub(crate) fn served_elsewhere(stores: &Stores, names: &Names, spec: &CanarySpec) -> Served {
    match names.router {
        RouterKind::Istio => istio::served_elsewhere(stores, names, spec),
    }
}

/// Returns why none of a Canary's requests passes one of the gateways that it names, if that is so: the word for it, and a sentence.
/// `has_pod` says whether its gateways have a pod.
#[must_use]
pub(crate) fn unbound(stores: &Stores, names: &Names, spec: &CanarySpec, has_pod: bool) -> Option<Fault> {
    match names.router {
        RouterKind::Istio => istio::unbound(stores, names, spec, has_pod),
    }
}

/// Returns the selectors of the gateways that a Canary's requests come through.
#[must_use]
pub(crate) fn gateway_selectors(stores: &Stores, names: &Names, spec: &CanarySpec) -> BTreeSet<Labels> {
    match names.router {
        RouterKind::Istio => istio::gateway_selectors(stores, names, spec),
    }
}

/// Returns the selectors of all gateways.
#[must_use]
pub(crate) fn all_gateway_selectors(stores: &Stores) -> BTreeSet<Labels> {
    let of_kind = |kind: &RouterKind| match kind {
        RouterKind::Istio => istio::all_gateway_selectors(stores),
    };
    RouterKind::ALL.iter().flat_map(of_kind).collect()
}

/// Gives back the routes that a Canary has adopted.
async fn restore_routes(stores: &Stores, namespace: &str, canary: &str) -> Result<(), ActError> {
    for kind in RouterKind::ALL {
        match kind {
            RouterKind::Istio => istio::restore_routes(stores, namespace, canary).await?,
        }
    }
    Ok(())
}

impl Executor<'_> {
    /// Makes the routes to the arms, whose Services have these `ports`.
    async fn make_routes(&self, ports: &[Value]) -> Result<(), ActError> {
        match self.names.router {
            RouterKind::Istio => self.make_virtual_service(ports).await,
        }
    }

    /// Has the routes of earlier names lead to the arms.
    async fn lead_earlier_routes(&self, ports: &[Value]) -> Result<(), ActError> {
        match self.names.router {
            RouterKind::Istio => self.lead_earlier_virtual_services(ports).await,
        }
    }

    /// Has the routes lead to the apex alone, or to wherever they led before Weir.
    async fn give_back_routes(&self, multiport: bool) -> Result<(), ActError> {
        match self.names.router {
            RouterKind::Istio => self.give_back_virtual_service(multiport).await,
        }
    }

    /// Makes the policies for connections to the arms: those that the user gave for the service, with the primary's pods spoken to as
    /// `of_primary` says.
    ///
    /// # Errors
    /// When the API refuses a write.
    pub(crate) async fn make_policies(&self, of_primary: &Speech) -> Result<(), ActError> {
        match self.names.router {
            RouterKind::Istio => self.make_destination_rules(&of_primary.opening).await,
        }
    }

    /// Returns what of the policy that is wanted says how connections are opened.
    fn opening(&self) -> Value {
        match self.names.router {
            RouterKind::Istio => self.opening_of_rule(),
        }
    }

    /// Returns what of the primary's policy says how connections are opened, where nobody else has a hand in it.
    fn live_opening(&self) -> Option<Value> {
        match self.names.router {
            RouterKind::Istio => self.opening_of_live_rule(),
        }
    }
}
