//! Sums of numbers that are known by their logarithms.
//!
//! Evidence spans hundreds of orders of magnitude: a healthy hour pushes an alternative to e^-1000, a broken minute lifts
//! it to e^+1000. So nothing here ever leaves log space; a sum takes its largest term out first (log-sum-exp).

/// Returns `ln Σ exp(term)`; negative infinity when there is no term, or none above zero.
pub(super) fn sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    largest + terms.map(|term| (term - largest).exp()).sum::<f64>().ln()
}

/// Masses in log space as JSON: a mass of zero, whose logarithm JSON cannot write, is `null`.
pub(super) mod json {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(masses: &[f64], to: S) -> Result<S::Ok, S::Error> {
        masses.iter().map(|mass| mass.is_finite().then_some(*mass)).collect::<Vec<_>>().serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let masses = Vec::<Option<f64>>::deserialize(from)?;
        Ok(masses.into_iter().map(|mass| mass.unwrap_or(f64::NEG_INFINITY)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_survive_terms_that_overflow_and_terms_that_vanish() {
        let of = |terms: &[f64]| sum(terms.iter().copied());
        assert_eq!(of(&[]), f64::NEG_INFINITY);
        assert_eq!(of(&[f64::NEG_INFINITY; 3]), f64::NEG_INFINITY);
        assert_eq!(of(&[1e15, f64::NEG_INFINITY, -1e15]), 1e15);
        assert!((of(&[-5000.0, -5000.0]) - (-5000.0 + 2f64.ln())).abs() < 1e-12);
    }
}
