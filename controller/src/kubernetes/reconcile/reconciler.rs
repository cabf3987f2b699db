//! Looks after one Canary: looks, has the engine decide, stores, and makes it so; again whenever something changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::info;
use weir_engine::{
    Action, CheckRequest, Decision, Event, Observation, Phase, Plan, Revision, Severity, Span, State, Timestamp,
};

use super::reading::LastReading;
use super::retry::{Retry, SHORTEST};
use super::templates::unusable_metric;
use crate::api::{CanarySpec, canary_id};
use crate::checks::CheckRunner;
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::api_server::written::Written;
use crate::kubernetes::configs::{Copies, Declared, changed, declared, unmarked};
use crate::kubernetes::executor::Executor;
use crate::kubernetes::gateway::{GatewayWorkload, request_match, unbound};
use crate::kubernetes::kinds::Deployment;
use crate::kubernetes::kinds::canary::{Canary, CanaryStatus, Fault};
use crate::kubernetes::reconcile::observe::{Look, SeenEndpoints, VERB, verb};
use crate::kubernetes::reconcile::status::{gist, no_effect, recall, stalled, status};
use crate::kubernetes::render::Names;
use crate::kubernetes::router::apex::occupied;
use crate::kubernetes::stores::{Key, Stores};
use crate::kubernetes::target::conflicts::{shared, taken};
use crate::kubernetes::target::revision;
use crate::kubernetes::target::scaler::unscaled;
use crate::publisher::Desired;
use crate::reconcile::{Platform, Requeue, pass};
use crate::status_store::{Name, StatusStore};
use crate::view::CanaryView;

/// Keeps a deleted Canary until everything of it is given back.
pub(super) const FINALIZER: &str = "weir.dev/canary";
/// Figures of a rollout are stored this often; news at once.
const FIGURES: Span = Span::seconds(10);
/// Time to the next look at an object that is about to go.
pub(super) const GOING: Span = Span::seconds(2);

/// Looks after one Canary.
pub(crate) struct Reconciler {
    pub(super) stores: Arc<Stores>,
    pub(super) statuses: Arc<StatusStore>,
    pub(super) key: Key,
    /// The object that is looked after: another one may come under the same name.
    uid: Option<String>,
    id: String,
    memory: SeenEndpoints,
    copies: Copies,
    /// What the engine remembers, once it was read from the status.
    state: Option<State>,
    /// The spec, and the newest plan that can work.
    reading: LastReading,
    /// The status as it was last written, and when.
    pub(super) stored: Option<(CanaryStatus, Timestamp)>,
    /// What other programs said.
    checks: CheckRunner,
    /// What was last seen.
    seen: Observation,
    /// Passes that failed.
    pub(super) retry: Retry,
    /// What was written last.
    written: Written,
    /// Events told so far, which keeps their names apart.
    pub(super) told: u64,
}

impl Reconciler {
    /// Returns a reconciler that has not looked yet.
    #[must_use]
    pub(crate) fn new(stores: Arc<Stores>, statuses: Arc<StatusStore>, key: Key) -> Box<Self> {
        let id = canary_id(&key.0, &key.1);
        let wake = stores.waker(&key);
        Box::new(Self {
            stores,
            statuses,
            key,
            uid: None,
            id,
            memory: SeenEndpoints::default(),
            copies: Copies::default(),
            state: None,
            reading: LastReading::default(),
            stored: None,
            checks: CheckRunner::new(wake),
            seen: Observation::default(),
            retry: Retry::default(),
            written: Written::default(),
            told: 0,
        })
    }

