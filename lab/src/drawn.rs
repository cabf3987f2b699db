//! A gateway whose requests are drawn by the slice: how many go where, and how many of them fail.
//!
//! The order of failures within a slice is random, as it is for independent requests, and the guard's own code judges them
//! one by one. Requests end at once for the counters; the guard sees a failure a latency after it was sent, so as many more
//! requests reach the canary in the meantime, up to what admission lets out.

use std::collections::VecDeque;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use weir_filter::guard::Counts as Guarded;
use weir_wire::names::{Arm, Cohort};
use weir_wire::{Limits, RUN_TICK_MS, SLOTS};

use super::behaviour::{Behaviour, binomial};
use super::gateway::{Load, Served};
use super::scenario::Scenario;
use weir_engine::{Cell, Counts, Scrape, Span, Timestamp, Traffic};

/// One gateway process.
pub(super) struct Drawn {
    pub(super) name: String,
    boot: u64,
    /// Requests per millisecond.
    rate: f64,
    /// Part of a request that the last slice left over.
    carry: f64,
    matching: f64,
    /// Canary requests that may be outstanding until as many have ended.
    admission: u64,
    edges: Vec<u32>,
    active: Traffic,
    since: Timestamp,
    acknowledged: Option<u64>,
    pushed: VecDeque<(Timestamp, Traffic)>,
    slots: [Counts; SLOTS as usize],
    refused: u64,
    /// What the guard has counted of an epoch.
    guarded: (u64, Guarded),
    trip: Option<(u64, u64)>,
    /// Failed canary requests of the run under a lease, and how many of them the controller has seen.
    failures: [u64; 2],
    /// Canary requests of the run that have ended.
    ended: u64,
}

/// Canary requests of one slice, by cohort, and how many of them fail.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    draws: u64,
    matches: u64,
    failed_draws: u64,
    failed_matches: u64,
}

impl Drawn {
    pub(super) fn new(scenario: &Scenario, name: String, (place, boot): (u32, u64)) -> Self {
        let judged = scenario.plan.latency_edge().is_some();
        Self {
            name,
            boot,
            rate: scenario.rps / 1000.0 / f64::from(scenario.gateways),
            // Many that have a request in ten seconds each do not all have it at once.
            carry: f64::from(place) / f64::from(scenario.gateways),
            matching: scenario.matching,
            admission: u64::from(scenario.plan.admission) * u64::from(scenario.workers),
            // A histogram that nobody judges is not drawn.
            edges: if judged { scenario.plan.latency_ms.clone() } else { Vec::new() },
            active: Traffic::default(),
            since: Timestamp(0),
            acknowledged: None,
            pushed: VecDeque::new(),
            slots: Default::default(),
            refused: 0,
            guarded: (0, Guarded::default()),
            trip: None,
            failures: [0; 2],
            ended: 0,
        }
    }

    pub(super) fn push(&mut self, traffic: &Traffic, at: Timestamp) {
        self.pushed.push_back((at, traffic.clone()));
    }

    pub(super) fn scrape(&self, now: Timestamp) -> (Option<Scrape>, Option<u64>) {
        let (tripped, trip_test) = self.trip.unwrap_or_default();
        let scrape = Scrape {
            gateway: self.name.clone(),
            boot: self.boot,
            begun: now,
            slots: self.slots.clone(),
            late: 0,
            refused: self.refused,
            routed: 0,
            tripped,
            trip_test,
            held: if self.left() == Some(0) { self.failures[0] } else { 0 },
        };
        // A VM says what it runs with its next tick.
        let told = now >= self.since + Span(u64::from(RUN_TICK_MS)) && self.active.epoch > 0;
        (Some(scrape), if told { Some(self.active.epoch) } else { self.acknowledged })
    }

    pub(super) fn serve(&mut self, load: &mut Load<'_>, from: Timestamp, to: Timestamp, rng: &mut StdRng) {
        let mut now = from;
        while self.pushed.front().is_some_and(|(at, _)| *at <= to) {
            let Some((at, traffic)) = self.pushed.pop_front() else { break };
            let until = at.max(now);
            self.slice(load, now, until, rng);
            now = until;
            self.follow(traffic, now);
        }
        self.slice(load, now, to, rng);
    }

    fn follow(&mut self, traffic: Traffic, now: Timestamp) {
        if traffic.run != self.active.run {
            (self.trip, self.failures, self.ended) = (None, [0; 2], 0);
        }
        if let Some(seen) = traffic.seen.get(&self.boot) {
            self.failures[1] = self.failures[1].max(*seen);
        }
        if self.active.epoch > 0 {
            self.acknowledged = Some(self.active.epoch);
        }
        (self.active, self.since) = (traffic, now);
        if self.guarded.0 != self.active.epoch {
            self.guarded = (self.active.epoch, Guarded::default());
        }
    }

