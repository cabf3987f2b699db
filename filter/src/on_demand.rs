//! Bounds what one client can do to an arm that it chooses.
//!
//! A condition or a cookie lets a client come back to one arm, and some requests make a server fail (a bug, a missing method).
//! One client that repeats such a request would be the verdict on a revision that serves everybody else. So only a few
//! failures of one connection count in a block; the rest says nothing of the arm. Draws need no such bound: nobody chooses them.

use crate::host::Host;

/// Failures of one connection that count in an epoch: as many as the smallest table needs for a verdict on a revision that
/// fails everything, so that a lone tester's connection still stops it.
const COUNTED: u8 = 3;
/// Connections that are remembered. More than fail at the same time in one worker; a client with more of them is more clients.
const REMEMBERED: usize = 64;

/// The failures of each connection, or what else is bounded, in the newest epoch.
#[derive(Debug, Default)]
pub struct OnDemand {
    epoch: u64,
    failures: Vec<(u64, u8)>,
    next: usize,
}

impl OnDemand {
    /// Returns whether one more failure of the client's connection counts no more.
    pub fn exceeded<H: Host>(&mut self, host: &mut H, epoch: u64) -> bool {
        host.connection().is_some_and(|connection| !self.counts(epoch, connection))
    }

    /// Returns whether one more failure of a connection counts.
    fn counts(&mut self, epoch: u64, connection: u64) -> bool {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.failures.clear();
        }
        if let Some((_, failures)) = self.failures.iter_mut().find(|(other, _)| *other == connection) {
            *failures = failures.saturating_add(1);
            return *failures <= COUNTED;
        }
        if self.failures.len() < REMEMBERED {
            self.failures.push((connection, 1));
        } else if let Some(place) = self.failures.get_mut(self.next) {
            *place = (connection, 1);
            self.next = (self.next + 1) % REMEMBERED;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_of_one_connection_count_in_an_epoch() {
        let mut on_demand = OnDemand::default();
        let mut counted = |epoch, connection| (0..10).filter(|_| on_demand.counts(epoch, connection)).count();
        assert_eq!([counted(1, 7), counted(1, 8), counted(1, 7)], [3, 3, 0]);
        assert_eq!(counted(2, 7), 3, "another epoch");
        assert_eq!(counted(1, 7), 0, "a late failure of the epoch before begins nothing anew");
    }

    #[test]
    fn no_number_of_connections_takes_more_memory() {
        let mut on_demand = OnDemand::default();
        assert!((0..10_000).all(|connection| on_demand.counts(1, connection)));
        assert_eq!(on_demand.failures.len(), REMEMBERED);
    }
}
