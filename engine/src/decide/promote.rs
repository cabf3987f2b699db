//! From the end of an analysis to the primary serving everything again.

use weir_wire::Weight;

use super::traffic::UNREACHABLE;
use super::{Pass, Phase, Readiness, Reason, Severity, Stage};
use crate::state::Outcome;

/// What a promotion waits for whose primary's update will stop its last pod.
const RELIEVING: &str = "the canary to take all of the traffic, since the primary's update stops its last pod";

impl Pass<'_> {
    /// Gives the primary the analysed revision.
    pub(super) fn begin_promotion(&mut self) -> Reason {
        let text = format!("Copying {} template spec to {}-primary", self.plan.target, self.plan.target);
        self.emit(Severity::Info, "Promoting", text);
        self.enter(Phase::Promoting);
        // Without a gateway nothing can be led to the canary, and nobody's requests come through one.
        if self.seen.update_stops_primary && !self.seen.gateways.is_empty() {
            self.run_mut().confirmed = None;
            self.enter_stage(Stage::Relieving);
            return Reason::Promoting { waiting_for: RELIEVING.into() };
        }
        self.install()
    }

    /// Begins the promotion where a person asks for it, or where the plan skips the analysis, from whatever moment on it does: that of a
    /// canary that is ready.
    pub(super) fn promote_early(&mut self) -> Option<Reason> {
        let skips = self.plan.skip_analysis && !self.plan.observe_only && self.held().is_none();
        if skips && self.canary_unready().is_none() {
            self.run_mut().skipped = true;
        } else if !self.run().promote {
            return None;
        }
        Some(self.begin_promotion())
    }

    /// Returns whether everybody's requests go to the canary.
    pub(super) fn serves_all(&self) -> bool {
        self.state.traffic.weight == Weight::FULL && !self.state.traffic.only_matched
    }

    fn install(&mut self) -> Reason {
        self.state.installed = Some(self.run().revision.clone());
        self.enter_stage(Stage::Promoting);
        let runs = self.seen.primary.replicas.filter(|_| !self.seen.autoscaler.sizes_primary);
        if let (Some(runs), Some(declared)) = (runs, self.promoted_replicas())
            && declared < runs
        {
            let target = &self.plan.target;
            let text =
                format!("Scaling down {target}-primary from {runs} to {declared} replicas, as {target} declares");
            self.emit(Severity::Warning, "PrimaryShrunk", text);
        }
        if self.serves_all() {
            // From here on the canary may be all that serves, and gateways must know that.
            self.open_epoch(Weight::FULL);
        }
        Reason::Promoting { waiting_for: "waiting for its update to begin".into() }
    }

    /// Leads all of the traffic to the canary, which was analysed and is available, before the primary is touched.
    pub(super) fn relieve(&mut self) -> Reason {
        if self.seen.gateways.is_empty() {
            return self.install();
        }
        if !self.seen.canary.available {
            if self.state.traffic.reaches_canary() {
                self.run_mut().confirmed = None;
                let weight = self.fallback_weight();
                self.fall_back(weight);
            }
            return self.canary_unready().unwrap_or(Reason::NotRoutable);
        }
        if !self.serves_all() {
            if !self.state.traffic.reaches_canary()
                && let Some(hold) = self.not_routable()
                && (hold == Reason::NotRoutable || !self.is_unheard())
            {
                return hold;
            }
            let small = self.lacking().is_some() || self.seen.canary.readiness != Readiness::Ready;
            if small && self.now.since(self.run().since) < self.plan.progress_deadline {
                return Reason::Promoting { waiting_for: "the canary to be as large as the primary".into() };
            }
            self.open_epoch(Weight::FULL);
        }
        let epoch = self.state.traffic.epoch;
        // Since this very split was asked for: a silent gateway must have had the time to take it over. Where all are silent
        // nothing but their end or that time helps, as when a canary is drained.
        if self.relinquished(epoch, self.state.traffic.since) {
            if !self.silent(epoch).is_empty() {
                self.emit_unreachable(
                    "the primary is updated all the same: requests through that gateway may fail meanwhile",
                );
            }
            return self.install();
        }
        match self.silent(epoch).first() {
            Some(silent) if !self.is_sending(epoch) => {
                Reason::Promoting { waiting_for: format!("{RELIEVING}; {silent} has never acknowledged anything") }
            }
            _ => Reason::Promoting { waiting_for: RELIEVING.into() },
        }
    }

    /// Returns whether the gateways that do not say that they know the canary have never said anything, for as long as such are waited for.
    fn is_unheard(&self) -> bool {
        self.run().confirmed.is_some_and(|epoch| self.relinquished(epoch, self.state.traffic.since))
    }

    /// Waits for the primary, with the canary serving its share.
    pub(super) fn promote(&mut self) -> Reason {
        if self.acknowledged(self.state.traffic.epoch) {
            self.roll_epoch();
        }
        let (primary, canary) = (&self.seen.primary, &self.seen.canary);
        let current = primary.revision == self.state.installed;
        if current && primary.readiness == Readiness::Ready {
            self.state.promoted.clone_from(&self.state.installed);
            self.state.canary_is_fallback = false;
            return self.return_traffic();
        }
        let unanalysed = self.seen.target != self.run().revision;
        let stoppable = !self.state.traffic.run.is_empty();
        if !primary.available && canary.available && if self.serves_all() { stoppable } else { !unanalysed } {
            // Nothing of the primary serves: the canary, which was analysed, does, and no guard stops it.
            self.open_epoch(Weight::FULL);
        }
        if primary.available && (unanalysed || !canary.available) && self.state.traffic.reaches_canary() {
            // The canary is no longer what was analysed, or gone: the primary, in the middle of its update, serves.
            self.open_epoch(Weight::ZERO);
        }
        let why = match &primary.readiness {
            Readiness::Broken(why) if current => return self.fail_promotion(why.clone()),
            Readiness::Broken(why) | Readiness::Unready(why) => why.clone(),
            Readiness::Ready | Readiness::Absent => "waiting for its update to begin".into(),
        };
        if self.now.since(self.run().since) >= self.plan.progress_deadline {
            return self.fail_promotion(format!("not ready within {}: {why}", self.plan.progress_deadline));
        }
        Reason::Promoting { waiting_for: why }
    }

    fn return_traffic(&mut self) -> Reason {
        self.enter(Phase::Finalising);
        if self.plan.promotion_step.is_some() && self.state.traffic.weight > Weight::ZERO {
            self.enter_stage(Stage::Returning);
            return Reason::Returning { weight: self.state.traffic.weight };
        }
        self.emit(Severity::Info, "Finalising", "Routing all traffic to primary".into());
        self.open_epoch(Weight::ZERO);
        self.enter_stage(Stage::Draining);
        self.draining()
    }

    /// Gives the primary its share back step by step, one per interval.
    pub(super) fn give_back(&mut self) -> Reason {
        let weight = self.state.traffic.weight;
        let gone = !self.seen.canary.available || self.seen.target != self.run().revision;
        let due = self.acknowledged(self.state.traffic.epoch)
            && self.now.since(self.run().since) >= self.plan.interval
            && self.held().is_none();
        if !gone && !self.seen.primary.available {
            return Reason::PrimaryNotReady { why: "nothing of it serves".into() };
        }
        if !gone && !due {
            return Reason::Returning { weight };
        }
        let left = self.plan.promotion_step.map_or(Weight::ZERO, |step| weight.saturating_sub(step));
        if gone || left == Weight::ZERO {
            self.emit(Severity::Info, "Finalising", "Routing all traffic to primary".into());
            self.open_epoch(Weight::ZERO);
            self.enter_stage(Stage::Draining);
            return self.draining();
        }
        let text = format!("Advance {} primary weight {}", self.plan.canary, left.complement());
        self.emit(Severity::Info, "Returning", text);
        self.change_share(left);
        self.enter_stage(Stage::Returning);
        Reason::Returning { weight: left }
    }

    /// Keeps the canary until no gateway sends to it.
    pub(super) fn drain(&mut self) -> Reason {
        let (epoch, since) = (self.state.traffic.epoch, self.run().since);
        let gone = self.seen.gateways.is_empty() || self.relinquished(epoch, since);
        let changed = self.state.applied.as_ref() != Some(&self.seen.target) && self.held().is_none();
        if !gone && !changed {
            if self.now.since(self.run().since) >= UNREACHABLE && !self.run().unreachable_reported {
                self.run_mut().unreachable_reported = true;
                self.emit_unreachable("the canary is kept until they do");
            }
            return self.draining();
        }
        let silent = !changed && !self.silent(epoch).is_empty();
        if silent && !self.run().unreachable_reported {
            self.emit_unreachable(match self.is_kept_for_silent(epoch) {
                true => {
                    "it has never acknowledged anything, so the canary is kept at its least size until it does or is gone"
                }
                false => "it has not acknowledged anything for ten minutes, and is waited for no longer",
            });
        }
        if self.state.phase == Phase::Finalising {
            let (reason, text) = match self.run().skipped {
                true => (Reason::Skipped, format!("Canary analysis was skipped for {}", self.plan.target)),
                false => (Reason::Promoted, format!("Scaling down {}", self.plan.target)),
            };
            self.end(Outcome::Promoted, &reason);
            self.emit(Severity::Info, reason.code(), format!("Promotion completed! {text}"));
            self.enter(Phase::Succeeded);
        }
        self.state.run = None;
        self.requeue_now = true;
        if changed { self.idle() } else { self.settled() }
    }

    fn settled(&self) -> Reason {
        match self.state.phase {
            Phase::Failed => Reason::FailedRevision,
            _ => Reason::UpToDate,
        }
    }

    fn draining(&self) -> Reason {
        Reason::Draining { by: self.acknowledging(), of: self.seen.gateways.len() }
    }

    /// The primary did not come up with the analysed revision: it gets its former one back, and the canary, which is
    /// healthy, serves until it has.
    fn fail_promotion(&mut self, why: String) -> Reason {
        let reason = Reason::PromotionFailed { why: why.clone() };
        self.end(Outcome::PromotionFailed, &reason);
        let text = format!("Promotion of {} failed, primary not ready: {why}", self.plan.target);
        self.emit(Severity::Error, reason.code(), text);
        self.state.installed.clone_from(&self.state.promoted);
        self.state.canary_is_fallback = true;
        let weight = self.fallback_weight();
        self.fall_back(weight);
        self.enter_stage(Stage::Stranded);
        self.enter(Phase::Failed);
        reason
    }

    /// Waits for the primary to be restored, or for a fix, with the canary serving.
    pub(super) fn stay_on_canary(&mut self) -> Reason {
        let primary = &self.seen.primary;
        if primary.readiness == Readiness::Ready && primary.revision == self.state.installed {
            self.state.canary_is_fallback = false;
            self.emit(Severity::Info, "PrimaryRecovered", "Routing all traffic to primary".into());
            self.open_epoch(Weight::ZERO);
            self.enter_stage(Stage::Draining);
            return self.draining();
        }
        let target = Some(&self.seen.target);
        if target != Some(&self.run().revision) && target != self.state.promoted.as_ref() && self.held().is_none() {
            return self.start_run();
        }
        let why = match &primary.readiness {
            Readiness::Unready(why) | Readiness::Broken(why) => why.clone(),
            _ => "it does not run its former revision yet".into(),
        };
        match self.outcome() {
            Some(Outcome::RolledBack) => Reason::PrimaryNotReady { why },
            _ => Reason::PromotionFailed { why },
        }
    }
}
