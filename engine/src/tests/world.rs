//! A small world for tests: gateways that acknowledge, workloads that come up, requests that are counted. Everything is
//! exact and scripted; `weir simulate` has the random one.

use std::collections::BTreeMap;

use weir_wire::names::{Arm, Cohort, Kind};
use weir_wire::{SLOTS, Weight};

use crate::*;

pub(super) const START: Timestamp = Timestamp(1_795_395_000_000);

/// One Canary and everything around it.
#[derive(Clone)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) now: Timestamp,
    pub(super) target: Revision,
    pub(super) primary: Workload,
    pub(super) canary: Workload,
    pub(super) gateways: Vec<Pod>,
    pub(super) check_results: BTreeMap<String, CheckResult>,
    pub(super) verb: Option<VerbRequest>,
    pub(super) deleted: bool,
    pub(super) target_is_deleted: bool,
    pub(super) unplanned: bool,
    /// What the primary ran when it was taken over from another controller.
    pub(super) inherited: Option<Inherited>,
    /// Whether gateways acknowledge what they are asked.
    pub(super) acknowledge: bool,
    /// Whether gateways switch the filter on where they are told to.
    pub(super) switches: bool,
    /// Whether the gateways' module knows splits of matching requests.
    pub(super) splits_matched: bool,
    /// Whether the gateways send nothing to the canary, whatever they say.
    pub(super) unsplit: bool,
    /// Whether gateways answer scrapes.
    pub(super) scrape: bool,
    /// Whether workloads come up as asked.
    pub(super) canary_comes_up: bool,
    pub(super) primary_comes_up: bool,
    /// Whether an update of the primary stops its last pod before the new one serves.
    pub(super) update_stops_primary: bool,
    /// Requests in each 100 ms, and how many of each arm's fail out of a hundred.
    pub(super) requests: u64,
    pub(super) canary_fails: u64,
    /// Requests of a load test to the canary's own Service in each 100 ms; they fail as the canary's others do.
    pub(super) load: u64,
    pub(super) primary_fails: u64,
    /// How many of the canary's requests out of a hundred are slower than every edge.
    pub(super) canary_slow: u64,
    /// How many of each arm's requests out of a hundred are answered with 404: primary, canary.
    pub(super) not_found: [u64; 2],
    /// Whether the canary's requests never end.
    pub(super) canary_hangs: bool,
    pub(super) events: Vec<String>,
    pub(super) phases: Vec<Phase>,
    pub(super) weights: Vec<Weight>,
    pub(super) last: Option<Decision>,
    pub(super) failed_users: u64,
    pub(super) served: [u64; 2],
    loaded: u64,
}

/// One gateway process.
#[derive(Clone)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) boot: u64,
    pub(super) traffic: Traffic,
    pub(super) slots: [Counts; SLOTS as usize],
    pub(super) tripped: u64,
    /// Whether it has never said anything.
    pub(super) silent: bool,
    /// Whether it is a caller's sidecar.
    pub(super) caller: bool,
    /// Whether it has no route to the service.
    pub(super) unrouted: bool,
    /// Requests on the canary's routes, by its own count.
    pub(super) routed: u64,
    /// Failures that it waits with until they are seen.
    pub(super) held: u64,
}

pub(super) fn weight(percent: f64) -> Weight {
    Weight::new((percent * 100.0).round() as u32).unwrap()
}

pub(super) fn plan() -> Plan {
    Plan::example()
}

pub(super) fn revision(name: &str) -> Revision {
    Revision(name.into())
}

