//! What fits into one gateway's configuration: all Canaries of a gateway share one object, and etcd takes no more than 1.5 MiB of it.
//!
//! A Canary that does not fit is left out, which to the filter means that all of its requests go to the primary, and its author is
//! told the numbers. Nobody else's entry changes for it: what gateways run already stays, and every rollback has its place.

mod patterns;

use std::collections::BTreeMap;

use weir_wire::config::LINE;
use weir_wire::{Canary, Limits, Lookup, MatchedSplit, Weight};

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

/// Bytes of one Canary's compiled regular expressions: some sixty of them as they are written for cookies.
pub const PATTERNS: usize = 256 << 10;
/// Bytes of all of them. Every VM of the gateway holds them, one for each worker and one more, and compiles them with each push.
pub const ALL_PATTERNS: usize = 4 << 20;

/// How large a Canary's entry is, as far as its author decides on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of what the author has written.
    text: usize,
    /// Bytes of its regular expressions, compiled.
    patterns: usize,
}

impl Size {
    fn of(canary: &Canary) -> Self {
        Self { text: own_size(canary), patterns: patterns::size(canary) }
    }

    fn is_within(self, other: Self) -> bool {
        self.text <= other.text && self.patterns <= other.patterns
    }
}

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
    own: Size,
    canary: Canary,
    /// The same with tables as they are where many share the object.
    short: Canary,
    switches: usize,
}

/// Returns how large every Canary's entry in a configuration is, by id: what [`fit`] wants to know of the last push.
#[must_use]
pub fn sizes<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> BTreeMap<String, Size> {
    canaries.into_iter().map(|canary| (canary.id.clone(), Size::of(canary))).collect()
}

/// Chooses the entries that fit. `last` is of what gateways run.
#[must_use]
pub fn fit(claims: Vec<Claim>, last: &BTreeMap<String, Size>) -> Fitted {
    let mut queue: Vec<Measured> = claims.into_iter().map(|claim| measured(claim, last)).collect();
    queue.sort_by(|one, other| (one.turn, &one.canary.id).cmp(&(other.turn, &other.canary.id)));
    let (mut fitted, mut placed) = (Fitted::default(), Vec::new());
    // `taken` is what there is, `kept_free` what it may become.
    let (mut taken, mut kept_free, mut compiled) = (0, 0, 0);
    for Measured { turn, own, canary, short, switches } in queue {
        let bytes = size(&short) + switches;
        let later = if turn == Turn::Idle { bytes } else { bytes.max(own.text + switches + TABLES) };
        let stays = turn < Turn::Grown;
        let own_problem = match own {
            Size { text, .. } if text > ENTRY && turn != Turn::Idle => Some(format!(
                "has {text} bytes of hosts, routes, conditions and cookie in its gateway's configuration, and {ENTRY} is the limit \
                 for one Canary: give fewer or shorter ones"
            )),
            Size { patterns, .. } if patterns > PATTERNS => Some(format!(
                "has regular expressions in spec.analysis.match of {patterns} bytes, compiled, and {PATTERNS} is the limit for one \
                 Canary: give fewer or simpler ones"
            )),
            _ => None,
        };
        let problem = if stays {
            (taken + bytes > KEPT).then(|| no_room(later, kept_free))
        } else if kept_free + later > ENTRIES {
            own_problem.or_else(|| Some(no_room(later, kept_free)))
        } else if compiled + own.patterns > ALL_PATTERNS {
            own_problem.or_else(|| {
                Some(format!(
                    "needs {} bytes of compiled regular expressions in its gateway, where {compiled} of {ALL_PATTERNS} are taken: \
                     wait until other rollouts are over, or give simpler ones",
                    own.patterns
                ))
            })
        } else {
            own_problem
        };
        if let Some(problem) = problem {
            fitted.left_out.insert(canary.id, problem);
        } else {
            (taken, kept_free, compiled) = (taken + bytes, kept_free + later, compiled + own.patterns);
            placed.push((canary, short, switches));
        }
    }
    let whole: usize = placed.iter().map(|(canary, _, switches)| size(canary) + switches).sum();
    fitted.canaries =
        placed.into_iter().map(|(canary, short, _)| if whole > ENTRIES { short } else { canary }).collect();
    fitted
}

fn no_room(later: usize, kept_free: usize) -> String {
    format!(
        "needs {later} bytes in its gateway's configuration, where {kept_free} of {ENTRIES} are taken: wait until other rollouts \
         are over, or release through another gateway"
    )
}

fn measured(Claim { mut canary, routes }: Claim, last: &BTreeMap<String, Size>) -> Measured {
    let own = Size::of(&canary);
    let turn = turn(&canary, own, last);
    if turn == Turn::Idle {
        // No failure is to be judged.
        canary.limits.clear();
    }
    // Failures that come late, of epochs that are over, are left to the controller.
    let limits = canary.limits.first().cloned().map(shortened);
    let short = Canary { limits: limits.into_iter().collect(), ..canary.clone() };
    let switches =
        routes.primary.iter().chain(&routes.canary).chain(&routes.direct).map(|route| SWITCH + route.len()).sum();
    Measured { turn, own, canary, short, switches }
}

fn turn(canary: &Canary, own: Size, last: &BTreeMap<String, Size>) -> Turn {
    match (canary.reaches_canary(), last.get(&canary.id)) {
        (false, _) if canary.run.is_empty() => Turn::Idle,
        // Where gateways do not know it, none of its requests is to be taken back.
        (_, None) => Turn::New,
        (false, Some(before)) if own.is_within(*before) => Turn::Rollback,
        (true, Some(before)) if own.is_within(*before) => Turn::Unchanged,
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
    let lookup = Lookup::default();
    size(&Canary { limits, run, weight, matched, lookup, epoch: 0, fallback: false, ..canary.clone() })
}

#[cfg(test)]
mod tests;
