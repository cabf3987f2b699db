//! How many failures this process lets out before the controller has seen them.
//!
//! One of many processes knows little: a table of its own that keeps all of them from false alarms asks for more failures the more
//! they are, and each may let out so many. So it judges nothing. It counts the canary's failures, and sends no more to the canary when
//! as many as its lease are unseen. The controller adds up what all of them count; it takes the canary back, or says what it has seen.
//!
//! The count is one for all workers. A lease is no verdict: it stops nothing for good, and costs no false alarms.

use crate::host::Host;
use crate::shared;

/// The shared cell of one canary: the run, its failures, and how many of them the controller has seen.
#[derive(Debug)]
pub struct Lease {
    key: Box<str>,
}

/// What a process has counted of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Failures {
    run: u64,
    failed: u64,
    seen: u64,
}

impl Lease {
    /// Returns the lease of the canary with this id.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self { key: format!("lease/{id}").into() }
    }

    /// Counts a failure of a run.
    pub fn fail<H: Host>(&self, host: &mut H, run: u64) {
        self.change(host, run, |failures| failures.failed = failures.failed.saturating_add(1));
    }

    /// Takes note that the controller has seen so many failures of a run.
    pub fn see<H: Host>(&self, host: &mut H, run: u64, seen: u64) {
        self.change(host, run, |failures| failures.seen = failures.seen.max(seen));
    }

    /// Returns how many failures of a run there are, where so many of them are unseen as may be; else 0.
    pub fn held<H: Host>(&self, host: &mut H, run: u64, bound: u32) -> u64 {
        let Some(failures) = shared::read(host, &self.key).map(Failures::unpack) else { return 0 };
        let unseen = failures.failed.saturating_sub(failures.seen);
        if bound > 0 && failures.run == run && unseen >= u64::from(bound) { failures.failed } else { 0 }
    }

    fn change<H: Host>(&self, host: &mut H, run: u64, change: impl Fn(&mut Failures)) {
        shared::update(host, &self.key, |old: Option<[u8; 24]>| {
            let old = old.map(Failures::unpack);
            let mut new = old.filter(|old| old.run == run).unwrap_or(Failures { run, ..Failures::default() });
            change(&mut new);
            (old != Some(new)).then(|| shared::pack([new.run, new.failed, new.seen]))
        });
    }
}

impl Failures {
    fn unpack(bytes: [u8; 24]) -> Self {
        let [run, failed, seen] = shared::unpack(bytes);
        Self { run, failed, seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedHost;

    #[test]
    fn all_workers_wait_once_as_many_failures_are_unseen_as_may_be_and_go_on_when_they_are_seen() {
        let lease = Lease::new("a");
        let mut host = SimulatedHost::default();
        let mut other = host.another_vm();
        assert_eq!(lease.held(&mut host, 5, 2), 0);
        lease.fail(&mut host, 5);
        assert_eq!(lease.held(&mut other, 5, 2), 0);
        lease.fail(&mut other, 5);
        assert_eq!((lease.held(&mut host, 5, 2), lease.held(&mut other, 5, 2)), (2, 2));
        assert_eq!((lease.held(&mut host, 5, 0), lease.held(&mut host, 6, 2)), (0, 0), "no bound; another run");
        lease.see(&mut other, 5, 1);
        assert_eq!(lease.held(&mut host, 5, 2), 0);
        lease.fail(&mut host, 5);
        assert_eq!(lease.held(&mut host, 5, 2), 3);
        lease.see(&mut host, 5, 2);
        lease.see(&mut host, 5, 1);
        assert_eq!((lease.held(&mut host, 5, 2), lease.held(&mut host, 5, 1)), (0, 3), "what was seen stays seen");
        lease.fail(&mut host, 6);
        assert_eq!((lease.held(&mut host, 5, 1), lease.held(&mut host, 6, 1)), (0, 1), "a run counts its own");
    }
}
