//! What both kinds of simulated gateways have in common.

use rand::rngs::StdRng;
use weir_wire::Weight;

use super::behaviour::Behaviour;
use super::drawn::Drawn;
use super::real::Real;
use super::scenario::{Fidelity, Onset, Scenario};
use weir_engine::{Scrape, Timestamp, Traffic};

/// How the revisions behave at this moment.
#[derive(Clone, Debug)]
pub(super) struct Load<'a> {
    pub(super) scenario: &'a Scenario,
    /// Whether the canary's onset is past.
    pub(super) turned: bool,
    /// When the first weight was asked for.
    pub(super) first_weight: Option<Timestamp>,
    /// What became of all requests.
    pub(super) served: Served,
}

/// What became of requests, as users saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) requests: u64,
    pub(super) canary: u64,
    pub(super) failed: u64,
    pub(super) canary_failed: u64,
}

impl Load<'_> {
    /// Returns how the canary behaves for requests made now, under this weight.
    pub(super) fn canary(&mut self, weight: Weight, now: Timestamp) -> Behaviour {
        self.turned = self.turned
            || match self.scenario.onset {
                Onset::FirstRequest => true,
                Onset::Weight(onset) => weight >= onset,
                Onset::After(span) => self.first_weight.is_some_and(|first| now >= first + span),
            };
        if self.turned { self.scenario.canary } else { self.scenario.primary }
    }

    pub(super) fn count(&mut self, served: Served) {
        let sum = &mut self.served;
        sum.requests += served.requests;
        sum.canary += served.canary;
        sum.failed += served.failed;
        sum.canary_failed += served.canary_failed;
    }
}

/// A simulated gateway process.
pub(super) enum Gateway {
    Drawn(Box<Drawn>),
    Real(Box<Real>),
}

impl Gateway {
    pub(super) fn new(scenario: &Scenario, hostile: f64, (place, boot): (u32, u64), rng: &mut StdRng) -> Self {
        let name = format!("gateway-{place}");
        match scenario.fidelity {
            Fidelity::Sums => Self::Drawn(Box::new(Drawn::new(scenario, name, (place, boot)))),
            Fidelity::Requests => Self::Real(Box::new(Real::new(scenario, hostile, name, rng))),
        }
    }

    /// Gives the gateway a split that it uses from `at` on.
    pub(super) fn push(&mut self, traffic: &Traffic, at: Timestamp) {
        match self {
            Self::Drawn(gateway) => gateway.push(traffic, at),
            Self::Real(gateway) => gateway.push(traffic, at),
        }
    }

    /// Serves requests for a while.
    pub(super) fn serve(&mut self, load: &mut Load<'_>, from: Timestamp, to: Timestamp, rng: &mut StdRng) {
        match self {
            Self::Drawn(gateway) => gateway.serve(load, from, to, rng),
            Self::Real(gateway) => gateway.serve(load, from, to, rng),
        }
    }

    /// Returns what a scrape reads, and the newest epoch that every VM uses.
    pub(super) fn scrape(&self, now: Timestamp) -> (Option<Scrape>, Option<u64>) {
        match self {
            Self::Drawn(gateway) => gateway.scrape(now),
            Self::Real(gateway) => gateway.scrape(now),
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Drawn(gateway) => &gateway.name,
            Self::Real(gateway) => &gateway.name,
        }
    }
}
