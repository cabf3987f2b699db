//! What fits into one gateway's configuration: all Canaries of a gateway share one object, and etcd takes no more than 1.5 MiB of it.
//!
//! A Canary that does not fit is left out, which to the filter means that all of its requests go to the primary, and its author is
//! told the numbers. Nobody else's entry changes for it: what gateways run already stays, and every rollback has its place.

use std::collections::BTreeMap;

use weir_wire::{Canary, Config, MatchedSplit, Weight};

/// Bytes of one Canary's own text (hosts, routes, conditions, cookie): 64 hosts as long as names can be. Its tables are Weir's.
pub const ENTRY: usize = 16 << 10;
/// Bytes of all entries that a new one, or one that has grown, may fill up. Five hundred ordinary rollouts need as much.
pub const ENTRIES: usize = 896 << 10;
/// Bytes that what gateways run already may grow to: a table is larger in a later epoch. With its frame and the list of who wrote
/// what, the object stays below 1 MiB.
const KEPT: usize = 960 << 10;

/// The entries that fit, and why others do not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fitted {
    /// What goes into the configuration.
    pub canaries: Vec<Canary>,
    /// By id, why an entry is left out, for the Canary's author.
    pub left_out: BTreeMap<String, String>,
}

/// Who goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Its requests are on the way back to the primary.
    Rollback,
    /// Gateways run it, and it is no larger than there.
    Unchanged,
    /// Gateways run it, and it has grown.
    Grown,
    /// It is new.
    New,
    /// No request of it reaches the canary, and no rollout is under way.
    Idle,
}

/// Returns the bytes of every Canary's own text in a configuration, by id: what [`fit`] wants to know of the last push.
#[must_use]
pub fn sizes(config: &Config) -> BTreeMap<String, usize> {
    config.canaries.iter().map(|canary| (canary.id.clone(), own_size(canary))).collect()
}

/// Chooses the entries that fit. `last` is of what gateways run.
#[must_use]
pub fn fit(desired: Vec<Canary>, last: &BTreeMap<String, usize>) -> Fitted {
    let mut queue: Vec<_> = desired.into_iter().map(|canary| (turn(&canary, last), canary)).collect();
    queue.sort_by(|(turn, canary), (other, another)| (turn, &canary.id).cmp(&(other, &another.id)));
    let crowded = queue.iter().map(|(_, canary)| size(canary)).sum::<usize>() > ENTRIES;
    let (mut fitted, mut used) = (Fitted::default(), 0);
    for (turn, mut canary) in queue {
        if turn == Turn::Idle {
            // No failure is to be judged.
            canary.limits.clear();
        } else if crowded {
            // Failures that come late, of epochs that are over, are left to the controller.
            canary.limits.truncate(1);
        }
        let room = if matches!(turn, Turn::Rollback | Turn::Unchanged) { KEPT } else { ENTRIES };
        let bytes = size(&canary);
        let own = own_size(&canary);
        if matches!(turn, Turn::Grown | Turn::New) && own > ENTRY {
            let text = format!(
                "has {own} bytes of hosts, routes, conditions and cookie in its gateway's configuration, and {ENTRY} is the limit \
                 for one Canary: give fewer or shorter ones"
            );
            fitted.left_out.insert(canary.id, text);
        } else if used + bytes > room {
            let text = format!(
                "needs {bytes} bytes in its gateway's configuration, where {used} of {ENTRIES} are taken: wait until other \
                 rollouts are over, or release through another gateway"
            );
            fitted.left_out.insert(canary.id, text);
        } else {
            used += bytes;
            fitted.canaries.push(canary);
        }
    }
    fitted
}

fn turn(canary: &Canary, last: &BTreeMap<String, usize>) -> Turn {
    let reaches_canary = canary.reaches_canary();
    match (reaches_canary, last.get(&canary.id)) {
        (false, _) if canary.run.is_empty() => Turn::Idle,
        (false, _) => Turn::Rollback,
        (true, Some(before)) if own_size(canary) <= *before => Turn::Unchanged,
        (true, Some(_)) => Turn::Grown,
        (true, None) => Turn::New,
    }
}

/// Returns the bytes of an entry as it stands in the object, where the configuration is a text in JSON: quotes are two bytes there.
fn size(canary: &Canary) -> usize {
    let text = serde_json::to_string(canary).unwrap_or_default();
    // And the comma after it.
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count() + 1
}