    /// Returns how many more failures may be unseen; nothing without a lease.
    fn left(&self) -> Option<u64> {
        let unseen = self.failures[0] - self.failures[1].min(self.failures[0]);
        (self.active.lease > 0).then(|| u64::from(self.active.lease).saturating_sub(unseen))
    }

    /// Serves the requests of a while without a change.
    fn slice(&mut self, load: &mut Load<'_>, from: Timestamp, to: Timestamp, rng: &mut StdRng) {
        let milliseconds = to.since(from).0 as f64;
        let due = milliseconds * self.rate + self.carry;
        self.carry = due.fract();
        // Exact far beyond any traffic.
        let requests = due as u64;
        let weight = self.active.weight;
        let (primary, canary) = (load.scenario.primary, load.canary(weight, from));
        let matches = if self.active.matching { binomial(rng, requests, self.matching) } else { 0 };
        let left = if self.active.only_matched { requests - binomial(rng, requests, self.matching) } else { 0 };
        let draws = binomial(rng, requests - matches - left, weight.fraction());
        let to_primary = requests - matches - left - draws;

        let mut sent = Sent { draws, matches, ..Sent::default() };
        if self.trip.is_some() {
            sent = Sent::default();
        }
        let mut refused = self.refuse(&mut sent, milliseconds, canary);
        sent.failed_draws = binomial(rng, sent.draws, canary.errors);
        sent.failed_matches = binomial(rng, sent.matches, canary.errors);
        let mut primary_failed = binomial(rng, to_primary, primary.errors);
        refused += self.wait(&mut sent, canary.latency.median / milliseconds, rng);
        self.guard(&mut sent, primary_failed, canary.latency.median / milliseconds, rng);

        // What was kept from the canary by a trip went to the primary; what admission refused is in no arm.
        let spared = draws + matches - refused - sent.draws - sent.matches;
        let spared_matches = (matches - sent.matches).min(spared);
        let spared_draws = spared - spared_matches;
        let failed = |n, rng: &mut StdRng| binomial(rng, n, primary.errors);
        let (spared_failed, refused_failed) = (failed(spared_matches + left, rng), failed(refused, rng));
        primary_failed += failed(spared_draws, rng);
        self.refused += refused;
        self.ended += sent.draws + sent.matches;
        for (arm, cohort, requests, failed, behaviour) in [
            (Arm::Primary, Cohort::Draw, to_primary + spared_draws, primary_failed, primary),
            (Arm::Primary, Cohort::Match, spared_matches + left, spared_failed, primary),
            (Arm::Canary, Cohort::Draw, sent.draws, sent.failed_draws, canary),
            (Arm::Canary, Cohort::Match, sent.matches, sent.failed_matches, canary),
        ] {
            self.count(arm, cohort, requests, failed, behaviour, rng);
        }
        let canary_failed = sent.failed_draws + sent.failed_matches;
        load.count(Served {
            requests,
            canary: sent.draws + sent.matches,
            failed: primary_failed + spared_failed + refused_failed + canary_failed,
            canary_failed,
        });
    }

    /// Keeps what is outstanding at the beginning of a run within bounds; returns how many requests were refused.
    fn refuse(&self, sent: &mut Sent, milliseconds: f64, canary: Behaviour) -> u64 {
        if self.admission == 0 || self.ended >= self.admission {
            return 0;
        }
        // Each that ends lets another one in, until as many have ended as may be outstanding.
        let turns = milliseconds / canary.latency.median;
        let admitted = if turns >= 1.0 { u64::MAX } else { self.admission + (self.admission as f64 * turns) as u64 };
        let refused = (sent.draws + sent.matches).saturating_sub(admitted);
        let draws = refused.min(sent.draws);
        sent.draws -= draws;
        sent.matches -= refused - draws;
        refused
    }

    /// Keeps requests from the canary once as many failures are unseen as may be; returns how many. What is under way by then reaches
    /// it: what arrives within one latency, given as a share of the slice.
    fn wait(&mut self, sent: &mut Sent, latency: f64, rng: &mut StdRng) -> u64 {
        let Some(left) = self.left() else { return 0 };
        let all = sent.draws + sent.matches;
        if left == 0 {
            *sent = Sent::default();
            return all;
        }
        let failures = order(*sent, rng);
        let last = failures.get(left as usize - 1).map(|(place, _)| *place);
        if let Some(place) = last {
            *sent = self.up_to(*sent, &failures, place, latency);
        }
        self.failures[0] += sent.failed_draws + sent.failed_matches;
        all - sent.draws - sent.matches
    }

