//! What is simulated.

use weir_wire::{Condition, StringMatch, Weight};

use super::behaviour::Behaviour;
use weir_engine::{Plan, Span};

/// Header of simulated requests that meet a plan's conditions, whatever those are.
pub(super) const MATCHING: &str = "x-simulated-match";

/// Releases of one kind under one kind of traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// How the release goes.
    pub plan: Plan,
    /// Requests per second, over all gateways. Above 0.
    pub rps: f64,
    /// The revision in production.
    pub primary: Behaviour,
    /// The revision under test, from its onset on. Before that it behaves as the primary does.
    pub canary: Behaviour,
    /// When the canary begins to behave as it does.
    pub onset: Onset,
    /// Gateway processes, at least 1.
    pub gateways: u32,
    /// Workers in each gateway, at least 1.
    pub workers: u32,
    /// Share of the requests that meet the plan's conditions.
    pub matching: f64,
    /// How closely gateways are simulated.
    pub fidelity: Fidelity,
}

/// When the canary begins to behave as it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Onset {
    /// With its first request.
    FirstRequest,
    /// With its first request at this weight.
    Weight(Weight),
    /// So long after its first weight was asked for.
    After(Span),
}

/// How closely gateways are simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fidelity {
    /// How many requests end how is drawn per slice of time; the guard's own code judges them in a random order.
    Sums,
    /// Every request goes through the filter's own code.
    Requests,
}

impl Scenario {
    /// Returns whether both revisions are equally good.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.primary == self.canary
    }

    /// Returns a span after which a rollout that has not ended is waiting for something that traffic will not bring.
    pub(super) fn patience(&self) -> Span {
        let plan = &self.plan;
        let requests = plan.min_requests as f64;
        let step = |step: &weir_engine::Step| {
            let of_all = if step.only_matched { self.matching } else { 1.0 };
            let share = step.weight.fraction() * of_all + if step.matching { self.matching } else { 0.0 };
            let for_requests = if step.judged && share > 0.0 { requests / (share * self.rps) } else { 0.0 };
            3.0 * for_requests.min(86_400.0) + plan.interval.as_seconds() + 40.0
        };
        // Failed checks in the whole rollout, and undecided ones in each step.
        let undecided = plan.steps.len() as f64 * f64::from(plan.undecided_limit());
        let checks = f64::from(plan.threshold.min(100)) + if plan.checks.is_empty() { 0.0 } else { undecided };
        let steps: f64 = plan.steps.iter().map(step).sum();
        let back = plan.promotion_step.map_or(0.0, |step| plan.interval.as_seconds() / step.fraction().max(0.0001));
        Span((1000.0 * (2.0 * steps + back + checks * (plan.interval.as_seconds() + 40.0) + 600.0)) as u64)
    }

    /// The plan as it is simulated: conditions stand for whatever they are, cookies and load tests for nothing.
    pub(super) fn simulated_plan(&self) -> Plan {
        let mut plan = self.plan.clone();
        let met = Condition {
            headers: [(MATCHING.to_owned(), StringMatch::Exact("1".into()))].into(),
            ..Condition::default()
        };
        plan.conditions = if plan.conditions.is_empty() { Vec::new() } else { vec![met] };
        plan.affinity = None;
        // Load tests are other programs' affair, as webhooks are: what is simulated are users' requests.
        plan.direct.clear();
        for step in plan.steps.iter_mut().filter(|step| step.direct) {
            (step.direct, step.judged) = (false, step.has_users());
        }
        plan
    }
}
