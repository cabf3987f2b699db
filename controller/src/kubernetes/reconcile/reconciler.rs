//! The control loop of one Canary: a pass whenever something changed, and another one where it failed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::info;
use weir_engine::{Observation, Phase, Span, State, Timestamp};

use super::context::ReconcileContext;
use super::former::Former;
use super::fresh::Fresh;
use super::grace::Grace;
use super::hazards::Younger;
use super::leaving::stored_or_live;
use super::observe::SeenEndpoints;
use super::reading::LastReading;
use super::retry::{COOLDOWN, Retry};
use super::status::HAZARD;
use super::subject::Subject;
use crate::alerts::{CanaryAlerts, Deliveries, Situation};
use crate::api::canary_id;
use crate::checks::CheckRunner;
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::api_server::written::Written;
use crate::kubernetes::configs::{Copies, TrackedRevision, resolve_revision};
use crate::kubernetes::gateway::GatewayRegistry;
use crate::kubernetes::gateway::GatewayWorkload;
use crate::kubernetes::kinds::canary::{Canary, CanaryStatus, Fault};
use crate::kubernetes::router::{Callers, callers, own_endpoints};
use crate::kubernetes::stores::{Key, Stores};
use crate::kubernetes::target::flagger::{FLAGGER, TAKE_OVER, controlled};
use crate::reconcile::{Requeue, pass};
use crate::status_store::{Name, StatusStore};

/// Keeps a deleted Canary until everything of it is given back.
pub(super) const FINALIZER: &str = "weir.dev/canary";
/// Time to the next look at an object that is about to go.
pub(super) const DELETION_RECHECK: Span = Span::seconds(2);

/// Reasons of a Canary whose routes are somebody else's.
const ROUTELESS: [&str; 3] = ["NameTaken", "RoutesElsewhere", "RoutesLost"];
/// Time to the next look while objects are being listed.
const LISTING: Span = Span::seconds(1);
/// Time to the next look at what was told to be in the way, where nothing else wakes the loop.
const HAZARDS_RECHECK: Span = Span::seconds(300);

/// The control loop of one Canary.
pub(crate) struct Reconciler {
    pub(super) stores: Arc<Stores>,
    pub(super) registry: Arc<GatewayRegistry>,
    pub(super) statuses: Arc<StatusStore>,
    pub(super) key: Key,
    /// The object that is looked after: another one may come under the same name.
    uid: Option<String>,
    pub(super) id: String,
    pub(super) endpoints: SeenEndpoints,
    pub(super) copies: Copies,
    /// What the engine remembers, once it was read from the status.
    pub(super) state: Option<State>,
    /// The spec, and the newest plan that can work.
    pub(super) reading: LastReading,
    /// The status as it was last written, and when.
    pub(super) stored: Option<(CanaryStatus, Timestamp)>,
    /// When what is said of callers at rest may be written next.
    pub(super) words_at: Timestamp,
    /// What other programs said.
    pub(super) checks: CheckRunner,
    /// What was last seen.
    pub(super) seen: Observation,
    /// What is to be known before a release, where it was looked at.
    pub(super) hazards: Option<Vec<String>>,
    /// Whether routes may lead to the canary by themselves.
    pub(super) may_lead_to_canary: bool,
    /// Passes that failed.
    pub(super) retry: Retry,
    /// What is missing, and may be on its way.
    pub(super) grace: Grace,
    /// Since when the cluster does not say whose its hosts are.
    pub(super) hosts_asked: Option<Timestamp>,
    /// Whether spec or target have changed a moment ago.
    fresh: Fresh,
    /// What is known of the controller whose objects are taken over.
    pub(super) former: Former,
    /// What was written last.
    pub(super) written: Written,
    /// Events emitted so far, which keeps their names apart.
    pub(super) events_emitted: u64,
    /// What was told to people elsewhere.
    pub(super) alerts: CanaryAlerts,
    /// How it stood after the last pass.
    pub(super) situation: Situation,
}

