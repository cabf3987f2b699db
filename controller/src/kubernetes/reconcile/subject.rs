//! What one pass is about, as it is read today, and the faults that keep it from its release.

use std::sync::Arc;

use weir_engine::{Plan, Span, State};

use super::reconciler::Reconciler;
use super::templates::unusable_metric;
use crate::api::CanarySpec;
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::configs::TrackedRevision;
use crate::kubernetes::gateway::GatewayWorkload;
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::{Canary, Fault, INVALID_SPEC};
use crate::kubernetes::render::Names;
use crate::kubernetes::router::{
    Served, apex_conflict, headless_arms, keep_of_before, served_elsewhere, taken_hosts, token_under_way,
};
use crate::kubernetes::target::conflicts::taken;
use crate::kubernetes::target::scaler::missing_autoscaler;

/// Time in which the cluster is expected to say whose hosts are: a longer trouble is told, and the Canary goes on without them.
const LISTING_GRACE: Span = Span::seconds(60);

/// A Canary that can be read, without what another namespace has of it.
pub(super) struct Subject {
    pub(super) plan: Plan,
    pub(super) spec: CanarySpec,
    pub(super) names: Names,
    pub(super) target: Option<Target>,
    /// Why the newest spec is not the one that is used.
    unread: Option<Fault>,
    /// A host that is another namespace's.
    host_taken: Option<Fault>,
    /// Whether it is not known yet whose its hosts are.
    pub(super) asking: bool,
}

impl Subject {
    /// Reads a Canary; the fault is why there can be no pass over it.
    pub(super) fn read(reconciler: &mut Reconciler, canary: &Canary) -> Result<Self, Fault> {
        let stores = &reconciler.stores;
        reconciler.reading.update(canary);
        let unread = reconciler.reading.problem().map(|problem| (INVALID_SPEC, problem.to_owned()));
        let reading = &reconciler.reading;
        let Some((mut plan, mut spec)) = reading.plan().or_else(|| reading.plan_to_give_back(canary)).cloned() else {
            return Err(unread.unwrap_or_default());
        };
        plan.observe_at_rest |= stores.settings.observe_at_rest;
        let (namespace, name) = &reconciler.key;
        let names = Names::new(namespace, name, canary.metadata.uid.as_deref().unwrap_or_default(), &spec);
        if let Some(problem) = names.problem() {
            return Err(("NameTooLong", problem));
        }
        keep_of_before(stores, &names, &mut spec);
        let mut foreign = taken_hosts(stores, &names, &spec);
        let (asked, mut asking, mut reason) = (reconciler.hosts_asked, false, "HostTaken");
        let since = match served_elsewhere(stores, &names, &spec) {
            Served::Known(taken) => {
                foreign.extend(taken);
                None
            }
            Served::Asking => {
                asking = true;
                asked
            }
            Served::Unlisted(may_be) => {
                let since = asked.unwrap_or_else(now);
                asking = now().since(since) < LISTING_GRACE;
                if foreign.is_empty() {
                    reason = "HostUnknown";
                }
                foreign.extend(may_be);
                Some(since)
            }
        };
        spec.service.hosts.retain(|host| !foreign.iter().any(|taken| taken.host == *host));
        let host_taken = foreign.into_iter().next().map(|taken| (reason, taken.problem));
        let target = stores.target(names.kind, &names.namespace, &names.target);
        if let Some(target) = &target {
            names.selector(target.selector()).map_err(|problem| ("InvalidTarget", problem))?;
        }
        reconciler.hosts_asked = since;
        Ok(Self { plan, spec, names, target, unread, host_taken, asking })
    }

    /// Has routes keep the token that requests under way carry.
    pub(super) fn keep_token(&mut self, reconciler: &Reconciler, state: &State) {
        if state.run.is_some() || state.canary_is_fallback || state.traffic.reaches_canary() {
            self.names.token = token_under_way(&reconciler.stores, &self.names);
        }
    }

    /// Returns why a name that is needed cannot be had; `younger` is what younger rules refuse.
    pub(super) fn taken(&self, reconciler: &Reconciler, canary: &Canary, younger: Option<Fault>) -> Option<Fault> {
        let stores = &reconciler.stores;
        (self.host_taken.clone())
            .or_else(|| taken(stores, &self.names, canary))
            .or(younger)
            .or_else(|| apex_conflict(stores, &self.names, &self.spec))
    }

    /// Returns why what the spec says and names cannot be done, whatever there is around the Canary.
    pub(super) fn unusable(&self, reconciler: &Reconciler, canary: &Canary) -> Option<Fault> {
        let stores = &reconciler.stores;
        (self.unread.clone())
            .or_else(|| missing_autoscaler(stores, &self.names))
            .or_else(|| unusable_metric(stores, canary, reconciler.reading.rules()))
    }

    /// Returns what is to be told first: what the spec says, then whose the names are, what is missing, what the API server
    /// refused, and, where requests are to be `moving`, what its gateways cannot do.
    pub(super) fn fault(
        &self,
        reconciler: &Reconciler,
        canary: &Canary,
        taken: Option<&Fault>,
        resolved: &Result<TrackedRevision, Fault>,
        gateways: &[Arc<GatewayWorkload>],
        moving: bool,
    ) -> Option<Fault> {
        let (stores, registry) = (&reconciler.stores, &reconciler.registry);
        let overlap = || gateways.iter().find_map(|workload| registry.excluded(stores, workload));
        // At rest nothing is asked of its gateways.
        let asked = if moving { gateways } else { &[] };
        (self.unread.clone())
            .or_else(|| taken.cloned())
            .or_else(|| overlap().map(|problem| ("GatewaysOverlap", problem)))
            .or_else(|| resolved.as_ref().err().cloned())
            .or_else(|| missing_autoscaler(stores, &self.names))
            .or_else(|| unusable_metric(stores, canary, reconciler.reading.rules()))
            .or_else(|| reconciler.retry.refused())
            .or_else(|| asked.iter().find_map(|workload| workload.left_out(&reconciler.id)))
            .or_else(|| asked.iter().find_map(|workload| workload.refused()))
            .or_else(|| moving.then(|| headless_arms(stores, &self.names, &self.spec)).flatten())
    }
}
