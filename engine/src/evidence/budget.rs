//! One budget of false rollbacks for a whole rollout, divided among everything that can roll back (statistics.md §12).
//!
//! A test that rolls back at evidence T does so falsely with probability at most 1/T (Ville), and a rollout's false
//! rollbacks are at most the sum over its tests (union bound):
//!
//! | | one process | N processes that judge by tables |
//! |---|---|---|
//! | comparison guard | α/2 | N guards of α/4 ÷ N = α/4 |
//! | absolute guard | α/4 | N guards of α/4 ÷ N = α/4 |
//! | controller, all tests as one average | α/4 | α/2 |
//! | sum | α | α |
//!
//! The only guard of a single process sees every request, so it may have what the controller would not use better. With
//! several each guard sees a part, and the controller, which sees all, is the one to speed up. So several judge nothing: they wait
//! after a lease of failures, which takes nothing back and costs no α. The guards' half is left to modules of before leases, which may
//! join at any time.

/// The evidence at which each judge rolls back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Of the comparison table in every gateway pod.
    pub comparison_guard: f64,
    /// Of the absolute table in every gateway pod.
    pub absolute_guard: f64,
    /// Of the controller's average over its tests.
    pub controller: f64,
}

/// Divides `alpha`, the probability of a false rollback per rollout (above 0, below 1), for so many processes that judge by tables.
/// None counts as one.
#[must_use]
pub fn budget(alpha: f64, gateways: u32) -> Thresholds {
    if gateways <= 1 {
        return Thresholds { comparison_guard: 2.0 / alpha, absolute_guard: 4.0 / alpha, controller: 4.0 / alpha };
    }
    let guard = 4.0 * f64::from(gateways) / alpha;
    Thresholds { comparison_guard: guard, absolute_guard: guard, controller: 2.0 / alpha }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_sum_to_alpha_for_any_number_of_gateways() {
        for alpha in [0.001, 0.01, 0.05] {
            for gateways in [0, 1, 2, 3, 30] {
                let thresholds = budget(alpha, gateways);
                let guards = f64::from(gateways.max(1));
                let sum = guards / thresholds.comparison_guard
                    + guards / thresholds.absolute_guard
                    + 1.0 / thresholds.controller;
                assert!((sum - alpha).abs() < 1e-12, "{alpha} {gateways}: {sum}");
            }
        }
        let one = Thresholds { comparison_guard: 200.0, absolute_guard: 400.0, controller: 400.0 };
        assert_eq!(budget(0.01, 1), one);
    }
}
