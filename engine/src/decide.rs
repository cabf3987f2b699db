//! The next move: one pass over what is remembered and what was seen.
//!
//! A pass makes at most one transition and asks to be called again soon; so every state that can be reached is also a state
//! that can be stored, killed in, and taken up again. Taking a bad canary back comes first in every stage: no gate, no
//! unready workload and no unanswered question stands before it.

mod check;
mod idle;
mod leave;
mod progress;
mod promote;
mod rollback;
mod traffic;

use weir_wire::RUN_TICK_MS;

use super::action::{Action, Ask, Decision, Event, Scale, Severity};
use super::observation::{Answer, Observation, Readiness, Verb};
use super::plan::{Plan, WebhookKind};
use super::reason::{Cause, Reason};
use super::state::{Phase, Run, Stage, State};
use super::time::{Span, Timestamp};

/// Time between two looks while anything is about to change.
const SOON: Span = Span(RUN_TICK_MS as u64);
/// Time between two looks during a run.
const RUNNING: Span = Span::seconds(1);
/// Time between two looks at a canary without a run.
const RESTING: Span = Span::seconds(10);
/// After a failed canary request the gateways are looked at often, for this long.
const WATCHFUL: Span = Span::seconds(5);

/// Decides the next move of one rollout.
///
/// Pure: the same arguments always give the same decision. Time is an argument.
pub fn decide(plan: &Plan, state: &State, seen: &Observation, now: Timestamp) -> Decision {
    let mut pass = Pass { plan, seen, now, state: state.clone(), events: Vec::new(), asks: Vec::new(), moved: false };
    pass.take_in();
    let reason = pass.advance();
    pass.tell_hold(&reason);
    pass.conclude(reason)
}

/// One pass: the state as it becomes, and what is said on the way.
struct Pass<'a> {
    plan: &'a Plan,
    seen: &'a Observation,
    now: Timestamp,
    state: State,
    events: Vec<Event>,
    asks: Vec<Ask>,
    /// Whether this pass changed anything that the next one should act on at once.
    moved: bool,
}

