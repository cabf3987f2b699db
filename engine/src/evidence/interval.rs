//! How many times as often does the canary fail? An interval for people: "1.2x (0.3x–2.9x)".
//!
//! Every ratio r_0 is tested two-sidedly against the failures of all stretches, and the interval holds those whose evidence
//! stays below 20: with 95 % probability the true ratio is in it at every moment at once, however often one looks. For one
//! weight the test is the conjugate form of §3 with θ_0 = θ(r_0, ρ) in place of ρ, prior a = θ_0, b = 1 - θ_0. For
//! several weights the same prior, made at the first one, is carried over to the others on the scale of u = ln r:
//!
//! ```text
//! E(r_0) = ∫ Π_j L_j(u) / L_j(ln r_0) dπ(u),   L_j = θ(e^u, ρ_j)^x_j (1 - θ(e^u, ρ_j))^y_j
//! ```
//!
//! The integrand is log-concave and analytic in u, where the trapezoidal rule is exact to rounding.

use std::f64::consts::PI;

use super::Stretch;

/// Evidence at which a ratio is ruled out: 1/5 %.
const RULED_OUT: f64 = 20.0;

/// What lies below e^-40 of the integrand's peak is left out.
const NEGLIGIBLE: f64 = 40.0;

/// Widest step of the trapezoidal rule. The integrand's nearest pole is π away, so the error is below e^-39.
const STEP: f64 = 0.5;

/// The ratio of the canary's failure rate to the primary's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// 0 with at most one failure on the canary.
    pub low: f64,
    /// The most likely ratio; infinite without a failure on the primary.
    pub estimate: f64,
    /// Infinite with at most one failure on the primary.
    pub high: f64,
}

/// Returns the ratio with its anytime-valid 95 % interval; nothing while no drawn request has failed.
#[must_use]
pub fn ratio_interval(stretches: &[Stretch]) -> Option<Interval> {
    let arms: Vec<Arm> = stretches.iter().filter_map(Arm::of).collect();
    if arms.is_empty() {
        return None;
    }
    let canary: f64 = arms.iter().map(|arm| arm.canary).sum();
    let primary: f64 = arms.iter().map(|arm| arm.primary).sum();
    // Beyond this distance every θ is 0 or 1 for all that so many failures can tell.
    let reach = 60.0 + (canary + primary).ln_1p() + arms.iter().map(|arm| arm.logit.abs()).fold(0.0, f64::max);
    let score = |u: f64| arms.iter().map(|arm| arm.score(u)).sum::<f64>();
    let estimate = zero_of(score, -reach, reach);
    let ruled_out = |u0: f64| log_e(&arms, (canary, primary), reach, u0) >= RULED_OUT.ln();
    let (none_on_canary, none_on_primary) = (canary == 0.0, primary == 0.0);
    Some(Interval {
        low: if none_on_canary { 0.0 } else { boundary(estimate, -reach, ruled_out).map_or(0.0, f64::exp) },
        estimate: match (none_on_canary, none_on_primary) {
            (true, _) => 0.0,
            (_, true) => f64::INFINITY,
            _ => estimate.exp(),
        },
        high: match none_on_primary {
            true => f64::INFINITY,
            false => boundary(estimate, reach, ruled_out).map_or(f64::INFINITY, f64::exp),
        },
    })
}

/// Failures under one weight, as numbers.
struct Arm {
    logit: f64,
    canary: f64,
    primary: f64,
}

impl Arm {
    fn of(stretch: &Stretch) -> Option<Self> {
        let Stretch { rho, canary, primary } = *stretch;
        let judged = rho > 0.0 && rho < 1.0 && (canary, primary) != (0, 0);
        judged.then(|| Self { logit: rho.ln() - (-rho).ln_1p(), canary: canary as f64, primary: primary as f64 })
    }

    fn all(&self) -> f64 {
        self.canary + self.primary
    }

    /// The derivative of [`Arm::log_likelihood`], also right where all failures are on one arm.
    fn score(&self, u: f64) -> f64 {
        self.canary * logistic(-u - self.logit) - self.primary * logistic(u + self.logit)
    }

    fn log_likelihood(&self, u: f64) -> f64 {
        -self.canary * softplus(-u - self.logit) - self.primary * softplus(u + self.logit)
    }
}

/// `ln E` of the two-sided test of the ratio e^`u0`, after so many failures on canary and primary.
fn log_e(arms: &[Arm], (canary, primary): (f64, f64), reach: f64, u0: f64) -> f64 {
    let reference = arms.first().map_or(0.0, |arm| arm.logit);
    let (a, b) = (logistic(u0 + reference), logistic(-u0 - reference));
    // B(a, 1-a) = π / sin(π a)
    let log_beta = PI.ln() - (PI * a.min(b)).sin().ln();
    let at_null: f64 = arms.iter().map(|arm| arm.log_likelihood(u0)).sum();
    let log_f = |u: f64| {
        let likelihood: f64 = arms.iter().map(|arm| arm.log_likelihood(u)).sum();
        likelihood - at_null - a * softplus(-u - reference) - b * softplus(u + reference) - log_beta
    };
    let slope = |u: f64| {
        let prior = a * logistic(-u - reference) - b * logistic(u + reference);
        prior + arms.iter().map(|arm| arm.score(u)).sum::<f64>()
    };
    let peak = zero_of(slope, -reach, reach);
    let spread = |logit: f64| logistic(peak + logit) * logistic(-peak - logit);
    let curvature = spread(reference) + arms.iter().map(|arm| arm.all() * spread(arm.logit)).sum::<f64>();
    let step = STEP.min(1.0 / (3.0 * curvature.sqrt()));
    let top = log_f(peak);
    let f = |u: f64| (log_f(u) - top).exp();
    let half = |direction: f64, fall: f64| {
        let mut sum = 0.5;
        let mut u = peak + direction * step;
        while u.abs() <= reach {
            let value = f(u);
            sum += value;
            if value < (-NEGLIGIBLE).exp() {
                return sum * step;
            }
            u += direction * step;
        }
        // A straight line in the logarithm from here on: its integral is known.
        let last = f(u - direction * step);
        (sum - 0.5 * last) * step + last / fall
    };
    top + (half(-1.0, a + canary) + half(1.0, b + primary)).ln()
}

