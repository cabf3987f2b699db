//! A gateway that runs the filter's own code for every request: as many VMs as workers, and the main thread's.
//!
//! What crosses between controller and filter does here as well: configurations as JSON, counters by their names in the text
//! that a scrape reads.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;

use rand::Rng as _;
use rand::rngs::StdRng;
use weir_filter::simulated::SimulatedHost;
use weir_filter::{Choice, Filter};
use weir_wire::RUN_TICK_MS;
use weir_wire::names::Arm;

use super::gateway::{Load, Served};
use super::hostile::Manner;
use super::scenario::{MATCHING, Scenario};
use weir_controller::api::canary_id;
use weir_controller::gateway_config::{self, RequestMatch, next_generation};
use weir_controller::scrape::Report;
use weir_engine::{Plan, Scrape, Timestamp, Traffic};

const NAMESPACE: &str = "simulated";
const NAME: &str = "canary";
const HOST: &str = "simulated.example.com";

/// One gateway process.
pub(super) struct Real {
    pub(super) name: String,
    plan: Plan,
    id: String,
    /// The last one is the main thread's, which serves nothing.
    vms: Vec<(Filter, SimulatedHost)>,
    /// Requests per nanosecond.
    rate: f64,
    matching: f64,
    /// Share of the requests that hostile clients send.
    hostile: f64,
    generation: u64,
    pushed: VecDeque<(u64, u64, Vec<u8>)>,
    /// Which epoch a generation asked for.
    epochs: Vec<(u64, u64)>,
    traffic: Traffic,
    next_request: u64,
    next_tick: u64,
    ends: BinaryHeap<Reverse<End>>,
    streams: u32,
}

/// The end of a request: when, which stream, in which VM, its status, and what its client does.
type End = (u64, u32, usize, u16, Manner);

impl Real {
    pub(super) fn new(scenario: &Scenario, hostile: f64, name: String, rng: &mut StdRng) -> Self {
        let mut main = SimulatedHost::default();
        main.seed = rng.random();
        let vm = |_| {
            let mut host = main.another_vm();
            host.seed = rng.random();
            (Filter::new(), host)
        };
        Self {
            name,
            plan: scenario.simulated_plan(),
            id: canary_id(NAMESPACE, NAME),
            vms: (0..=scenario.workers).map(vm).collect(),
            rate: scenario.rps / 1e9 / f64::from(scenario.gateways),
            matching: scenario.matching,
            hostile,
            generation: 0,
            pushed: VecDeque::new(),
            epochs: Vec::new(),
            traffic: Traffic::default(),
            next_request: 0,
            next_tick: 0,
            ends: BinaryHeap::new(),
            streams: 0,
        }
    }

    pub(super) fn push(&mut self, traffic: &Traffic, at: Timestamp) {
        let request_match = RequestMatch {
            namespace: NAMESPACE.into(),
            name: NAME.into(),
            hosts: vec![HOST.into()],
            ..RequestMatch::default()
        };
        self.generation = next_generation(self.generation, at);
        let entry = gateway_config::entry(&request_match, &self.plan, traffic);
        let config = gateway_config::config(self.generation, Timestamp(u64::MAX / 2), vec![entry]);
        // A configuration has no maps with keys that JSON cannot write.
        let json = serde_json::to_vec(&config).unwrap_or_default();
        self.epochs.push((self.generation, traffic.epoch));
        self.traffic = traffic.clone();
        self.pushed.push_back((nanoseconds(at), traffic.epoch, json));
    }

    pub(super) fn serve(&mut self, load: &mut Load<'_>, from: Timestamp, to: Timestamp, rng: &mut StdRng) {
        let (from, to) = (nanoseconds(from), nanoseconds(to));
        if self.next_request < from {
            self.next_request = from + self.gap(rng);
        }
        self.next_tick = self.next_tick.max(from);
        loop {
            let push = self.pushed.front().map_or(u64::MAX, |(at, ..)| (*at).max(from));
            let end = self.ends.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            let now = push.min(end).min(self.next_tick).min(self.next_request);
            if now >= to {
                return;
            }
            self.vms.iter_mut().for_each(|(_, host)| host.now_ns = now);
            if now == push {
                self.configure();
            } else if now == self.next_tick {
                self.vms.iter_mut().for_each(|(filter, host)| filter.tick(host));
                self.next_tick = now + u64::from(RUN_TICK_MS) * 1_000_000;
            } else if now == end {
                self.end();
            } else {
                self.request(load, now, rng);
                self.next_request = now + self.gap(rng);
            }
        }
    }

    /// Returns the time to the next request: requests come independently of each other.
    fn gap(&self, rng: &mut StdRng) -> u64 {
        let u: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
        ((-u.ln() / self.rate) as u64).max(1)
    }

    fn configure(&mut self) {
        let Some((_, _, json)) = self.pushed.pop_front() else { return };
        for (filter, host) in &mut self.vms {
            // What the controller writes, the filter takes; a refusal would show as a generation that nobody runs.
            drop(filter.configure(host, &json));
        }
    }

    fn request(&mut self, load: &mut Load<'_>, now: u64, rng: &mut StdRng) {
        let workers = self.vms.len() - 1;
        let vm = rng.random_range(0..workers);
        let stream = self.streams;
        self.streams = self.streams.wrapping_add(1);
        let (filter, host) = &mut self.vms[vm];
        host.request.clear();
        host.request.push((":authority".into(), HOST.into()));
        if self.matching > 0.0 && rng.random_bool(self.matching) {
            host.request.push((MATCHING.into(), "1".into()));
        }
        let choice = filter.request(host, stream);
        let to_canary = matches!(choice, Some(Choice::Given { arm: Arm::Canary, .. }));
        let behaviour = match to_canary {
            true => load.canary(self.traffic.weight, Timestamp(now / 1_000_000)),
            false => load.scenario.primary,
        };
        let failed = rng.random_bool(behaviour.errors);
        load.count(Served {
            requests: 1,
            canary: u64::from(to_canary),
            failed: u64::from(failed),
            canary_failed: u64::from(to_canary && failed),
        });
        let status = match failed {
            true => 500,
            false if behaviour.client_errors > 0.0 && rng.random_bool(behaviour.client_errors) => 404,
            false => 200,
        };
        let latency = (behaviour.latency.draw(rng) * 1e6) as u64;
        let is_hostile = self.hostile > 0.0 && rng.random_bool(self.hostile);
        let manner = if is_hostile { Manner::draw(rng, to_canary) } else { Manner::Polite };
        self.ends.push(Reverse((now + latency + manner.delay_ns(), stream, vm, status, manner)));
    }

    fn end(&mut self) {
        let Some(Reverse((_, stream, vm, status, manner))) = self.ends.pop() else { return };
        let (filter, host) = &mut self.vms[vm];
        manner.end(filter, host, stream, status);
    }

    pub(super) fn scrape(&self, now: Timestamp) -> (Option<Scrape>, Option<u64>) {
        let Some((_, host)) = self.vms.last() else { return (None, None) };
        let mut text = format!("envoy_server_concurrency {}\n", self.vms.len() - 1);
        for (name, value) in host.metrics() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name} {value}");
        }
        let Ok(report) = Report::parse(&text) else { return (None, None) };
        let epoch = report.generation().and_then(|runs| self.epochs.iter().rev().find(|(of, _)| *of == runs));
        (Some(report.scrape(&self.id, &self.name, now)), epoch.map(|(_, epoch)| *epoch))
    }
}

fn nanoseconds(at: Timestamp) -> u64 {
    at.0 * 1_000_000
}