impl World {
    /// Returns a world in which the primary runs `v1` and nothing has happened yet.
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            state: State::default(),
            now: START,
            target: revision("v1"),
            primary: Workload::default(),
            canary: Workload::default(),
            gateways: vec![Pod::new("gateway-0", 7)],
            check_results: BTreeMap::new(),
            verb: None,
            deleted: false,
            target_is_deleted: false,
            unplanned: false,
            inherited: None,
            acknowledge: true,
            switches: true,
            splits_matched: true,
            unsplit: false,
            scrape: true,
            canary_comes_up: true,
            primary_comes_up: true,
            update_stops_primary: false,
            requests: 10,
            canary_fails: 0,
            load: 0,
            primary_fails: 0,
            canary_slow: 0,
            not_found: [0; 2],
            canary_hangs: false,
            events: Vec::new(),
            phases: Vec::new(),
            weights: Vec::new(),
            last: None,
            failed_users: 0,
            served: [0; 2],
            loaded: 0,
        }
    }

    /// Returns a world whose Canary is initialized.
    pub(super) fn initialized(plan: Plan) -> Self {
        let mut world = Self::new(plan);
        world.until(60, |world| world.state.phase == Phase::Initialized);
        world
    }

    /// Returns a world in the middle of a rollout to `v2`, at this phase and at least this weight.
    pub(super) fn rolling(plan: Plan, phase: Phase, percent: f64) -> Self {
        let mut world = Self::initialized(plan);
        world.target = revision("v2");
        world.until(200, |world| world.state.phase == phase && world.state.traffic.weight >= weight(percent));
        world
    }

    pub(super) fn observation(&self) -> Observation {
        let gateway = |pod: &Pod| Gateway {
            name: pod.name.clone(),
            caller: pod.caller,
            silent: pod.silent,
            acknowledged: (!pod.silent).then_some(pod.traffic.epoch),
            filtering: self.switches && !pod.unrouted && pod.traffic.filter == FilterMode::On,
            unrouted: pod.unrouted,
            level: if self.splits_matched { weir_wire::names::LEVEL } else { 0 },
        };
        let sized = |workload: &Workload, absent| {
            let replicas = if workload.readiness == Readiness::Absent { absent } else { Some(2) };
            Workload { replicas, ..workload.clone() }
        };
        Observation {
            target: self.target.clone(),
            primary: sized(&self.primary, None),
            canary: sized(&self.canary, Some(0)),
            gateways: self.gateways.iter().map(gateway).collect(),
            scrapes: match self.scrape {
                true => self.gateways.iter().filter(|pod| !pod.silent).map(|pod| pod.scrape(self.now)).collect(),
                false => vec![],
            },
            check_results: self.check_results.clone(),
            verb: self.verb.clone(),
            deleted: self.deleted,
            target_is_deleted: self.target_is_deleted,
            unplanned: self.unplanned,
            inherited: self.inherited.clone(),
            update_stops_primary: self.update_stops_primary,
            ..Observation::default()
        }
    }

    /// One pass of the controller, with its state written down and read again.
    pub(super) fn pass(&mut self) -> Decision {
        let decision = decide(&self.plan, &self.state, &self.observation(), self.now);
        let stored = serde_json::to_string(&decision.state).unwrap();
        self.state = serde_json::from_str(&stored).unwrap();
        assert!(serde_json::to_string(&self.state).unwrap() == stored, "a state must survive being stored");
        for action in decision.protect.iter().chain(&decision.actions) {
            self.apply(action.clone());
        }
        self.events.extend(decision.events.iter().map(|event| event.text.clone()));
        if self.phases.last() != Some(&self.state.phase) {
            self.phases.push(self.state.phase);
        }
        if self.weights.last() != Some(&self.state.traffic.weight) {
            self.weights.push(self.state.traffic.weight);
        }
        assert!(!decision.reason.to_string().is_empty());
        self.last = Some(decision.clone());
        decision
    }

    /// 100 ms of requests, then a pass.
    pub(super) fn step(&mut self) -> Decision {
        self.traffic();
        self.now = self.now + Span(100);
        self.pass()
    }

    /// Runs until a condition holds.
    pub(super) fn until(&mut self, seconds: u64, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..seconds * 10 {
            if done(self) {
                return;
            }
            drop(self.step());
        }
        let (phase, weight) = (self.state.phase, self.state.traffic.weight);
        let reason = self.last.as_ref().map(|last| last.reason.to_string());
        panic!("still {phase:?} at {weight} % after {seconds} s: {reason:?}\n{:#?}", self.events);
    }

    pub(super) fn run_for(&mut self, seconds: u64) {
        (0..seconds * 10).for_each(|_| drop(self.step()));
    }

    pub(super) fn phase(&self) -> Phase {
        self.state.phase
    }

    pub(super) fn code(&self) -> &'static str {
        self.last.as_ref().map_or("", |last| last.reason.code())
    }

    pub(super) fn told(&self, text: &str) -> bool {
        self.events.iter().any(|event| event.contains(text))
    }

    pub(super) fn apply(&mut self, action: Action) {
        let start = |workload: &mut Workload, revision: &Revision, comes_up: bool, now: Timestamp| {
            if workload.revision.as_ref() != Some(revision) || workload.readiness == Readiness::Absent {
                workload.revision = Some(revision.clone());
                workload.readiness = Readiness::Unready("0 of 1 replicas are available".into());
            }
            if comes_up && matches!(workload.readiness, Readiness::Unready(_)) {
                workload.readiness = Readiness::Ready;
                workload.available = true;
                workload.routable_since.get_or_insert(now);
            }
        };
        match action {
            Action::Primary { revision, .. } => {
                let updated = self.primary.revision.as_ref().is_some_and(|runs| *runs != revision);
                let stops = updated && self.update_stops_primary;
                start(&mut self.primary, &revision, self.primary_comes_up && !stops, self.now);
                if stops {
                    (self.primary.available, self.primary.routable_since) = (false, None);
                }
            }
            Action::Canary { replicas: Replicas::Exactly(0), .. } => self.canary = Workload::default(),
            Action::Canary { replicas: Replicas::Declared | Replicas::Exactly(_), .. } => {
                let target = self.target.clone();
                start(&mut self.canary, &target, self.canary_comes_up, self.now);
            }
            Action::Traffic(traffic) if self.acknowledge => {
                for pod in &mut self.gateways {
                    if traffic.run != pod.traffic.run {
                        pod.tripped = 0;
                    }
                    pod.traffic = *traffic.clone();
                }
            }
            // What is not the engine's business: the platforms' tests look at it.
            _ => {}
        }
    }

    /// Gives requests to the arms in exact proportion, and fails them in exact proportion.
    pub(super) fn traffic(&mut self) {
        let pods = self.gateways.len() as u64;
        for pod in &mut self.gateways {
            for _ in 0..if pod.traffic.direct && pod.tripped == 0 { self.load / pods } else { 0 } {
                self.loaded += 1;
                let failed = self.loaded * self.canary_fails / 100 > (self.loaded - 1) * self.canary_fails / 100;
                let slot = &mut pod.slots[(pod.traffic.epoch % SLOTS) as usize];
                let cell = slot.cell_mut(Arm::Canary, Cohort::Direct);
                let ended = if failed { Kind::Failure } else { Kind::Success };
                [Kind::Assigned, ended, Kind::Latency(0)].into_iter().for_each(|kind| cell.count(kind, 1));
            }
            for i in 0..self.requests / pods {
                let only_matched = pod.traffic.only_matched;
                let matched = (pod.traffic.matching || only_matched) && i % 10 == 0;
                let turn = (self.served[0] + self.served[1]) * 7919 % 10_000;
                let drawn = turn < u64::from(pod.traffic.weight.parts());
                let wanted = if only_matched { matched && drawn } else { matched || drawn };
                let canary = pod.tripped == 0 && !self.unsplit && wanted;
                let arm = if canary { Arm::Canary } else { Arm::Primary };
                let by_condition = if only_matched { !matched } else { matched && canary };
                let cohort = if by_condition { Cohort::Match } else { Cohort::Draw };
                let share = if canary { self.canary_fails } else { self.primary_fails };
                let served = &mut self.served[arm as usize];
                *served += 1;
                let failed = *served * share / 100 > (*served - 1) * share / 100
                    || (canary && !self.canary.available)
                    || (!canary && !self.primary.available && self.update_stops_primary);
                self.failed_users += u64::from(failed);
                let slot = &mut pod.slots[(pod.traffic.epoch % SLOTS) as usize];
                let cell = slot.cell_mut(arm, cohort);
                cell.count(Kind::Assigned, 1);
                if canary && self.canary_hangs {
                    continue;
                }
                let falls = |share: u64| *served * share / 100 > (*served - 1) * share / 100;
                let not_found = !failed && falls(self.not_found[arm as usize]);
                let bucket = if canary && falls(self.canary_slow) { self.plan.latency_ms.len() } else { 0 };
                cell.count(if failed { Kind::Failure } else { Kind::Success }, 1);
                cell.count(Kind::ClientError, u64::from(not_found));
                cell.count(Kind::Latency(bucket as u8), 1);
            }
        }
    }
}

impl Pod {
    pub(super) fn new(name: &str, boot: u64) -> Self {
        Self {
            name: name.into(),
            boot,
            traffic: Traffic::default(),
            slots: Default::default(),
            tripped: 0,
            silent: false,
            caller: false,
            unrouted: false,
            routed: 0,
            held: 0,
        }
    }

    fn scrape(&self, now: Timestamp) -> Scrape {
        Scrape {
            gateway: self.name.clone(),
            boot: self.boot,
            begun: now,
            slots: self.slots.clone(),
            routed: self.routed,
            held: self.held,
            tripped: self.tripped,
            trip_test: u64::from(self.tripped > 0),
            ..Scrape::default()
        }
    }
}
