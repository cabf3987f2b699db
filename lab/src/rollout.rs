//! One rollout: the engine's passes, and a simulation that does what it says.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::gateway::{Gateway, Load, Served};
use super::scenario::{Fidelity, Scenario};
use weir_engine::{
    Action, CheckRequest, CheckResult, Observation, Outcome, Phase, Plan, Readiness, Replicas, Revision, Span, State,
    Timestamp, Traffic, WebhookKind, Workload, decide,
};

/// When the made-up clock begins.
const START: Timestamp = Timestamp(1_800_000_000_000);
/// From a push to the first request that obeys it, of which istiod's debounce is most.
const PUSH: Span = Span(130);
/// A workload's way to ready.
const STARTUP: Span = Span::seconds(5);
/// Requests of the primary before the release.
const BEFORE: Span = Span::seconds(60);

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The revision is in production.
    Promoted,
    /// The canary was taken back; the reason's stable code.
    RolledBack(String),
    /// It waits for something that this traffic does not bring; the reason's stable code.
    Waiting(String),
}

/// A rollout that was played.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// How it ended.
    pub end: End,
    /// Requests from the new revision until the canary got no more of them.
    pub requests: u64,
    /// Those that the canary got.
    pub canary_requests: u64,
    /// Those that failed, on either arm.
    pub failed: u64,
    /// Those that failed on the canary.
    pub canary_failed: u64,
    /// From the new revision to the decision.
    pub took: Span,
}

/// Plays one rollout; the same seed gives the same one.
#[must_use]
pub fn play(scenario: &Scenario, seed: u64) -> Played {
    played(scenario, 0.0, seed)
}

/// Plays one rollout, request by request, while hostile clients send this share of the requests.
#[must_use]
pub fn play_against(scenario: &Scenario, hostile: f64, seed: u64) -> Played {
    played(&Scenario { fidelity: Fidelity::Requests, ..scenario.clone() }, hostile, seed)
}

fn played(scenario: &Scenario, hostile: f64, seed: u64) -> Played {
    let mut simulation = Simulation::new(scenario, hostile, seed);
    simulation.initialize();
    simulation.release()
}

