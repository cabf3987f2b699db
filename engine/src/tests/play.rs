//! A world in which anything can happen at any time, and a controller in it under the eyes of a witness.

use std::collections::BTreeMap;

use super::witness::Witness;
use super::world::*;
use crate::*;

/// Something that happens outside of the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Happening {
    Target(&'static str),
    Canary(Health),
    Primary(Health),
    /// How many of each arm's requests fail out of a hundred: canary, primary.
    Failures(u64, u64),
    /// How many requests come in each piece of time.
    Requests(u64),
    Program(WebhookKind, Says),
    Template(Says),
    /// The guard of a gateway stops the canary.
    Trip,
    Acknowledging(bool),
    Scraping(bool),
    GatewayJoins,
    GatewayRestarts,
    GatewaysVanish,
    Told(Verb),
    Suspended(bool),
    Deleted,
    /// The target's update strategy is edited: whether it stops the last pod first.
    UpdateStops(bool),
    /// The plan is edited to so many steps.
    Steps(usize),
    Passes(Span),
    /// The clock is set back.
    Back(Span),
    /// The controller dies in the pass that the last happening led to, when it has done so many things.
    Dies(usize),
}

/// How a workload is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Health {
    /// Comes up as asked.
    Well,
    /// A part serves, the rest does not come up.
    Partly,
    /// Nothing serves, but it may come up.
    Down,
    /// Nothing serves, and it will not come up without a change.
    Broken,
}

/// What another program says when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Says {
    #[default]
    Yes,
    No,
    Nothing,
}

/// A world, the programs that it asks, and the witness.
#[derive(Clone)]
pub(super) struct Play {
    pub(super) world: World,
    says: BTreeMap<WebhookKind, Says>,
    template: Says,
    verbs: u32,
    boots: u64,
    witness: Witness,
    /// What has happened so far.
    pub(super) story: Vec<Happening>,
}

impl Play {
    pub(super) fn new(plan: Plan) -> Self {
        let mut play = Self::of(World::new(plan));
        play.until_settled("initialized");
        play
    }

    pub(super) fn of(world: World) -> Self {
        Self {
            world,
            says: BTreeMap::from([(WebhookKind::Rollback, Says::No)]),
            template: Says::Yes,
            verbs: 0,
            boots: 100,
            witness: Witness::default(),
            story: Vec::new(),
        }
    }

