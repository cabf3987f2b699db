//! What all tests of a run say together: bad, good or not enough, and how far it is to a verdict.
//!
//! Bad: the average of the tests' e-values, by weights fixed at the run's start, reaches the controller's threshold. An
//! average of e-values is an e-value whatever their dependence (statistics.md §10), so the seven tests share one budget
//! and none is corrected for the others. Good: the canary is shown not to fail twice as often as the primary (§5,
//! non-inferiority), at 5 %. Bad wins over good: good is about the whole run, bad also about its last seconds.

use serde::{Deserialize, Serialize};

use super::logspace;

/// Evidence at which the canary counts as shown to be good: 1/5 %. It gives no order, it only tells people.
pub const GOOD: f64 = 20.0;

/// One of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// The canary fails more often than the primary.
    Failures,
    /// The canary fails more often than anything should.
    Absolute,
    /// The canary's clients leave more often than the primary's.
    Abandoned,
    /// The canary's share of slow requests is beyond the accepted multiple of the primary's.
    Latency,
    /// Requests were not split as asked.
    Split,
    /// More of the canary's requests are slower than the user's bound than that allows.
    Slow,
    /// The canary answers more often than the primary that the client is at fault (4xx).
    #[serde(rename = "client_error")]
    ClientErrors,
}

impl Test {
    /// Every test.
    pub const ALL: [Self; 7] =
        [Self::Failures, Self::Absolute, Self::Abandoned, Self::Latency, Self::Split, Self::Slow, Self::ClientErrors];

    /// Returns the word for it in status, events and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Absolute => "absolute",
            Self::Abandoned => "abandoned",
            Self::Latency => "latency",
            Self::Split => "split",
            Self::Slow => "slow",
            Self::ClientErrors => "client_error",
        }
    }
}

/// What the evidence amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Take the canary back.
    Bad {
        /// The test with the largest part in it.
        test: Test,
    },
    /// Shown not to fail twice as often as the primary.
    Good,
    /// Neither.
    Insufficient,
}

impl Verdict {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Bad { .. } => "bad",
            Self::Good => "good",
            Self::Insufficient => "insufficient",
        }
    }
}

/// What one test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// The test.
    pub test: Test,
    /// Its share in the average.
    pub weight: f64,
    /// The logarithm of its evidence.
    pub log_e: f64,
}

/// The evidence that the canary does not fail `margin` times as often as the primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotWorse {
    /// The ratio that it is shown to be below.
    pub margin: f64,
    /// The logarithm of the evidence.
    pub log_e: f64,
}

impl NotWorse {
    /// The margins that are reported. The first makes [`Verdict::Good`]; the second comes sooner.
    pub const MARGINS: [f64; 2] = [2.0, 3.0];
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// What it amounts to.
    pub verdict: Verdict,
    /// The logarithm of the average over the tests.
    pub log_e: f64,
    /// The evidence at which it is [`Verdict::Bad`].
    pub threshold: f64,
    /// The tests, in the order of [`Test::ALL`].
    pub findings: [Finding; Test::ALL.len()],
    /// By margin, in the order of [`NotWorse::MARGINS`].
    pub not_worse: [NotWorse; 2],
}

impl Assessment {
    pub(super) fn of(findings: [Finding; Test::ALL.len()], not_worse: [NotWorse; 2], threshold: f64) -> Self {
        let part = |finding: &Finding| finding.weight.ln() + finding.log_e;
        let log_e = logspace::sum(findings.iter().map(part));
        let largest = findings.iter().max_by(|one, other| part(one).total_cmp(&part(other)));
        let good = not_worse.first().is_some_and(|shown| shown.log_e >= GOOD.ln());
        let verdict = match largest {
            Some(finding) if log_e >= threshold.ln() => Verdict::Bad { test: finding.test },
            _ if good => Verdict::Good,
            _ => Verdict::Insufficient,
        };
        Self { verdict, log_e, threshold, findings, not_worse }
    }

    /// Returns how far it is to "good": evidence as a share of [`GOOD`], 1 at the verdict.
    #[must_use]
    pub fn good_progress(&self) -> f64 {
        self.not_worse.first().map_or(0.0, |shown| (shown.log_e - GOOD.ln()).exp())
    }

    /// Returns what one test says.
    #[must_use]
    pub fn finding(&self, test: Test) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.test == test)
    }
}
