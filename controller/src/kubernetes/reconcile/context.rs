//! What one pass over one Canary may use: it observes from the caches, stores in the Canary's status, and has the executor act.

use std::sync::Arc;

use serde_json::Value;
use weir_engine::{
    Action, CheckRequest, Decision, Event, Observation, Phase, Plan, Replicas, Revision, Severity, Span, State,
    Timestamp,
};

use super::observe::{Observer, VERB, verb};
use super::reconciler::Reconciler;
use super::status::{hazards, missing, newly_stalled, no_effect, stalled, status, webhooks, without_figures};
use crate::alerts::{Situation, images};
use crate::api::{CanarySpec, EndedCookies, Rules};
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::configs::{TrackedRevision, changed, unmarked};
use crate::kubernetes::executor::Executor;
use crate::kubernetes::gateway::{Bound, GatewayWorkload};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::{Canary, CanaryStatus, Fault, by_todays_rules};
use crate::kubernetes::render::{Names, Proxies};
use crate::kubernetes::router::{Callers, leads_to_canary, request_match};
use crate::kubernetes::target::revision;
use crate::publisher::Desired;
use crate::reconcile::Platform;
use crate::status_store::Name;
use crate::view::{CanaryView, Particulars};

/// Figures of a rollout are stored this often; news at once.
const FIGURES_INTERVAL: Span = Span::seconds(10);

/// What callers that come and go change in the words of a Canary at rest is stored this often, after a few times at once: there may be
/// thousands of both.
const WORDS_INTERVAL: Span = Span::seconds(300);
const WORDS_AT_ONCE: u64 = 10;

/// One pass over one Canary.
pub(super) struct ReconcileContext<'a> {
    pub(super) reconciler: &'a mut Reconciler,
    pub(super) canary: &'a Arc<Canary>,
    pub(super) names: Names,
    pub(super) spec: CanarySpec,
    pub(super) plan: &'a Plan,
    pub(super) target: Option<Target>,
    pub(super) resolved: Result<TrackedRevision, Fault>,
    pub(super) callers: Option<Callers>,
    pub(super) gateways: Vec<Arc<GatewayWorkload>>,
    pub(super) fault: Option<Fault>,
    pub(super) now: Timestamp,
    pub(super) finalized: bool,
    pub(super) before: State,
    /// Whether the canary stands in for the primary, by what was decided last.
    pub(super) stands_in: bool,
    /// Whether the spec has changed a moment ago.
    pub(super) is_fresh: bool,
    /// Whether there may be objects of the Canary under an earlier name.
    pub(super) renamed: bool,
    /// Whether a run is under way whose routes are somebody else's.
    pub(super) routeless: bool,
}

impl ReconcileContext<'_> {
    fn executor(&self) -> Executor<'_> {
        Executor {
            stores: &self.reconciler.stores,
            names: &self.names,
            spec: &self.spec,
            target: self.target.as_ref(),
            resolved: self.resolved.as_ref().ok(),
            written: &self.reconciler.written,
            stands_in: self.stands_in,
            is_fresh: self.is_fresh,
            renamed: self.renamed,
        }
    }

    /// Returns what the target changes of the images that the primary runs.
    fn images(&self) -> Vec<String> {
        let primary = self.reconciler.stores.target(self.names.kind, &self.names.namespace, &self.names.primary());
        let template = |target: Option<&Target>| target.map(Target::template).unwrap_or_default();
        let (old, new) = (template(primary.as_ref()), template(self.target.as_ref()));
        images(&containers(&old), containers(&new))
    }
}

/// Returns whether two statuses say different things of a Canary's gateways and callers.
fn is_said_otherwise(old: &CanaryStatus, new: &CanaryStatus) -> bool {
    let messages = |status: &CanaryStatus| -> Vec<String> {
        status.conditions.iter().map(|condition| condition.message.clone()).collect()
    };
    old.gateways != new.gateways || messages(old) != messages(new)
}

/// Returns name and image of a pod template's containers.
fn containers(template: &Value) -> Vec<(&str, &str)> {
    let list = template["spec"]["containers"].as_array().into_iter().flatten();
    list.filter_map(|container| Some((container["name"].as_str()?, container["image"].as_str()?))).collect()
}

