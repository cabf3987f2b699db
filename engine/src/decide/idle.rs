//! Between rollouts: the first setup, and the watch for a new revision.

use super::super::plan::WebhookKind;
use super::{Pass, Phase, Readiness, Reason, Run, Severity, Stage, Timestamp};
use crate::run_evidence::RunEvidence;
use crate::state::{Ended, Outcome};

impl Pass<'_> {
    /// Makes the primary from what the target declares, and moves the traffic to it.
    pub(super) fn initialize(&mut self) -> Reason {
        if self.state.since == Timestamp::default() {
            self.state.since = self.now;
        }
        if self.plan.suspend {
            return Reason::Suspended;
        }
        let primary = &self.seen.primary;
        let ready = primary.readiness == Readiness::Ready && primary.revision == self.state.installed;
        if !ready || self.state.installed.is_none() {
            // Nothing is in production yet, so a change of the target is followed, not analysed. What was taken over is in production.
            let inherited = self.seen.inherited.as_ref().map(|inherited| &inherited.revision);
            self.state.installed = Some(inherited.unwrap_or(&self.seen.target).clone());
            let waiting_for = match &primary.readiness {
                Readiness::Unready(why) | Readiness::Broken(why) => why.clone(),
                _ => "waiting for it to start".into(),
            };
            return Reason::Initializing { waiting_for };
        }
        if self.state.traffic.epoch == 0 {
            self.open_epoch(weir_wire::Weight::ZERO);
        }
        let (epoch, since) = (self.state.traffic.epoch, self.state.traffic.since);
        if !self.seen.gateways.is_empty() && !self.acknowledged(epoch) {
            if !self.relinquished(epoch, since) {
                return self.not_acknowledged();
            }
            if !self.silent(epoch).is_empty() {
                self.emit_unreachable("the primary serves all the same, and a release waits for one that answers");
            }
        }
        self.state.promoted.clone_from(&self.state.installed);
        self.state.applied.clone_from(&self.state.installed);
        self.enter(Phase::Initialized);
        self.emit(Severity::Info, "Initialized", format!("Initialization done! {}", self.plan.canary));
        let failed = self.seen.inherited.as_ref().is_some_and(|inherited| inherited.failed);
        if failed && self.state.installed.as_ref() != Some(&self.seen.target) {
            self.state.applied = Some(self.seen.target.clone());
            self.enter(Phase::Failed);
            return Reason::FailedRevision;
        }
        Reason::UpToDate
    }

    /// Watches for a revision that was not dealt with yet.
    pub(super) fn idle(&mut self) -> Reason {
        if let Some(held) = self.held() {
            return held;
        }
        let target = &self.seen.target;
        if self.state.applied.as_ref() == Some(target) {
            let failed = self.state.phase == Phase::Failed;
            return if failed { Reason::FailedRevision } else { Reason::UpToDate };
        }
        if self.state.promoted.as_ref() == Some(target) {
            self.state.applied = Some(target.clone());
            self.enter(Phase::Succeeded);
            let text = format!("{} is back at the primary's revision", self.plan.target);
            self.emit(Severity::Info, "Reverted", text);
            return Reason::Reverted;
        }
        self.start_run()
    }

    /// Begins the rollout of what the target declares now.
    pub(super) fn start_run(&mut self) -> Reason {
        let text = format!("New revision detected! Scaling up {}", self.plan.target);
        self.emit(Severity::Info, "NewRevision", text);
        self.begin_run();
        if self.plan.webhooks(WebhookKind::ConfirmRollout).next().is_some() {
            self.run_mut().stage = Stage::Gated;
            self.enter(Phase::Waiting);
        }
        Reason::NewRevision
    }

    /// Replaces the run by one of what the target declares now, with all counters at 0 and the canary's weight at its fallback.
    pub(super) fn begin_run(&mut self) {
        let counted = self.state.counters.since(0).arm(weir_wire::names::Arm::Primary);
        // At rest nothing is counted: then the last rollout knows the primary best.
        let last = self.state.ended.as_ref().map(|ended| ended.primary).unwrap_or_default();
        let history = [last, [counted.ended(), counted.failure]].into_iter().max().unwrap_or_default();
        self.state.applied = Some(self.seen.target.clone());
        self.state.run = Some(Run {
            // Unique over the life of the Canary, its deletions and clocks that step back included: a guard's trip is
            // latched by it.
            id: format!("{:x}-{:x}", self.now.0, self.state.traffic.epoch),
            revision: self.seen.target.clone(),
            started: self.now,
            stage: Stage::Starting,
            since: self.now,
            evidence: RunEvidence::new(self.plan, self.state.traffic.epoch + 1, history, self.guarding()),
            ..Run::default()
        });
        let weight = self.fallback_weight();
        self.fall_back(weight);
        self.enter(Phase::Progressing);
    }

    /// Returns whether the target declares what the primary serves: nothing of it is to be analysed. A run may have begun all the
    /// same, while the primary was still to be restored.
    pub(super) fn is_back(&self) -> bool {
        self.state.promoted.as_ref() == Some(&self.seen.target) && !self.state.canary_is_fallback
    }

    /// Follows a target that changed while its former revision was analysed: the canary gets no request of it.
    pub(super) fn follow_target(&mut self) -> Reason {
        if self.is_back() {
            let reason = Reason::Reverted;
            self.end(Outcome::Superseded, &reason);
            self.state.applied = Some(self.seen.target.clone());
            self.emit(Severity::Info, "Reverted", format!("{} is back at the primary's revision", self.plan.target));
            self.open_epoch(weir_wire::Weight::ZERO);
            self.enter_stage(Stage::Draining);
            self.enter(Phase::Succeeded);
            return reason;
        }
        self.end(Outcome::Superseded, &Reason::NewRevision);
        let text = format!("New revision detected! Restarting analysis for {}", self.plan.target);
        self.emit(Severity::Info, "NewRevision", text);
        self.begin_run();
        Reason::NewRevision
    }

    /// Records how the run ended, with its numbers.
    pub(super) fn end(&mut self, result: Outcome, reason: &Reason) {
        let run = self.run();
        let replaced = result == Outcome::Superseded;
        let told = self.plan.webhooks(WebhookKind::PostRollout).next().is_some();
        let counts = run.evidence.total(&self.state.counters);
        let arm = |arm| {
            let cell = counts.arm(arm);
            [cell.ended(), cell.failure]
        };
        self.state.end(Ended {
            run: run.id.clone(),
            revision: run.revision.clone(),
            result,
            reason: reason.code().into(),
            text: reason.to_string(),
            started: run.started,
            at: self.now,
            weight: self.state.traffic.weight,
            canary: arm(weir_wire::names::Arm::Canary),
            primary: arm(weir_wire::names::Arm::Primary),
            // A rollout that another one replaced has not ended for those who wait for its end.
            post_rollout_pending: told && !replaced,
        });
    }
}