impl Reconciler {
    /// Returns a reconciler that has made no pass yet.
    #[must_use]
    pub(crate) fn new(
        stores: Arc<Stores>,
        registry: Arc<GatewayRegistry>,
        statuses: Arc<StatusStore>,
        key: Key,
    ) -> Box<Self> {
        let id = canary_id(&key.0, &key.1);
        let wake = stores.waker(&key);
        let deliveries = Deliveries::new(wake.clone(), statuses.clone());
        let (alerts, situation) =
            (CanaryAlerts::new(stores.alerts.clone(), deliveries), Situation::unknown(&key.0, &key.1));
        let checks =
            CheckRunner::new(wake, stores.outbound.clone()).with_event_webhook(stores.settings.event_webhook.clone());
        Box::new(Self {
            stores,
            registry,
            statuses,
            key,
            uid: None,
            id,
            endpoints: SeenEndpoints::default(),
            copies: Copies::default(),
            state: None,
            reading: LastReading::default(),
            stored: None,
            words_at: Timestamp(0),
            checks,
            seen: Observation::default(),
            hazards: None,
            may_lead_to_canary: true,
            retry: Retry::default(),
            grace: Grace::default(),
            hosts_asked: None,
            fresh: Fresh::default(),
            former: Former::default(),
            written: Written::default(),
            events_emitted: 0,
            alerts,
            situation,
        })
    }

    /// Reconciles the Canary until it is gone.
    pub(crate) async fn run(mut self: Box<Self>, wake: Arc<Notify>) {
        let (namespace, name) = self.key.clone();
        let stores = self.stores.clone();
        while let Some(known) = stores.canaries.get(&namespace, &name) {
            // Thousands may be made at once, and each pass holds all that it read. What is under way waits for nobody.
            let waits = !self.is_under_way(&known);
            let turn = if waits { stores.api.pass_permits.acquire().await.ok() } else { None };
            let canary = stores.canaries.get(&namespace, &name).unwrap_or(known);
            // Boxed: a pass needs 30 KB, and a thousand Canaries may be idle.
            let passed = Box::pin(self.reconcile(&canary)).await;
            drop(turn);
            let delay = match passed {
                // The status still says what was refused: the next pass takes it out.
                Ok(_) if self.retry.passed() => continue,
                Ok(delay) => Duration::from_millis(delay.0),
                Err(error) => {
                    let delay = self.failed(&canary, &error).await;
                    tokio::time::sleep(COOLDOWN).await;
                    delay.saturating_sub(COOLDOWN)
                }
            };
            tokio::select! {
                () = wake.notified() => {}
                () = tokio::time::sleep(delay) => {}
            }
        }
        self.registry.remove_but(&self.key, &self.id, &[]);
        self.statuses.forget(&Name { namespace: namespace.clone(), name: name.clone() });
        self.stores.forget(&self.key);
        info!(namespace, canary = name, "canary gone");
    }

    /// Returns whether a rollout, or the end of the Canary, is under way, as far as is known.
    fn is_under_way(&self, canary: &Canary) -> bool {
        // A word that this Weir does not know may be any.
        let rolls = |phase: &str| phase.parse().map_or(true, Phase::is_rolling_out);
        let phase = canary.fields.status.phase.as_deref();
        canary.deleted() || phase.is_some_and(rolls) || self.state.as_ref().is_some_and(|state| state.run.is_some())
    }

    /// Makes one pass; returns when to look again without being woken.
    async fn reconcile(&mut self, canary: &Arc<Canary>) -> Result<Span, ActError> {
        if self.uid != canary.metadata.uid {
            // Another object under the same name: nothing that is remembered is about it.
            *self = *Self::new(self.stores.clone(), self.registry.clone(), self.statuses.clone(), self.key.clone());
            self.uid.clone_from(&canary.metadata.uid);
        }
        let finalized = canary.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        if canary.deleted() && !finalized {
            return Ok(DELETION_RECHECK);
        }
        let mut subject = match Subject::read(self, canary) {
            Ok(subject) => subject,
            Err(fault) => return self.refuse(canary, fault).await,
        };
        if let Some(controlled) = controlled(&self.stores, &subject.names) {
            return match canary.annotation(TAKE_OVER) {
                Some(FLAGGER) if !canary.deleted() => {
                    self.take_over(canary, &mut subject, &controlled, finalized).await
                }
                _ => self.leave_to_flagger(canary, &subject.names, &controlled, finalized).await,
            };
        }
        self.keep_suspended(canary, &subject.names).await;
        if subject.asking && !canary.deleted() {
            return Ok(LISTING);
        }
        let mut younger = Younger::default();
        if let Some(target) = &subject.target
            && !canary.deleted()
            && !younger.learn(&self.stores, &subject.names, &subject.spec, target, canary)
        {
            return Ok(LISTING);
        }
        let callers = callers(&self.stores, &subject.names, &subject.spec);
        let gateways = self.registry.of(&self.stores, &subject.names, &subject.spec, callers.as_ref());
        let taken = match subject.taken(self, canary, younger.fault.take()) {
            None if !canary.deleted() => own_endpoints(&self.stores, &subject.names).await?,
            taken => taken,
        };
        let state = match self.state.take() {
            Some(state) => state,
            None => {
                self.alerts.deliveries().restore(&canary.fields.status.alerts);
                stored_or_live(&self.stores, &subject.names, canary)?
            }
        };
        subject.keep_token(self, &state);
        let resolved = resolve_revision(&self.stores, &subject.names, subject.target.as_ref(), &state);
        let declared = resolved.as_ref().ok().map(|resolved| &resolved.revision);
        let fresh = self.fresh.left(canary.metadata.generation, declared, now());
        let moving = state.run.is_some() || matches!(state.phase, Phase::Initializing | Phase::Terminating);
        let fault = subject.fault(self, canary, taken.as_ref(), &resolved, &gateways, moving);
        let renamed = younger.renamed || canary.deleted();
        let look_again = self.look_for_hazards(canary, &subject, younger, (callers.as_ref(), &gateways), moving);
        let nothing_made = state.installed.is_none() && (resolved.is_err() || taken.is_some());
        if nothing_made || resolved.is_err() && subject.target.is_none() && canary.deleted() {
            // Nothing was made yet, or nothing is left that the traffic could be given back to.
            self.state = Some(state);
            return self.refuse(canary, fault.unwrap_or_default()).await;
        }
        let is_fresh = fresh.is_some();
        let around = Around { finalized, resolved, callers, gateways, fault, is_fresh, renamed };
        let after = self.play(canary, subject, state, around).await?;
        Ok(look_again.into_iter().chain(fresh).fold(after, Span::min))
    }

