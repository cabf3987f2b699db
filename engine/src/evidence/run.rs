//! The tests of one run: what they have seen, what it amounts to.
//!
//! A run is cut into blocks: an epoch, or 30 s of one. Requests keep the block that they were assigned in and may end much
//! later, so the newest blocks are still *open*: their counts grow with every scrape. [`Tests`] holds the blocks that no
//! request can change any more, [`Tests::fold`]ed in their order; [`Tests::assess`] adds the open ones to a copy. Nothing
//! else is remembered, so the same counts give the same evidence, whatever the scrapes' cadence and however often the
//! controller was restarted between them.

use serde::{Deserialize, Serialize};

use super::assessment::{Assessment, Finding, NotWorse, Test};
use super::{Absolute, Bound, Comparison, Onset, SLOW, Split, Stretch, comparison, guard};

/// Something counted on both arms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// On the canary.
    pub canary: u64,
    /// On the primary.
    pub primary: u64,
}

/// What was counted for the requests assigned in one block, on all gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Block {
    /// The canary's share of draws while the block lasted. 0 or 1: only the absolute test has something to judge.
    pub rho: f64,
    /// Draws by arm.
    pub assigned: Pair,
    /// Draws that failed.
    pub failures: Pair,
    /// Draws whose client left.
    pub abandoned: Pair,
    /// Draws above the latency edge that is judged; nothing where it is not, as in a canary pod's first seconds.
    pub slow: Option<Pair>,
    /// Draws that were answered that the client is at fault. None where the gateway's module does not count them.
    pub client_errors: Pair,
    /// Failed canary requests of every cohort.
    pub canary_failures: u64,
    /// Completed canary requests of every cohort, failed ones included; abandoned ones only where `bound` is false.
    pub canary_completed: u64,
    /// The failure rate that is fine for any canary ([`super::ceiling`]), fixed at the block's start; nothing where the
    /// absolute test has nothing to judge.
    pub p0: Option<f64>,
    /// Whether that rate is a bound of the user's, which is judged by the finer grid.
    pub bound: bool,
    /// Canary requests of every cohort above the latency edge, and those whose duration is known; nothing where it is not
    /// judged, as with `slow`.
    pub canary_slow: Option<[u64; 2]>,
}

/// What is judged in a run. Fixed at its start: weights of tests may not follow what the tests have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// Whether any step draws requests at random. Without draws (A/B, blue/green) only the absolute test can judge.
    pub draws: bool,
    /// How many times the primary's share of slow requests the canary's may be; nothing without a latency edge.
    pub latency_ratio: Option<f64>,
    /// Whether the canary's own share of slow requests is judged by the user's bound. Not in a run that an older Weir began,
    /// whose shares are given.
    #[serde(default)]
    pub slow: bool,
    /// Whether answers that the client is at fault are compared. Not in a run that an older Weir began.
    #[serde(default)]
    pub client_errors: bool,
}

impl Terms {
    /// Returns what is judged in a run that begins now.
    #[must_use]
    pub fn new(draws: bool, latency_ratio: Option<f64>) -> Self {
        Self { draws, latency_ratio, slow: latency_ratio.is_some(), client_errors: draws }
    }

    /// Returns a test's share in the average of e-values. The shares sum to 1; what is not in force gives to the failures, or
    /// without draws to the absolute test. What came later took its share from the test beside it that has most: `slow` from
    /// `latency`, or without draws from `absolute`; `client_error` from `failures`, which the guards judge as well.
    #[must_use]
    pub fn weight(&self, test: Test) -> f64 {
        let part = |in_force: bool, share: f64| if in_force { share } else { 0.0 };
        let (latency, slow) = match (self.draws, self.latency_ratio.is_some(), self.slow) {
            (true, true, true) => (0.1, 0.05),
            (true, true, false) => (0.15, 0.0),
            (false, _, true) => (0.0, 0.25),
            _ => (0.0, 0.0),
        };
        let client_errors = part(self.draws && self.client_errors, 0.05);
        match test {
            Test::Failures => part(self.draws, 0.55 - latency - slow - client_errors),
            Test::Absolute => {
                if self.draws {
                    0.2
                } else {
                    1.0 - slow
                }
            }
            Test::Abandoned => part(self.draws, 0.15),
            Test::Latency => latency,
            Test::Split => part(self.draws, 0.1),
            Test::Slow => slow,
            Test::ClientErrors => client_errors,
        }
    }
}

