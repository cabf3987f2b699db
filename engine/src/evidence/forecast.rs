//! How long until the comparison notices? Exact, not simulated.
//!
//! Only failures move the evidence, and each is the canary's with probability θ(r, ρ): a walk on the counts that stops
//! where E reaches the threshold. Among n failures that is a least number of canary failures, which grows by at most one as
//! n does, so the walk's distribution is carried from n to n + 1 in one sweep over the counts that are still likely.

use super::{Comparison, Onset, attribution};

/// A forecast ends after this many failures on both arms; a canary not noticed by then is as good as the primary.
const HORIZON: u64 = 20_000;

/// A path less likely than this is dropped.
const UNLIKELY: f64 = 1e-15;

/// The middle and the nine-in-ten value of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of the rollouts need at most this many.
    pub median: u64,
    /// Nine in ten rollouts need at most this many.
    pub p90: u64,
}

/// What a canary of a given ratio costs until its verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Failures on the canary, the one that gives the verdict included.
    pub canary: Quantiles,
    /// Failed draws on both arms.
    pub failures: Quantiles,
    /// Failed draws per drawn request and unit of the primary's failure rate.
    density: f64,
    rho: f64,
}

impl Forecast {
    /// Returns the drawn requests, of both arms, in which so many failures come, for a failure rate of the primary.
    #[must_use]
    pub fn requests(&self, primary_rate: f64) -> Quantiles {
        let of = |failures: u64| (failures as f64 / (self.density * primary_rate)).ceil() as u64;
        Quantiles { median: of(self.failures.median), p90: of(self.failures.p90) }
    }

    /// Returns the canary's part of [`Forecast::requests`].
    #[must_use]
    pub fn canary_requests(&self, primary_rate: f64) -> Quantiles {
        let all = self.requests(primary_rate);
        let of = |requests: u64| (requests as f64 * self.rho).ceil() as u64;
        Quantiles { median: of(all.median), p90: of(all.p90) }
    }
}

/// Returns when the comparison notices a canary that fails `ratio` times as often as the primary, from `start` on (the
/// block's share of the prior included) at weight `rho`; nothing if one rollout in ten would not within the horizon.
#[must_use]
pub fn forecast(test: &Comparison, start: &Onset, rho: f64, ratio: f64, threshold: f64) -> Option<Forecast> {
    let (canary, failures) = stopping(attribution(ratio, rho), |canary, primary| {
        start.log_e_after(&test.log_ratios(rho, canary, primary)) >= threshold.ln()
    })?;
    Some(Forecast { canary, failures, density: 1.0 - rho + rho * ratio, rho })
}

/// Returns the quantiles of the canary's and of all failures at the first verdict, each failure being the canary's with
/// probability `theta`.
fn stopping(theta: f64, verdict: impl Fn(u64, u64) -> bool) -> Option<(Quantiles, Quantiles)> {
    let mut first = 0u64;
    let mut paths = vec![1.0];
    let mut limit = 0u64;
    let (mut canary, mut all) = (Tally::default(), Tally::default());
    for n in 0..=HORIZON {
        // Invariant: the least verdict grows by at most one with each failure, as one more on the canary is worse than none.
        if limit <= n && !verdict(limit, n - limit) {
            limit += 1;
        }
        while limit >= first && ((limit - first) as usize) < paths.len() {
            let stopped = paths.pop().unwrap_or_default();
            canary.add(first + paths.len() as u64, stopped);
            all.add(n, stopped);
        }
        if let (Some(canary), Some(all)) = (canary.quantiles(), all.quantiles()) {
            return Some((canary, all));
        }
        (first, paths) = after_one_more(first, &paths, theta);
    }
    None
}

/// The distribution after one more failure: `paths[i]` is the probability of `first + i` on the canary.
fn after_one_more(first: u64, paths: &[f64], theta: f64) -> (u64, Vec<f64>) {
    let before = |i: usize| paths.get(i).copied().unwrap_or_default();
    let mut next: Vec<f64> = (0..=paths.len())
        .map(|i| before(i) * (1.0 - theta) + i.checked_sub(1).map_or(0.0, |j| before(j) * theta))
        .collect();
    let unlikely = next.iter().take_while(|probability| **probability < UNLIKELY).count();
    if unlikely < next.len() {
        next.drain(..unlikely);
    }
    (first + unlikely as u64, next)
}

