//! Load tests: requests that another program makes, so that a revision without users can be judged.
//!
//! They are seen where they come through a gateway. Those that call the canary's own Service go to it at any weight; what is seen
//! of none is told, since its author thinks that he has tested.

use weir_wire::names::{Arm, Cohort};

use super::bound::Window;
use super::traffic::Split;
use super::{Cause, Pass, Reason, Span, Timestamp, WebhookKind};
use crate::plan::Step;

/// Time after a check for a load test that its webhook has only begun.
const SILENCE: Span = Span::seconds(10);
/// Requests that should have got to the canary, so many that it is no chance where none did: once in 20,000 times.
const MISSED: f64 = 10.0;

impl Pass<'_> {
    /// Leads requests to the canary's own Service to it before its `pre-rollout` checks, whose tests would meet the primary otherwise.
    /// Returns what that waits for.
    pub(super) fn lead_load_tests(&mut self) -> Option<Reason> {
        let tests = self.plan.webhooks(WebhookKind::PreRollout).next().is_some() && !self.plan.direct.is_empty();
        if !tests || self.seen.gateways.is_empty() {
            return None;
        }
        if !self.state.traffic.direct {
            let unready = self.not_routable().or_else(|| self.filter_off());
            if unready.is_none() {
                self.split(Split::load_tests());
            }
            return unready.or_else(|| Some(self.not_acknowledged()));
        }
        (!self.acknowledged(self.state.traffic.epoch)).then(|| self.not_acknowledged())
    }

    /// Returns how many requests the gateways served since the window began, where some of them should have got to the canary, and none
    /// did: or all should have been counted, and none was.
    pub(super) fn unsplit(&self, step: Step, window: &Window) -> Option<u64> {
        let [primary, canary] = Arm::ALL.map(|arm| window.all.arm(arm).assigned);
        if canary > 0 || window.all.refused > 0 || !step.has_users() {
            return None;
        }
        let drawn = window.all.cell(Arm::Primary, Cohort::Draw).assigned;
        let served = if primary == 0 { window.all.routed } else { drawn };
        let expected = served as f64 * if primary == 0 { 1.0 } else { step.weight.fraction() };
        (expected >= MISSED).then_some(served)
    }

    /// Returns that a load test is not seen: it has been made, and no request of either arm was counted; or none of the canary's, where
    /// only load tests can reach it.
    pub(super) fn no_synthetic_load(&mut self, step: Step, window: &Window, opened: Timestamp) -> Option<Reason> {
        let waited = self.now.since(opened);
        let arms = if step.has_users() { &Arm::ALL[..] } else { &[Arm::Canary] };
        let seen =
            arms.iter().any(|arm| window.all.arm(*arm).assigned > 0) || (step.has_users() && window.all.routed > 0);
        if seen || window.all.refused > 0 || !self.run().load_made || self.now < opened + self.plan.interval + SILENCE {
            return None;
        }
        let (deadline, service) = (self.plan.progress_deadline, self.plan.canary_service.clone());
        let host = self.plan.direct.first().cloned();
        if waited >= deadline {
            return Some(self.take_back(Cause::NoSyntheticLoad { deadline, service, host }));
        }
        Some(Reason::NoSyntheticLoad { service, host, left: Span(deadline.0 - waited.0) })
    }
}