    /// Returns what of a slice's requests reaches the canary, if from one of them on only what is under way does.
    fn up_to(&self, sent: Sent, failures: &[(u64, bool)], place: u64, latency: f64) -> Sent {
        let all = sent.draws + sent.matches;
        let under_way = (latency * all as f64).round() as u64;
        let bound = if self.ended < self.admission { self.admission } else { u64::MAX };
        let reached = (place + 1 + under_way.min(bound)).min(all);
        let failed = |of: bool| failures.iter().filter(|(at, draw)| *at < reached && *draw == of).count() as u64;
        let (failed_draws, failed_matches) = (failed(true), failed(false));
        let draws = (reached as f64 * sent.draws as f64 / all as f64).round() as u64;
        let draws = draws.max(failed_draws).min(sent.draws).min(reached - failed_matches);
        Sent { draws, matches: (reached - draws).min(sent.matches), failed_draws, failed_matches }
    }

    /// Lets the guard judge the slice's failures one by one. From a trip on, only what is under way reaches the canary:
    /// what arrives within one latency, given as a share of the slice.
    fn guard(&mut self, sent: &mut Sent, primary_failed: u64, latency: f64, rng: &mut StdRng) {
        let all = sent.draws + sent.matches;
        if self.active.lease > 0 {
            return;
        }
        let Some(limits) = self.active.limits.iter().find(|limits| limits.epoch == self.active.epoch).cloned() else {
            return;
        };
        let before = self.guarded.1;
        let failures = order(*sent, rng);
        if let Some((place, test)) = tripping(before, &limits, &failures, all, primary_failed, rng) {
            self.trip = Some((self.active.epoch, test));
            *sent = self.up_to(*sent, &failures, place, latency);
        }
        let add = |to: &mut u32, n: u64| *to = to.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        let guarded = &mut self.guarded.1;
        add(&mut guarded.canary_failures, sent.failed_draws);
        add(&mut guarded.primary_failures, primary_failed);
        add(&mut guarded.completed, sent.draws + sent.matches);
        add(&mut guarded.failed, sent.failed_draws + sent.failed_matches);
    }

    fn count(&mut self, arm: Arm, cohort: Cohort, requests: u64, failed: u64, how: Behaviour, rng: &mut StdRng) {
        if requests == 0 {
            return;
        }
        let buckets = if self.edges.is_empty() { Vec::new() } else { how.latency.buckets(rng, requests, &self.edges) };
        let success = requests - failed;
        let client_error = binomial(rng, success, how.client_errors);
        let cell =
            Cell { assigned: requests, success, failure: failed, client_error, latency: buckets, ..Cell::default() };
        // Fits: there are 8 slots.
        self.slots[(self.active.epoch % SLOTS) as usize].cell_mut(arm, cohort).add(&cell);
    }
}

/// Puts the failures of a slice into a random order: the place among the canary's requests, and whether it was a draw.
fn order(sent: Sent, rng: &mut StdRng) -> Vec<(u64, bool)> {
    let (all, failed) = (sent.draws + sent.matches, sent.failed_draws + sent.failed_matches);
    // Slices are seconds long, so places fit.
    let mut places: Vec<u64> =
        sample(rng, all as usize, failed as usize).into_iter().map(|place| place as u64).collect();
    places.sort_unstable();
    let mut draws = sent.failed_draws;
    let mut left = failed;
    let kind = |place| {
        let draw = rng.random_range(0..left) < draws;
        left -= 1;
        draws -= u64::from(draw);
        (place, draw)
    };
    places.into_iter().map(kind).collect()
}

/// Returns the first failure that trips the guard, and by which test.
fn tripping(
    before: Guarded,
    limits: &Limits,
    failures: &[(u64, bool)],
    all: u64,
    primary_failed: u64,
    rng: &mut StdRng,
) -> Option<(u64, u64)> {
    if failures.is_empty() {
        return None;
    }
    let mut primary: Vec<f64> = (0..primary_failed).map(|_| rng.random()).collect();
    primary.sort_by(f64::total_cmp);
    let mut now = before;
    for (place, draw) in failures {
        let time = (*place as f64 + 0.5) / all as f64;
        let count = |n: usize, base: u32| base.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        now.primary_failures = count(primary.partition_point(|at| *at < time), before.primary_failures);
        now.completed = count(*place as usize + 1, before.completed);
        now.failed += 1;
        now.canary_failures += u32::from(*draw);
        if let Some(test) = now.judge(limits) {
            return Some((*place, test as u64));
        }
    }
    None
}