/// Returns where a falling function crosses zero.
fn zero_of(falling: impl Fn(f64) -> f64, low: f64, high: f64) -> f64 {
    let (mut low, mut high) = (low, high);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if falling(middle) > 0.0 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Returns where ratios begin to be ruled out on the way from the estimate outwards, to 1e-6 of the ratio; nothing
/// if none is: a single failure rules out no small ratio.
fn boundary(inside: f64, outside: f64, ruled_out: impl Fn(f64) -> bool) -> Option<f64> {
    if !ruled_out(outside) {
        return None;
    }
    let (mut inside, mut outside) = (inside, outside);
    while (outside - inside).abs() > 1e-6 {
        let middle = 0.5 * (inside + outside);
        if ruled_out(middle) { outside = middle } else { inside = middle }
    }
    Some(0.5 * (inside + outside))
}

fn logistic(u: f64) -> f64 {
    1.0 / (1.0 + (-u).exp())
}

/// `ln(1 + e^u)`.
fn softplus(u: f64) -> f64 {
    if u > 0.0 { u + (-u).exp().ln_1p() } else { u.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::super::{attribution, beta};
    use super::*;

    fn stretch(rho: f64, canary: u64, primary: u64) -> Stretch {
        Stretch { rho, canary, primary }
    }

    #[test]
    fn interval_of_the_status_sketch_is_the_formula() {
        let interval = ratio_interval(&[stretch(0.05, 14, 214)]).unwrap();
        // The sketch was made on a grid of 0.05.
        assert_eq!(format!("{:.2} {:.2} {:.2}", interval.low, interval.estimate, interval.high), "0.35 1.24 2.86");
    }

    #[test]
    fn bounds_for_one_weight_are_where_the_conjugate_form_reaches_twenty() {
        for (rho, canary, primary) in [(0.05, 14, 214), (0.5, 3, 900), (0.01, 2, 2), (0.3, 40_000, 80_000)] {
            let interval = ratio_interval(&[stretch(rho, canary, primary)]).unwrap();
            for bound in [interval.low, interval.high] {
                let theta = attribution(bound, rho);
                let e = beta::log_bayes_factor((theta, 1.0 - theta), (canary as f64, primary as f64), theta).exp();
                assert!((e - 20.0).abs() < 0.01, "{rho} {canary} {primary}: {e} at {bound}");
            }
        }
    }

    #[test]
    fn an_arm_without_failures_leaves_its_side_open() {
        let interval = ratio_interval(&[stretch(0.05, 0, 400), stretch(0.1, 0, 100)]).unwrap();
        assert_eq!((interval.low, interval.estimate), (0.0, 0.0));
        assert!(interval.high > 0.0 && interval.high < 1.0, "{interval:?}");
        let interval = ratio_interval(&[stretch(0.05, 9, 0)]).unwrap();
        assert_eq!((interval.estimate, interval.high), (f64::INFINITY, f64::INFINITY));
        assert!(interval.low > 10.0, "{interval:?}");
        let interval = ratio_interval(&[stretch(0.01, 1, 1)]).unwrap();
        assert_eq!((interval.low, interval.high), (0.0, f64::INFINITY));
        assert_eq!(ratio_interval(&[]), None);
        assert_eq!(ratio_interval(&[stretch(0.05, 0, 0), stretch(1.0, 5, 0)]), None);
    }

    #[test]
    fn stretches_of_several_weights_agree_with_one_of_a_single_weight() {
        // Cut in two of the same weight nothing changes; more failures at another weight narrow it around the truth, 2.
        let one = ratio_interval(&[stretch(0.05, 20, 190)]).unwrap();
        let two = ratio_interval(&[stretch(0.05, 5, 100), stretch(0.05, 15, 90)]).unwrap();
        assert!((one.low - two.low).abs() < 1e-4 && (one.high - two.high).abs() < 1e-4, "{one:?} {two:?}");
        let more = ratio_interval(&[stretch(0.05, 20, 190), stretch(0.5, 200, 100)]).unwrap();
        assert!(more.low > one.low && more.high < one.high && more.low < 2.0 && more.high > 2.0, "{more:?}");
    }

    #[test]
    fn the_largest_counts_and_smallest_weights_give_a_finite_interval() {
        for (rho, canary, primary) in [(0.0001, 1, u64::MAX / 2), (0.5, u64::MAX / 2, u64::MAX / 2), (1e-300, 1, 1)] {
            let interval = ratio_interval(&[stretch(rho, canary, primary)]).unwrap();
            assert!(interval.low >= 0.0 && interval.low <= interval.high, "{interval:?}");
        }
        let alone = ratio_interval(&[stretch(0.5, u64::MAX, 0)]).unwrap();
        assert!(alone.low > 1e15 && alone.high.is_infinite(), "{alone:?}");
    }
}