/// The state of all tests after the blocks that are closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tests {
    terms: Terms,
    failures: Onset,
    absolute: Onset,
    abandoned: Onset,
    latency: Onset,
    split: Split,
    slow: Onset,
    client_errors: Onset,
    /// Failed draws by weight: for what needs no onset.
    stretches: Vec<Stretch>,
}

impl Default for Tests {
    fn default() -> Self {
        Self::new(Terms::default())
    }
}

impl Tests {
    /// Returns the tests of a run that has seen nothing yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        let comparison = Onset::new(Comparison::WEIGHTS.len());
        Self {
            terms,
            failures: comparison.clone(),
            absolute: Onset::new(Bound::WEIGHTS.len()),
            abandoned: comparison.clone(),
            latency: comparison.clone(),
            split: Split::default(),
            slow: Onset::new(Bound::WEIGHTS.len()),
            client_errors: comparison,
            stretches: Vec::new(),
        }
    }

    /// Returns what is judged.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Takes in a block for good. Blocks come in their order, each once, when no request can change them any more.
    pub fn fold(&mut self, block: &Block) {
        let rho = block.rho;
        if rho > 0.0 && rho < 1.0 {
            compare(&mut self.failures, Comparison::EQUAL, rho, block.failures);
            compare(&mut self.abandoned, Comparison::EQUAL, rho, block.abandoned);
            if let (Some(null_ratio), Some(slow)) = (self.terms.latency_ratio, block.slow) {
                compare(&mut self.latency, Comparison { null_ratio }, rho, slow);
            }
            if self.terms.client_errors {
                compare(&mut self.client_errors, Comparison::EQUAL, rho, block.client_errors);
            }
            self.split.absorb(rho, block.assigned.canary, block.assigned.primary);
            self.add_stretch(Stretch { rho, canary: block.failures.canary, primary: block.failures.primary });
        }
        if let Some(p0) = block.p0 {
            let (failed, others) =
                (block.canary_failures, block.canary_completed.saturating_sub(block.canary_failures));
            // Masses are capital: those of the smaller grid go on as the first of the larger one.
            if block.bound {
                self.absolute.begin_block(&Bound::WEIGHTS);
                self.absolute.absorb(&Bound::at(p0).log_ratios(failed, others));
            } else {
                self.absolute.begin_block(&Absolute::WEIGHTS);
                self.absolute.absorb(&Absolute::at(p0).log_ratios(failed, others));
            }
        }
        if let Some([slow, all]) = block.canary_slow.filter(|_| self.terms.slow) {
            self.slow.begin_block(&Bound::WEIGHTS);
            self.slow.absorb(&Bound::at(SLOW).log_ratios(slow, all.saturating_sub(slow)));
        }
    }

    /// Returns how many more requests in the newest block would, by breaking the user's bound, make this test a verdict alone;
    /// nothing for tests of no bound, without an open block, or where no number of them would.
    #[must_use]
    pub fn missing(&self, open: &[Block], threshold: f64, test: Test) -> Option<u32> {
        let now = self.with(open);
        let (onset, bound) = match (test, open.last()?) {
            (Test::Absolute, Block { p0: Some(p0), bound: true, .. }) => (&now.absolute, Bound::at(*p0)),
            (Test::Slow, Block { canary_slow: Some(_), .. }) if self.terms.slow => (&now.slow, Bound::at(SLOW)),
            _ => return None,
        };
        let needed = (threshold / self.terms.weight(test)).ln();
        guard::first(0, |more| onset.log_e_after(&bound.log_ratios(more.into(), 0)) >= needed)
    }

    /// Judges all blocks, the open ones in their order included, against the evidence that is a verdict.
    #[must_use]
    pub fn assess(&self, open: &[Block], threshold: f64) -> Assessment {
        let now = self.with(open);
        let findings = Test::ALL.map(|test| Finding { test, weight: now.terms.weight(test), log_e: now.log_e(test) });
        let not_worse = NotWorse::MARGINS
            .map(|margin| NotWorse { margin, log_e: comparison::log_e_not_worse(margin, &now.stretches) });
        Assessment::of(findings, not_worse, threshold)
    }

    /// Returns the failed draws of all blocks by weight, for [`super::ratio_interval`] and [`super::excess`].
    #[must_use]
    pub fn stretches(&self, open: &[Block]) -> Vec<Stretch> {
        self.with(open).stretches
    }

    fn with(&self, open: &[Block]) -> Self {
        let mut now = self.clone();
        open.iter().for_each(|block| now.fold(block));
        now
    }

    fn log_e(&self, test: Test) -> f64 {
        match test {
            Test::Failures => self.failures.log_e(),
            Test::Absolute => self.absolute.log_e(),
            Test::Abandoned => self.abandoned.log_e(),
            Test::Latency => self.latency.log_e(),
            Test::Split => self.split.log_e(),
            Test::Slow => self.slow.log_e(),
            Test::ClientErrors => self.client_errors.log_e(),
        }
    }

    /// One entry for each weight, so that the state is as long as the plan and not as the run.
    fn add_stretch(&mut self, new: Stretch) {
        #[expect(clippy::float_cmp, reason = "equal weights come from one integer")]
        match self.stretches.iter_mut().find(|stretch| stretch.rho == new.rho) {
            Some(stretch) => {
                stretch.canary = stretch.canary.saturating_add(new.canary);
                stretch.primary = stretch.primary.saturating_add(new.primary);
            }
            None => self.stretches.push(new),
        }
    }
}

