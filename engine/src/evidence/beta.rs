//! The Beta function where it meets large counts.
//!
//! `ln B` of counts in the billions is a difference of numbers a trillion times larger than the result. Stirling's formula is
//! therefore applied before the subtraction, so that what cancels never exists: with A = a + x, B = b + y, N = A + B
//!
//! ```text
//! ln B(A, B) = A ln(A/N) + B ln(B/N) + ½ ln(2π N / (A B)) + s(A) + s(B) - s(N)
//! ```
//!
//! with s(z) = ln Γ(z) - (z-½) ln z + z - ½ ln 2π (Abramowitz & Stegun 6.1.40 and 6.1.41), and A ln(A/(Nθ)) + B ln(B/(N(1-θ)))
//! from the distance A - Nθ, whose rounding cancels between the two.

use std::f64::consts::PI;

/// Returns `ln [B(a + x, b + y) / B(a, b) / (θ^x (1-θ)^y)]` for counts x, y and 0 < θ < 1.
pub(super) fn log_bayes_factor((a, b): (f64, f64), (x, y): (f64, f64), theta: f64) -> f64 {
    let (a_after, b_after) = (a + x, b + y);
    let n = a_after + b_after;
    let distance = a_after - n * theta;
    surplus(a_after, distance, n * theta) + surplus(b_after, -distance, n * (1.0 - theta))
        + 0.5 * (2.0 * PI * (n / a_after) / b_after).ln()
        + stirling_rest(a_after)
        + stirling_rest(b_after)
        - stirling_rest(n)
        // The powers of θ above belong to A and B; the prior's part of them is given back.
        + a * theta.ln()
        + b * (-theta).ln_1p()
        - log_beta(a, b)
}

/// `part ln(part / expected)`, where `distance = part - expected`.
fn surplus(part: f64, distance: f64, expected: f64) -> f64 {
    let relative = distance / expected;
    // Far below what was expected the quotient itself is the exact one.
    part * if relative < -0.5 { (part / expected).ln() } else { relative.ln_1p() }
}

/// Of a prior, whose numbers are small.
fn log_beta(a: f64, b: f64) -> f64 {
    let n = a + b;
    a * (a / n).ln() + b * (b / n).ln() + 0.5 * (2.0 * PI * (n / a) / b).ln() + stirling_rest(a) + stirling_rest(b)
        - stirling_rest(n)
}

/// s(z): from 10 on five terms of the asymptotic series, exact to 1e-15; below that by ln Γ(z) = ln Γ(z+1) - ln z.
fn stirling_rest(z: f64) -> f64 {
    if z < 10.0 {
        // s(z) = s(z+1) + (z+½) ln(1 + 1/z) - 1
        return stirling_rest(z + 1.0) + (z + 0.5) * (1.0 / z).ln_1p() - 1.0;
    }
    let square = 1.0 / (z * z);
    let series = 1.0 / 12.0
        - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square * (1.0 / 1188.0))));
    series / z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_has_its_known_values() {
        for (a, b, value) in
            [(1.0, 1.0, 1.0), (0.5, 0.5, PI), (2.0, 3.0, 1.0 / 12.0), (1e-4, 1.0, 1e4), (1.0, 50.0, 0.02)]
        {
            assert!((log_beta(a, b) - f64::ln(value)).abs() < 1e-12, "{a} {b}");
        }
    }

    #[test]
    fn bayes_factor_has_the_values_of_statistics_2_for_the_uniform_prior() {
        let factor = |theta, x, y| log_bayes_factor((1.0, 1.0), (x, y), theta).exp();
        assert_eq!(format!("{:.0}", factor(0.05, 3.0, 0.0)), "2000");
        assert_eq!(format!("{:.4}", factor(0.5, 60.0, 40.0)), "0.9130");
    }

    #[test]
    fn one_more_request_multiplies_by_its_predicted_probability() {
        // Also at a billion requests, where the naive difference of ln Γ has lost every digit.
        for (x, y) in [(0.0, 0.0), (3.0, 50.0), (5e7, 9.5e8), (5e11, 9e12)] {
            let (prior, theta) = ((0.05, 0.95), 0.05);
            let step = log_bayes_factor(prior, (x + 1.0, y), theta) - log_bayes_factor(prior, (x, y), theta);
            let predicted = ((prior.0 + x) / (1.0 + x + y) / theta).ln();
            assert!((step - predicted).abs() < 1e-5, "{x} {y}: {step} {predicted}");
        }
    }
}
