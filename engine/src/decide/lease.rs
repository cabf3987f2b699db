//! How many failures each of many processes may let out before anybody has seen them.
//!
//! One process that has all requests is its own judge: its guard's tables stop a bad canary at once. Of many each sees a part, and
//! tables that keep all of them from false alarms would have each let out more the more they are. So many judge by no table: a
//! process waits after its *lease* of failures, until a pass has judged a scrape that has them. That is no verdict and costs no part
//! of α; it costs requests of a good canary, which the primary serves while a process waits.
//!
//! Failures of a good canary come at a rate of λ = (share of the primary's requests that fail) × (canary requests per second), each
//! process's part by its part of the requests. The lease is the least number for which waiting costs at most [`COST`] of the canary's
//! requests: Σ share × P(Poisson(λ share [`REACTION`]) ≥ lease). Where failures are rare that is one.

use weir_wire::Weight;
use weir_wire::names::{Arm, LEASED};

use super::{Pass, Timestamp};
use crate::counts::Scrape;
use crate::time::Span;

/// From a failure to the arrival of the push that says it was seen: a scrape, the pace of such pushes, and istiod.
const REACTION: Span = Span(2_500);
/// Such pushes go at most this often: each goes to every process.
const PACE: Span = Span::seconds(1);
/// The share of a good canary's requests that may be kept from it by waiting.
const COST: f64 = 0.05;
/// No lease is longer: what fails more often than this is no failure that anybody waits for.
const LONGEST: u32 = 1_000;
/// Processes that are told in one push that their failures were seen; more are told in the next.
const TOLD: usize = 500;

impl Pass<'_> {
    /// Returns the lease of a split of this weight; 0 where one process has all requests.
    pub(super) fn lease(&self, weight: Weight) -> u32 {
        let run = self.run();
        if self.guarding() < 2 && run.evidence.is_alone() {
            return 0;
        }
        let counts = run.evidence.total(&self.state.counters);
        let [primary, canary] = [Arm::Primary, Arm::Canary].map(|arm| counts.arm(arm).assigned as f64);
        let seconds = self.now.since(run.started).as_seconds();
        if seconds <= 0.0 || primary + canary <= 0.0 {
            return 1;
        }
        // Of matched requests the share is not known before it was seen.
        let share = weight.fraction().max(canary / (primary + canary));
        let failures = run.evidence.primary_failures(&self.state.counters) * share * (primary + canary) / seconds;
        let served = |scrape: &Scrape| {
            let slots = scrape.slots.iter().flat_map(|slot| [slot.arm(Arm::Primary), slot.arm(Arm::Canary)]);
            slots.fold(0u64, |sum, cell| sum.saturating_add(cell.assigned)) as f64
        };
        least(failures * REACTION.as_seconds(), &self.seen.scrapes.iter().map(served).collect::<Vec<_>>())
    }

    /// Returns how many processes have a module that knows no lease: they judge by tables.
    pub(super) fn judging(&self) -> usize {
        let heard = self.seen.gateways.iter().filter(|gateway| !gateway.silent);
        heard.filter(|gateway| gateway.level < LEASED).count()
    }

    /// Says to the processes that wait which failures this pass has seen, once nothing in it has taken the canary back.
    pub(super) fn see_failures(&mut self) {
        let traffic = &mut self.state.traffic;
        if traffic.lease == 0 || !traffic.reaches_canary() || self.now.since(traffic.seen_at) < PACE {
            return;
        }
        let waiting = waiting(&self.seen.scrapes);
        let news: Vec<_> = waiting.filter(|(boot, held)| traffic.seen.get(boot) < Some(held)).take(TOLD).collect();
        if !news.is_empty() {
            if traffic.seen.len() + news.len() > TOLD {
                traffic.seen.clear();
            }
            traffic.seen.extend(news);
            traffic.seen_at = self.now;
        }
    }

    /// Returns what a new split has to say of it, and since when: what it does not say any more its processes have heard.
    pub(super) fn seen_failures(&self) -> (std::collections::BTreeMap<u64, u64>, Timestamp) {
        (waiting(&self.seen.scrapes).take(TOLD).collect(), self.now)
    }
}

/// Returns the processes that wait, and how many of their requests have failed.
fn waiting(scrapes: &[Scrape]) -> impl Iterator<Item = (u64, u64)> + '_ {
    scrapes.iter().filter(|scrape| scrape.held > 0).map(|scrape| (scrape.boot, scrape.held))
}

/// Returns the least lease whose waiting costs little, where so many failures of a good canary are to be expected in the time that it
/// takes to see them, over processes with these parts of the requests.
fn least(expected: f64, served: &[f64]) -> u32 {
    let all: f64 = served.iter().sum();
    let mut shares: Vec<f64> = served.iter().map(|served| served / all).filter(|share| *share > 0.0).collect();
    if shares.is_empty() {
        shares.push(1.0);
    }
    // P(Poisson(mean) < lease), and its last term, of each.
    let mut below: Vec<(f64, f64)> = vec![(0.0, 0.0); shares.len()];
    for lease in 1..LONGEST {
        let mut waits = 0.0;
        for (share, (below, term)) in shares.iter().zip(&mut below) {
            let mean = expected * share;
            *term = if lease == 1 { (-mean).exp() } else { *term * mean / f64::from(lease - 1) };
            *below += *term;
            waits += share * (1.0 - *below).max(0.0);
        }
        if waits <= COST {
            return lease;
        }
    }
    LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_one_failure_where_failures_are_rare_and_grows_with_what_a_good_canary_brings() {
        assert_eq!(least(0.0, &[1.0, 1.0]), 1);
        assert_eq!(least(0.5, &[1.0; 10]), 1, "a thousandth of the requests of ten");
        assert_eq!(least(1.25, &[1.0; 10]), 2);
        assert_eq!(least(6.25, &[1.0; 10]), 3);
        assert_eq!(least(6.25, &[1.0; 1000]), 1, "each of a thousand fails seldom");
        assert!((10..=12).contains(&least(6.25, &[1.0])), "{}", least(6.25, &[1.0]));
    }

    #[test]
    fn one_process_with_most_of_the_requests_decides_the_lease_by_its_part() {
        let served: Vec<f64> = std::iter::once(9_000.0).chain(std::iter::repeat_n(1.0, 999)).collect();
        assert!(least(6.25, &served) >= 9, "{}", least(6.25, &served));
        assert_eq!(least(1e9, &served), LONGEST);
    }
}
