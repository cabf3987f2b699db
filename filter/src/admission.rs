//! Bounds the harm that a canary's first requests can do.
//!
//! Until the first canary requests of a run have ended, at most a few are outstanding in this worker. A canary that fails
//! late would otherwise have swallowed as many requests as arrive in the meantime before its first failure is known.

/// The canary requests of one run in this worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admission {
    outstanding: u32,
    ended: u32,
}

impl Admission {
    /// Admits a request, or refuses it. `bound` 0 admits all.
    pub fn admit(&mut self, bound: u32) -> bool {
        if bound != 0 && self.ended < bound && self.outstanding >= bound {
            return false;
        }
        self.outstanding = self.outstanding.saturating_add(1);
        true
    }

    /// Notes that an admitted request ended.
    pub fn end(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.ended = self.ended.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_the_bound_is_outstanding_until_as_many_have_ended() {
        let mut admission = Admission::default();
        assert!((0..3).all(|_| admission.admit(3)));
        assert!(!admission.admit(3));
        admission.end();
        assert!(admission.admit(3), "one ended, one may follow");
        assert!(!admission.admit(3));
        admission.end();
        admission.end();
        assert!((0..100).all(|_| admission.admit(3)), "three have ended");
    }

    #[test]
    fn bound_zero_admits_all() {
        let mut admission = Admission::default();
        assert!((0..100).all(|_| admission.admit(0)));
    }
}
