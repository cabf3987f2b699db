//! The bounds of the built-in metrics, judged with their uncertainty: what was counted against one, and what would decide it.
//!
//! Inside passes a check; outside is not enough to fail one, since a rate of a few requests is not the revision's rate. What is
//! outside and not shown by the evidence is undecided: the step is held, and its window grows.

use weir_wire::names::Arm;

use super::{Pass, Reason, Severity, Span};
use crate::counts::{Cell, Counts};
use crate::evidence::Test;
use crate::plan::{Check, Source};
use crate::words::grouped;

/// A bound, and what was counted against it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bound {
    /// The test whose evidence shows it to be broken.
    pub(super) test: Test,
    /// What the user wrote: percent, or milliseconds.
    limit: f64,
    canary: Share,
    primary: Share,
}

/// Requests that break a bound, and all that it is a bound of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    broken: u64,
    all: u64,
}

/// What was counted since the window began: all of it, and in epochs in which the canary was warm.
pub(super) struct Window {
    pub(super) all: Counts,
    pub(super) warm: Counts,
}

impl Bound {
    /// Returns a built-in check's bound and its counts; nothing for a check without the bound that a bad canary would break.
    /// Requests without an end break a bound on the duration where they have been waited for.
    fn of(check: &Check, window: &Window, slow_from: Option<usize>, waited: bool) -> Option<Self> {
        let bound = |test, limit, share: &dyn Fn(Arm) -> Share| {
            Some(Self { test, limit, canary: share(Arm::Canary), primary: share(Arm::Primary) })
        };
        match check.source {
            Source::SuccessRate => bound(Test::Absolute, check.bounds.min?, &|arm| {
                let cell = window.all.arm(arm);
                Share { broken: cell.failure, all: cell.answered() }
            }),
            Source::Duration => {
                let from = slow_from?;
                bound(Test::Slow, check.bounds.max?, &|arm| {
                    let cell: Cell = window.warm.arm(arm);
                    let unended = if waited && arm == Arm::Canary { cell.unended() } else { 0 };
                    Share { broken: cell.slow(from).saturating_add(unended), all: cell.timed().saturating_add(unended) }
                })
            }
            Source::Template => None,
        }
    }

    /// Returns whether the canary's requests are inside. None of them are.
    pub(super) fn holds(&self) -> bool {
        self.would_hold(self.canary)
    }

    /// Returns whether the primary's own requests, so many at least, are outside.
    fn primary_breaks(&self, least: u64) -> bool {
        self.primary.all >= least.max(1) && !self.would_hold(self.primary)
    }

    /// Returns whether a single failure is proof: nothing that fails is inside.
    pub(super) fn allows_none(&self) -> bool {
        self.test == Test::Absolute && self.limit >= 100.0
    }

    pub(super) fn is_broken_once(&self) -> bool {
        self.canary.broken > 0
    }

    fn would_hold(&self, Share { broken, all }: Share) -> bool {
        all == 0
            || match self.test {
                Test::Slow => u128::from(broken) * 100 <= u128::from(all),
                _ => (all - broken) as f64 / all as f64 * 100.0 >= self.limit,
            }
    }

    /// Writes the bound that is broken: `success rate 98.60% < 99%`.
    pub(super) fn text(&self) -> String {
        self.text_of(self.canary)
    }

    fn text_of(&self, share: Share) -> String {
        let part = |n: u64| n as f64 / share.all.max(1) as f64 * 100.0;
        match self.test {
            Test::Slow => {
                let (slow, bound) = (part(share.broken), Span(self.limit as u64));
                format!("{}% of {} requests above {bound} > 1%", outside(slow, 1.0), grouped(share.all))
            }
            _ => format!("success rate {}% < {}%", outside(part(share.all - share.broken), self.limit), self.limit),
        }
    }

    /// Writes both arms' counts: `14 of 1,000, primary 12 of 9,000`.
    pub(super) fn counts(&self) -> String {
        let of = |share: Share| format!("{} of {}", grouped(share.broken), grouped(share.all));
        format!("{}, primary {}", of(self.canary), of(self.primary))
    }

