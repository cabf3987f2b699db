//! From the start of a canary to the end of its analysis.

use weir_wire::Weight;

use super::check::Outcome as CheckOutcome;
use super::traffic::Split;
use super::{Cause, Pass, Phase, Readiness, Reason, Severity, Span, Stage, WebhookKind};
use crate::counts::Counts;
use crate::plan::Step;

/// Endpoints must have been ready this long before their first request: what a gateway acknowledges after it includes them.
const ENDPOINT_GRACE: Span = Span::seconds(1);

impl Pass<'_> {
    /// Waits for the gates before a rollout.
    pub(super) fn wait_for_gate(&mut self) -> Reason {
        let closed = self.gate(WebhookKind::ConfirmRollout, 0).filter(|_| !self.run().promote);
        if let Some(hold) = self.held().or(closed) {
            return hold;
        }
        self.tell_passed(WebhookKind::ConfirmRollout, "Confirm-rollout check");
        self.enter_stage(Stage::Starting);
        self.enter(Phase::Progressing);
        Reason::NewRevision
    }

    /// Waits for the canary to be ready.
    pub(super) fn start(&mut self) -> Reason {
        if let Some(hold) = self.canary_unready().or_else(|| self.held()) {
            return hold;
        }
        if let Some(reason) = self.promote_early() {
            return reason;
        }
        self.emit(Severity::Info, "Analysing", format!("Starting canary analysis for {}", self.plan.target));
        self.enter_stage(Stage::Checking);
        Reason::NewRevision
    }

    /// Makes the checks before the first request.
    pub(super) fn check_before(&mut self) -> Reason {
        if let Some(hold) = self.canary_unready().or_else(|| self.held()) {
            return hold;
        }
        if let Some(reason) = self.promote_early() {
            return reason;
        }
        if let Some(failed_at) = self.run().window_since {
            let again = failed_at + self.plan.interval;
            if self.now < again {
                return self.check_failed();
            }
            let run = self.run_mut();
            run.window_since = None;
            run.checks += 1;
        }
        if let Some(hold) = self.lead_load_tests() {
            return hold;
        }
        let number = self.run().checks;
        match self.unpassed(WebhookKind::PreRollout, number, false).into_iter().next() {
            Some((name, None)) => Reason::WaitingForAnswer { name },
            Some((name, answer)) => {
                let now = self.now;
                self.run_mut().window_since = Some(now);
                self.failed_webhook = Some(name.clone());
                self.fail_check(format!("external check {name} failed {}", Self::answer_text(answer)))
            }
            None => {
                self.tell_passed(WebhookKind::PreRollout, "Pre-rollout check");
                self.run_mut().checks += 1;
                self.enter_stage(Stage::Confirming);
                Reason::NewRevision
            }
        }
    }

    /// Shows that gateways know the canary's endpoints, then gives the step's weight.
    pub(super) fn confirm(&mut self) -> Reason {
        if let Some(reason) = self.promote_early() {
            return reason;
        }
        let step = self.step();
        if step.has_traffic() {
            if let Some(hold) = self.canary_unready() {
                return hold;
            }
            if let Some(hold) = self.not_routable() {
                return hold;
            }
        }
        // Later steps do not ask again.
        if let Some(hold) = self.filter_off().or_else(|| self.module_too_old(step)) {
            return hold;
        }
        if let Some(hold) =
            self.held().or_else(|| self.primary_unready()).or_else(|| self.increase_gate(step, self.run().step))
        {
            return hold;
        }
        self.warn_of_primary();
        self.enter_stage(Stage::Analysing);
        self.take_step()
    }

    /// Returns why gateways may not know the canary's endpoints yet.
    pub(super) fn not_routable(&mut self) -> Option<Reason> {
        let settled = self.seen.canary.routable_since.is_some_and(|since| self.now.since(since) >= ENDPOINT_GRACE);
        if !settled {
            return Some(Reason::NotRoutable);
        }
        let Some(confirmed) = self.run().confirmed else {
            let weight = self.fallback_weight();
            self.fall_back(weight);
            self.run_mut().confirmed = Some(self.state.traffic.epoch);
            return Some(self.not_acknowledged());
        };
        (!self.acknowledged(confirmed)).then(|| self.not_acknowledged())
    }

    /// Holds a step until its check passes, then takes the next.
    pub(super) fn analyse(&mut self) -> Reason {
        if let Some(reason) = self.promote_early() {
            return reason;
        }
        let step = self.step();
        if let Some(reason) = self.follow_plan(step) {
            return reason;
        }
        if step.has_traffic() {
            if !self.seen.canary.available {
                return self.withdraw();
            }
            if self.seen.canary.readiness == Readiness::Ready {
                let now = self.now;
                self.run_mut().ready_last = now;
            }
            if !self.acknowledged(self.state.traffic.epoch) {
                return self.not_acknowledged();
            }
            self.roll_epoch();
        } else if let Some(hold) = self.canary_unready() {
            return hold;
        }
        let now = self.now;
        let since = *self.run_mut().window_since.get_or_insert(now);
        if let Some(held) = self.held() {
            return held;
        }
        let due = since + self.plan.interval;
        if now >= due {
            match self.check(step, due) {
                CheckOutcome::Failed { what, anew } => {
                    let reason = self.fail_check(what);
                    if self.state.phase != Phase::Failed {
                        self.enter(Phase::Progressing);
                        self.next_interval(anew);
                    }
                    return reason;
                }
                CheckOutcome::Passed => return self.pass_check(step, false),
                CheckOutcome::Undecided(_) if self.run().check_passed => self.next_interval(false),
                CheckOutcome::Undecided(bound) => {
                    let (name, limit) = (self.plan.canary.clone(), self.plan.undecided_limit());
                    let run = self.run_mut();
                    run.last_failed_check = None;
                    run.undecided += 1;
                    if run.undecided >= limit {
                        let text = format!(
                            "Advancing {name} though {bound} is not shown to be inside or outside after {limit} checks; what is \
                             counted goes on over the next step"
                        );
                        self.emit(Severity::Warning, "StillUndecided", text);
                        return self.pass_check(step, true);
                    }
                    self.next_interval(false);
                    return self.undecided().unwrap_or(Reason::Analysing { left: self.plan.interval });
                }
                CheckOutcome::Waiting(reason) if !self.run().check_passed => return reason,
                CheckOutcome::Waiting(_) => {}
            }
        }
        if self.run().check_passed {
            return match self.hold_after_check(step) {
                Some(hold) => hold,
                None => self.next_step(step),
            };
        }
        if self.run().last_failed_check.is_some() {
            return self.check_failed();
        }
        let undecided = if self.run().undecided > 0 { self.undecided() } else { None };
        undecided.unwrap_or(Reason::Analysing { left: due.since(now) })
    }

    /// Takes the next step, if nothing stands before it. What is undecided keeps its window: it has to be made good in the next step.
    fn pass_check(&mut self, step: Step, undecided: bool) -> Reason {
        let run = self.run_mut();
        (run.check_passed, run.last_failed_check) = (true, None);
        (run.undecided, run.window_kept) = (0, undecided);
        // While a gate is closed the analysis goes on: the next interval's check is a new one.
        if let Some(hold) = self.hold_after_check(step) {
            self.next_interval(!undecided);
            return hold;
        }
        self.next_step(step)
    }

    /// Returns the step under way. A canary that serves alone is judged with all of the traffic, as it has all of it anyway.
    pub(super) fn step(&self) -> Step {
        if self.only_canary_serves() {
            return Step { confirm: false, ..Step::weight(Weight::FULL, false) };
        }
        let last = self.plan.steps.len().saturating_sub(1);
        let step = self.plan.steps.get(self.run().step.min(last)).copied();
        step.unwrap_or(Step::weight(Weight::ZERO, false))
    }

    pub(super) fn following(&self) -> Option<Step> {
        if self.only_canary_serves() { None } else { self.plan.steps.get(self.run().step + 1).copied() }
    }

    /// Gives the weight of the step under way.
    fn take_step(&mut self) -> Reason {
        let step = self.step();
        let (name, weight) = (self.plan.canary.clone(), step.weight);
        let text = match step.iteration {
            Some((i, of)) => format!("Advance {name} canary iteration {i}/{of}"),
            None if step.confirm => "Routing all traffic to canary".into(),
            None => format!("Advance {name} canary weight {weight}"),
        };
        self.emit(Severity::Info, "Advanced", text);
        let before = &self.state.traffic;
        if Split::from(before) != step.into() || before.epoch == 0 {
            self.split(step.into());
        }
        let kept = std::mem::take(&mut self.run_mut().window_kept);
        self.next_interval(!kept);
        Reason::Advanced { weight }
    }

    /// Takes the step again, with the same care, if an edit of the plan made another one of it.
    fn follow_plan(&mut self, step: Step) -> Option<Reason> {
        let split = Split::from(&self.state.traffic);
        if split == step.into() || !self.seen.canary.available || self.held().is_some() {
            return None;
        }
        let run = self.run_mut();
        (run.check_passed, run.last_failed_check) = (false, None);
        if step.has_traffic() && !self.state.traffic.reaches_canary() {
            self.run_mut().confirmed = None;
            self.enter_stage(Stage::Confirming);
            return Some(Reason::Advanced { weight: step.weight });
        }
        let index = self.run().step;
        Some(self.increase_gate(step, index).unwrap_or_else(|| self.take_step()))
    }

    fn next_step(&mut self, step: Step) -> Reason {
        let Some(next) = self.following() else { return self.begin_promotion() };
        self.enter(Phase::Progressing);
        self.run_mut().step += 1;
        self.run_mut().check_passed = false;
        if next.has_traffic() && !step.has_traffic() {
            self.run_mut().confirmed = None;
            self.enter_stage(Stage::Confirming);
            return Reason::Advanced { weight: next.weight };
        }
        self.take_step()
    }

    /// Starts another interval of the same step: with requests counted from 0, or with those of the last one.
    fn next_interval(&mut self, anew: bool) {
        if anew && self.state.traffic.since != self.now {
            self.reopen_epoch();
        }
        let (epoch, now) = (self.state.traffic.epoch, self.now);
        let run = self.run_mut();
        if anew {
            run.window = epoch;
            (run.window_retired, run.window_retired_warm) = (Counts::default(), Counts::default());
            (run.window_opened, run.load_made) = (now, false);
        }
        run.window_since = None;
        run.checks += 1;
        self.requeue_now = true;
    }

    /// Returns what stands between a passed check and the next step.
    fn hold_after_check(&mut self, step: Step) -> Option<Reason> {
        let next = self.following();
        if self.plan.observe_only {
            let would = match next {
                Some(Step { iteration: Some((i, of)), .. }) => format!("go on to iteration {i} of {of}"),
                Some(next) => format!("advance to weight {} %", next.weight),
                None => "promote the revision".into(),
            };
            return Some(Reason::Observing { would, is_bad: false });
        }
        let confirm = match next {
            Some(next) => next.confirm,
            None => !step.confirm,
        };
        if confirm && let Some(closed) = self.gate(WebhookKind::ConfirmPromotion, 0) {
            if self.state.phase != Phase::WaitingPromotion {
                self.enter(Phase::WaitingPromotion);
            }
            return Some(closed);
        }
        if next.is_some()
            && let Some(hold) = self.primary_unready()
        {
            return Some(hold);
        }
        next.and_then(|next| self.increase_gate(next, self.run().step + 1))
    }

    /// Returns the gate before an increase, if it is closed. Each increase has a question of its own: a yes to the first says nothing of
    /// the second.
    fn increase_gate(&mut self, next: Step, index: usize) -> Option<Reason> {
        if self.only_canary_serves() {
            return None;
        }
        let more = Split::from(next).adds_to((&self.state.traffic).into());
        // Numbers of checks begin the keys; 0 is what is kept for the whole of a run.
        let whom = match (next.only_matched, next.matching) {
            (true, _) => "matched",
            (_, true) => "and-matched",
            _ => "all",
        };
        let number = format!("0/{index}-{}-{whom}", next.weight.parts());
        if more { self.gate(WebhookKind::ConfirmTrafficIncrease, number) } else { None }
    }

    /// Takes the weight away while nothing of the canary serves; the step is taken again when it does.
    fn withdraw(&mut self) -> Reason {
        let hold = self.canary_unready().unwrap_or(Reason::CanaryNotReady { why: "no endpoint serves".into() });
        self.emit(Severity::Warning, "CanaryNotReady", self.unready_text(&hold));
        self.withhold();
        hold
    }

    fn unready_text(&self, hold: &Reason) -> String {
        match hold {
            Reason::CanaryNotReady { why } => format!("canary {} not ready: {why}", self.plan.target),
            other => other.to_string(),
        }
    }

    /// Returns why the canary cannot be sent requests yet.
    pub(super) fn canary_unready(&mut self) -> Option<Reason> {
        let canary = &self.seen.canary;
        let current = canary.revision.as_ref() == Some(&self.run().revision);
        let why = match &canary.readiness {
            Readiness::Ready if current => {
                let now = self.now;
                self.run_mut().ready_last = now;
                return None;
            }
            Readiness::Unready(why) | Readiness::Broken(why) => why.clone(),
            Readiness::Ready => "the former revision still runs".into(),
            Readiness::Absent => "not started yet".into(),
        };
        Some(Reason::CanaryNotReady { why })
    }

    /// Returns why the primary could not stand in for the canary. It holds an advance, never a rollback; and not for ever:
    /// where the primary will not come up, the canary may be the cure.
    fn primary_unready(&self) -> Option<Reason> {
        let waited = self.now.since(self.run().primary_ready_last.max(self.run().started));
        if self.only_canary_serves() || waited >= self.plan.progress_deadline {
            return None;
        }
        let why = match &self.seen.primary.readiness {
            Readiness::Ready | Readiness::Broken(_) => return None,
            Readiness::Unready(why) => why.clone(),
            Readiness::Absent => "it does not run".into(),
        };
        Some(Reason::PrimaryNotReady { why })
    }

    fn check_failed(&mut self) -> Reason {
        let (failed, check) = (self.run().failed_checks, self.run().last_failed_check.clone().unwrap_or_default());
        // Nobody took it back.
        if failed >= self.plan.threshold {
            return self.take_back(Cause::Checks { failed, last: check });
        }
        Reason::Halted { check, failed, threshold: self.plan.threshold }
    }

    fn tell_passed(&mut self, kind: WebhookKind, what: &str) {
        let names: Vec<String> = self.plan.webhooks(kind).map(|hook| hook.name.clone()).collect();
        for name in names {
            self.emit(Severity::Info, "CheckPassed", format!("{what} {name} passed"));
        }
    }
}