struct Simulation<'a> {
    plan: Plan,
    state: State,
    now: Timestamp,
    target: Revision,
    primary: Workload,
    canary: Workload,
    /// When a workload that starts is ready.
    primary_up: Timestamp,
    canary_up: Timestamp,
    gateways: Vec<Gateway>,
    load: Load<'a>,
    check_results: Vec<(String, CheckResult)>,
    pushed: Traffic,
    rng: StdRng,
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, hostile: f64, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let gateways = (0..scenario.gateways)
            .map(|i| {
                let boot = rng.random_range(1..u64::from(u32::MAX));
                Gateway::new(scenario, hostile, (i, boot), &mut rng)
            })
            .collect();
        Self {
            plan: scenario.simulated_plan(),
            state: State::default(),
            now: START,
            target: Revision("1".into()),
            primary: Workload::default(),
            canary: Workload::default(),
            primary_up: START,
            canary_up: START,
            gateways,
            load: Load { scenario, turned: false, first_weight: None, served: Served::default() },
            check_results: Vec::new(),
            pushed: Traffic::default(),
            rng,
        }
    }

    /// Brings the primary up and gives it some traffic.
    fn initialize(&mut self) {
        while self.state.phase == Phase::Initializing && self.now < START + self.load.scenario.patience() {
            let wait = self.pass();
            self.advance(wait);
        }
        let until = self.now + BEFORE;
        while self.now < until {
            let wait = self.pass();
            self.advance(wait);
        }
        self.load.served = Served::default();
    }

    /// Releases a revision; returns what became of it.
    fn release(mut self) -> Played {
        self.target = Revision("2".into());
        let began = self.now;
        let deadline = began + self.load.scenario.patience();
        loop {
            let wait = self.pass();
            if self.state.run.is_none() && self.state.ended.is_some() || self.now >= deadline {
                return self.played(began);
            }
            self.advance(wait);
        }
    }

    fn played(self, began: Timestamp) -> Played {
        let Served { requests, canary, failed, canary_failed, .. } = self.load.served;
        let (end, at) = match &self.state.ended {
            Some(ended) if ended.result == Outcome::Promoted => (End::Promoted, ended.at),
            Some(ended) => (End::RolledBack(ended.reason.clone()), ended.at),
            None => {
                let code = decide(&self.plan, &self.state, &self.observe(), self.now).reason.code();
                (End::Waiting(code.to_owned()), self.now)
            }
        };
        Played { end, requests, canary_requests: canary, failed, canary_failed, took: at.since(began) }
    }

    fn advance(&mut self, wait: Span) {
        let to = self.now + wait;
        for gateway in &mut self.gateways {
            gateway.serve(&mut self.load, self.now, to, &mut self.rng);
        }
        self.now = to;
    }

    /// One pass of the controller; returns when it wants the next one.
    fn pass(&mut self) -> Span {
        rise(&mut self.primary, self.primary_up, self.now);
        rise(&mut self.canary, self.canary_up, self.now);
        let seen = self.observe();
        let decision = decide(&self.plan, &self.state, &seen, self.now);
        self.state = decision.state;
        for action in decision.protect.into_iter().chain(decision.actions) {
            self.apply(action);
        }
        for request in decision.check_requests {
            self.answer(request);
        }
        if self.state.traffic.reaches_canary() {
            self.load.first_weight.get_or_insert(self.now);
        }
        decision.recheck_after
    }

    fn observe(&self) -> Observation {
        let mut seen = Observation {
            target: self.target.clone(),
            primary: self.primary.clone(),
            canary: self.canary.clone(),
            check_results: self.check_results.iter().cloned().collect(),
            ..Observation::default()
        };
        for gateway in &self.gateways {
            let (scrape, acknowledged) = gateway.scrape(self.now);
            seen.scrapes.extend(scrape);
            seen.gateways.push(weir_engine::Gateway {
                name: gateway.name().to_owned(),
                caller: false,
                silent: false,
                acknowledged,
                filtering: true,
                unrouted: false,
                level: weir_wire::names::LEVEL,
            });
        }
        seen
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Traffic(traffic) if says_more(&traffic, &self.pushed) => {
                self.pushed.clone_from(&traffic);
                let at = self.now + PUSH;
                self.gateways.iter_mut().for_each(|gateway| gateway.push(&traffic, at));
            }
            Action::Primary { revision, .. } => start(&mut self.primary, &mut self.primary_up, &revision, self.now),
            Action::Canary { replicas: Replicas::Exactly(0), .. } => self.canary = Workload::default(),
            Action::Canary { replicas: Replicas::Declared | Replicas::Exactly(_), .. } => {
                start(&mut self.canary, &mut self.canary_up, &self.target, self.now);
            }
            _ => {}
        }
    }

    /// Every program that is asked is content; what is simulated is the traffic.
    fn answer(&mut self, ask: CheckRequest) {
        let answer = match ask.webhook {
            Some(WebhookKind::Rollback) => CheckResult::Failed("no".into()),
            Some(_) => CheckResult::Passed,
            None => {
                let check = self.plan.checks.iter().find(|check| check.name == ask.name);
                let bounds = check.map(|check| check.bounds).unwrap_or_default();
                CheckResult::Value(bounds.min.or(bounds.max).unwrap_or_default())
            }
        };
        self.check_results.retain(|(key, _)| *key != ask.key);
        self.check_results.push((ask.key, answer));
    }
}

/// Returns whether a split is another one, or says more of what was seen.
fn says_more(traffic: &Traffic, pushed: &Traffic) -> bool {
    traffic.epoch != pushed.epoch || traffic.seen != pushed.seen
}

fn start(workload: &mut Workload, up: &mut Timestamp, revision: &Revision, now: Timestamp) {
    if workload.revision.as_ref() == Some(revision) {
        return;
    }
    workload.revision = Some(revision.clone());
    workload.readiness = Readiness::Unready("it starts".into());
    *up = now + STARTUP;
}

fn rise(workload: &mut Workload, up: Timestamp, now: Timestamp) {
    if matches!(workload.readiness, Readiness::Unready(_)) && now >= up {
        workload.readiness = Readiness::Ready;
        workload.available = true;
        workload.routable_since.get_or_insert(now);
    }
}