    /// Returns how many more requests bring the rate inside if none of them breaks the bound; nothing if no number does.
    fn to_inside(self, least: u64) -> Option<u64> {
        if self.allows_none() && self.is_broken_once() {
            return None;
        }
        let Share { broken, all } = self.canary;
        let guess = match self.test {
            Test::Slow => broken.saturating_mul(100),
            _ => (broken as f64 / (1.0 - self.limit / 100.0)).ceil() as u64,
        };
        // The quotient is rounded: the check's own comparison decides.
        let inside = |all: &u64| self.would_hold(Share { broken, all: *all });
        let first = (guess.saturating_sub(2).max(broken)..=guess.saturating_add(2)).find(inside)?;
        Some(first.max(least).saturating_sub(all))
    }

    /// Writes what would decide it.
    fn missing(&self, least: u64, to_shown: Option<u64>) -> String {
        let bad = if self.test == Test::Slow { "slow one" } else { "failure" };
        let more = |n: u64, what: &str| format!("{} more {what}{}", grouped(n), if n == 1 { "" } else { "s" });
        let inside = self.to_inside(least).map(|n| format!("inside after {} without a {bad}", more(n, "request")));
        let shown = to_shown.map(|n| format!("shown after {}", more(n, bad)));
        inside.into_iter().chain(shown).collect::<Vec<_>>().join(", ")
    }
}

/// Writes a value with as many places as show on which side of the limit it is, two at least.
fn outside(value: f64, limit: f64) -> String {
    let text = |places: usize| format!("{value:.places$}");
    let differs =
        |text: &String| text.parse::<f64>().is_ok_and(|shown| shown.total_cmp(&limit) == value.total_cmp(&limit));
    (2..8).map(text).find(differs).unwrap_or_else(|| text(8))
}

