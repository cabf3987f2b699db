//! Bounds the harm that a canary's first requests can do.
//!
//! Until the first canary requests of a run have ended, at most a few are outstanding in this worker. A canary that fails
//! late would otherwise have swallowed as many requests as arrive in the meantime before its first failure is known.
//!
//! A request frees its place after some seconds even if it has not ended: whoever holds ten requests open (a trickled upload,
//! an unread download, a socket) would otherwise keep the canary from everybody else.

use std::collections::VecDeque;

/// How long a request may hold its place: longer than a request that a user waits for, and short enough that ten held ones
/// delay a rollout by one interval.
const HELD_NS: u64 = 5_000_000_000;

/// The canary requests of one run in this worker.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// When those began that hold a place, oldest first. Never more than the bound.
    outstanding: VecDeque<u64>,
    ended: u32,
}

impl Admission {
    /// Admits a request that begins now, or refuses it. `bound` 0 admits all.
    pub fn admit(&mut self, bound: u32, now_ns: u64) -> bool {
        if bound == 0 || self.ended >= bound {
            return true;
        }
        while self.outstanding.front().is_some_and(|began| now_ns.saturating_sub(*began) >= HELD_NS) {
            self.outstanding.pop_front();
        }
        let admitted = self.outstanding.len() < bound as usize;
        if admitted {
            self.outstanding.push_back(now_ns);
        }
        admitted
    }

    /// Notes that a request ended which began then. One that says nothing of the canary only frees its place.
    pub fn end(&mut self, began_ns: u64, is_judged: bool) {
        if let Some(at) = self.outstanding.iter().position(|began| *began == began_ns) {
            self.outstanding.remove(at);
        }
        self.ended = self.ended.saturating_add(u32::from(is_judged));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_the_bound_is_outstanding_until_as_many_have_ended() {
        let mut admission = Admission::default();
        assert!((0..3).all(|now| admission.admit(3, now)));
        assert!(!admission.admit(3, 3));
        admission.end(1, true);
        assert!(admission.admit(3, 4), "one ended, one may follow");
        assert!(!admission.admit(3, 5));
        admission.end(0, true);
        admission.end(2, true);
        assert!((0..100).all(|_| admission.admit(3, 6)), "three have ended");
    }

    #[test]
    fn requests_that_are_held_free_their_places_after_some_seconds() {
        let mut admission = Admission::default();
        assert!((0..3).all(|_| admission.admit(3, 0)));
        assert!(!admission.admit(3, HELD_NS - 1));
        assert!((0..3).all(|_| admission.admit(3, HELD_NS)), "the canary is not starved");
        assert!(!admission.admit(3, HELD_NS), "and the bound holds for those that follow");
        (0..3).for_each(|_| admission.end(0, false));
        assert!(!admission.admit(3, HELD_NS), "a place is freed once");
    }

    #[test]
    fn requests_that_say_nothing_of_the_canary_do_not_open_it_to_all() {
        let mut admission = Admission::default();
        for now in 0..100 {
            assert!(admission.admit(3, now));
            admission.end(now, false);
        }
        assert!((0..3).all(|_| admission.admit(3, 100)) && !admission.admit(3, 100));
    }

    #[test]
    fn bound_zero_admits_all() {
        let mut admission = Admission::default();
        assert!((0..100).all(|_| admission.admit(0, 0)));
    }
}
