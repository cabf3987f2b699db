//! Giving everything back when the Canary is deleted: the target first, then the routes, then the gateways.

use weir_wire::Weight;

use super::{Pass, Phase, Readiness, Reason, Severity};

impl Pass<'_> {
    pub(super) fn terminate(&mut self) -> Reason {
        match self.state.phase {
            Phase::Terminated => return Reason::Terminated,
            Phase::Terminating => {}
            _ => {
                self.emit(Severity::Info, "Terminating", format!("Terminating canary {}", self.plan.canary));
                self.state.run = None;
                // The target gets everything in the end, so nothing is lost where it serves already and the primary does not.
                let target_alone = self.seen.canary.available && !self.seen.primary.available;
                let initialized = self.state.promoted.is_some();
                self.open_epoch(if initialized && target_alone { Weight::FULL } else { Weight::ZERO });
                self.enter(Phase::Terminating);
            }
        }
        let Some(unrouted) = self.state.unrouted else {
            let late = self.now.since(self.state.since) >= self.plan.progress_deadline;
            // Where nothing was made yet, nothing was taken away.
            let made = self.state.installed.is_some() && !self.seen.target_ends_with_canary;
            // The primary goes with its Canary: what it serves nobody would.
            let last = self.seen.primary.available && !self.seen.canary.available && !self.seen.target_is_deleted;
            let awaited = self.seen.canary.readiness != Readiness::Ready || self.lacking().is_some();
            if made && awaited && (last || !late) {
                let waiting_for = self.target_awaited(last, late);
                if late && !self.state.deletion_held {
                    self.state.deletion_held = true;
                    let text = format!("The deletion of {} is held: waiting for {waiting_for}", self.plan.canary);
                    self.emit(Severity::Warning, "DeletionHeld", text);
                }
                return Reason::Terminating { waiting_for };
            }
            self.open_epoch(Weight::ZERO);
            self.state.unrouted = Some(self.state.traffic.epoch);
            return Reason::Terminating { waiting_for: "the routes to lead to the target".into() };
        };
        if !self.seen.gateways.is_empty() && !self.relinquished(unrouted, self.state.traffic.since) {
            return Reason::Terminating { waiting_for: self.not_acknowledged().to_string() };
        }
        if !self.silent(unrouted).is_empty() {
            self.emit_unreachable("it has never acknowledged anything, and is waited for no longer");
        }
        self.emit(Severity::Info, "Terminated", format!("Terminated canary {}", self.plan.canary));
        self.enter(Phase::Terminated);
        Reason::Terminated
    }

    /// Says what a deletion waits for whose target does not serve; `last` where nothing but the primary does.
    fn target_awaited(&self, last: bool, late: bool) -> String {
        let target = &self.plan.target;
        let why = match &self.seen.canary.readiness {
            Readiness::Unready(why) | Readiness::Broken(why) => format!(" ({why})"),
            Readiness::Ready | Readiness::Absent => String::new(),
        };
        match (last, late) {
            (true, true) => format!(
                "the target to serve again{why}: nothing but {target}-primary does, which goes with its Canary; repair {target}, or delete it \
                 too"
            ),
            (true, false) => format!("the target to serve again{why}"),
            (false, _) => {
                format!("the target to serve again, for {} at most{why}", self.plan.progress_deadline)
            }
        }
    }
}