impl Pass<'_> {
    /// Returns what was counted since the window began.
    pub(super) fn window(&self) -> Window {
        let (run, counters) = (self.run(), &self.state.counters);
        let (mut all, mut warm) = (counters.since(run.window), run.window_retired_warm.clone());
        all.add(&run.window_retired);
        run.evidence.warm(run.window).for_each(|epoch| warm.add(&counters.epoch(epoch)));
        Window { all, warm }
    }

    /// Returns the bounds that are judged with their uncertainty, and what was counted against them.
    pub(super) fn bounds(&self, window: &Window, waited: bool) -> Vec<Bound> {
        let slow_from = self.plan.slow_from();
        self.plan.checks.iter().filter_map(|check| Bound::of(check, window, slow_from, waited)).collect()
    }

    /// Returns the hold of a step whose last check left a bound undecided, with the numbers of this moment; nothing where the
    /// bound is met by now.
    pub(super) fn undecided(&self) -> Option<Reason> {
        let bounds = self.bounds(&self.window(), true);
        let bound = bounds.iter().find(|bound| !bound.holds())?;
        Some(Reason::Undecided {
            check: format!("{} ({})", bound.text(), bound.counts()),
            missing: bound.missing(self.plan.min_requests, self.to_shown(bound.test)),
            left: self.plan.undecided_limit().saturating_sub(self.run().undecided),
        })
    }

    /// Returns how many more requests that break a bound show it: to the evidence alone, or to the guard's table where one gateway has
    /// all requests.
    fn to_shown(&self, test: Test) -> Option<u64> {
        let (run, counters) = (self.run(), &self.state.counters);
        let evidence = run.evidence.missing(counters, self.plan, test).map(u64::from);
        let guards = test == Test::Absolute && self.guarding() <= 1;
        let guard = self.state.traffic.limits.first().filter(|_| guards).and_then(|limits| {
            let left = |counts: &Counts| {
                let canary = counts.arm(Arm::Canary);
                let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                let trips = |more: &u32| {
                    let completed = small(canary.ended()).saturating_add(*more);
                    limits
                        .absolute_limit(completed)
                        .is_some_and(|limit| small(canary.failure).saturating_add(*more) >= limit)
                };
                // A table's limits grow more slowly than its counts, so a search ends soon; the evidence is sooner in the end.
                (1..=1000).find(trips)
            };
            left(&counters.epoch(limits.epoch))
        });
        evidence.into_iter().chain(guard.map(u64::from)).min()
    }

    /// Returns what shows a bound to be broken, in words: by the counts of the whole run, or of what is outside of it.
    pub(super) fn shown(&self, test: Test) -> Option<String> {
        let evidence = &self.run().evidence;
        let all = evidence.total(&self.state.counters);
        let newest = self.state.counters.epoch(self.state.traffic.epoch);
        let run = Window { warm: all.clone(), all };
        let windows = [run, self.window(), Window { warm: newest.clone(), all: newest }];
        let bounds = windows.iter().flat_map(|window| self.bounds(window, false));
        let broken = bounds.into_iter().find(|bound| bound.test == test && !bound.holds())?;
        Some(format!("{} is shown: {}", broken.text(), broken.counts()))
    }

    /// Says before the first weight that the primary is outside of the bounds too: a bound is the user's word, so an equal canary will be
    /// taken back.
    pub(super) fn warn_of_primary(&mut self) {
        if self.run().step > 0 || !self.step().judged {
            return;
        }
        let all = self.run().evidence.total(&self.state.counters);
        let bounds = self.bounds(&Window { warm: all.clone(), all }, false);
        let Some(broken) = bounds.into_iter().find(|bound| bound.primary_breaks(self.plan.min_requests)) else {
            return;
        };
        let Share { broken: k, all } = broken.primary;
        let text = format!(
            "the primary itself is outside of its bound, and so an equal canary is taken back: {} ({} of {})",
            broken.text_of(broken.primary),
            grouped(k),
            grouped(all)
        );
        self.emit(Severity::Warning, "PrimaryOutOfBounds", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Block, Terms, Tests};

    /// What a check at the end of an interval makes of a bound.
    #[derive(Debug, PartialEq)]
    enum Said {
        Passed,
        Undecided,
        Failed,
        TakenBack,
    }

    /// One vector of the page that the rule comes from: bound, blocks as broken/all, how many of the last are in the window, T/w, E, what
    /// is said, requests missing to be inside, and to be shown.
    type Vector = (Test, f64, &'static [(u64, u64)], usize, f64, f64, Said, Option<u64>, Option<u32>);

    const VECTORS: [Vector; 12] = [
        (Test::Absolute, 99.0, &[(0, 100)], 1, 2000.0, 0.617986, Said::Passed, Some(0), Some(9)),
        (Test::Absolute, 99.0, &[(1, 97)], 1, 2000.0, 0.698572, Said::Undecided, Some(3), Some(8)),
        (Test::Absolute, 99.0, &[(3, 111)], 1, 2000.0, 1.16119, Said::Undecided, Some(189), Some(6)),
        (Test::Absolute, 99.0, &[(40, 2000)], 1, 2000.0, 197.635, Said::Undecided, Some(2000), Some(4)),
        (
            Test::Absolute,
            99.0,
            &[(1, 300), (12, 700), (9, 260)],
            2,
            2000.0,
            12.7576,
            Said::Undecided,
            Some(1140),
            Some(5),
        ),
        (Test::Absolute, 99.9, &[(4, 1000)], 1, 2000.0, 2.66220, Said::Undecided, Some(3000), Some(5)),
        (Test::Absolute, 99.5, &[(3, 1500), (31, 2000)], 2, 2000.0, 48491.9, Said::TakenBack, None, Some(0)),
        (Test::Absolute, 95.0, &[(12, 150), (4, 150)], 1, 2000.0, 0.338026, Said::Passed, Some(0), Some(20)),
        (Test::Absolute, 90.0, &[(80, 500)], 1, 1000.0, 337.603, Said::Undecided, Some(300), Some(3)),
        (Test::Absolute, 100.0, &[(1, 50)], 1, 2000.0, 10.0136, Said::Failed, None, Some(2)),
        (Test::Absolute, 0.0, &[(90, 100)], 1, 2000.0, 1.0, Said::Passed, Some(0), None),
        (Test::Slow, 500.0, &[(18, 1000), (14, 600)], 2, 8000.0, 48.5123, Said::Undecided, Some(1600), Some(7)),
    ];

    #[test]
    fn bounds_are_judged_as_in_the_vectors() {
        for (row, (test, limit, blocks, window, needed, e, said, to_inside, to_shown)) in
            VECTORS.into_iter().enumerate()
        {
            let row = row + 1;
            let terms = Terms::new(true, Some(2.0));
            let block = |(broken, all): &(u64, u64)| match test {
                Test::Slow => Block { canary_slow: Some([*broken, *all]), ..Block::default() },
                _ => Block {
                    canary_failures: *broken,
                    canary_completed: *all,
                    p0: Some(1.0 - limit / 100.0),
                    bound: true,
                    ..Block::default()
                },
            };
            let blocks: Vec<Block> = blocks.iter().map(block).collect();
            let mut tests = Tests::new(terms);
            let (closed, open) = blocks.split_at(blocks.len() - 1);
            closed.iter().for_each(|block| tests.fold(block));
            let threshold = needed * terms.weight(test);
            let found = tests.assess(open, threshold).finding(test).unwrap().log_e;
            assert!((found - e.ln()).abs() < 1e-5, "{row}: {} is not {e}", found.exp());
            assert_eq!(tests.missing(open, threshold, test), to_shown, "{row}: missing to be shown");

            let counted = VECTORS[row - 1].2.iter().rev().take(window);
            let (broken, all) = counted.fold((0, 0), |sum, block| (sum.0 + block.0, sum.1 + block.1));
            let share = Share { broken, all };
            let bound = Bound { test, limit, canary: share, primary: share };
            let found = match bound.holds() {
                _ if found >= needed.ln() => Said::TakenBack,
                true => Said::Passed,
                false if bound.allows_none() => Said::Failed,
                false => Said::Undecided,
            };
            assert_eq!(found, said, "{row}");
            if said != Said::TakenBack {
                assert_eq!(bound.to_inside(10), to_inside, "{row}: missing to be inside");
            }
        }
    }

    #[test]
    fn what_is_said_has_the_numbers_of_both_arms() {
        let share = |broken, all| Share { broken, all };
        let bound = Bound { test: Test::Absolute, limit: 99.0, canary: share(14, 1000), primary: share(12, 9000) };
        assert_eq!(
            (bound.text(), bound.counts()),
            ("success rate 98.60% < 99%".into(), "14 of 1,000, primary 12 of 9,000".into())
        );
        assert_eq!(
            bound.missing(10, Some(13)),
            "inside after 400 more requests without a failure, shown after 13 more failures"
        );
        let slow = Bound { test: Test::Slow, limit: 500.0, canary: share(9, 500), primary: share(1, 4500) };
        assert_eq!(slow.text(), "1.80% of 500 requests above 500ms > 1%");
        assert_eq!(
            slow.missing(10, Some(1)),
            "inside after 400 more requests without a slow one, shown after 1 more slow one"
        );
        // As many places as show that it is outside.
        let close = Bound { canary: share(10_001, 1_000_000), ..bound };
        assert_eq!(close.text(), "success rate 98.9999% < 99%");
        assert_eq!(close.to_inside(10), Some(100));
    }

    #[test]
    fn no_count_makes_a_bound_overflow() {
        for test in [Test::Absolute, Test::Slow] {
            for (broken, all) in [(0, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
                let share = Share { broken, all };
                for limit in [0.0, 99.0, 99.9999, 100.0] {
                    let bound = Bound { test, limit, canary: share, primary: share };
                    assert!(!bound.text().is_empty() && !bound.counts().is_empty());
                    let _ = (bound.holds(), bound.missing(u64::MAX, Some(u64::MAX)));
                }
            }
        }
    }
}
