//! The next move: one pass over what is remembered and what was seen.
//!
//! A pass makes at most one transition and asks to be called again soon; so every state that can be reached is also a state
//! that can be stored, killed in, and taken up again. Taking a bad canary back comes first in every stage: no gate, no
//! unready workload and no unanswered question stands before it.

mod bound;
mod check;
mod idle;
mod lease;
mod load_tests;
mod progress;
mod promote;
mod rollback;
mod sizes;
mod terminate;
mod traffic;
mod webhooks;

pub use traffic::UNREACHABLE;
pub(crate) use traffic::WARM_UP;

use weir_wire::RUN_TICK_MS;

use super::action::{Action, CheckRequest, Decision, Event, Replicas, Severity};
use super::observation::{CheckResult, Observation, Readiness, Verb};
use super::plan::{Plan, WebhookKind};
use super::reason::{Cause, Reason};
use super::state::{Phase, Run, Stage, State, Traffic};
use super::time::{Span, Timestamp};

/// Time between two looks while anything is about to change.
const SOON: Span = Span(RUN_TICK_MS as u64);
/// Time between two looks during a run.
const RUNNING: Span = Span::seconds(1);
/// Time between two looks at a canary without a run.
const RESTING: Span = Span::seconds(10);
/// After this a gateway that has not acknowledged a split is looked at less often: it may never do.
const UNANSWERED: Span = Span::seconds(60);
/// After a failed canary request the gateways are looked at often, for this long.
const WATCHFUL: Span = Span::seconds(5);

/// Decides the next move of one rollout.
///
/// Pure: the same arguments always give the same decision. Time is an argument.
pub fn decide(plan: &Plan, state: &State, seen: &Observation, now: Timestamp) -> Decision {
    let mut pass = Pass {
        plan,
        seen,
        now,
        state: state.clone(),
        events: Vec::new(),
        check_requests: Vec::new(),
        failed_webhook: None,
        requeue_now: false,
    };
    pass.ingest();
    pass.post_rollout();
    let reason = pass.advance();
    pass.see_failures();
    pass.emit_hold(&reason);
    pass.conclude(&state.traffic, reason)
}

/// One pass: the state as it becomes, and what is said on the way.
struct Pass<'a> {
    plan: &'a Plan,
    seen: &'a Observation,
    now: Timestamp,
    state: State,
    events: Vec<Event>,
    check_requests: Vec<CheckRequest>,
    /// The webhook that failed the check under way.
    failed_webhook: Option<String>,
    /// Whether this pass changed anything that the next one should act on at once.
    requeue_now: bool,
}

