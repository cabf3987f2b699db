//! One VM of the filter on a simulated host, for the tests from outside.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a module of several test files, each of which uses a part of it"
)]

use weir_filter::simulated::SimulatedHost;
use weir_filter::{Choice, Filter, Refusal};
use weir_wire::names::{Arm, Cohort, Kind, Metric};
use weir_wire::{Canary, Config, Weight};

pub const ID: &str = "a3f09c11d2e4b877";

pub fn canary(parts: u32) -> Canary {
    Canary {
        id: ID.into(),
        name: "shop/cart".into(),
        hosts: vec!["shop.example.com".into()],
        token: "t0ken".into(),
        run: "r1".into(),
        epoch: 1,
        weight: Weight::new(parts).unwrap(),
        latency_ms: vec![10, 100],
        ..Canary::default()
    }
}

pub fn config(generation: u64, canaries: Vec<Canary>) -> Config {
    Config { version: 1, generation, armed_until: 1_000, canaries, ..Config::default() }
}

/// One VM and its proxy.
pub struct Vm {
    pub filter: Filter,
    pub host: SimulatedHost,
    pub next: u32,
}

impl Vm {
    pub fn new(host: SimulatedHost) -> Self {
        Self { filter: Filter::new(), host, next: 0 }
    }

    pub fn running(config: &Config) -> Self {
        let mut vm = Self::new(SimulatedHost::default());
        vm.configure(config).unwrap();
        vm
    }

    pub fn configure(&mut self, config: &Config) -> Result<(), Refusal> {
        self.filter.configure(&mut self.host, &serde_json::to_vec(config).unwrap())
    }

    pub fn begin(&mut self, authority: &str) -> (u32, Option<Choice>) {
        self.next += 1;
        self.host.request = vec![(":authority".into(), authority.into())];
        (self.next, self.filter.request(&mut self.host, self.next))
    }

    pub fn end(&mut self, stream: u32, status: &str) {
        let service_time = ("x-envoy-upstream-service-time".into(), "1".into());
        self.host.response = vec![(":status".into(), status.into()), service_time];
        self.filter.response_body(&mut self.host, stream, 5, true);
        self.filter.ended(&mut self.host, stream);
    }

    pub fn exchange(&mut self, status: &str) -> Option<Choice> {
        let (stream, choice) = self.begin("shop.example.com");
        self.end(stream, status);
        choice
    }

    pub fn metric(&self, metric: Metric<'_>) -> u64 {
        self.host.metrics().get(&metric.to_string()).copied().unwrap_or(0)
    }

    pub fn counter(&self, slot: u8, arm: Arm, kind: Kind) -> u64 {
        self.metric(Metric::Requests { id: ID, slot, arm, cohort: Cohort::Draw, kind })
    }
}

pub fn to(arm: Arm) -> Option<Choice> {
    Some(Choice::Given { arm, cohort: Cohort::Draw, cookie: None })
}