    /// Looks for what is to be known before a release; returns when to look again.
    fn look_for_hazards(
        &mut self,
        canary: &Canary,
        subject: &Subject,
        younger: Younger,
        (callers, gateways): (Option<&Callers>, &[Arc<GatewayWorkload>]),
        moving: bool,
    ) -> Option<Span> {
        let told = canary.fields.status.conditions.iter().any(|condition| condition.kind == HAZARD);
        let released = subject.target.as_ref().filter(|_| !canary.deleted());
        let asked = (moving || told).then_some(moving);
        let unsplit = |workload: &Arc<GatewayWorkload>| workload.unsplit(&self.stores, &self.id);
        let unsplit: Vec<Key> = match asked {
            Some(_) => gateways.iter().flat_map(unsplit).collect(),
            None => Vec::new(),
        };
        self.hazards = released
            .and_then(|target| younger.hazards(&self.stores, &subject.names, target, callers, &unsplit, asked))
            .map(|hazards| self.former.hazard(&self.stores, &subject.names).into_iter().chain(hazards).collect());
        match released {
            Some(_) if moving && self.hazards.is_none() => Some(LISTING),
            Some(_) if told => Some(HAZARDS_RECHECK),
            _ => None,
        }
    }

    /// Has the engine decide, and does what it decided; returns when to look again.
    async fn play(
        &mut self,
        canary: &Arc<Canary>,
        subject: Subject,
        mut state: State,
        around: Around,
    ) -> Result<Span, ActError> {
        let Subject { mut plan, spec, names, target, .. } = subject;
        let Around { finalized, resolved, callers, gateways, fault, is_fresh, renamed } = around;
        // Requests that are marked for the canary would go wherever somebody else's routes lead, and count as its own.
        let routeless = state.run.is_some() && fault.as_ref().is_some_and(|(word, _)| ROUTELESS.contains(word));
        plan.suspend |= routeless;
        let _ = canary.object().map(|object| self.checks.update(&object, &state, plan.interval));
        let (at, before) = (now(), state.clone());
        let mut context = ReconcileContext {
            reconciler: self,
            canary,
            names,
            spec,
            plan: &plan,
            target,
            resolved,
            callers,
            gateways,
            fault,
            now: at,
            finalized,
            before,
            stands_in: false,
            is_fresh,
            renamed,
            routeless,
        };
        let passed = pass(&mut context, &plan, &mut state, at).await;
        let gateways = context.gateways;
        self.checks.forget(&state);
        // Where another controller has stored another one, that is read again.
        self.state = Some(state).filter(|_| !matches!(passed, Err(ActError::Superseded(_))));
        let Requeue { after, .. } = passed?;
        for workload in &gateways {
            workload.request_scrape(&self.key, &self.id, after, at);
        }
        Ok(after)
    }
}

/// What is there around a Canary in one pass.
struct Around {
    finalized: bool,
    resolved: Result<TrackedRevision, Fault>,
    callers: Option<Callers>,
    gateways: Vec<Arc<GatewayWorkload>>,
    fault: Option<Fault>,
    is_fresh: bool,
    renamed: bool,
}