fn compare(onset: &mut Onset, test: Comparison, rho: f64, seen: Pair) {
    onset.begin_block(&Comparison::WEIGHTS);
    onset.absorb(&test.log_ratios(rho, seen.canary, seen.primary));
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const TERMS: Terms = Terms { draws: true, latency_ratio: Some(2.0), slow: true, client_errors: true };

    fn pair(canary: u64, primary: u64) -> Pair {
        Pair { canary, primary }
    }

    /// A block of 3,000 draws in which both arms fail 0.5 %, and abandon and are slow as rarely.
    fn healthy(rho: f64) -> Block {
        let canary = (3000.0 * rho) as u64;
        let of = |rate: f64| pair((canary as f64 * rate) as u64, ((3000 - canary) as f64 * rate) as u64);
        Block {
            rho,
            assigned: pair(canary, 3000 - canary),
            failures: of(0.005),
            abandoned: of(0.002),
            slow: Some(of(0.01)),
            client_errors: of(0.03),
            canary_failures: of(0.005).canary,
            canary_completed: canary,
            p0: Some(0.05),
            bound: false,
            canary_slow: Some([of(0.005).canary, canary]),
        }
    }

    fn after_healthy_steps() -> Tests {
        let mut tests = Tests::new(TERMS);
        [0.05, 0.05, 0.1, 0.1, 0.2, 0.2].map(healthy).iter().for_each(|block| tests.fold(block));
        tests
    }

    #[test]
    fn shares_of_the_tests_sum_to_one_whatever_is_in_force() {
        for (draws, latency_ratio) in [(true, Some(2.0)), (true, None), (false, Some(2.0)), (false, None)] {
            for (slow, client_errors) in [(true, true), (true, false), (false, true), (false, false)] {
                let terms = Terms { slow: slow && latency_ratio.is_some(), client_errors, draws, latency_ratio };
                let sum: f64 = Test::ALL.iter().map(|test| terms.weight(*test)).sum();
                assert!((sum - 1.0).abs() < 1e-12, "{terms:?}");
                assert!(Test::ALL.iter().all(|test| terms.weight(*test) >= 0.0), "{terms:?}");
            }
        }
        let shares = |terms: Terms| Test::ALL.map(|test| (terms.weight(test) * 100.0).round());
        assert_eq!(shares(TERMS), [35.0, 20.0, 15.0, 10.0, 10.0, 5.0, 5.0]);
        assert_eq!(shares(Terms::new(true, None)), [50.0, 20.0, 15.0, 0.0, 10.0, 0.0, 5.0]);
        assert_eq!(shares(Terms::new(false, Some(2.0))), [0.0, 75.0, 0.0, 0.0, 0.0, 25.0, 0.0]);
        assert_eq!(shares(Terms::new(false, None)), [0.0, 100.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let begun_before: Terms = serde_json::from_str(r#"{"draws":true,"latencyRatio":2.0}"#).unwrap();
        assert_eq!(shares(begun_before), [40.0, 20.0, 15.0, 15.0, 10.0, 0.0, 0.0], "as a run began, it ends");
    }

    #[test]
    fn nothing_counted_is_insufficient_with_evidence_of_one() {
        for terms in [TERMS, Terms::default()] {
            let assessment = Tests::new(terms).assess(&[], 400.0);
            assert_eq!(assessment.verdict, Verdict::Insufficient);
            assert!(assessment.log_e.abs() < 1e-12);
            let silent = Tests::new(terms).assess(&[Block { rho: 0.05, p0: Some(0.05), ..Block::default() }], 400.0);
            assert!(silent.log_e.abs() < 1e-12 && silent.verdict == Verdict::Insufficient);
        }
    }

    #[test]
    fn healthy_steps_are_no_evidence_and_then_each_test_finds_its_fault() {
        let tests = after_healthy_steps();
        assert_eq!(tests.assess(&[], 400.0).verdict, Verdict::Insufficient);
        let base = healthy(0.3);
        for (test, block) in [
            (Test::Failures, Block { failures: pair(60, 10), ..base }),
            (Test::Absolute, Block { canary_failures: 400, ..base }),
            (Test::Abandoned, Block { abandoned: pair(60, 4), ..base }),
            (Test::Latency, Block { slow: Some(pair(200, 20)), ..base }),
            (Test::Split, Block { assigned: pair(1300, 1700), ..base }),
            (Test::Slow, Block { canary_slow: Some([90, 900]), ..base }),
            (Test::ClientErrors, Block { client_errors: pair(300, 60), ..base }),
        ] {
            let assessment = tests.assess(&[base, block], 400.0);
            assert_eq!(assessment.verdict, Verdict::Bad { test }, "{assessment:?}");
            assert!(assessment.log_e >= assessment.threshold.ln());
        }
    }

    #[test]
    fn an_equal_canary_with_enough_failures_is_good_and_a_bad_end_wins_over_it() {
        let mut tests = Tests::new(TERMS);
        (0..10).for_each(|_| tests.fold(&healthy(0.5)));
        let good = tests.assess(&[], 400.0);
        assert_eq!(good.verdict, Verdict::Good);
        assert!(good.good_progress() >= 1.0 && good.not_worse[1].log_e > good.not_worse[0].log_e);
        let bad = tests.assess(&[Block { failures: pair(60, 7), ..healthy(0.5) }], 400.0);
        assert_eq!(bad.verdict, Verdict::Bad { test: Test::Failures });
    }

    #[test]
    fn runs_without_draws_are_judged_by_the_absolute_test_alone() {
        let terms = Terms::new(false, None);
        let block = Block { canary_failures: 3, canary_completed: 3, p0: Some(0.05), ..Block::default() };
        assert_eq!(Tests::new(terms).assess(&[block], 400.0).verdict, Verdict::Bad { test: Test::Absolute });
        let fewer = Block { canary_failures: 2, canary_completed: 2, ..block };
        assert_eq!(Tests::new(terms).assess(&[fewer], 400.0).verdict, Verdict::Insufficient);
    }

    #[test]
    fn evidence_is_a_function_of_the_counts_alone() {
        // Scrapes, restarts and folding early or late change nothing, to the last bit.
        let blocks = [0.05, 0.05, 0.1, 0.2, 0.2, 0.5].map(healthy);
        let at_once = Tests::new(TERMS).assess(&blocks, 400.0);
        let mut tests = Tests::new(TERMS);
        for (closed, block) in blocks.iter().enumerate() {
            tests.fold(block);
            let json = serde_json::to_string(&tests).unwrap();
            tests = serde_json::from_str(&json).unwrap();
            assert_eq!(tests.assess(&blocks[closed + 1..], 400.0), at_once);
        }
    }

    #[test]
    fn cutting_a_block_changes_neither_the_stretches_nor_the_split() {
        let whole = Block { assigned: pair(150, 2850), failures: pair(4, 20), rho: 0.05, ..Block::default() };
        let part = |assigned, failures| Block { assigned, failures, rho: 0.05, ..Block::default() };
        let parts = [part(pair(50, 950), pair(0, 13)), part(pair(100, 1900), pair(4, 7))];
        let (one, two) = (Tests::new(TERMS), Tests::new(TERMS));
        assert_eq!(one.stretches(&[whole]), two.stretches(&parts));
        let (one, two) = (one.assess(&[whole], 400.0), two.assess(&parts, 400.0));
        assert_eq!(one.not_worse, two.not_worse);
        assert_eq!(one.finding(Test::Split), two.finding(Test::Split));
    }

    #[test]
    fn an_outage_of_both_arms_is_no_evidence_in_comparison() {
        let outage = Block { failures: pair(150, 2850), canary_failures: 150, canary_completed: 150, ..healthy(0.05) };
        let assessment = after_healthy_steps().assess(&[outage], 400.0);
        assert!(assessment.finding(Test::Failures).unwrap().log_e < 0.0);
        // The circuit check does not know the primary's outage before the next block, whose p0 follows it.
        assert_eq!(assessment.verdict, Verdict::Bad { test: Test::Absolute });
        let later = Block { p0: Some(super::super::ceiling(None, 9000, 20_000)), ..outage };
        let assessment = after_healthy_steps().assess(&[later], 400.0);
        assert!(assessment.log_e < (assessment.threshold / 100.0).ln(), "{assessment:?}");
    }
}
