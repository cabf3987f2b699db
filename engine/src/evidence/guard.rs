//! The guard's integer tables, exact functions of the evidence (statistics.md §12): no logarithm ever reaches the filter.
//!
//! A row `[from, limit]` says: from this count on (failed primary draws, or completed canary requests) the least number of
//! failed canary requests that is a verdict is `limit`. Two facts make the tables exact and cheap to build, both because
//! every alternative is worse than the null: E rises with each canary failure, and falls with each primary failure (in the
//! comparison) and each success (in the absolute test). So `limit` never falls, and a row lasts until the first count
//! at which its limit is too little, which bisection finds.
//!
//! A table has so many rows and no more. It goes on as the lowest of some lines: each is one alternative's own limit, which grows in
//! proportion to the count for ever. A line asks for more than the sum over all alternatives would, so it keeps α; and it
//! never falls silent, however many requests an epoch lasts for that nobody ends.

use super::{Absolute, Comparison, Onset};

/// Rows of a table unless told otherwise: enough for hundreds of failures on the primary in one block at a small weight,
/// and about 500 bytes of configuration.
pub const ROWS: usize = 64;

/// The least numbers of canary failures that are a verdict; in the form of [`weir_wire::Limits`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// `[from, limit]`, both increasing; no limit is below 1. Empty: never a verdict.
    pub rows: Vec<[u32; 2]>,
    /// The last count that the last row holds for.
    pub end: u32,
    /// The lines that go on beyond it, in the form of [`weir_wire::Limits::beyond`].
    pub beyond: Vec<[u32; 2]>,
}

impl Table {
    /// Returns the limit at this count, or nothing below the first row.
    #[must_use]
    pub fn limit(&self, count: u32) -> Option<u32> {
        weir_wire::Limits::limit(&self.rows, self.end, &self.beyond, count)
    }
}

/// Returns the table of failed primary draws → failed canary draws for one block.
///
/// `start` is the evidence at the start of the block, this block's share of the prior included ([`Onset::begin_block`]).
/// Empty unless 0 < ρ < 1.
#[must_use]
pub fn comparison(test: &Comparison, start: &Onset, rho: f64, threshold: f64, rows: usize) -> Table {
    let verdict = |primary: u32, canary: u32| {
        start.log_e_after(&test.log_ratios(rho, canary.into(), primary.into())) >= threshold.ln()
    };
    let ratios = test.log_ratios(rho, 1, 0).into_iter().zip(test.log_ratios(rho, 0, 1));
    // The canary's failures against the primary's.
    let lines = lines(start, threshold, ratios).map(|(needed, up, down)| Line { from: needed / up, slope: down / up });
    table(verdict, |_| u32::MAX, rows).continued(lines)
}

/// Returns the table of completed canary requests → failed ones for one block; `start` as in [`comparison`].
///
/// Begins at the least number of requests whose failures, all of them, are a verdict.
#[must_use]
pub fn absolute(test: &Absolute, start: &Onset, threshold: f64, rows: usize) -> Table {
    let verdict = |completed: u32, failures: u32| {
        let others = completed.saturating_sub(failures);
        start.log_e_after(&test.log_ratios(failures.into(), others.into())) >= threshold.ln()
    };
    let ratios = test.log_ratios(1, 0).into_iter().zip(test.log_ratios(0, 1));
    // The canary's failures against all of its requests, the failed ones included.
    let line = |(needed, up, down): (f64, f64, f64)| Line { from: needed / (up + down), slope: down / (up + down) };
    table(verdict, |completed| completed, rows).continued(lines(start, threshold, ratios).map(line))
}

/// Failures that are a verdict by one alternative alone: `from + slope * count`.
#[derive(Clone, Copy, Debug)]
struct Line {
    from: f64,
    slope: f64,
}

impl Line {
    fn at(self, count: f64) -> f64 {
        self.from + self.slope * count
    }
}

/// Returns for each alternative what its mass still needs to be a verdict without the others, what a failure of the canary
/// adds to that, and what everything else takes away. E is a sum: where one of its terms reaches the threshold, E does.
fn lines(
    start: &Onset,
    threshold: f64,
    ratios: impl Iterator<Item = (f64, f64)>,
) -> impl Iterator<Item = (f64, f64, f64)> {
    let of_mass = start.log_masses().zip(ratios);
    let all = of_mass.map(move |(mass, (failure, other))| (threshold.ln() - mass, failure, -other));
    all.filter(|(needed, up, _)| needed.is_finite() && *up > 0.0)
}

impl Table {
    /// Goes on beyond the end by the lines that are the lowest there, some way further, and far away. Rounded up, so that
    /// every limit is a verdict.
    fn continued(mut self, lines: impl Iterator<Item = Line>) -> Self {
        let Some([_, last]) = self.rows.last().copied() else { return self };
        let (lines, end) = (lines.collect::<Vec<_>>(), f64::from(self.end));
        let up = |value: f64| (value + 1e-9).ceil().max(0.0) as u32;
        for further in [1.0, 3.0, 20.0, 1e6] {
            let lowest = lines.iter().min_by(|one, other| one.at(end * further).total_cmp(&other.at(end * further)));
            let line =
                lowest.map(|line| [up(line.at(end)).max(last), up(line.slope * f64::from(weir_wire::config::LINE))]);
            self.beyond.extend(line.filter(|line| !self.beyond.contains(line)));
        }
        self
    }
}

