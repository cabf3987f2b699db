//! Which canaries the pods of a workload may still send requests to, whoever asks for it now.
//!
//! A workload that leaves a Canary's gateways in mid-release (its callers were narrowed, its namespace lost its permission) splits until its
//! pods have taken over a configuration that says otherwise. Until then the Canary waits for it.

use std::collections::BTreeMap;

use weir_engine::{Timestamp, UNREACHABLE};
use weir_wire::Canary;

/// By canary: while it is to have requests nothing, and from then on since which push, and when, it is to have none.
#[derive(Debug, Default)]
pub(super) struct Splitting(BTreeMap<String, Option<(u64, Timestamp)>>);

impl Splitting {
    /// Takes note of what a canary is to have, or of what pods were told by an earlier controller.
    pub(super) fn told(&mut self, canary: &Canary) {
        if canary.reaches_canary() {
            self.0.insert(canary.id.clone(), None);
        }
    }

    /// Returns whether a pod may send something to a canary.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Returns the canaries that pods may send something to.
    pub(super) fn ids(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Decides anew, where `reaches` says of a canary whether anything that is desired or was pushed has it get requests, `generation` was
    /// pushed last, and `runs` says whether every pod runs a generation; a pod that takes nothing over is waited for as before any canary goes. Returns the canaries that no pod sends to any more.
    pub(super) fn settle(
        &mut self,
        reaches: impl Fn(&str) -> bool,
        generation: u64,
        runs: impl Fn(u64) -> bool,
        now: Timestamp,
    ) -> Vec<String> {
        let mut over = Vec::new();
        self.0.retain(|id, ended| {
            if reaches(id) {
                *ended = None;
                return true;
            }
            let (generation, since) = *ended.get_or_insert((generation, now));
            let stays = !runs(generation) && now.since(since) < UNREACHABLE;
            if !stays {
                over.push(id.clone());
            }
            stays
        });
        over
    }
}

#[cfg(test)]
mod tests {
    use weir_engine::Span;
    use weir_wire::Weight;

    use super::*;

    #[test]
    fn a_workload_splits_until_its_pods_run_what_takes_the_canarys_requests_away_ten_minutes_at_most() {
        let canary = |weight| Canary { id: "shop".into(), weight, ..Canary::default() };
        let at = |second| Timestamp(0) + Span::seconds(second);
        for (acknowledged_at, over_at) in [(Some(3), 3), (None, 602)] {
            let mut splitting = Splitting::default();
            splitting.told(&canary(Weight::ZERO));
            assert!(!splitting.contains("shop"), "it never got any");
            splitting.told(&canary(Weight::FULL));
            assert!(splitting.settle(|_| true, 7, |_| true, at(1)).is_empty() && splitting.contains("shop"));
            let runs = |second| move |generation| generation <= 7 || acknowledged_at.is_some_and(|at| second >= at);
            // Later pushes for other canaries are not waited for.
            let over =
                (2..700).find(|second| !splitting.settle(|_| false, 6 + second, runs(*second), at(*second)).is_empty());
            assert_eq!(over, Some(over_at));
            assert!(!splitting.contains("shop"));
        }
    }

    #[test]
    fn one_that_comes_back_meanwhile_splits_again() {
        let mut splitting = Splitting::default();
        splitting.told(&Canary { id: "shop".into(), weight: Weight::FULL, ..Canary::default() });
        assert!(splitting.settle(|_| false, 8, |_| false, Timestamp(0)).is_empty());
        assert!(splitting.settle(|_| true, 9, |_| true, Timestamp(1)).is_empty());
        assert!(splitting.settle(|_| false, 10, |generation| generation < 10, Timestamp(2)).is_empty());
        assert_eq!(splitting.settle(|_| false, 11, |generation| generation < 11, Timestamp(3)), ["shop"]);
    }
}
