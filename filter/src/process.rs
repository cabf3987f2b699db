//! What the VMs of one gateway process agree on: when it started, which generations it accepted, how many of them run each.
//!
//! The proxy runs every new configuration on a throw-away VM before its workers see it, one after the other on the main
//! thread. That VM decides: what it accepts is noted in a shared cell, and what it refuses never reaches a worker. A worker
//! must not refuse what the throw-away VM accepted, even if a newer one came in between; the proxy would write the module
//! off as broken.

use weir_wire::SLOTS;

use crate::host::Host;
use crate::shared;

const BOOT: &str = "boot";
const GENERATIONS: &str = "generations";
/// Accepted generations that are remembered. More than can be under way between the main thread and a worker.
const REMEMBERED: usize = 8;
/// Prometheus carries numbers as doubles, exact up to 53 bits.
const BOOT_MASK: u64 = (1 << 53) - 1;

/// The process's birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Random, never 0.
    pub number: u64,
    /// The generation that came too late to be trusted; 0 if the first one was in time. Newer ones are trusted.
    pub disarmed: u64,
}

impl Boot {
    /// Returns the process's birth; the first VM to ask makes it up, and finds out if its configuration is out of date.
    pub fn of_process<H: Host>(host: &mut H, generation: u64, armed_until: u64) -> Self {
        if let Some(boot) = shared::read(host, BOOT) {
            return Self::unpack(boot);
        }
        let late = host.unix_seconds() > armed_until;
        let boot = Self { number: (host.random() & BOOT_MASK).max(1), disarmed: if late { generation } else { 0 } };
        let mut winner = boot;
        shared::update(host, BOOT, |old: Option<[u8; 16]>| match old {
            Some(old) => {
                winner = Self::unpack(old);
                None
            }
            None => Some(shared::pack([boot.number, boot.disarmed])),
        });
        winner
    }

    fn unpack(bytes: [u8; 16]) -> Self {
        let [number, disarmed] = shared::unpack(bytes);
        Self { number, disarmed }
    }
}

/// What the process thinks of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Newest. Only the throw-away VM comes to hear this.
    New,
    /// Accepted before.
    Known,
    /// Older than one that was accepted.
    Older {
        /// The newest one.
        newest: u64,
    },
    /// Accepted before with another content.
    Different,
}

/// Asks for a generation to be accepted, and notes it if it is.
pub fn accept<H: Host>(host: &mut H, generation: u64, content: u64) -> Standing {
    let mut standing = Standing::New;
    shared::update(host, GENERATIONS, |old: Option<[u8; 16 * REMEMBERED]>| {
        let mut known: [u64; 2 * REMEMBERED] = old.map(shared::unpack).unwrap_or_default();
        standing = match known.chunks_exact(2).find(|entry| entry[0] == generation && generation != 0) {
            Some(entry) if entry[1] == content => Standing::Known,
            Some(_) => Standing::Different,
            None if known[0] > generation => Standing::Older { newest: known[0] },
            None => {
                known.copy_within(..2 * (REMEMBERED - 1), 2);
                known[0] = generation;
                known[1] = content;
                return Some(shared::pack(known));
            }
        };
        None
    });
    standing
}

/// Counts this VM among those that run a generation. Only the first tick after a configuration asks for it, because
/// throw-away VMs never tick.
pub fn count_vm<H: Host>(host: &mut H, generation: u64) {
    shared::update(host, &vms_key(generation), |old: Option<[u8; 16]>| {
        let [of, count] = old.map(shared::unpack).unwrap_or_default();
        let count = match of.cmp(&generation) {
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => count + 1,
            std::cmp::Ordering::Greater => return None,
        };
        Some(shared::pack([generation, count]))
    });
}

/// Returns the generation that the slot of this one counts, and how many VMs run it.
pub fn vms<H: Host>(host: &mut H, generation: u64) -> Option<[u64; 2]> {
    shared::read::<H, 16>(host, &vms_key(generation)).map(shared::unpack)
}

fn vms_key(generation: u64) -> String {
    format!("vms/{}", generation % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedHost;

    #[test]
    fn a_process_is_born_once() {
        let mut host = SimulatedHost::default();
        host.unix_seconds = 100;
        let boot = Boot::of_process(&mut host, 7, 100);
        assert!(boot.number > 0 && boot.number <= BOOT_MASK);
        assert_eq!(boot.disarmed, 0);
        let mut later = host.another_vm();
        later.unix_seconds = 500;
        assert_eq!(Boot::of_process(&mut later, 7, 100), boot, "a process with shared state ignores the date");
        let mut other = SimulatedHost::default();
        other.unix_seconds = 101;
        assert_eq!(Boot::of_process(&mut other, 7, 100).disarmed, 7);
    }

    #[test]
    fn generations_go_forward_only() {
        let mut host = SimulatedHost::default();
        assert_eq!(accept(&mut host, 10, 1), Standing::New);
        assert_eq!(accept(&mut host, 10, 1), Standing::Known, "a worker after the throw-away VM");
        assert_eq!(accept(&mut host, 10, 2), Standing::Different);
        assert_eq!(accept(&mut host, 9, 1), Standing::Older { newest: 10 });
        assert_eq!(accept(&mut host, 12, 3), Standing::New);
        assert_eq!(accept(&mut host, 10, 1), Standing::Known, "a worker that is one behind");
        assert_eq!(accept(&mut host, 11, 1), Standing::Older { newest: 12 });
        for generation in 13..=30 {
            assert_eq!(accept(&mut host, generation, 1), Standing::New);
        }
        assert_eq!(accept(&mut host, 10, 1), Standing::Older { newest: 30 });
    }

    #[test]
    fn vms_are_counted_per_generation() {
        let mut host = SimulatedHost::default();
        assert_eq!(vms(&mut host, 8), None);
        for count in 1..=3 {
            count_vm(&mut host.another_vm(), 8);
            assert_eq!(vms(&mut host, 8), Some([8, count]));
        }
        count_vm(&mut host, 16);
        count_vm(&mut host, 8);
        assert_eq!(vms(&mut host, 8), Some([16, 1]), "the slot counts the newer generation");
    }
}
