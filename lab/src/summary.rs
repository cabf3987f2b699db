//! What many rollouts of one kind came to.

use std::collections::BTreeMap;

use super::rollout::{End, Played};

/// Half of the values are at most `median`, nine of ten at most `p90`, all at most `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Spread {
    /// Half are at most this.
    pub median: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
    /// All are at most this.
    pub max: f64,
}

/// The sum of many rollouts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many.
    pub runs: u64,
    /// How many of them ended in which way.
    pub ends: BTreeMap<End, u64>,
    /// What those that ended in one way came to.
    pub promoted: Figures,
    /// The same of those that were taken back.
    pub rolled_back: Figures,
    /// The same of those that did not end.
    pub waiting: Figures,
}

/// What some rollouts came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Figures {
    /// How many rollouts.
    pub rollouts: u64,
    /// From the new revision to the decision.
    pub minutes: Spread,
    /// Requests in all.
    pub requests: Spread,
    /// Requests that the canary got.
    pub canary_requests: Spread,
    /// Failed requests of users, on either arm.
    pub failed_requests: Spread,
    /// Those of them that the canary failed.
    pub canary_failures: Spread,
}

impl Summary {
    /// Sums rollouts up.
    #[must_use]
    pub fn of(played: &[Played]) -> Self {
        let mut ends = BTreeMap::new();
        for rollout in played {
            *ends.entry(rollout.end.clone()).or_default() += 1;
        }
        let figures = |of: fn(&End) -> bool| Figures::of(played.iter().filter(|rollout| of(&rollout.end)));
        Self {
            runs: played.len() as u64,
            ends,
            promoted: figures(|end| *end == End::Promoted),
            rolled_back: figures(|end| matches!(end, End::RolledBack(_))),
            waiting: figures(|end| matches!(end, End::Waiting(_))),
        }
    }

    /// Returns how many were taken back by evidence: by a guard or by the controller's tests.
    #[must_use]
    pub fn by_evidence(&self) -> u64 {
        let by = |end: &End| matches!(end, End::RolledBack(code) if ["GuardTripped", "EvidenceBad"].contains(&&**code));
        self.ends.iter().filter(|(end, _)| by(end)).map(|(_, count)| count).sum()
    }
}

impl Figures {
    fn of<'a>(played: impl Iterator<Item = &'a Played> + Clone) -> Self {
        let spread = |value: fn(&Played) -> f64| Spread::of(played.clone().map(value).collect());
        Self {
            rollouts: played.clone().count() as u64,
            minutes: spread(|rollout| rollout.took.as_seconds() / 60.0),
            requests: spread(|rollout| rollout.requests as f64),
            canary_requests: spread(|rollout| rollout.canary_requests as f64),
            failed_requests: spread(|rollout| rollout.failed as f64),
            canary_failures: spread(|rollout| rollout.canary_failed as f64),
        }
    }
}

impl Spread {
    /// Returns the spread of some values; zeros of none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { median: at(0.5), p90: at(0.9), max: at(1.0) }
    }
}