    /// Looks after the Canary until it is gone.
    pub(crate) async fn keep(mut self: Box<Self>, wake: Arc<Notify>) {
        let (namespace, name) = self.key.clone();
        while let Some(canary) = self.stores.canaries.get(&namespace, &name) {
            // Boxed: a pass needs 30 KB, and a thousand Canaries may be at rest.
            let rest = match Box::pin(self.look(&canary)).await {
                // What was refused is told no more.
                Ok(_) if self.retry.passed() => continue,
                Ok(rest) => Duration::from_millis(rest.0),
                Err(error) => {
                    let rest = self.failed(&canary, &error).await;
                    tokio::time::sleep(SHORTEST).await;
                    rest.saturating_sub(SHORTEST)
                }
            };
            tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        self.stores.registry.remove_but(&self.key, &self.id, &[]);
        self.statuses.forget(&Name { namespace: namespace.clone(), name: name.clone() });
        self.stores.forget(&self.key);
        info!(namespace, canary = name, "canary gone");
    }

    /// Makes one pass; returns when to look again without being woken.
    async fn look(&mut self, canary: &Arc<Canary>) -> Result<Span, ActError> {
        if self.uid != canary.metadata.uid {
            // Another object under the same name: nothing that is remembered is about it.
            *self = *Self::new(self.stores.clone(), self.statuses.clone(), self.key.clone());
            self.uid.clone_from(&canary.metadata.uid);
        }
        let finalized = canary.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        if canary.deleted() && !finalized {
            return Ok(GOING);
        }
        self.reading.update(canary);
        let fault = self.reading.problem().map(|problem| ("InvalidSpec", problem.to_owned()));
        let Some((mut plan, spec)) = self.reading.plan().cloned() else {
            return self.refuse(canary, fault.unwrap_or_default()).await;
        };
        plan.observe_at_rest |= self.stores.settings.observe_at_rest;
        let names = Names::new(&self.key.0, &self.key.1, canary.metadata.uid.as_deref().unwrap_or_default(), &spec);
        if let Some(problem) = names.problem() {
            return self.refuse(canary, ("NameTooLong", problem)).await;
        }
        let target = self.stores.deployments.get(&names.namespace, &names.target);
        if let Some(target) = &target
            && let Err(problem) = names.selector(&target.fields.spec.selector.match_labels)
        {
            return self.refuse(canary, ("InvalidTarget", problem)).await;
        }
        let gateways = self.stores.registry.of(&self.stores, &names, &spec);
        let excluded = gateways.iter().find_map(|workload| self.stores.registry.excluded(&self.stores, workload));
        let taken = taken(&self.stores, &names, canary)
            .or_else(|| target.as_deref().and_then(|target| shared(&self.stores, &names, target)))
            .or_else(|| occupied(&self.stores, &names, &spec));
        let fault = fault.or(taken.clone()).or(excluded.map(|problem| ("GatewaysOverlap", problem)));
        let mut state = match self.state.take() {
            Some(state) => state,
            None => recall(&canary.fields.status).map_err(ActError::Impossible)?,
        };
        let declared = declared(&self.stores, &names, target.as_deref(), &state);
        let fault = fault.or_else(|| declared.as_ref().err().cloned()).or_else(|| unscaled(&self.stores, &names));
        let fault = fault.or_else(|| unusable_metric(&self.stores, canary)).or_else(|| self.retry.refused());
        let nothing_made = state.installed.is_none() && (declared.is_err() || taken.is_some());
        if nothing_made || declared.is_err() && target.is_none() && canary.deleted() {
            // Nothing was made yet, or nothing is left that the traffic could be given back to.
            self.state = Some(state);
            return self.refuse(canary, fault.unwrap_or_default()).await;
        }
        self.answer(canary, &state, plan.interval);
        let (at, before) = (now(), state.clone());
        let plan = &plan;
        let mut body = ReconcileContext {
            reconciler: self,
            canary,
            names,
            spec,
            plan,
            target,
            declared,
            gateways,
            fault,
            now: at,
            finalized,
            before,
        };
        let passed = pass(&mut body, plan, &mut state, at).await;
        let gateways = body.gateways;
        self.checks.forget(state.run.as_ref());
        self.state = Some(state);
        let Requeue { after, .. } = passed?;
        for workload in &gateways {
            workload.request_scrape(&self.key, &self.id, after, at);
        }
        Ok(after)
    }

    /// Takes in the webhooks and metrics as they are now.
    fn answer(&mut self, canary: &Canary, state: &State, interval: Span) {
        let _ = canary.object().map(|object| self.checks.update(&object, state, interval));
    }
}

/// The hands of one pass.
struct ReconcileContext<'a> {
    reconciler: &'a mut Reconciler,
    canary: &'a Arc<Canary>,
    names: Names,
    spec: CanarySpec,
    plan: &'a Plan,
    target: Option<Arc<Deployment>>,
    declared: Result<Declared, Fault>,
    gateways: Vec<Arc<GatewayWorkload>>,
    fault: Option<Fault>,
    now: Timestamp,
    finalized: bool,
    before: State,
}

impl ReconcileContext<'_> {
    fn hands(&self) -> Executor<'_> {
        Executor {
            stores: &self.reconciler.stores,
            names: &self.names,
            spec: &self.spec,
            target: self.target.as_ref(),
            declared: self.declared.as_ref().ok(),
            written: &self.reconciler.written,
        }
    }
}

