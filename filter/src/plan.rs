//! What a configuration asks of one canary, compiled for its requests.

use weir_wire::{Affinity, Limits, Weight};

use crate::condition::Conditions;
use crate::hashing;

/// What a configuration asks of a canary, compiled.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) token: String,
    /// Hash of the run; 0 between rollouts.
    pub(crate) run: u64,
    pub(crate) epoch: u64,
    pub(crate) weight: Weight,
    pub(crate) conditions: Conditions,
    /// Only requests that meet a condition are drawn; all others are the primary's.
    pub(crate) only_matched: bool,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) edges_ns: Vec<u64>,
    pub(crate) admission: u32,
    /// It serves because the primary cannot.
    pub(crate) fallback: bool,
    pub(crate) limits: Vec<Limits>,
    /// Failures that may be unseen; 0: no bound.
    pub(crate) lease: u32,
    /// By process, how many failures of the run were seen.
    pub(crate) seen: Vec<[u64; 2]>,
}

impl Plan {
    /// Compiles a canary of the configuration.
    ///
    /// # Errors
    /// Gives the path of the field that cannot work and what is wrong with it.
    pub fn compile(canary: &weir_wire::Canary) -> Result<Self, (String, String)> {
        let (weight, conditions, at) = match &canary.matched {
            Some(matched) => (matched.weight, &matched.conditions, "matched."),
            None => (canary.weight, &canary.conditions, ""),
        };
        Ok(Self {
            token: canary.token.clone(),
            run: if canary.run.is_empty() { 0 } else { hashing::hash(canary.run.as_bytes()).max(1) },
            epoch: canary.epoch,
            weight,
            conditions: Conditions::compile(conditions).map_err(|(path, problem)| (format!("{at}{path}"), problem))?,
            only_matched: canary.matched.is_some(),
            affinity: canary.affinity.clone(),
            edges_ns: canary.latency_ms.iter().map(|edge| u64::from(*edge) * 1_000_000).collect(),
            admission: canary.admission,
            fallback: canary.fallback,
            limits: canary.limits.clone(),
            lease: canary.lease,
            seen: canary.seen.clone(),
        })
    }

    /// Returns whether a rollout is under way.
    #[must_use]
    pub fn is_run(&self) -> bool {
        self.run != 0
    }

    /// Returns whether clients are given cookies.
    #[must_use]
    pub fn gives_cookies(&self) -> bool {
        self.affinity.is_some() && self.weight > Weight::ZERO
    }
}