fn own_size(canary: &Canary) -> usize {
    let (limits, weight) = (Vec::new(), Weight::ZERO);
    let matched = canary.matched.clone().map(|matched| MatchedSplit { weight, ..matched });
    size(&Canary { limits, weight, matched, fallback: false, ..canary.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_wire::Limits;

    /// An entry of about so many bytes.
    fn canary(id: usize, weight: u32, bytes: usize) -> Canary {
        let bare = Canary {
            id: format!("{id:016x}"),
            run: "6f2c".into(),
            weight: Weight::new(weight).unwrap(),
            limits: vec![Limits { epoch: 1, ..Limits::default() }],
            ..Canary::default()
        };
        let host = "h".repeat(bytes.saturating_sub(size(&bare)) / 4);
        Canary { hosts: vec![host.clone(), host.clone(), host.clone(), host], ..bare }
    }

    /// An entry with as many tables as there can be, of the numbers that a busy rollout has.
    fn ordinary(id: usize) -> Canary {
        let row = |i: u32| [i * 11 + 100, i / 2 + 10];
        let rows: Vec<[u32; 2]> = (0..64).map(row).collect();
        let table = |epoch| Limits {
            epoch,
            comparison: rows.clone(),
            absolute: rows.clone(),
            end: [900, 900],
            beyond: [vec![[900, 24_000], [960, 21_000], [1_200, 19_000]], vec![[900, 3_000], [960, 2_100]]],
        };
        Canary {
            name: format!("team-{id}/shopping-cart"),
            hosts: vec![
                format!("shopping-cart.team-{id}.example.com"),
                format!("shopping-cart.team-{id}.svc.cluster.local"),
            ],
            routes: vec![format!("team-{id}/shopping-cart")],
            token: format!("{id:016x}"),
            latency_ms: crate::api::DEFAULT_LATENCY_MS.to_vec(),
            limits: [9, 8, 7].map(table).to_vec(),
            ..canary(id, 500, 0)
        }
    }

    fn pushed(canaries: &[Canary]) -> BTreeMap<String, usize> {
        sizes(&Config { canaries: canaries.to_vec(), ..Config::default() })
    }

    fn left_out(fitted: &Fitted) -> Vec<usize> {
        fitted.left_out.keys().map(|id| usize::from_str_radix(id, 16).unwrap()).collect()
    }

    /// Entries that fill the configuration.
    fn full() -> Vec<Canary> {
        (1..=ENTRIES / 15_000).map(|id| canary(id, 500, 15_000)).collect()
    }

    #[test]
    fn five_hundred_ordinary_rollouts_fit_into_an_object_of_one_mebibyte() {
        let fitted = fit((0..500).map(ordinary).collect(), &BTreeMap::new());
        assert_eq!((fitted.canaries.len(), fitted.left_out.len()), (500, 0));
        let config = Config { canaries: fitted.canaries, ..Config::default() };
        assert!(config.canaries.iter().all(|canary| canary.limits.len() == 1 && canary.limits[0].epoch == 9));
        let object = serde_json::to_string(&serde_json::to_string(&config).unwrap()).unwrap();
        assert!(object.len() < 1 << 20, "{}", object.len());
        assert_eq!(fit(vec![ordinary(1)], &BTreeMap::new()).canaries, [ordinary(1)], "with room, all tables stay");
    }

    #[test]
    fn a_new_canary_that_does_not_fit_is_left_out_with_the_numbers_and_no_other() {
        let running = full();
        let mut desired = running.clone();
        // First by its id, and last by its turn.
        desired.push(canary(0, 500, 15_000));
        let fitted = fit(desired, &pushed(&running));
        assert_eq!(left_out(&fitted), [0]);
        assert_eq!(fitted.canaries, running);
        let text = &fitted.left_out[&format!("{:016x}", 0)];
        assert!(text.contains(&format!("of {ENTRIES} are taken")) && text.contains("bytes"), "{text}");
    }

    #[test]
    fn a_canary_that_grows_gives_way_to_those_that_did_not() {
        let running = full();
        let mut desired = running.clone();
        desired[0] = canary(1, 500, 16_300);
        let last = pushed(&running);
        let fitted = fit([desired.clone(), vec![canary(99, 500, 4_000)]].concat(), &last);
        assert!(left_out(&fitted).contains(&99) && fitted.canaries.len() >= running.len() - 1);
        assert!(running[1..].iter().all(|canary| fitted.canaries.contains(canary)));
    }

    #[test]
    fn every_rollback_fits_in_a_configuration_that_is_full() {
        let running = full();
        let back = |canary: &Canary| Canary { weight: Weight::ZERO, conditions: Vec::new(), ..canary.clone() };
        for count in [1, running.len()] {
            let mut desired: Vec<Canary> = running.iter().take(count).map(back).collect();
            desired.extend_from_slice(&running[count..]);
            desired.extend((100..200).map(|id| canary(id, 500, 15_000)));
            let fitted = fit(desired, &pushed(&running));
            let rollbacks = fitted.canaries.iter().filter(|canary| canary.weight == Weight::ZERO).count();
            assert_eq!(rollbacks, count);
            assert!(left_out(&fitted).iter().all(|id| *id >= 100));
        }
    }

    #[test]
    fn an_entry_of_its_own_size_is_left_out_unless_gateways_run_it_already() {
        let large = canary(1, 500, ENTRY + 2_000);
        let fitted = fit(vec![large.clone(), canary(2, 500, 1_000)], &BTreeMap::new());
        assert_eq!(left_out(&fitted), [1]);
        assert!(fitted.left_out.values().all(|text| text.contains(&format!("{ENTRY} is the limit for one Canary"))));
        let fitted = fit(vec![large.clone()], &pushed(&[large]));
        assert_eq!(left_out(&fitted), [0; 0], "what worked before an upgrade goes on");
    }

    #[test]
    fn idle_entries_go_first_and_need_no_tables() {
        let running = full();
        let idle = Canary { run: String::new(), ..canary(0, 0, 15_000) };
        let fitted = fit([vec![idle.clone()], running.clone()].concat(), &pushed(&running));
        assert_eq!(left_out(&fitted), [0]);
        let fitted = fit(vec![idle], &BTreeMap::new());
        assert!(fitted.canaries[0].limits.is_empty());
    }

    #[test]
    fn a_size_is_what_the_object_holds() {
        let canaries = vec![canary(1, 500, 1_000), canary(2, 0, 300)];
        let config = Config { canaries: canaries.clone(), ..Config::default() };
        let object = serde_json::to_string(&serde_json::to_string(&config).unwrap()).unwrap();
        let counted: usize = config.canaries.iter().map(size).sum();
        assert!((0..200).contains(&(object.len() - counted)), "{} {counted}", object.len());
    }
}