    /// Returns the code of the last pass's reason.
    pub(super) fn code(&self) -> &'static str {
        self.world.code()
    }

    /// Lets something happen; time that passes is followed by a pass of the controller, as is all else.
    pub(super) fn happen(&mut self, happening: Happening) {
        self.befall(happening);
        let _ = self.pass();
    }

    fn befall(&mut self, happening: Happening) {
        self.story.push(happening);
        let world = &mut self.world;
        match happening {
            Happening::Target(name) => {
                world.target = revision(name);
                // The target is the canary's workload: if it runs, it rolls by itself.
                if world.canary.readiness != Readiness::Absent {
                    world.canary.revision = Some(revision(name));
                }
            }
            Happening::Canary(health) => {
                world.canary_comes_up = health == Health::Well;
                health.befall(&mut world.canary);
            }
            Happening::Primary(health) => {
                world.primary_comes_up = health == Health::Well;
                health.befall(&mut world.primary);
            }
            Happening::Failures(canary, primary) => (world.canary_fails, world.primary_fails) = (canary, primary),
            Happening::Requests(requests) => world.requests = requests,
            Happening::Program(kind, says) => {
                self.says.insert(kind, says);
            }
            Happening::Template(says) => self.template = says,
            Happening::Trip => {
                if let Some(pod) = world.gateways.first_mut().filter(|pod| pod.traffic.reaches_canary()) {
                    pod.tripped = pod.traffic.epoch;
                }
            }
            Happening::Acknowledging(yes) => world.acknowledge = yes,
            Happening::Scraping(yes) => world.scrape = yes,
            Happening::GatewayJoins if world.gateways.len() < 3 => {
                self.boots += 1;
                world.gateways.push(Pod::new(&format!("gateway-{}", self.boots), self.boots));
            }
            Happening::GatewayJoins => {}
            Happening::GatewayRestarts => {
                self.boots += 1;
                let boot = self.boots;
                if let Some(pod) = world.gateways.first_mut() {
                    *pod = Pod { traffic: pod.traffic.clone(), ..Pod::new(&pod.name, boot) };
                }
            }
            Happening::GatewaysVanish => world.gateways.clear(),
            Happening::Told(verb) => {
                self.verbs += 1;
                world.verb = Some(VerbRequest { verb, id: self.verbs.to_string() });
            }
            Happening::Suspended(yes) => world.plan.suspend = yes,
            Happening::Deleted => world.deleted = true,
            Happening::UpdateStops(yes) => world.update_stops_primary = yes,
            Happening::Steps(count) => {
                world.plan.steps = Step::canary(weight(10.0), weight(count as f64 * 10.0), false)
            }
            Happening::Passes(span) => {
                world.traffic();
                world.now = world.now + span;
            }
            Happening::Back(span) => world.now = world.now - span,
            Happening::Dies(_) => {}
        }
    }

    /// Returns what a controller leaves behind that dies in the pass which a happening leads to: between every two things
    /// that it does, storing the state among them.
    pub(super) fn deaths(&self, happening: Happening) -> Vec<Self> {
        let mut play = self.clone();
        play.befall(happening);
        let World { plan, state, now, .. } = &play.world;
        let Decision { protect, state: stored, actions, .. } = decide(plan, state, &play.world.observation(), *now);
        let mut left = Vec::new();
        for action in protect {
            play.world.apply(action);
            left.push(play.clone());
        }
        play.store(stored);
        left.push(play.clone());
        for action in actions {
            // What changes nothing in this world leaves what the last one left.
            if matches!(action, Action::Traffic(_) | Action::Primary { .. } | Action::Canary { .. }) {
                play.world.apply(action);
                left.push(play.clone());
            }
        }
        left.iter_mut().enumerate().for_each(|(done, play)| play.story.push(Happening::Dies(done + 1)));
        left
    }

    fn store(&mut self, state: State) {
        let window = |state: &State| state.run.as_ref().map(|run| (run.id.clone(), run.window));
        if window(&self.world.state) != window(&state) {
            self.witness.served = self.world.served[1];
        }
        self.world.state = state;
    }

    /// One pass of the controller, held to every promise.
    pub(super) fn pass(&mut self) -> Decision {
        let world = &mut self.world;
        let seen = world.observation();
        let decision = decide(&world.plan, &world.state, &seen, world.now);
        self.witness.check(world, &seen, &decision);
        decision.protect.iter().for_each(|action| world.apply(action.clone()));
        self.store(decision.state.clone());
        decision.actions.iter().for_each(|action| self.world.apply(action.clone()));
        self.world.last = Some(decision.clone());
        self.answer(&decision.check_requests);
        decision
    }

    fn answer(&mut self, check_requests: &[CheckRequest]) {
        for request in check_requests {
            let says = match request.webhook {
                Some(kind) => self.says.get(&kind).copied().unwrap_or_default(),
                None => self.template,
            };
            let answer = match (says, request.webhook) {
                (Says::Yes, Some(_)) => CheckResult::Passed,
                (Says::Yes, None) => CheckResult::Value(1.0),
                (Says::No, Some(_)) => CheckResult::Failed("no".into()),
                (Says::No, None) => CheckResult::Value(99.0),
                // A program that never answers is given up after its timeout, unless it is a gate, which is asked again.
                (Says::Nothing, Some(_)) if request.repeat => {
                    self.world.check_results.remove(&request.key);
                    continue;
                }
                (Says::Nothing, Some(_)) => CheckResult::Failed("timeout".into()),
                (Says::Nothing, None) => CheckResult::NoValue("no data".into()),
            };
            self.world.check_results.insert(request.key.clone(), answer);
        }
    }

    /// What the other programs say now, to tell situations apart.
    pub(super) fn programs(&self) -> String {
        format!("{:?} {:?}", self.says, self.template)
    }

    /// Everything is fine from now on.
    pub(super) fn heal(&mut self) {
        self.says = BTreeMap::from([(WebhookKind::Rollback, Says::No)]);
        self.template = Says::Yes;
        let world = &mut self.world;
        (world.acknowledge, world.scrape) = (true, true);
        (world.canary_comes_up, world.primary_comes_up) = (true, true);
        (world.canary_fails, world.primary_fails, world.requests) = (0, 0, 60);
        world.plan.suspend = false;
        Health::Well.befall(&mut world.canary);
        Health::Well.befall(&mut world.primary);
        if world.gateways.is_empty() {
            self.happen(Happening::GatewayJoins);
        }
        if self.world.state.paused {
            self.happen(Happening::Told(Verb::Resume));
        }
    }

    /// Returns whether nothing is left to be done.
    pub(super) fn is_settled(&self) -> bool {
        use Phase::*;
        let State { phase, run, traffic, applied, .. } = &self.world.state;
        let over = matches!(phase, Initialized | Succeeded | Failed) && applied.as_ref() == Some(&self.world.target);
        run.is_none() && !traffic.reaches_canary() && (over || *phase == Terminated)
    }

    /// Lets time pass until the rollout has ended.
    pub(super) fn until_settled(&mut self, why: &str) {
        for _ in 0..400 {
            if self.is_settled() {
                return;
            }
            self.happen(Happening::Passes(Span(700)));
        }
        let reason = self.pass().reason;
        panic!("{why}: does not end but stays: {reason}\n{:#?}", sketch(&self.world.state));
    }

    /// A restart at any point changes no outcome: what is stored is all that counts, and nothing is lost on the way.
    pub(super) fn is_the_same_after_a_restart(&self) {
        let World { plan, state, now, .. } = &self.world;
        let seen = self.world.observation();
        let stored = serde_json::to_string(state).unwrap();
        let restored: State = serde_json::from_str(&stored).unwrap();
        assert!(serde_json::to_string(&restored).unwrap() == stored, "a state survives being stored");
        // What is read again of each process is in memory alone.
        let decided = |state: &State| {
            let mut decision = decide(plan, state, &seen, *now);
            let state = std::mem::take(&mut decision.state);
            for action in decision.protect.iter_mut().chain(&mut decision.actions) {
                if let Action::Traffic(traffic) = action {
                    (traffic.seen, traffic.seen_at) = (BTreeMap::new(), Timestamp::default());
                }
            }
            let arms = weir_wire::names::Arm::ALL.map(|arm| state.counters.since(0).arm(arm));
            let counted = arms.map(|arm| [arm.assigned, arm.success, arm.failure, arm.abandoned]);
            (decision, state.durable(), counted)
        };
        assert_eq!(decided(&restored), decided(state));
    }

    /// Returns whether the state stands still while the world does: within a few passes.
    pub(super) fn comes_to_rest(&self) -> bool {
        let mut play = self.clone();
        let seen = play.world.observation();
        (0..20).any(|_| {
            let before = play.world.state.clone();
            let decision = decide(&play.world.plan, &before, &seen, play.world.now);
            play.world.state = decision.state;
            play.world.state == before
        })
    }
}

/// The part of a state that a person can read.
pub(super) fn sketch(state: &State) -> State {
    let mut state = State { counters: counter_history::CounterHistory::default(), ..state.clone() };
    state.traffic.limits.clear();
    if let Some(run) = &mut state.run {
        (run.evidence, run.window_retired) = (run_evidence::RunEvidence::default(), Counts::default());
    }
    state
}

impl Health {
    fn befall(self, workload: &mut Workload) {
        if workload.readiness == Readiness::Absent {
            return;
        }
        (workload.readiness, workload.available) = match self {
            Self::Well => (Readiness::Ready, true),
            Self::Partly => (Readiness::Unready("1 of 2 replicas are available".into()), true),
            Self::Down => (Readiness::Unready("0 of 2 replicas are available".into()), false),
            Self::Broken => (Readiness::Broken("CrashLoopBackOff".into()), false),
        };
        workload.routable_since = workload.available.then(|| workload.routable_since.unwrap_or(START));
    }
}
