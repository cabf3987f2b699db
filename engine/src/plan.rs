//! What the user asked for, validated: only values that can work exist here.
//!
//! Whoever reads a `Canary` object (see `api`) makes a plan of it once; the engine never sees the object.

use weir_wire::{Affinity, Condition, Weight};

use super::time::Span;

/// Time for which a step is held at least while a bound is undecided, unless its checks are few.
const LONGEST_HOLD: Span = Span::seconds(600);

/// A release as the user wants it done.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// `name.namespace` of the Canary, as it stands in event texts.
    pub canary: String,
    /// `name.namespace` of the target, as it stands in event texts.
    pub target: String,
    /// `name.namespace` of the canary's own Service, which load tests call.
    pub canary_service: String,
    /// Names of that Service which the Canary's own hosts cover: requests to them that come through a gateway go to the canary, as a
    /// cohort of their own.
    pub direct: Vec<String>,
    /// What the canary goes through before it is promoted, in order. Never empty.
    pub steps: Vec<Step>,
    /// After promotion the weight goes back by this much per interval; `None`: in one jump.
    pub promotion_step: Option<Weight>,
    /// Time between two checks, at least 1 s.
    pub interval: Span,
    /// Failed checks that end the rollout, at least 1. A bound that is judged by evidence fails none.
    pub threshold: u32,
    /// Metrics that must stay in their bounds.
    pub checks: Vec<Check>,
    /// Calls to other programs.
    pub webhooks: Vec<Webhook>,
    /// Completed canary requests that a check of a built-in metric needs. 0: none.
    pub min_requests: u64,
    /// Whether a built-in metric fails its check by the plain value of one interval, as Flagger's do, and not by evidence.
    pub plain_bounds: bool,
    /// Time that a check may wait for its requests before the rollout is taken back; `None`: for ever.
    pub insufficient_deadline: Option<Span>,
    /// Time that the canary, and at promotion the primary, may take to become ready.
    pub progress_deadline: Span,
    /// Promote as soon as the canary is ready.
    pub skip_analysis: bool,
    /// Start nothing and advance nothing. A rollback still happens.
    pub suspend: bool,
    /// Chance of taking back a revision that is as good as the primary, per rollout; 0 < alpha < 1.
    pub alpha: f64,
    /// The canary's share of slow requests may be this many times the primary's, at least 1.
    pub latency_ratio: f64,
    /// Upper edges of the latency histogram in milliseconds, increasing; holds the edge of a `request-duration` check.
    pub latency_ms: Vec<u32>,
    /// Requests that meet any of these go to the canary in a step with `matching`.
    pub conditions: Vec<Condition>,
    /// Cookie that keeps clients on their arm.
    pub affinity: Option<Affinity>,
    /// Canary requests that may be outstanding per worker until the first ones have ended. 0: no bound.
    pub admission: u32,
    /// Whether requests pass the filter, and are counted, between rollouts too.
    pub observe_at_rest: bool,
    /// Judge and tell, and leave it to people: take nothing back, and advance nothing beyond the first step.
    pub observe_only: bool,
}

/// One stretch of the way to promotion: a weight, held until a check passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Share of drawn requests.
    pub weight: Weight,
    /// Whether requests that meet a condition go to the canary.
    pub matching: bool,
    /// Whether the weight is a share of the requests that meet a condition, and all others are the primary's.
    pub only_matched: bool,
    /// Whether requests to the canary's own Service go to it.
    pub direct: bool,
    /// Whether the built-in metrics are judged. Not where no request can reach the canary (blue/green before the switch, where no load
    /// test is seen); where one is [seen perhaps](Step::judged_if_seen), they are once it is.
    pub judged: bool,
    /// The step's number in its series of iterations (A/B, blue/green), from 1, and how many there are.
    pub iteration: Option<(u32, u32)>,
    /// Whether the `confirm-promotion` gates stand before this step (blue/green's switch) and not after the last.
    pub confirm: bool,
}

/// A metric and its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The metric's name, unique in the plan.
    pub name: String,
    /// Where its value comes from.
    pub source: Source,
    /// What the value must stay in.
    pub bounds: Bounds,
}

/// Where a metric's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Percent of the canary's completed requests that did not fail; from the filter.
    SuccessRate,
    /// 99th percentile of the canary's latency in milliseconds; from the filter.
    Duration,
    /// A query that somebody else answers.
    Template,
}

/// Inclusive bounds of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Least value that is good.
    pub min: Option<f64>,
    /// Greatest value that is good.
    pub max: Option<f64>,
}

/// A call to another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The webhook's name, unique in the plan.
    pub name: String,
    /// When it is called and what its answer means.
    pub kind: WebhookKind,
}

/// When a webhook is called and what its answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WebhookKind {
    /// Gate before the canary is started.
    ConfirmRollout,
    /// Check before the first weight.
    PreRollout,
    /// Part of every check.
    Rollout,
    /// Gate before every weight.
    ConfirmTrafficIncrease,
    /// Gate before promotion.
    ConfirmPromotion,
    /// Told how the rollout ended.
    PostRollout,
    /// Passing means: take the canary back now.
    Rollback,
    /// Told every event.
    Event,
}