impl Platform for ReconcileContext<'_> {
    type Error = ActError;

    async fn observe(&mut self) -> Result<Observation, ActError> {
        let leaving = self.reconciler.registry.leaving(&self.reconciler.id, &self.gateways);
        let observer = Observer {
            stores: &self.reconciler.stores,
            names: &self.names,
            spec: &self.spec,
            id: &self.reconciler.id,
            target: self.target.as_ref(),
            resolved: self.resolved.as_ref().map_err(|(_, problem)| problem.as_str()),
            uncopied: self.reconciler.copies.problem.as_deref(),
            gateways: &self.gateways,
            leaving: &leaving,
            only_callers: self.callers.as_ref().is_some_and(|callers| callers.alone),
            state: &self.before,
            taken_over: self.canary.fields.status.taken_over.as_ref(),
            now: self.now,
        };
        let mut seen = observer.observe(&mut self.reconciler.endpoints);
        // At rest nothing is updated.
        seen.update_stops_primary |= self.before.run.is_some() && self.executor().update_changes_speech();
        seen.unplanned = self.routeless || self.reconciler.reading.plan().is_none();
        seen.verb = verb(self.canary.annotation(VERB));
        seen.deleted = self.canary.deleted();
        seen.check_results = self.reconciler.checks.results();
        self.reconciler.seen = seen.clone();
        Ok(seen)
    }

    async fn persist(&mut self, decision: &Decision) -> Result<(), ActError> {
        let (plan, state, stores) = (self.plan, &decision.state, &self.reconciler.stores.clone());
        self.stands_in = state.stands_in();
        // Nothing is made before it stands: what is made must be given back.
        if !self.finalized {
            self.reconciler.finalizer(self.canary, true).await?;
        }
        let (namespace, name) = self.reconciler.key.clone();
        let view = CanaryView::of(&namespace, &name, plan, state, &self.reconciler.seen, &decision.reason);
        let view = CanaryView { in_cluster: true, ..view };
        let generation = self.canary.metadata.generation.unwrap_or_default();
        let old = self.reconciler.stored.as_ref().map_or(&self.canary.fields.status, |(status, _)| status);
        let at = self.reconciler.stored.as_ref().map_or(Timestamp(0), |(_, at)| *at);
        let callers = self.callers.as_ref();
        let (registry, scrapes) = (&self.reconciler.registry, &self.reconciler.seen.scrapes);
        let bound = Bound::of(stores, registry, &self.names, &self.spec, &self.gateways, callers, scrapes);
        let mut new = status(old, &view, state, generation, bound, self.now);
        if self.reconciler.reading.rules() != Rules::Former {
            new.state = new.state.as_deref().and_then(by_todays_rules);
        }
        let tracked = self.resolved.as_ref().map(|resolved| resolved.tracked(stores));
        new.tracked_configs = tracked.unwrap_or_else(|_| old.tracked_configs.clone());
        let cookies = EndedCookies::of(&self.spec.analysis).filter(|_| state.ended.is_some());
        new.previous_session_affinity_cookie = cookies.map(|cookies| cookies.previous().to_owned());
        let waited_for = self.reconciler.grace.left(self.fault.as_ref(), old, self.now).is_some();
        if let Some((reason, problem)) = &self.fault {
            let said = if waited_for { missing } else { stalled };
            let of = CanaryStatus { conditions: old.conditions.clone(), ..new };
            new = said(&of, reason, problem, generation, self.now);
        }
        let no_effect_event = no_effect(old, &mut new, self.reconciler.reading.remarks(), generation, self.now);
        let hazard = hazards(old, &mut new, self.reconciler.hazards.as_deref(), generation, self.now);
        let undelivered = self.reconciler.alerts_failing(self.canary, old, &mut new, generation, self.now);
        let stalled = self.fault.as_ref().filter(|_| !waited_for).and_then(|fault| newly_stalled(old, fault));
        new.alerts = self.reconciler.alerts.deliveries().threads();
        let outcomes = self.reconciler.checks.outcomes();
        // Another replica may have asked them before this one.
        if !outcomes.is_empty() {
            new.webhooks = webhooks(old, outcomes, self.now);
        }
        let decided = self.before.durable() != state.durable();
        let erased = self.reconciler.stored.is_some() && self.canary.fields.status.state.is_none();
        // What a Canary waits for before and after its life changes in words alone.
        let moving = state.run.is_some() || matches!(state.phase, Phase::Initializing | Phase::Terminating);
        let called = callers.is_some() && !moving;
        let essence = |status: &CanaryStatus| {
            let essence = without_figures(status);
            CanaryStatus { gateways: essence.gateways.filter(|_| !called), ..essence }
        };
        let news = decided || erased || essence(old) != essence(&new);
        let words = called && self.reconciler.words_at <= self.now && is_said_otherwise(old, &new);
        if words && !news {
            let least = Timestamp(self.now.0.saturating_sub(WORDS_AT_ONCE * WORDS_INTERVAL.0));
            self.reconciler.words_at = self.reconciler.words_at.max(least) + WORDS_INTERVAL;
        }
        let figures = *old != new && moving && self.now.since(at) >= FIGURES_INTERVAL;
        let former = self.resolved.as_ref().map(|resolved| resolved.former.clone()).unwrap_or_default();
        let changed = changed(&old.tracked_configs, &new.tracked_configs, &former);
        if news || figures || words {
            // What all Canaries at rest have to say at once must not be a thousand connections.
            let waits = !decided && state.run.is_none();
            let _turn = if waits { stores.api.write_permits.acquire().await.ok() } else { None };
            self.reconciler.store(self.canary, new).await?;
        }
        let changed = changed.map(|text| Event::new(Severity::Info, "ConfigChanged", text));
        // The images of a rollout stay those that it began with: its primary runs the new ones before it has ended.
        let begins = !view.run.is_empty() && view.run != self.reconciler.situation.view.run;
        let images = if begins { self.images() } else { self.reconciler.situation.take_images() };
        self.reconciler.situation = Situation::of(view.clone(), state, images);
        for event in changed.iter().chain(&no_effect_event).chain(&hazard).chain(&undelivered).chain(&stalled) {
            self.emit(event);
        }
        let who = Name { namespace, name };
        let particulars = Particulars::of(plan, state, &self.reconciler.seen, &self.reconciler.checks.replies());
        let shown = match self.fault.as_ref().filter(|_| !waited_for) {
            Some(fault) => view.stalled_by(fault.0, &fault.1),
            None => view,
        };
        let statuses = &self.reconciler.statuses;
        statuses.set(shown, &plan.latency_ms);
        statuses.set_particulars(&who, particulars, self.now);
        for scrape in &self.reconciler.seen.scrapes {
            statuses.count(&who, scrape);
        }
        let is_there = |gateway: &str| {
            gateway.split_once('/').is_some_and(|(namespace, name)| stores.pods.get(namespace, name).is_some())
        };
        statuses.forget_gateways(&who, is_there);
        Ok(())
    }

    async fn execute(&mut self, action: &Action) -> Result<(), ActError> {
        let stores = &self.reconciler.stores.clone();
        // What the target declares, where that is the revision in question: of any other it says nothing.
        let of = |revision: &Revision| {
            let resolved = self.resolved.as_ref().ok().filter(|resolved| resolved.revision == *revision)?;
            Some((self.target.as_ref()?, resolved))
        };
        match action {
            Action::Traffic(traffic) => {
                let request_match = request_match(stores, &self.names, &self.spec, self.canary.made_at());
                let in_sidecars = request_match.in_sidecars();
                for workload in &self.gateways {
                    let found = match workload.names.proxies {
                        Proxies::Gateways => &request_match,
                        Proxies::Sidecars => &in_sidecars,
                    };
                    workload.set_desired(Desired::of(found, self.plan, traffic));
                }
                // Those that the Canary named once and names no more.
                self.reconciler.registry.remove_but(&self.reconciler.key, &self.reconciler.id, &self.gateways);
            }
            Action::KeepRevision(revision) => {
                if let Some((target, resolved)) = of(revision) {
                    revision::keep(stores, &self.names, target, resolved).await?;
                }
            }
            Action::CopyConfigs(revision) => {
                if let Some((_, resolved)) = of(revision) {
                    self.reconciler.copies.copy(stores, &self.names, resolved).await;
                }
            }
            Action::Primary { revision, replicas, follow_autoscaler } => {
                self.executor().primary(revision, *replicas, *follow_autoscaler).await?;
            }
            Action::Canary { revision, replicas, fresh_for } => {
                // Nothing of the canary goes while routes lead to it by themselves.
                if *replicas == Replicas::Exactly(0) && !self.stands_in && self.reconciler.may_lead_to_canary {
                    if leads_to_canary(stores, &self.names) {
                        self.executor().route().await?;
                    }
                    self.reconciler.may_lead_to_canary = false;
                }
                let run = fresh_for.as_deref();
                let mark = of(revision).zip(run).and_then(|((target, it), run)| unmarked(stores, target, it, run));
                self.executor().canary(*replicas, mark.as_deref()).await?;
            }
            Action::Route => {
                self.reconciler.may_lead_to_canary |= self.stands_in;
                self.executor().route().await?;
            }
            Action::Unroute => self.executor().unroute().await?,
            Action::Prune { revisions, live } => {
                // While it cannot be told what the target reads, nothing of it is dropped.
                if let (Some(_), Ok(resolved)) = (&self.target, &self.resolved) {
                    revision::prune(stores, &self.names, revisions).await?;
                    self.reconciler.copies.prune(stores, &self.names, resolved, live).await?;
                }
            }
            Action::Handover => self.executor().traffic_left_primary().await?,
            Action::Release => {
                self.reconciler.registry.remove_but(&self.reconciler.key, &self.reconciler.id, &[]);
                self.reconciler.finalizer(self.canary, false).await?;
            }
        }
        Ok(())
    }

    fn emit(&mut self, event: &Event) {
        self.reconciler.emit(&self.canary.clone(), event);
    }

    fn request_checks(&mut self, requests: &[CheckRequest]) {
        let (stores, own) = (self.reconciler.stores.clone(), self.reconciler.key.0.clone());
        let rules = self.reconciler.reading.rules();
        self.reconciler.checks.request(requests, |namespace, name| stores.template(&own, namespace, name, rules));
    }
}
