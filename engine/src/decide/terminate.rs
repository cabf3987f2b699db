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
            if made && self.seen.canary.readiness != Readiness::Ready && !late {
                let why = match &self.seen.canary.readiness {
                    Readiness::Unready(why) | Readiness::Broken(why) => format!(" ({why})"),
                    Readiness::Ready | Readiness::Absent => String::new(),
                };
                let most = self.plan.progress_deadline;
                let waiting_for = format!("the target to serve again, for {most} at most{why}");
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
}
