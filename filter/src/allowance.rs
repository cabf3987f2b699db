//! Bounds the time of a worker that one canary's regular expressions may take, whatever its clients send. Steps bound one request;
//! one after the other, such requests would still stand before everybody else's.
//!
//! What takes long runs up a debt, which time pays off. In debt only what is cheap is tried: an ordinary header of an ordinary client.

use std::cell::Cell;

/// Steps of one request from which on its time is taken, some tens of microseconds. Below, the clock would be a part of the cost.
pub const TIMED: usize = 1 << 14;
/// Time that may be taken at once: one request that takes all of its steps.
const BURST_NS: u64 = 4_000_000;
/// One part in so many of a worker's time may be taken for long.
const SHARE: u64 = 20;

/// What one canary may take of a worker's time.
#[derive(Debug, Default)]
pub struct Allowance {
    timed: Cell<bool>,
    debt_ns: Cell<u64>,
    at_ns: Cell<Option<u64>>,
}

impl Allowance {
    /// Returns whether anything has taken long so far: nobody reads the clock before.
    pub fn is_timed(&self) -> bool {
        self.timed.get()
    }

    /// Returns whether what takes long may be tried at this time.
    pub fn has_time(&self, now_ns: u64) -> bool {
        let since = self.at_ns.replace(Some(now_ns)).unwrap_or(now_ns);
        let paid = now_ns.saturating_sub(since) / SHARE;
        let debt = self.debt_ns.get().saturating_sub(paid);
        self.debt_ns.set(debt);
        debt < BURST_NS
    }

    /// Takes note of something that took long, and of the time where that was measured.
    pub fn take(&self, ns: Option<u64>) {
        self.timed.set(true);
        self.debt_ns.set(self.debt_ns.get().saturating_add(ns.unwrap_or(BURST_NS)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_canary_takes_more_of_a_worker_than_its_share() {
        let allowance = Allowance::default();
        assert!(!allowance.is_timed());
        let (mut now, mut taken) = (0, 0);
        // Requests that take 3 ms each, 1 ms apart, for ten seconds.
        while now < 10_000_000_000_u64 {
            now += 1_000_000;
            if allowance.has_time(now) {
                now += 3_000_000;
                taken += 3_000_000;
                allowance.take(Some(3_000_000));
            }
        }
        let most = now / SHARE + BURST_NS + 3_000_000;
        assert!(allowance.is_timed() && taken <= most && taken * 10 > now / SHARE * 8, "{taken} of {now}");
    }

    #[test]
    fn a_debt_is_paid_off_by_time_alone() {
        let allowance = Allowance::default();
        allowance.has_time(1_000);
        allowance.take(None);
        assert!(!allowance.has_time(1_000) && !allowance.has_time(1_010));
        assert!(allowance.has_time(1_000 + SHARE * 1_000));
    }
}
