//! What fits into one gateway's configuration: all Canaries of a gateway share one object, and etcd takes no more than 1.5 MiB of it.
//!
//! A Canary that does not fit is left out, which to the filter means that all of its requests go to the primary, and its author is
//! told the numbers. Nobody else's entry changes for it: what gateways run already stays, and every rollback has its place.

use std::collections::BTreeMap;

use weir_wire::config::LINE;
use weir_wire::{Canary, Limits, MatchedSplit, Weight};

use crate::gateway_config::RouteNames;

/// Bytes of one Canary's own text (hosts, routes, conditions, cookie): 64 hosts as long as names can be. Its tables are Weir's.
pub const ENTRY: usize = 16 << 10;
/// Bytes of all entries that a new one, or one that has grown, may fill up. Five hundred ordinary rollouts need as much.
pub const ENTRIES: usize = 896 << 10;
/// Bytes that what gateways run already may grow to: a table is larger in a later epoch. With its frame and the list of who wrote
/// what, the object stays below 1 MiB.
const KEPT: usize = 960 << 10;
/// Rows that each table keeps where many Canaries share the object. The rest is left to the lines that go on beyond a table's end.
const ROWS: usize = 20;
/// Bytes of such tables as a rollout has in its later epochs: every entry has so much kept free, so that none outgrows another.
const TABLES: usize = 480;
/// Bytes of the patch that switches the filter on for a route, beside the name of the route, in a namespace of 30 characters.
pub const SWITCH: usize = 352;

/// A Canary that wants a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Its entry.
    pub canary: Canary,
    /// Its routes, which the filter is or will be switched on for.
    pub routes: RouteNames,
}

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
    /// It has grown, and serves because its primary cannot.
    Fallback,
    /// Gateways run it, and it has grown.
    Grown,
    /// It is new.
    New,
    /// No request of it reaches the canary, and no rollout is under way.
    Idle,
}

/// One claim, measured.
struct Measured {
    turn: Turn,
    canary: Canary,
    /// The same with tables as they are where many share the object.
    short: Canary,
    switches: usize,
}

/// Returns the bytes of every Canary's own text in a configuration, by id: what [`fit`] wants to know of the last push.
#[must_use]
pub fn sizes<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> BTreeMap<String, usize> {
    canaries.into_iter().map(|canary| (canary.id.clone(), own_size(canary))).collect()
}

/// Chooses the entries that fit. `last` is of what gateways run.
#[must_use]
pub fn fit(claims: Vec<Claim>, last: &BTreeMap<String, usize>) -> Fitted {
    let mut queue: Vec<Measured> = claims.into_iter().map(|claim| measured(claim, last)).collect();
    queue.sort_by(|one, other| (one.turn, &one.canary.id).cmp(&(other.turn, &other.canary.id)));
    let (mut fitted, mut placed) = (Fitted::default(), Vec::new());
    // `taken` is what there is, `kept_free` what it may become.
    let (mut taken, mut kept_free) = (0, 0);
    for Measured { turn, canary, short, switches } in queue {
        let own = own_size(&canary);
        let bytes = size(&short) + switches;
        let later = if turn == Turn::Idle { bytes } else { bytes.max(own + switches + TABLES) };
        let stays = turn < Turn::Grown;
        if matches!(turn, Turn::Grown | Turn::New) && own > ENTRY {
            let text = format!(
                "has {own} bytes of hosts, routes, conditions and cookie in its gateway's configuration, and {ENTRY} is the limit \
                 for one Canary: give fewer or shorter ones"
            );
            fitted.left_out.insert(canary.id, text);
        } else if (stays && taken + bytes > KEPT) || (!stays && kept_free + later > ENTRIES) {
            let text = format!(
                "needs {later} bytes in its gateway's configuration, where {kept_free} of {ENTRIES} are taken: wait until other \
                 rollouts are over, or release through another gateway"
            );
            fitted.left_out.insert(canary.id, text);
        } else {
            (taken, kept_free) = (taken + bytes, kept_free + later);
            placed.push((canary, short, switches));
        }
    }
    let whole: usize = placed.iter().map(|(canary, _, switches)| size(canary) + switches).sum();
    fitted.canaries =
        placed.into_iter().map(|(canary, short, _)| if whole > ENTRIES { short } else { canary }).collect();
    fitted
}

fn measured(Claim { mut canary, routes }: Claim, last: &BTreeMap<String, usize>) -> Measured {
    let turn = turn(&canary, last);
    if turn == Turn::Idle {
        // No failure is to be judged.
        canary.limits.clear();
    }
    // Failures that come late, of epochs that are over, are left to the controller.
    let limits = canary.limits.first().cloned().map(shortened);
    let short = Canary { limits: limits.into_iter().collect(), ..canary.clone() };
    let switches = routes.primary.iter().chain(&routes.canary).map(|route| SWITCH + route.len()).sum();
    Measured { turn, canary, short, switches }
}

fn turn(canary: &Canary, last: &BTreeMap<String, usize>) -> Turn {
    match (canary.reaches_canary(), last.get(&canary.id)) {
        (false, _) if canary.run.is_empty() => Turn::Idle,
        // Where gateways do not know it, none of its requests is to be taken back.
        (_, None) => Turn::New,
        (false, Some(before)) if own_size(canary) <= *before => Turn::Rollback,
        (true, Some(before)) if own_size(canary) <= *before => Turn::Unchanged,
        (true, Some(_)) if canary.fallback => Turn::Fallback,
        (_, Some(_)) => Turn::Grown,
    }
}

