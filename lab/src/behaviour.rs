//! How a revision answers: how often it fails, and how long it takes.

use rand::Rng;
use rand::rngs::StdRng;
use rand_distr::{Binomial, Distribution as _};

/// How a revision answers requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    /// Share of requests that fail, 0 to 1.
    pub errors: f64,
    /// Share of the others that are answered that the client is at fault (4xx), 0 to 1.
    pub client_errors: f64,
    /// How long an answer takes.
    pub latency: Latency,
}

/// A log-logistic distribution: its shape is that of most services (a body and a long tail), and its share above any edge
/// has a closed form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half of the answers take longer, in milliseconds. Above 0.
    pub median: f64,
    /// One in a hundred takes longer, in milliseconds. At least the median; as much means that every answer takes as long.
    pub p99: f64,
}

impl Latency {
    /// Returns a latency draw in milliseconds.
    pub(super) fn draw(&self, rng: &mut StdRng) -> f64 {
        let u: f64 = rng.random_range(1e-9..1.0);
        match self.shape() {
            Some(shape) => self.median * (u / (1.0 - u)).powf(1.0 / shape),
            None => self.median,
        }
    }

    /// Returns the share of answers within an edge.
    pub(super) fn within(&self, edge: f64) -> f64 {
        match self.shape() {
            Some(shape) => 1.0 / (1.0 + (edge / self.median).powf(-shape)),
            None if edge >= self.median => 1.0,
            None => 0.0,
        }
    }

    fn shape(&self) -> Option<f64> {
        (self.p99 > self.median).then(|| 99f64.ln() / (self.p99 / self.median).ln())
    }

    /// Draws how many of `count` answers fall between the edges.
    pub(super) fn buckets(&self, rng: &mut StdRng, count: u64, edges: &[u32]) -> Vec<u64> {
        let (mut left, mut below, mut buckets) = (count, 0.0, Vec::with_capacity(edges.len() + 1));
        for edge in edges {
            let within = self.within(f64::from(*edge));
            let share = if below < 1.0 { (within - below) / (1.0 - below) } else { 0.0 };
            let here = binomial(rng, left, share);
            buckets.push(here);
            left -= here;
            below = within;
        }
        buckets.push(left);
        buckets
    }
}

/// Draws how many of `n` happen, each with probability `p`.
pub(super) fn binomial(rng: &mut StdRng, n: u64, p: f64) -> u64 {
    match p {
        _ if n == 0 || p.is_nan() || p <= 0.0 => 0,
        _ if p >= 1.0 => n,
        _ => Binomial::new(n, p).map_or(0, |distribution| distribution.sample(rng)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn latency_has_its_median_and_its_99th_percentile() {
        let latency = Latency { median: 20.0, p99: 90.0 };
        assert!((latency.within(20.0) - 0.5).abs() < 1e-12 && (latency.within(90.0) - 0.99).abs() < 1e-12);
        let mut rng = StdRng::seed_from_u64(1);
        let slow = (0..100_000).filter(|_| latency.draw(&mut rng) > 90.0).count();
        assert!((900..1100).contains(&slow), "{slow}");
        let buckets = latency.buckets(&mut rng, 100_000, &[20, 90]);
        assert_eq!(buckets.iter().sum::<u64>(), 100_000);
        assert!((900..1100).contains(&buckets[2]) && (49_000..51_000).contains(&buckets[0]), "{buckets:?}");
    }

    #[test]
    fn a_constant_latency_is_constant() {
        let latency = Latency { median: 20.0, p99: 20.0 };
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(latency.draw(&mut rng), 20.0);
        assert_eq!(latency.buckets(&mut rng, 7, &[10, 20, 50]), [0, 7, 0, 0]);
    }
}