/// Probabilities gathered by value, in the order in which they come.
#[derive(Default)]
struct Tally {
    by_value: std::collections::BTreeMap<u64, f64>,
    sum: f64,
}

impl Tally {
    fn add(&mut self, value: u64, probability: f64) {
        *self.by_value.entry(value).or_default() += probability;
        self.sum += probability;
    }

    /// Nothing before nine in ten have come: later ones are never smaller, so both quantiles then stand.
    fn quantiles(&self) -> Option<Quantiles> {
        if self.sum < 0.9 {
            return None;
        }
        let quantile = |share: f64| {
            let mut sum = 0.0;
            self.by_value.iter().find_map(|(value, probability)| {
                sum += probability;
                (sum >= share).then_some(*value)
            })
        };
        Some(Quantiles { median: quantile(0.5)?, p90: quantile(0.9)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stretch;
    use super::*;

    /// §2 without onset at threshold 100, as in the table.
    fn plain(rho: f64, ratio: f64) -> (Quantiles, Quantiles) {
        let log_e = |canary, primary| Comparison::EQUAL.log_e(&[Stretch { rho, canary, primary }]);
        stopping(attribution(ratio, rho), |canary, primary| log_e(canary, primary) >= 100f64.ln()).unwrap()
    }

    #[test]
    fn canary_failures_to_a_verdict_are_those_of_statistics_2() {
        // (median, p90) of 250 simulated runs each; ours are exact, hence 10 % or one failure.
        let close = |seen: u64, published: u64| seen.abs_diff(published) as f64 <= (published as f64 * 0.1).max(1.0);
        for (ratio, published) in [
            (2.0, [(29, 52), (31, 59), (34, 60), (66, 114)]),
            (5.0, [(8, 11), (8, 12), (9, 14), (18, 30)]),
            (10.0, [(5, 6), (5, 7), (6, 8), (13, 20)]),
            (100.0, [(2, 3), (3, 4), (3, 4), (9, 9)]),
        ] {
            for (rho, (median, p90)) in [0.01, 0.05, 0.1, 0.5].into_iter().zip(published) {
                let (canary, _) = plain(rho, ratio);
                assert!(close(canary.median, median) && close(canary.p90, p90), "{ratio} {rho}: {canary:?}");
            }
        }
    }

    #[test]
    fn canary_requests_to_a_verdict_are_those_of_statistics_2() {
        for (ratio, median, p90) in [(2.0, 14_500, 34_300), (5.0, 1460, 3080), (10.0, 450, 900), (100.0, 25, 50)] {
            let (canary, failures) = plain(0.05, ratio);
            let forecast = Forecast { canary, failures, density: 0.95 + 0.05 * ratio, rho: 0.05 };
            let requests = forecast.canary_requests(0.001);
            for (seen, published) in [(requests.median, median), (requests.p90, p90)] {
                assert!(seen.abs_diff(published) * 10 <= published, "{ratio}: {requests:?}");
            }
        }
    }

    #[test]
    fn forecast_of_a_canary_that_always_fails_is_the_guards_limit() {
        let mut start = Onset::new(8);
        start.begin_block(&Comparison::WEIGHTS);
        let certain = forecast(&Comparison::EQUAL, &start, 0.05, 1e12, 200.0).unwrap();
        assert_eq!(certain.canary, Quantiles { median: 3, p90: 3 });
        assert_eq!(certain.failures, certain.canary);
    }

    #[test]
    fn an_equal_canary_is_not_noticed() {
        let mut start = Onset::new(8);
        start.begin_block(&Comparison::WEIGHTS);
        assert_eq!(forecast(&Comparison::EQUAL, &start, 0.5, 1.0, 100.0), None);
        assert_eq!(forecast(&Comparison::EQUAL, &start, 0.0, 10.0, 100.0), None, "no draws");
    }
}