/// Cuts tables off after some rows. Their lines begin there then: none of them is below what the rows asked for, so that what trips
/// is a verdict all the same.
fn shortened(mut limits: Limits) -> Limits {
    let Limits { comparison, absolute, end, beyond, .. } = &mut limits;
    for ((rows, end), lines) in [comparison, absolute].into_iter().zip(end).zip(beyond) {
        let Some([from, _]) = rows.get(ROWS).copied().filter(|_| !lines.is_empty()) else { continue };
        let new_end = from.saturating_sub(1);
        let back = u64::from(end.saturating_sub(new_end));
        for [base, growth] in lines {
            // Both numbers of a line were rounded up: it must not be followed further down than the true one falls.
            let down = back * u64::from(growth.saturating_sub(1)) / u64::from(LINE);
            *base = base.saturating_sub(u32::try_from(down).unwrap_or(u32::MAX)).max(rows[ROWS - 1][1]);
        }
        rows.truncate(ROWS);
        *end = new_end;
    }
    limits
}

/// Returns the bytes of an entry as it stands in the object, where the configuration is a text in JSON: quotes are two bytes there.
fn size(canary: &Canary) -> usize {
    let text = serde_json::to_string(canary).unwrap_or_default();
    // And the comma after it.
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count() + 1
}

/// Returns the bytes of what a user has written, and of nothing that changes by itself.
fn own_size(canary: &Canary) -> usize {
    let (limits, run, weight) = (Vec::new(), String::new(), Weight::ZERO);
    let matched = canary.matched.clone().map(|matched| MatchedSplit { weight, ..matched });
    size(&Canary { limits, run, weight, matched, epoch: 0, fallback: false, ..canary.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::evidence::{Absolute, Comparison, Onset, guard};
    use weir_wire::Config;

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

    /// As [`super::fit`], with the routes that a Canary has.
    fn fit(canaries: Vec<Canary>, last: &BTreeMap<String, usize>) -> Fitted {
        let routes = |canary: &Canary| RouteNames {
            primary: canary.routes.clone(),
            canary: canary.routes.iter().map(|route| format!("{route}/canary")).collect(),
        };
        super::fit(canaries.into_iter().map(|canary| Claim { routes: routes(&canary), canary }).collect(), last)
    }

    fn pushed(canaries: &[Canary]) -> BTreeMap<String, usize> {
        sizes(canaries)
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
        let switches: usize =
            config.canaries.iter().flat_map(|canary| &canary.routes).map(|route| 2 * (SWITCH + route.len()) + 7).sum();
        assert!(object.len() + switches < 1 << 20, "{} {switches}", object.len());
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
    fn a_start_at_weight_0_is_no_rollback_and_takes_nobodys_place() {
        let running = full();
        let mut desired = running.clone();
        desired.extend((0..1).map(|id| canary(id, 0, 15_000)));
        let fitted = fit(desired.clone(), &pushed(&running));
        assert_eq!(left_out(&fitted), [0]);
        // Nor is one that has grown while it had none.
        let small = [running.clone(), vec![canary(0, 0, 1_000)]].concat();
        let fitted = fit(desired, &pushed(&small));
        assert_eq!(left_out(&fitted), [0]);
    }

    #[test]
    fn an_answer_that_was_pushed_stays_the_answer() {
        let desired: Vec<Canary> = (0..600).map(ordinary).chain((600..640).map(|id| canary(id, 100, 15_000))).collect();
        let first = fit(desired.clone(), &BTreeMap::new());
        assert!(!first.left_out.is_empty());
        let again = fit(desired, &pushed(&first.canaries));
        assert_eq!((again.canaries, again.left_out.len()), (first.canaries, first.left_out.len()));
    }

    #[test]
    fn a_canary_that_serves_for_its_primary_keeps_its_place_when_it_grows() {
        let running = full();
        let mut desired = running.clone();
        desired[0] = Canary { fallback: true, ..canary(1, 10_000, 16_300) };
        let fitted = fit(desired, &pushed(&running));
        assert_eq!(left_out(&fitted), [0; 0]);
    }

    #[test]
    fn a_table_that_is_cut_off_asks_for_no_less_than_before() {
        let mut onset = Onset::new(Comparison::WEIGHTS.len());
        onset.begin_block(&Comparison::WEIGHTS);
        let comparison = guard::comparison(&Comparison::EQUAL, &onset, 0.05, 200.0, guard::ROWS);
        let mut onset = Onset::new(Absolute::WEIGHTS.len());
        onset.begin_block(&Absolute::WEIGHTS);
        let absolute = guard::absolute(&Absolute::at(0.05), &onset, 200.0, guard::ROWS);
        let whole = Limits {
            epoch: 9,
            comparison: comparison.rows,
            absolute: absolute.rows,
            end: [comparison.end, absolute.end],
            beyond: [comparison.beyond, absolute.beyond],
        };
        let short = shortened(whole.clone());
        assert_eq!((short.comparison.len(), short.absolute.len()), (ROWS, ROWS));
        for count in (0..3_000).chain([10_000, 100_000, 5_000_000]) {
            let pairs = [
                (short.comparison_limit(count), whole.comparison_limit(count)),
                (short.absolute_limit(count), whole.absolute_limit(count)),
            ];
            for (short, whole) in pairs {
                assert!(short >= whole && short.is_none() == whole.is_none(), "{count}: {short:?} {whole:?}");
                assert!(short.unwrap_or_default() <= whole.unwrap_or_default() * 2 + 8, "{count}: {short:?} {whole:?}");
            }
        }
        let fits = Limits { comparison: vec![[0, 3]], ..Limits::default() };
        assert_eq!(shortened(fits.clone()), fits);
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
