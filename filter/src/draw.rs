//! The draw: which requests belong to the canary's share.
//!
//! The generator is xoshiro256**, seeded for each VM from the proxy's randomness: workers that started in the same
//! nanosecond must not draw alike. It lives in the VM because asking the proxy for each request would cost a crossing.

use weir_wire::Weight;

use crate::hashing::mix;

/// A generator of random numbers, good enough for statistics and of no use for secrets.
#[derive(Clone, Debug)]
pub struct Generator([u64; 4]);

impl Generator {
    /// Returns a generator whose four words come from `word`.
    pub fn seeded(word: impl FnMut() -> u64) -> Self {
        let mut state = [0; 4];
        state.fill_with(word);
        // The all-zero state is the only one that xoshiro never leaves.
        if state == [0; 4] {
            state = [mix(1), mix(2), mix(3), mix(4)];
        }
        Self(state)
    }

    /// Returns the next 64 bits.
    pub fn number(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.0;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }
}

/// Returns whether a random number falls into the canary's share. The remainder's bias is below 10^-15.
#[must_use]
pub fn falls_within(number: u64, weight: Weight) -> bool {
    number % u64::from(Weight::SCALE) < u64::from(weight.parts())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(seed: u64) -> Generator {
        let mut word = seed;
        Generator::seeded(|| {
            word = mix(word);
            word
        })
    }

    #[test]
    fn draws_within_three_sigma_of_the_weight() {
        let mut generator = generator(7);
        for parts in [1_u32, 100, 1_000, 5_000] {
            let weight = Weight::new(parts).unwrap();
            let (n, p) = (1_000_000, f64::from(parts) / 10_000.0);
            let hits = (0..n).filter(|_| falls_within(generator.number(), weight)).count();
            let sigma = (f64::from(n) * p * (1.0 - p)).sqrt();
            assert!((hits as f64 - f64::from(n) * p).abs() < 3.0 * sigma, "{hits} of {n} at {weight} %");
        }
    }

    #[test]
    fn weight_zero_never_and_full_weight_always_draws_the_canary() {
        let mut generator = generator(11);
        for _ in 0..10_000 {
            let number = generator.number();
            assert!(!falls_within(number, Weight::ZERO));
            assert!(falls_within(number, Weight::FULL));
        }
    }

    #[test]
    fn other_seeds_draw_otherwise_and_no_seed_is_stuck() {
        let first = |mut generator: Generator| [generator.number(), generator.number(), generator.number()];
        assert_ne!(first(generator(1)), first(generator(2)));
        let zero = first(Generator::seeded(|| 0));
        assert!(zero[0] != zero[1] && zero[1] != zero[2]);
    }
}
