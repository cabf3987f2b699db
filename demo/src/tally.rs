//! What a client saw, per revision: requests that ended well, those that failed, and how long they took.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Response header in which the service names its revision.
pub const REVISION_HEADER: &str = "x-revision";

/// Where a response stands that the gateway made itself: no revision answered.
pub const GATEWAY: &str = "gateway";

/// Where a request stands whose connection ended without a complete response.
pub const NOTHING: &str = "none";

/// Where a request stands that the client gave up.
pub const TIMEOUT: &str = "timeout";

/// Buckets per doubling of the latency: an edge is at most a tenth off.
const PER_OCTAVE: f64 = 8.0;

/// Requests of one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Complete responses with a status below 500.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// Responses by status; 0: no complete response.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests by the logarithm of their time, from the moment they were due.
    latencies: BTreeMap<u32, u64>,
}

/// Requests of all revisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// By the revision that answered, [`GATEWAY`], [`NOTHING`] or [`TIMEOUT`].
    pub revisions: BTreeMap<String, Counts>,
    /// Requests that were not sent because too many were outstanding.
    pub unsent: u64,
    /// What became of the first few that failed.
    pub failures: Vec<String>,
}

/// Failed requests that are told of one by one.
const TOLD: usize = 20;

/// One request's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who answered.
    pub revision: String,
    /// 0: no complete response.
    pub status: u16,
    /// From the moment the request was due.
    pub took: Duration,
}

impl Ended {
    /// Returns whether it was no complete response with a status below 500.
    #[must_use]
    pub fn failed(&self) -> bool {
        !(1..500).contains(&self.status)
    }
}

/// [`Counts`] as people and programs read it.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Complete responses with a status below 500.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// Responses by status; 0: no complete response.
    pub statuses: BTreeMap<u16, u64>,
    /// Half of the requests took no longer.
    pub p50_ms: f64,
    /// 99 of 100 requests took no longer.
    pub p99_ms: f64,
}

impl Counts {
    /// Returns the time in milliseconds that the given share of requests did not exceed.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = share * (self.ok + self.failed) as f64;
        let mut seen = 0.0;
        for (bucket, requests) in &self.latencies {
            seen += *requests as f64;
            if seen >= wanted {
                return (f64::from(*bucket) / PER_OCTAVE).exp2() / 1000.0;
            }
        }
        0.0
    }

    /// Returns what people and programs read.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            ok: self.ok,
            failed: self.failed,
            statuses: self.statuses.clone(),
            p50_ms: self.quantile_ms(0.5),
            p99_ms: self.quantile_ms(0.99),
        }
    }
}

impl Tally {
    /// Adds one request.
    pub fn add(&mut self, ended: Ended) {
        let failed = ended.failed();
        let counts = self.revisions.entry(ended.revision).or_default();
        *(if failed { &mut counts.failed } else { &mut counts.ok }) += 1;
        *counts.statuses.entry(ended.status).or_default() += 1;
        let micros = (ended.took.as_micros() as f64).max(1.0);
        *counts.latencies.entry((micros.log2() * PER_OCTAVE).ceil() as u32).or_default() += 1;
    }

    /// Tells of one that failed: when, and why.
    pub fn tell(&mut self, at: Duration, ended: &Ended, why: &str) {
        if self.failures.len() < TOLD {
            let Ended { revision, status, took } = ended;
            self.failures.push(format!("at {at:.3?}: {status} of {revision} after {took:.3?} {why}"));
        }
    }

    /// Returns the requests of one revision.
    #[must_use]
    pub fn of(&self, revision: &str) -> Counts {
        self.revisions.get(revision).cloned().unwrap_or_default()
    }

    /// Returns all requests, and those of them that failed.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        self.revisions.values().fold((0, 0), |(all, failed), it| (all + it.ok + it.failed, failed + it.failed))
    }

    /// Returns what people and programs read.
    #[must_use]
    pub fn summary(&self) -> BTreeMap<String, Summary> {
        self.revisions.iter().map(|(revision, counts)| (revision.clone(), counts.summary())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_who_answered_and_how() {
        let mut tally = Tally::default();
        for (revision, status, millis) in
            [("v1", 200, 1), ("v1", 404, 1), ("v2", 500, 9), (GATEWAY, 503, 2), (NOTHING, 0, 1000)]
        {
            tally.add(Ended { revision: revision.into(), status, took: Duration::from_millis(millis) });
        }
        assert_eq!((tally.of("v1").ok, tally.of("v1").failed), (2, 0));
        assert_eq!((tally.of("v2").ok, tally.of("v2").failed), (0, 1));
        assert_eq!(tally.of(NOTHING).statuses, [(0, 1)].into());
        assert_eq!(tally.totals(), (5, 3));
    }

    #[test]
    fn quantiles_are_a_tenth_off_at_most() {
        let mut tally = Tally::default();
        for millis in 1..=1000 {
            tally.add(Ended { revision: "v1".into(), status: 200, took: Duration::from_millis(millis) });
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = tally.of("v1").quantile_ms(share);
            assert!((exact..exact * 1.1).contains(&found), "{share}: {found}");
        }
    }
}