/// Builds a table from `verdict(count, failures)`, which must not turn false as failures grow nor true as the count grows
/// alone, and from the most failures that are possible at a count.
fn table(verdict: impl Fn(u32, u32) -> bool, most: impl Fn(u32) -> u32, rows: usize) -> Table {
    // With every request failed, more requests are more evidence, so the first count that can be a verdict is a bisection.
    let Some(mut count) = first(0, |count| most(count) > 0 && verdict(count, most(count))) else {
        return Table::default();
    };
    let mut table = Table::default();
    let mut limit = 1;
    while table.rows.len() < rows {
        // Limits never fall, so the search goes on from the last one. It ends at `most`, which is a verdict here and later.
        let Some(least) = first(limit, |failures| failures >= most(count) || verdict(count, failures)) else { break };
        limit = least;
        table.rows.push([count, limit]);
        let next = first(count, |later| !verdict(later, limit));
        table.end = next.map_or(u32::MAX, |next| next.saturating_sub(1)).max(count);
        match next {
            Some(next) if next > count => count = next,
            _ => break,
        }
    }
    table
}

/// Returns the least number from `from` on that meets a condition which, once met, stays met: steps that double, then
/// bisection.
pub(super) fn first(from: u32, met: impl Fn(u32) -> bool) -> Option<u32> {
    if met(from) {
        return Some(from);
    }
    let (mut low, mut step) = (from, 1u32);
    let mut high = loop {
        let probe = low.saturating_add(step);
        if met(probe) {
            break probe;
        }
        if probe == u32::MAX {
            return None;
        }
        (low, step) = (probe, step.saturating_mul(2));
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if met(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(weights: &[f64]) -> Onset {
        let mut onset = Onset::new(weights.len());
        onset.begin_block(weights);
        onset
    }

    /// Five healthy blocks at growing weights, and the beginning of a sixth.
    fn after_healthy_steps() -> Onset {
        let mut onset = begun(&Comparison::WEIGHTS);
        for (rho, canary, primary) in [(0.01, 0, 7), (0.05, 1, 20), (0.1, 2, 18), (0.2, 3, 15), (0.3, 6, 13)] {
            onset.absorb(&Comparison::EQUAL.log_ratios(rho, canary, primary));
            onset.begin_block(&Comparison::WEIGHTS);
        }
        onset
    }

    #[test]
    fn tables_of_a_first_epoch_are_those_of_the_design() {
        let table = comparison(&Comparison::EQUAL, &begun(&Comparison::WEIGHTS), 0.05, 200.0, 6);
        assert_eq!((table.rows, table.end), (vec![[0, 3], [1, 4], [3, 5], [7, 6], [11, 7], [17, 8]], 22));
        let table = absolute(&Absolute::at(0.05), &begun(&Absolute::WEIGHTS), 200.0, 5);
        assert_eq!((table.rows, table.end), (vec![[3, 3], [4, 4], [7, 5], [12, 6], [18, 7]], 23));
    }

    #[test]
    fn canary_failures_to_a_verdict_are_those_of_statistics_12() {
        for (threshold, limits) in [(100.0, [2, 3, 4, 6, 10]), (200.0, [3, 3, 4, 7, 11]), (400.0, [3, 3, 4, 7, 12])] {
            let limit = |rho| comparison(&Comparison::EQUAL, &begun(&Comparison::WEIGHTS), rho, threshold, 1).limit(0);
            assert_eq!([0.01, 0.05, 0.1, 0.3, 0.5].map(limit), limits.map(Some), "{threshold}");
        }
    }

    #[test]
    fn comparison_tables_equal_brute_force_for_every_count() {
        let starts = [begun(&Comparison::WEIGHTS), after_healthy_steps()];
        for (rho, threshold) in
            [(0.0001, 200.0), (0.01, 100.0), (0.05, 200.0), (0.3, 1200.0), (0.5, 400.0), (0.97, 200.0)]
        {
            for start in &starts {
                let table = comparison(&Comparison::EQUAL, start, rho, threshold, 40);
                let log_e = |canary, primary: u32| {
                    start.log_e_after(&Comparison::EQUAL.log_ratios(rho, canary, primary.into()))
                };
                let mut rows = Vec::<[u32; 2]>::new();
                // At 0.01 % a row may last for millions of primary failures.
                for primary in 0..=table.end.min(3000) {
                    let least = (1..).find(|canary| log_e(*canary, primary) >= threshold.ln()).unwrap();
                    let least = u32::try_from(least).unwrap();
                    assert_eq!(table.limit(primary), Some(least), "{rho} {threshold} {primary}");
                    if rows.last().is_none_or(|row| row[1] < least) {
                        rows.push([primary, least]);
                    }
                }
                assert_eq!(table.rows[..rows.len()], rows, "one row for each increase");
            }
        }
    }

    #[test]
    fn absolute_tables_equal_brute_force_for_every_count() {
        let mut later = begun(&Absolute::WEIGHTS);
        later.absorb(&Absolute::at(0.05).log_ratios(3, 400));
        later.begin_block(&Absolute::WEIGHTS);
        for (p0, threshold) in
            [(1e-6, 200.0), (0.001, 400.0), (0.01, 400.0), (0.05, 400.0), (0.3, 1200.0), (0.9, 200.0)]
        {
            for start in [begun(&Absolute::WEIGHTS), later.clone()] {
                let test = Absolute::at(p0);
                let table = absolute(&test, &start, threshold, 30);
                for completed in 0..=table.end.min(2000) {
                    let verdict = |failures: &u32| {
                        start.log_e_after(&test.log_ratios((*failures).into(), (completed - failures).into()))
                            >= threshold.ln()
                    };
                    assert_eq!(table.limit(completed), (1..=completed).find(verdict), "{p0} {threshold} {completed}");
                }
            }
        }
    }

    #[test]
    fn beyond_its_end_every_limit_is_a_verdict_and_not_far_from_the_least_one() {
        for rho in [0.01, 0.05, 0.3, 0.5, 0.97] {
            for start in [begun(&Comparison::WEIGHTS), after_healthy_steps()] {
                let table = comparison(&Comparison::EQUAL, &start, rho, 200.0, 8);
                for primary in (table.end + 1..table.end + 3000).step_by(7) {
                    let limit = table.limit(primary).unwrap();
                    let log_e = |canary: u32| {
                        start.log_e_after(&Comparison::EQUAL.log_ratios(rho, canary.into(), primary.into()))
                    };
                    assert!(log_e(limit) >= 200f64.ln(), "{rho} {primary}: {limit} is no verdict");
                    let near = f64::from(limit) * 0.8 - 8.0;
                    assert!(near < 0.0 || log_e(near as u32) < 200f64.ln(), "{rho} {primary}: {limit} is far too much");
                }
            }
        }
        for p0 in [0.001, 0.01, 0.05, 0.3] {
            let (test, start) = (Absolute::at(p0), begun(&Absolute::WEIGHTS));
            let table = absolute(&test, &start, 400.0, 8);
            for completed in (table.end + 1..table.end + 20_000).step_by(37) {
                let limit = table.limit(completed).unwrap();
                let log_e = |failures: u32| {
                    start.log_e_after(&test.log_ratios(failures.into(), completed.saturating_sub(failures).into()))
                };
                assert!(log_e(limit) >= 400f64.ln(), "{p0} {completed}: {limit} is no verdict");
                let near = f64::from(limit) * 0.8 - 8.0;
                assert!(near < 0.0 || log_e(near as u32) < 400f64.ln(), "{p0} {completed}: {limit} is far too much");
            }
        }
    }

    #[test]
    fn a_canary_that_fails_everything_is_stopped_however_long_its_epoch_has_lasted() {
        let table = absolute(&Absolute::at(0.05), &begun(&Absolute::WEIGHTS), 400.0, ROWS);
        for good in [0, 700, 10_000, 1_000_000, 1_000_000_000] {
            let trips =
                (1..=good / 5 + 100).find(|failed| table.limit(good + failed).is_some_and(|limit| *failed >= limit));
            assert!(trips.is_some(), "after {good} good requests");
        }
    }

    #[test]
    fn a_silent_test_has_an_empty_table() {
        for rho in [0.0, 1.0, f64::NAN] {
            assert_eq!(
                comparison(&Comparison::EQUAL, &begun(&Comparison::WEIGHTS), rho, 200.0, ROWS),
                Table::default()
            );
        }
        assert_eq!(absolute(&Absolute::at(1.0), &begun(&Absolute::WEIGHTS), 400.0, ROWS), Table::default());
        assert_eq!(
            comparison(&Comparison::EQUAL, &Onset::new(8), 0.05, 200.0, ROWS),
            Table::default(),
            "no block begun"
        );
    }

    #[test]
    fn one_failure_trips_where_the_evidence_already_stands_at_the_threshold() {
        let mut start = begun(&Comparison::WEIGHTS);
        start.absorb(&[10.0; 8]);
        assert_eq!(comparison(&Comparison::EQUAL, &start, 0.05, 200.0, ROWS).limit(0), Some(1));
        let mut start = begun(&Absolute::WEIGHTS);
        start.absorb(&[10.0; 5]);
        assert_eq!(absolute(&Absolute::at(0.05), &start, 400.0, ROWS).rows[0], [1, 1]);
    }

    #[test]
    fn tables_are_what_the_filter_accepts() {
        for rho in [0.0001, 0.05, 0.5, 0.9999] {
            let table = comparison(&Comparison::EQUAL, &after_healthy_steps(), rho, 200.0, ROWS);
            assert!(table.rows.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] < pair[1][1]));
            assert!(table.rows.len() <= ROWS && table.rows[0][1] >= 1);
        }
    }
}
