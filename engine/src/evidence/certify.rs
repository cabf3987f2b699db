//! Is the canary's failure rate below a bound? Certification (statistics.md §5).
//!
//! Evidence against "p ≥ p0", mixed uniformly over all better rates, so that a failure or two cost requests but not the
//! certificate:
//!
//! ```text
//! E = (1/p0) ∫_0^p0 (p/p0)^k ((1-p)/(1-p0))^(n-k) dp
//! ```
//!
//! The integrand is log-concave in p, so Simpson's rule over the stretch where it is not negligible is exact to seven digits
//! at any count; a continued fraction of the incomplete Beta function would need √n terms.

/// Intervals of Simpson's rule on each side of the integrand's peak.
const INTERVALS: u32 = 512;

/// What lies below e^-45 of the peak is left out.
const NEGLIGIBLE: f64 = 45.0;

/// Returns `ln E` that the failure rate is below `p0` (above 0, below 1), after these failures among completed requests.
#[must_use]
pub fn log_e_below(p0: f64, failures: u64, completed: u64) -> f64 {
    let (k, others) = (failures as f64, completed.saturating_sub(failures) as f64);
    // By the distance d from p0, where the integrand is 1, and relative to its peak: nothing large cancels.
    let log_ratio = |part: f64, all: f64, count: f64| if count == 0.0 { 0.0 } else { count * (part / all).ln_1p() };
    let peak = if k + others > 0.0 { (p0 - k / (k + others)).clamp(0.0, p0) } else { 0.0 };
    let top = log_ratio(-peak, p0, k) + log_ratio(peak, 1.0 - p0, others);
    let log_f = |d: f64| log_ratio(peak - d, p0 - peak, k) + log_ratio(d - peak, 1.0 - p0 + peak, others);
    let near = edge(peak, 0.0, |d| log_f(d) < -NEGLIGIBLE);
    let far = edge(peak, p0, |d| log_f(d) < -NEGLIGIBLE);
    let f = |d: f64| log_f(d).exp();
    top + ((simpson(near, peak, f) + simpson(peak, far, f)) / p0).ln()
}

/// Returns where, going from `inside` to `outside`, a condition begins to hold; `outside` itself if it never does.
fn edge(inside: f64, outside: f64, condition: impl Fn(f64) -> bool) -> f64 {
    if !condition(outside) {
        return outside;
    }
    let (mut inside, mut outside) = (inside, outside);
    for _ in 0..100 {
        let middle = 0.5 * (inside + outside);
        if condition(middle) { outside = middle } else { inside = middle }
    }
    outside
}

fn simpson(from: f64, to: f64, f: impl Fn(f64) -> f64) -> f64 {
    let step = (to - from) / f64::from(INTERVALS);
    let weight = |i: u32| match i {
        0 | INTERVALS => 1.0,
        odd if odd % 2 == 1 => 4.0,
        _ => 2.0,
    };
    (0..=INTERVALS).map(|i| weight(i) * f(from + f64::from(i) * step)).sum::<f64>() * step / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_requests_to_a_certificate_are_those_of_statistics_5() {
        for (p0, point, none, one) in
            [(0.05f64, 59, 88, 134), (0.01, 299, 449, 683), (0.005, 598, 901, 1368), (0.001, 2995, 4512, 6851)]
        {
            // The point alternative p = 0 that the table compares with.
            assert_eq!((20f64.ln() / -(1.0 - p0).ln()).ceil() as u64, point);
            let needed = |failures| (1..).find(|n| log_e_below(p0, failures, *n) >= 20f64.ln()).unwrap();
            assert_eq!((needed(0), needed(1)), (none, one), "{p0}");
        }
    }

    #[test]
    fn evidence_is_the_closed_form_where_there_is_one() {
        // k = 0: [1 - (1-p0)^(n+1)] / [p0 (n+1) (1-p0)^n]
        for (p0, n) in [(0.05f64, 10u32), (0.3, 40), (0.001, 100_000)] {
            let n1 = f64::from(n) + 1.0;
            let exact = (1.0 - (1.0 - p0).powf(n1)).ln() - (p0 * n1).ln() - f64::from(n) * (1.0 - p0).ln();
            assert!((log_e_below(p0, 0, n.into()) - exact).abs() < 1e-6, "{p0} {n}");
        }
    }

    #[test]
    fn no_request_is_no_evidence_and_the_largest_counts_stay_finite() {
        assert!(log_e_below(0.05, 0, 0).abs() < 1e-9);
        for (failures, completed) in [(0, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX / 20, u64::MAX), (9, 3)] {
            for p0 in [1e-6, 0.05, 0.99] {
                assert!(log_e_below(p0, failures, completed).is_finite(), "{p0} {failures} {completed}");
            }
        }
    }
}