impl Platform for ReconcileContext<'_> {
    type Error = ActError;

    async fn observe(&mut self) -> Result<Observation, ActError> {
        let look = Look {
            stores: &self.reconciler.stores,
            names: &self.names,
            spec: &self.spec,
            id: &self.reconciler.id,
            target: self.target.as_ref(),
            declared: self.declared.as_ref().map_err(|(_, problem)| problem.as_str()),
            uncopied: self.reconciler.copies.problem.as_deref(),
            gateways: &self.gateways,
            state: &self.before,
            now: self.now,
        };
        let mut seen = look.observe(&mut self.reconciler.memory);
        seen.verb = verb(self.canary.annotation(VERB));
        seen.deleted = self.canary.deleted();
        seen.check_results = self.reconciler.checks.results();
        self.reconciler.seen = seen.clone();
        Ok(seen)
    }

    async fn persist(&mut self, decision: &Decision) -> Result<(), ActError> {
        let (plan, state, stores) = (self.plan, &decision.state, &self.reconciler.stores.clone());
        // Nothing is made before it stands: what is made must be given back.
        if !self.finalized {
            self.reconciler.finalizer(self.canary, true).await?;
        }
        let (namespace, name) = self.reconciler.key.clone();
        let view = CanaryView::of(&namespace, &name, plan, state, &self.reconciler.seen, &decision.reason);
        let generation = self.canary.metadata.generation.unwrap_or_default();
        let old = self.reconciler.stored.as_ref().map_or(&self.canary.fields.status, |(status, _)| status);
        let at = self.reconciler.stored.as_ref().map_or(Timestamp(0), |(_, at)| *at);
        let unbound = unbound(stores, &self.names, &self.spec);
        let everywhere = self.gateways.iter().find_map(|workload| workload.everywhere());
        let mut new = status(old, &view, state, generation, (unbound, everywhere.as_deref()), self.now);
        let tracked = self.declared.as_ref().map(|declared| declared.tracked(stores));
        new.tracked_configs = tracked.unwrap_or_else(|_| old.tracked_configs.clone());
        if let Some((reason, problem)) = &self.fault {
            new = stalled(
                &CanaryStatus { conditions: old.conditions.clone(), ..new },
                reason,
                problem,
                generation,
                self.now,
            );
        }
        let untold = no_effect(old, &mut new, self.reconciler.reading.remarks(), generation, self.now);
        let decided = self.before.durable() != state.durable();
        let news = decided || gist(old) != gist(&new);
        // What a Canary waits for before and after its life changes in words alone.
        let moving = state.run.is_some() || matches!(state.phase, Phase::Initializing | Phase::Terminating);
        let figures = *old != new && moving && self.now.since(at) >= FIGURES;
        let changed = changed(&old.tracked_configs, &new.tracked_configs);
        if news || figures {
            // What all Canaries at rest have to say at once must not be a thousand connections.
            let waits = !decided && state.run.is_none();
            let _turn = if waits { stores.api.write_permits.acquire().await.ok() } else { None };
            self.reconciler.store(new).await?;
        }
        let changed = changed.map(|text| Event { severity: Severity::Info, reason: "ConfigChanged", text });
        for event in changed.iter().chain(&untold) {
            self.emit(event);
        }
        self.reconciler.statuses.set(view, &plan.latency_ms);
        for scrape in &self.reconciler.seen.scrapes {
            self.reconciler.statuses.count(&Name { namespace: namespace.clone(), name: name.clone() }, scrape);
        }
        Ok(())
    }

    async fn execute(&mut self, action: &Action) -> Result<(), ActError> {
        let stores = &self.reconciler.stores.clone();
        // What the target declares, where that is the revision in question: of any other it says nothing.
        let of = |revision: &Revision| {
            let declared = self.declared.as_ref().ok().filter(|declared| declared.revision == *revision)?;
            Some((self.target.as_ref()?, declared))
        };
        match action {
            Action::Traffic(traffic) => {
                let request_match = request_match(stores, &self.names, &self.spec);
                for workload in &self.gateways {
                    workload.set_desired(Desired::of(&request_match, self.plan, traffic));
                }
                // Those that the Canary named once and names no more.
                stores.registry.remove_but(&self.reconciler.key, &self.reconciler.id, &self.gateways);
            }
            Action::KeepRevision(revision) => {
                if let Some((target, declared)) = of(revision) {
                    revision::keep(stores, &self.names, target, declared).await?;
                }
            }
            Action::CopyConfigs(revision) => {
                if let Some((_, declared)) = of(revision) {
                    self.reconciler.copies.copy(stores, &self.names, declared).await;
                }
            }
            Action::Primary { revision, replicas, follow_autoscaler } => {
                self.hands().primary(revision, *replicas, *follow_autoscaler).await?;
            }
            Action::Canary { revision, replicas, fresh_for } => {
                let run = fresh_for.as_deref();
                let mark = of(revision).zip(run).and_then(|((target, it), run)| unmarked(stores, target, it, run));
                self.hands().canary(*replicas, mark.as_deref()).await?;
            }
            Action::Route => self.hands().route().await?,
            Action::Unroute => self.hands().unroute().await?,
            Action::Prune { revisions, live } => {
                // While it cannot be told what the target reads, nothing of it is dropped.
                if let (Some(_), Ok(declared)) = (&self.target, &self.declared) {
                    revision::prune(stores, &self.names, revisions).await?;
                    self.reconciler.copies.prune(stores, &self.names, declared, live).await?;
                }
            }
            Action::Handover => self.hands().handed_over().await?,
            Action::Release => {
                stores.registry.remove_but(&self.reconciler.key, &self.reconciler.id, &[]);
                self.reconciler.finalizer(self.canary, false).await?;
            }
        }
        Ok(())
    }

    fn emit(&mut self, event: &Event) {
        self.reconciler.tell(&self.canary.clone(), event);
    }

    fn request_checks(&mut self, requests: &[CheckRequest]) {
        let stores = self.reconciler.stores.clone();
        self.reconciler.checks.request(requests, |namespace, name| stores.template(namespace, name));
    }
}