impl Pass<'_> {
    fn advance(&mut self) -> Reason {
        if self.seen.deleted || matches!(self.state.phase, Phase::Terminating | Phase::Terminated) {
            return self.leave();
        }
        if self.state.phase == Phase::Initializing {
            return self.initialize();
        }
        if let Some(reason) = self.obey() {
            return reason;
        }
        self.welcome_primary();
        let Some(run) = &self.state.run else { return self.rest() };
        let stage = run.stage;
        if let Some(cause) = self.cause_to_take_back(stage) {
            return self.take_back(cause);
        }
        if stage < Stage::Promoting && (self.is_back() || self.seen.target != self.run().revision) {
            return self.follow_target();
        }
        match stage {
            Stage::Gated => self.wait_for_gate(),
            Stage::Starting => self.start(),
            Stage::Checking => self.check_before(),
            Stage::Confirming => self.confirm(),
            Stage::Analysing => self.analyse(),
            Stage::Promoting => self.promote(),
            Stage::Returning => self.give_back(),
            Stage::Draining => self.drain(),
            Stage::Stranded => self.stay_on_canary(),
        }
    }

    /// Carries out a person's verb, once. Returns a reason where that is all that this pass does.
    fn obey(&mut self) -> Option<Reason> {
        let request = self.seen.verb.as_ref()?;
        if self.state.verb.as_ref() == Some(&request.id) {
            return None;
        }
        self.state.verb = Some(request.id.clone());
        let stage = self.state.run.as_ref().map(|run| run.stage);
        let analysing = stage.is_some_and(|stage| stage < Stage::Promoting);
        let name = self.plan.canary.clone();
        match request.verb {
            Verb::Pause => {
                self.state.paused = true;
                self.tell(Severity::Warning, "Paused", format!("Paused {name} by a person"));
            }
            Verb::Resume => {
                self.state.paused = false;
                self.tell(Severity::Info, "Resumed", format!("Resumed {name}"));
            }
            Verb::Promote if analysing => {
                self.state.paused = false;
                self.run_mut().promote = true;
                self.tell(Severity::Warning, "PromoteRequested", format!("Promotion of {name} requested by a person"));
            }
            Verb::Abort if analysing || stage == Some(Stage::Promoting) => return Some(self.take_back(Cause::Aborted)),
            Verb::Retry if self.state.phase == Phase::Failed && !self.state.canary_is_home => {
                self.state.run = None;
                return Some(self.start_run());
            }
            verb => {
                let text = format!("Nothing to {} in {name}", format!("{verb:?}").to_lowercase());
                self.tell(Severity::Warning, "VerbIgnored", text);
            }
        }
        None
    }

    /// Assembles the decision: what must be so follows from the state alone.
    fn conclude(self, reason: Reason) -> Decision {
        let recheck_after = self.cadence();
        let acknowledged = self.acknowledged(self.state.traffic.epoch);
        let mut state = self.state;
        state.traffic.filter = state.filter_mode(self.plan.observe_at_rest);
        let traffic = Action::Traffic(Box::new(state.traffic.clone()));
        let primary = state.installed.clone().map(Action::Primary);
        let ready = self.seen.primary.readiness == Readiness::Ready;
        let sending = !self.seen.gateways.is_empty() && !acknowledged;
        let actions = match (state.phase, &state.run) {
            (Phase::Terminated, _) => vec![Action::Unroute, traffic, Action::Release],
            (Phase::Terminating, _) if state.unrouted.is_some() => vec![Action::Unroute, traffic],
            (Phase::Terminating, _) => [traffic, Action::Canary(Scale::Full)].into_iter().chain(primary).collect(),
            _ if self.plan.suspend && state.run.is_none() => Vec::new(),
            // Routes first: the acknowledged split proves that gateways know them, since istiod sends it last.
            (Phase::Initializing, _) => {
                let routes = if ready { vec![Action::Route, traffic] } else { Vec::new() };
                primary.into_iter().chain([Action::Canary(Scale::Keep)]).chain(routes).collect()
            }
            (_, run) => {
                let scale = Action::Canary(scale(run.as_ref(), state.canary_is_home, sending));
                // The split first: nothing that fails may stand before a rollback.
                [traffic].into_iter().chain(primary).chain([scale, Action::Route]).collect()
            }
        };
        Decision { state, actions, events: self.events, asks: self.asks, reason, recheck_after }
    }

    fn cadence(&self) -> Span {
        let watchful = |run: &Run| run.failure_seen.is_some_and(|at| self.now.since(at) < WATCHFUL);
        if self.moved {
            return Span(SOON.0 / 4);
        }
        if !self.acknowledged(self.state.traffic.epoch) && !self.seen.gateways.is_empty() {
            return SOON;
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
    fn tell_hold(&mut self, reason: &Reason) {
        let Some(run) = &mut self.state.run else { return };
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
            Reason::PrimaryNotReady { .. } | Reason::NoGateway => format!("Halt {name} advancement {reason}"),
            Reason::Advanced { .. } | Reason::NewRevision => {
                run.told = None;
                return;
            }
            _ => return,
        };
        let key = format!("{} {:?}", reason.code(), run.stage);
        if run.told.as_ref() != Some(&key) {
            run.told = Some(key);
            self.tell(Severity::Warning, reason.code(), text);
        }
    }

    fn tell(&mut self, severity: Severity, reason: &'static str, text: String) {
        self.events.push(Event { severity, reason, text });
    }

    fn enter(&mut self, phase: Phase) {
        if self.state.phase != phase {
            self.state.phase = phase;
            self.state.since = self.now;
        }
        self.moved = true;
    }

    fn enter_stage(&mut self, stage: Stage) {
        let now = self.now;
        let run = self.run_mut();
        run.stage = stage;
        run.since = now;
        run.window_since = None;
        self.moved = true;
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

    /// Asks the webhooks of one kind and returns those that have not passed, with what they said.
    fn unpassed(&mut self, kind: WebhookKind, number: u32, repeat: bool) -> Vec<(String, Option<Answer>)> {
        let mut unpassed = Vec::new();
        let run = self.run().id.clone();
        for webhook in self.plan.webhooks(kind) {
            let key = format!("{run}/{kind:?}/{number}/{}", webhook.name);
            let answer = self.seen.answers.get(&key).cloned();
            if repeat || answer.is_none() {
                self.asks.push(Ask { key, name: webhook.name.clone(), webhook: Some(kind), repeat });
            }
            if answer != Some(Answer::Passed) {
                unpassed.push((webhook.name.clone(), answer));
            }
        }
        unpassed
    }

    /// Asks the gates of one kind; returns the hold of the first closed one.
    fn gate(&mut self, kind: WebhookKind, number: u32) -> Option<Reason> {
        let (gate, answer) = self.unpassed(kind, number, true).into_iter().next()?;
        let said = match answer {
            Some(Answer::Failed(said)) => said,
            _ => "no answer yet".into(),
        };
        Some(Reason::WaitingForGate { gate, said })
    }
}

/// How much of the canary a rollout needs. None of it is taken away while it serves, or gateways may still be `sending`.
fn scale(run: Option<&Run>, home: bool, sending: bool) -> Scale {
    match run.map(|run| run.stage) {
        _ if home => Scale::Full,
        Some(Stage::Draining) => Scale::Keep,
        None | Some(Stage::Gated) if sending => Scale::Keep,
        None | Some(Stage::Gated) => Scale::Zero,
        Some(_) => Scale::Full,
    }
}
