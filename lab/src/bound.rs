//! What a number of times says about a probability: Clopper and Pearson's exact bounds (1934), one-sided.

/// Returns the probability that the true share is above with the given confidence: `seen` of `of` times.
#[must_use]
pub fn lower_bound(seen: u64, of: u64, confidence: f64) -> f64 {
    if seen == 0 || of == 0 {
        return 0.0;
    }
    // The largest p that makes so many or more improbable.
    bisect(|p| 1.0 - at_most(seen - 1, of, p) < 1.0 - confidence)
}

/// Returns the share that the true one is below with the given confidence.
#[must_use]
pub fn upper_bound(seen: u64, of: u64, confidence: f64) -> f64 {
    if seen >= of {
        return 1.0;
    }
    // The least p that makes so few or fewer improbable.
    bisect(|p| at_most(seen, of, p) > 1.0 - confidence)
}

/// Returns where a condition that holds for small p ends.
fn bisect(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// Probability of at most k of n.
fn at_most(k: u64, n: u64, p: f64) -> f64 {
    let (mut log, mut sum) = (n as f64 * (-p).ln_1p(), 0.0);
    for i in 0..=k {
        sum += log.exp();
        log += ((n - i) as f64 / (i + 1) as f64).ln() + p.ln() - (-p).ln_1p();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // 95 % one-sided: the rule of three, and the published two-sided 90 % interval of 5 in 50.
        assert!((upper_bound(0, 100, 0.95) - (1.0 - 0.05f64.powf(0.01))).abs() < 1e-9);
        assert!((lower_bound(5, 50, 0.95) - 0.0402).abs() < 1e-4, "{}", lower_bound(5, 50, 0.95));
        assert!((upper_bound(5, 50, 0.95) - 0.1995).abs() < 1e-3, "{}", upper_bound(5, 50, 0.95));
        assert_eq!((lower_bound(0, 10, 0.99), upper_bound(10, 10, 0.99)), (0.0, 1.0));
    }
}