impl Bounds {
    /// Returns whether `value` is good. A value that is not a number is not.
    #[must_use]
    pub fn hold(&self, value: f64) -> bool {
        !value.is_nan() && self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

impl Plan {
    /// Returns a plan for tests and examples: three steps of 10 %, judged by a success rate of 99 %.
    #[must_use]
    pub fn example() -> Self {
        let ten = Weight::new(1000).unwrap_or_default();
        Self {
            canary: "shop.prod".into(),
            target: "shop.prod".into(),
            canary_service: "shop-canary.prod".into(),
            direct: Vec::new(),
            steps: Step::canary(ten, ten.saturating_add(ten).saturating_add(ten), false),
            promotion_step: None,
            interval: Span::seconds(5),
            threshold: 2,
            checks: vec![Check {
                name: "request-success-rate".into(),
                source: Source::SuccessRate,
                bounds: Bounds { min: Some(99.0), max: None },
            }],
            webhooks: Vec::new(),
            min_requests: 10,
            plain_bounds: false,
            insufficient_deadline: None,
            progress_deadline: Span::seconds(60),
            skip_analysis: false,
            suspend: false,
            alpha: 0.01,
            latency_ratio: 2.0,
            latency_ms: vec![10, 100, 500],
            conditions: Vec::new(),
            affinity: None,
            admission: weir_wire::config::ADMISSION,
            observe_at_rest: false,
            observe_only: false,
        }
    }

    /// Returns the webhooks of one kind.
    pub fn webhooks(&self, kind: WebhookKind) -> impl Iterator<Item = &Webhook> {
        self.webhooks.iter().filter(move |webhook| webhook.kind == kind)
    }

    /// Returns the greatest failure ratio that the user's own bound on the success rate allows.
    #[must_use]
    pub fn allowed_failures(&self) -> Option<f64> {
        let check = self.checks.iter().find(|check| check.source == Source::SuccessRate)?;
        check.bounds.min.map(|percent| 1.0 - percent / 100.0)
    }

    /// Returns the user's bound on the latency's 99th percentile in milliseconds.
    #[must_use]
    pub fn latency_edge(&self) -> Option<f64> {
        self.checks.iter().find(|check| check.source == Source::Duration)?.bounds.max
    }

    /// Returns the first bucket of the latency histogram that is above that bound.
    #[must_use]
    pub fn slow_from(&self) -> Option<usize> {
        let bound = self.latency_edge()?;
        self.latency_ms.iter().position(|ms| f64::from(*ms) >= bound).map(|edge| edge + 1)
    }

    /// Returns how many undecided checks a step may have: at the last of them the rollout advances. A bad canary is found within
    /// ten minutes of traffic or has too little of it to be found at all.
    #[must_use]
    pub fn undecided_limit(&self) -> u32 {
        let minutes = LONGEST_HOLD.0.div_ceil(self.interval.0.max(1));
        self.threshold.max(10).max(u32::try_from(minutes).unwrap_or(u32::MAX))
    }
}

impl Step {
    /// Returns a step of a canary release.
    #[must_use]
    pub fn weight(weight: Weight, matching: bool) -> Self {
        Self { weight, matching, only_matched: false, direct: false, judged: true, iteration: None, confirm: false }
    }

    /// Returns the steps of a canary release that goes up by `step` and ends at `max` exactly.
    #[must_use]
    pub fn canary(step: Weight, max: Weight, matching: bool) -> Vec<Self> {
        let mut weight = Weight::ZERO;
        let mut steps = Vec::new();
        while weight < max && step > Weight::ZERO {
            weight = weight.saturating_add(step).min(max);
            steps.push(Self::weight(weight, matching));
        }
        steps
    }

    /// Returns the same step for the requests that meet a condition, with everybody else left on the primary.
    #[must_use]
    pub fn of_matched(self) -> Self {
        Self { matching: false, only_matched: true, ..self }
    }

    /// Returns the same step with load tests, which are judged though nobody else's request may reach the canary.
    #[must_use]
    pub fn with_load_tests(self) -> Self {
        Self { direct: true, judged: true, ..self }
    }

    /// Returns the same step with load tests of which nobody knows whether they are seen, as they come by the sidecars of those who make
    /// them.
    #[must_use]
    pub fn with_load_tests_perhaps(self) -> Self {
        Self { direct: true, ..self }
    }

    /// Returns whether built-in metrics are judged by a load test, if one is seen, and pass unjudged otherwise.
    #[must_use]
    pub fn judged_if_seen(&self) -> bool {
        self.direct && !self.judged
    }

    /// Returns the steps of an A/B test: matching requests only, so many checks in a row.
    #[must_use]
    pub fn ab_test(iterations: u32) -> Vec<Self> {
        (1..=iterations)
            .map(|i| Self { iteration: Some((i, iterations)), ..Self::weight(Weight::ZERO, true) })
            .collect()
    }

    /// Returns the steps of a blue/green release: checks of the idle canary, then all traffic for one check.
    #[must_use]
    pub fn blue_green(iterations: u32) -> Vec<Self> {
        let idle = |i| Self { judged: false, iteration: Some((i, iterations)), ..Self::weight(Weight::ZERO, false) };
        let switched = Self { confirm: true, ..Self::weight(Weight::FULL, false) };
        (1..=iterations).map(idle).chain([switched]).collect()
    }

    /// Returns whether any request can reach the canary.
    #[must_use]
    pub fn has_traffic(&self) -> bool {
        self.has_users() || self.direct
    }

    /// Returns whether requests of users can, and not only those of load tests.
    #[must_use]
    pub fn has_users(&self) -> bool {
        self.matching || self.weight > Weight::ZERO
    }
}