impl Pass<'_> {
    fn advance(&mut self) -> Reason {
        self.supersede_unknown_epoch();
        if self.seen.deleted || matches!(self.state.phase, Phase::Terminating | Phase::Terminated) {
            return self.terminate();
        }
        if self.state.phase == Phase::Initializing {
            return self.initialize();
        }
        if let Some(reason) = self.apply_verb() {
            return reason;
        }
        self.primary_recovered();
        let Some(run) = &self.state.run else { return self.idle() };
        let stage = run.stage;
        let observed = match self.cause_to_take_back(stage).map(|cause| self.take_back(cause)) {
            Some(reason) if !matches!(reason, Reason::Observing { .. }) => return reason,
            observed => observed,
        };
        if stage < Stage::Promoting && (self.is_back() || self.seen.target != self.run().revision) {
            return self.follow_target();
        }
        if self.seen.unplanned && matches!(stage, Stage::Analysing | Stage::Relieving) {
            return self.withhold();
        }
        let reason = match stage {
            Stage::Gated => self.wait_for_gate(),
            Stage::Starting => self.start(),
            Stage::Checking => self.check_before(),
            Stage::Confirming => self.confirm(),
            Stage::Analysing => self.analyse(),
            Stage::Relieving => self.relieve(),
            Stage::Promoting => self.promote(),
            Stage::Returning => self.give_back(),
            Stage::Draining => self.drain(),
            Stage::Stranded => self.stay_on_canary(),
        };
        observed.filter(|_| self.is_analysing()).unwrap_or(reason)
    }

    /// Carries out a person's verb, once. Returns a reason where that is all that this pass does.
    fn apply_verb(&mut self) -> Option<Reason> {
        let request = self.seen.verb.as_ref()?;
        if self.state.verb.as_ref() == Some(&request.id) {
            return None;
        }
        self.state.verb = Some(request.id.clone());
        let stage = self.state.run.as_ref().map(|run| run.stage);
        let analysing = self.is_analysing();
        let name = self.plan.canary.clone();
        match request.verb {
            Verb::Pause => {
                self.state.paused = true;
                self.emit(Severity::Warning, "Paused", format!("Paused {name} by a person"));
            }
            Verb::Resume => {
                self.state.paused = false;
                self.emit(Severity::Info, "Resumed", format!("Resumed {name}"));
            }
            Verb::Promote if analysing => {
                self.state.paused = false;
                self.run_mut().promote = true;
                self.emit(Severity::Warning, "PromoteRequested", format!("Promotion of {name} requested by a person"));
            }
            Verb::Abort if analysing || stage == Some(Stage::Promoting) => return Some(self.take_back(Cause::Aborted)),
            Verb::Retry if self.state.phase == Phase::Failed && !self.state.canary_is_fallback => {
                self.state.run = None;
                return Some(self.start_run());
            }
            verb => {
                let text = format!("Nothing to {verb} in {name}");
                self.emit(Severity::Warning, "VerbIgnored", text);
            }
        }
        None
    }

    /// Assembles the decision: what must be so follows from the state alone.
    fn conclude(mut self, before: &Traffic, reason: Reason) -> Decision {
        let recheck_after = self.cadence();
        self.state.traffic.filter = self.state.filter_mode(self.plan.observe_at_rest);
        let (mut protect, mut actions) = (Vec::new(), self.actions());
        // Where the split stands first, nothing has to be so before it: it can be asked for before it is remembered.
        let traffic = &self.state.traffic;
        let protects = !traffic.reaches_canary() || traffic.takes_away_from(before);
        if protects && matches!(actions.first(), Some(Action::Traffic(_))) {
            protect.push(actions.remove(0));
        }
        let Self { state, events, check_requests, .. } = self;
        Decision { protect, state, actions, events, check_requests, reason, recheck_after }
    }

    fn actions(&self) -> Vec<Action> {
        let state = &self.state;
        let traffic = Action::Traffic(Box::new(state.traffic.clone()));
        let mut actions = Vec::new();
        match (state.phase, &state.run) {
            // Routes first: the acknowledged split proves that gateways know them, since istiod sends it last.
            (Phase::Terminated, _) => {
                actions.extend([Action::Unroute, traffic]);
                if self.now.since(state.since) < self.plan.progress_deadline {
                    actions.push(Action::Handover);
                }
                actions.push(Action::Release);
            }
            (Phase::Terminating, _) if state.unrouted.is_some() => actions.extend([Action::Unroute, traffic]),
            (Phase::Terminating, _) => {
                actions.extend([traffic, self.canary()]);
                actions.extend(self.primary());
            }
            (_, None) if self.plan.suspend => {}
            (Phase::Initializing, _) => {
                actions.extend(self.keep_revision());
                actions.extend(self.primary());
                actions.push(self.canary());
                if self.seen.primary.readiness == Readiness::Ready {
                    actions.extend([Action::Route, traffic]);
                }
                actions.push(self.prune());
            }
            (_, run) => {
                actions.push(traffic);
                actions.extend(self.keep_revision());
                if run.as_ref().is_some_and(|run| run.revision == self.seen.target) {
                    actions.push(Action::CopyConfigs(self.seen.target.clone()));
                }
                // Where the canary serves for a primary that cannot, nothing that is refused of this one stands before the way to it.
                let stands_in = self.state.stands_in();
                actions.extend(stands_in.then_some(Action::Route));
                actions.extend(self.primary());
                let canary = self.canary();
                // Nobody is led to what has no pods any more.
                match canary {
                    canary if stands_in => actions.push(canary),
                    Action::Canary { replicas: Replicas::Exactly(0), .. } => actions.extend([Action::Route, canary]),
                    _ => actions.extend([canary, Action::Route]),
                }
                actions.push(self.prune());
            }
        }
        actions
    }

    /// A revision must be kept before anything runs it: the target may say otherwise at any moment.
    fn keep_revision(&self) -> Option<Action> {
        let target = &self.seen.target;
        self.state.revisions().any(|revision| revision == target).then(|| Action::KeepRevision(target.clone()))
    }

    fn prune(&self) -> Action {
        let revisions = self.state.revisions().cloned().collect();
        Action::Prune { revisions, live: self.state.live_revisions().cloned().collect() }
    }

    fn is_analysing(&self) -> bool {
        self.state.run.as_ref().is_some_and(|run| run.stage < Stage::Promoting)
    }

    fn cadence(&self) -> Span {
        let watchful = |run: &Run| run.failure_seen.is_some_and(|at| self.now.since(at) < WATCHFUL);
        if self.requeue_now {
            return Span(SOON.0 / 4);
        }
        if !self.acknowledged(self.state.traffic.epoch) && !self.seen.gateways.is_empty() {
            let waited = self.now.since(self.state.traffic.since);
            let settled = !matches!(self.state.phase, Phase::Initializing | Phase::Terminating | Phase::Terminated);
            match settled && self.state.run.is_none() && !self.state.traffic.reaches_canary() {
                // Of a gateway that never answers nobody at rest wants anything, and there may be thousands.
                true if waited >= WATCHFUL => return RESTING,
                false if waited >= UNANSWERED => return RUNNING,
                _ => return SOON,
            }
        }
        match &self.state.run {
            None if self.state.phase == Phase::Initializing => RUNNING,
            None => RESTING,
            Some(run) if watchful(run) || run.stage == Stage::Confirming => SOON,
            Some(run) if run.stage != Stage::Analysing => RUNNING,
            Some(run) => match run.window_since.map(|since| (since + self.plan.interval).since(self.now)) {
                Some(left) => left.clamp(SOON, RUNNING),
                None => SOON,
            },
        }
    }

    /// Tells people of a hold that lasts, once.
    fn emit_hold(&mut self, reason: &Reason) {
        let Some(run) = self.state.run.as_mut().filter(|run| run.stage < Stage::Promoting) else { return };
        let (name, target) = (&self.plan.canary, &self.plan.target);
        let text = match reason {
            Reason::WaitingForGate { gate, .. } => {
                let what = match (self.state.phase, run.stage) {
                    (Phase::Waiting, _) => "approval",
                    (Phase::WaitingPromotion, _) => "promotion approval",
                    _ => "traffic increase approval",
                };
                format!("Halt {name} advancement waiting for {what} {gate}")
            }
            Reason::Insufficient { .. } => format!(
                "Halt {name} advancement no values found for istio metric request-success-rate probably {target} is not \
                 receiving traffic: {reason}"
            ),
            Reason::ModuleTooOld { .. }
            | Reason::NoSyntheticLoad { .. }
            | Reason::Undecided { .. }
            | Reason::PrimaryNotReady { .. }
            | Reason::NoGateway
            | Reason::NoCaller => format!("Halt {name} advancement {reason}"),
            Reason::Observing { would, .. } => format!("Observing {name}: would {would}"),
            Reason::Advanced { .. } | Reason::NewRevision => {
                run.told = None;
                return;
            }
            _ => return,
        };
        let is_good = matches!(reason, Reason::Observing { is_bad: false, .. });
        let key = format!("{} {:?}{}", reason.code(), run.stage, if is_good { " good" } else { "" });
        if run.told.as_ref() != Some(&key) {
            run.told = Some(key);
            let webhook = match reason {
                Reason::WaitingForGate { gate, .. } => Some(gate.clone()),
                _ => None,
            };
            let severity = if is_good { Severity::Info } else { Severity::Warning };
            self.events.push(Event { webhook, ..Event::new(severity, reason.code(), text) });
        }
    }

    fn emit(&mut self, severity: Severity, reason: &'static str, text: String) {
        self.events.push(Event::new(severity, reason, text));
    }

    fn enter(&mut self, phase: Phase) {
        if self.state.phase != phase {
            self.state.phase = phase;
            self.state.since = self.now;
        }
        self.requeue_now = true;
    }

    fn enter_stage(&mut self, stage: Stage) {
        let now = self.now;
        let run = self.run_mut();
        run.stage = stage;
        run.since = now;
        run.window_since = None;
        self.requeue_now = true;
    }

    /// Returns the run. Called only in stages of one; outside of a run it is an empty one, which changes nothing.
    fn run(&self) -> &Run {
        static NONE: std::sync::LazyLock<Run> = std::sync::LazyLock::new(Run::default);
        self.state.run.as_ref().unwrap_or(&NONE)
    }

    fn run_mut(&mut self) -> &mut Run {
        self.state.run.get_or_insert_default()
    }

    /// Returns why nothing may advance by itself, if a person said so.
    fn held(&self) -> Option<Reason> {
        if self.plan.suspend {
            Some(Reason::Suspended)
        } else if self.state.paused {
            Some(Reason::Paused)
        } else {
            None
        }
    }
}
