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

/// A claim that is older belongs to a VM that is gone. Between a claim and its end stand two host calls.
const CLAIM_NS: u64 = 1_000_000_000;

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

/// Whether the process accepts a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
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
pub fn accept<H: Host>(host: &mut H, generation: u64, content: u64) -> Acceptance {
    let mut acceptance = Acceptance::New;
    shared::update(host, GENERATIONS, |old: Option<[u8; 16 * REMEMBERED]>| {
        let mut known: [u64; 2 * REMEMBERED] = old.map(shared::unpack).unwrap_or_default();
        acceptance = match known.chunks_exact(2).find(|entry| entry[0] == generation && generation != 0) {
            Some(entry) if entry[1] == content => Acceptance::Known,
            Some(_) => Acceptance::Different,
            None if known[0] > generation => Acceptance::Older { newest: known[0] },
            None => {
                known.copy_within(..2 * (REMEMBERED - 1), 2);
                known[0] = generation;
                known[1] = content;
                return Some(shared::pack(known));
            }
        };
        None
    });
    acceptance
}

/// Counts this VM among those that run a generation. Called on the first tick after a configuration, because throw-away
/// VMs never tick.
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
fn vms<H: Host>(host: &mut H, generation: u64) -> Option<[u64; 2]> {
    shared::read::<H, 16>(host, &vms_key(generation)).map(shared::unpack)
}

/// Publishes how many VMs run the generation that owns this one's slot, if that was not published yet. Returns whether
/// nothing is left to publish; otherwise another VM is publishing now and this one has to come again.
///
/// A gauge can only be set, so a VM that had read 2 could set it after another one had read 3 and set that: whoever waits
/// for an acknowledgement would see a VM lost. So one VM at a time publishes a slot, under a claim, and reads the count
/// after it has the claim. `set` gets a generation and a count.
pub fn publish_vms<H: Host>(host: &mut H, generation: u64, mut set: impl FnMut(&mut H, u64, u64)) -> bool {
    let key = format!("published/{}", generation % SLOTS);
    let Some(counted) = vms(host, generation) else { return true };
    let now = host.monotonic_ns().max(1);
    let mut published = [0; 2];
    let mut is_done = false;
    let claim = shared::update(host, &key, |old: Option<[u8; 24]>| {
        let [of, count, claimed_ns] = old.map(shared::unpack).unwrap_or_default();
        published = [of, count];
        is_done = published == counted;
        let is_claimed = claimed_ns != 0 && now.saturating_sub(claimed_ns) < CLAIM_NS;
        (!is_done && !is_claimed).then(|| shared::pack([of, count, now]))
    });
    if claim.is_none() {
        return is_done;
    }
    // Once more: VMs may have been counted before the claim was ours.
    let [of, count] = vms(host, generation).unwrap_or(counted);
    if published[0] != of {
        // The count of the slot's former generation must not stand beside the new one's number.
        set(host, published[0], 0);
    }
    set(host, of, count);
    shared::update(host, &key, |old: Option<[u8; 24]>| (old == claim).then(|| shared::pack([of, count, 0]))).is_some()
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
        assert_eq!(accept(&mut host, 10, 1), Acceptance::New);
        assert_eq!(accept(&mut host, 10, 1), Acceptance::Known, "a worker after the throw-away VM");
        assert_eq!(accept(&mut host, 10, 2), Acceptance::Different);
        assert_eq!(accept(&mut host, 9, 1), Acceptance::Older { newest: 10 });
        assert_eq!(accept(&mut host, 12, 3), Acceptance::New);
        assert_eq!(accept(&mut host, 10, 1), Acceptance::Known, "a worker that is one behind");
        assert_eq!(accept(&mut host, 11, 1), Acceptance::Older { newest: 12 });
        for generation in 13..=30 {
            assert_eq!(accept(&mut host, generation, 1), Acceptance::New);
        }
        assert_eq!(accept(&mut host, 10, 1), Acceptance::Older { newest: 30 });
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

    #[test]
    fn a_count_of_vms_is_published_once_and_anew_only_when_it_changed() {
        let mut host = SimulatedHost::default();
        let set = |host: &mut SimulatedHost| {
            let mut set = Vec::new();
            assert!(publish_vms(host, 8, |_, of, count| set.push((of, count))));
            set
        };
        assert_eq!(set(&mut host), []);
        count_vm(&mut host, 8);
        assert_eq!(set(&mut host), [(0, 0), (8, 1)]);
        assert_eq!(set(&mut host.another_vm()), []);
        count_vm(&mut host, 16);
        assert_eq!(set(&mut host), [(8, 0), (16, 1)], "no moment shows the former count beside the new generation");
    }

    #[test]
    fn a_claim_of_a_vm_that_is_gone_ends_after_a_second() {
        let mut host = SimulatedHost::default();
        count_vm(&mut host, 8);
        let mut gone = host.another_vm();
        let mut rival = host.another_vm();
        publish_vms(&mut gone, 8, |_, _, _| assert!(!publish_vms(&mut rival, 8, |_, _, _| panic!("two at a time"))));
        count_vm(&mut host, 8);
        shared::update(&mut host, "published/0", |_: Option<[u8; 24]>| Some(shared::pack([8, 1, 5])));
        host.now_ns = 5 + CLAIM_NS - 1;
        assert!(!publish_vms(&mut host, 8, |_, _, _| panic!("it may still be there")));
        host.now_ns += 1;
        let mut set = Vec::new();
        assert!(publish_vms(&mut host, 8, |_, of, count| set.push((of, count))));
        assert_eq!(set, [(8, 2)]);
    }
}
