//! A share of requests in 1/10,000 (0.01 %).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The share of requests that the canary gets, in 1/10,000. The primary gets the rest, so both always sum to 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u16);

/// A number that is not a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weight {0} is out of range: it is counted in 1/10,000 and ends at 10000")]
pub struct WeightOutOfRange(pub u32);

impl Weight {
    /// No request.
    pub const ZERO: Self = Self(0);
    /// Every request.
    pub const FULL: Self = Self(Self::SCALE);
    /// The number that stands for every request.
    pub const SCALE: u16 = 10_000;

    /// Returns the weight of `parts` in 10,000.
    ///
    /// # Errors
    /// When `parts` exceeds 10,000.
    pub fn new(parts: u32) -> Result<Self, WeightOutOfRange> {
        match u16::try_from(parts) {
            Ok(small) if small <= Self::SCALE => Ok(Self(small)),
            _ => Err(WeightOutOfRange(parts)),
        }
    }

    /// Returns the parts in 10,000.
    #[must_use]
    pub fn parts(self) -> u16 {
        self.0
    }

    /// Returns what the other arm gets.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(Self::SCALE - self.0)
    }

    /// Returns the share as a number from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::SCALE)
    }

    /// Returns the share in percent.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Returns the sum of both, at most [`Weight::FULL`].
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self((self.0 + other.0).min(Self::SCALE))
    }

    /// Returns what is left of this one, at least [`Weight::ZERO`].
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl TryFrom<u32> for Weight {
    type Error = WeightOutOfRange;
    fn try_from(parts: u32) -> Result<Self, Self::Error> {
        Self::new(parts)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        Self::from(weight.0)
    }
}

impl fmt::Display for Weight {
    /// Writes the share in percent without a needless zero: `5`, `0.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}"),
            (_, 0) => write!(f, "{whole}.{}", rest / 10),
            _ => write!(f, "{whole}.{rest:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_their_complements_sum_to_ten_thousand() {
        for parts in 0..=10_000 {
            let weight = Weight::new(parts).unwrap();
            assert_eq!(u32::from(weight.parts()) + u32::from(weight.complement().parts()), 10_000);
        }
        assert_eq!(Weight::new(10_001), Err(WeightOutOfRange(10_001)));
        assert_eq!(Weight::new(70_000), Err(WeightOutOfRange(70_000)));
    }

    #[test]
    fn weights_are_written_in_percent_without_needless_zeros() {
        let written = |parts| Weight::new(parts).unwrap().to_string();
        assert_eq!([0, 1, 25, 50, 500, 1_250, 10_000].map(written), ["0", "0.01", "0.25", "0.5", "5", "12.5", "100"]);
    }
}
