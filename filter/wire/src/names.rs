//! Names of the filter's metrics: written by the filter, read by the controller from Envoy's `/stats/prometheus`.
//!
//! Only `[a-z0-9_]`: Envoy's and the agent's Prometheus endpoints lose anything else. All are per gateway process.
//!
//! | name | type | meaning |
//! |---|---|---|
//! | `weir_<id>_<slot>_<arm>_<cohort>_<kind>` | counter | one of [`Kind`], for requests assigned in the epoch that owns the slot |
//! | `weir_<id>_late` | counter | streams that ended eight or more epochs after they were assigned |
//! | `weir_<id>_refused` | counter | requests that were chosen for the canary and sent to the primary, because enough were outstanding there or nobody served it; they are in no arm |
//! | `weir_<id>_tripped` | gauge | the epoch whose table tripped the guard, 0 while it has not |
//! | `weir_<id>_trip_test` | gauge | which table tripped: 1 comparison, 2 absolute |
//! | `weir_<id>_held` | gauge | failed canary requests of the run, while they are as many as the process may count before the controller has seen them ([`crate::Canary::lease`]); else 0 |
//! | `weir_vms_<slot>` | gauge | VMs (workers and the main thread's) that run the generation below |
//! | `weir_generation_<slot>` | gauge | the generation that `weir_vms_<slot>` counts; slot = generation % 8 |
//! | `weir_boot` | gauge | random per process, never 0; another value means that every counter began at 0 again |
//! | `weir_disarmed` | gauge | 1 when the dead man's switch keeps this process on the primary |
//! | `weir_level` | gauge | which additions to the configuration the module knows ([`LEVEL`]); a module of before this gauge knows none |

use std::fmt;

use crate::SLOTS;

/// Prefix of every metric of the filter.
pub const PREFIX: &str = "weir_";
/// Random number of the process.
pub const BOOT: &str = "weir_boot";
/// Whether the dead man's switch holds.
pub const DISARMED: &str = "weir_disarmed";

/// Which additions to the configuration the module knows.
pub const LEVEL_NAME: &str = "weir_level";
/// What this module knows: [`MATCHED`], [`DIRECT`], [`LEASED`].
pub const LEVEL: u64 = 3;
/// From this level on a module knows [`crate::Canary::matched`].
pub const MATCHED: u64 = 1;
/// From this level on a module knows [`crate::Canary::direct`].
pub const DIRECT: u64 = 2;
/// From this level on a module knows [`crate::Canary::lease`].
pub const LEASED: u64 = 3;

/// Returns the name that routes to the Service of a canary's own have while the filter is on for them: whatever name of the Service
/// a request has, it comes by this route.
#[must_use]
pub fn direct_route(id: &str) -> String {
    format!("weir/{id}/direct")
}

/// Which revision served a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arm {
    /// The revision in production.
    Primary,
    /// The revision under test.
    Canary,
}

/// Why a request was given its arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cohort {
    /// An independent random draw. Only these enter the comparison of the arms.
    Draw,
    /// The conditions of `match` alone chose the arm: the canary, or where only matching requests are drawn the primary.
    Match,
    /// The client's cookie.
    Sticky,
    /// It called the canary's own Service by its name, as load tests do. Always the canary's. A filter of before this cohort never
    /// counts it.
    Direct,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Requests given this arm, counted at the choice.
    Assigned,
    /// Ended well.
    Success,
    /// Ended badly.
    Failure,
    /// The client left before the response was complete.
    Abandoned,
    /// Ended and says nothing of the arm: the gateway or another filter answered (a redirect, a direct response), or the client
    /// broke off what came in time. It is in none of the three above, and no test may take it for a request that is still under
    /// way: under way are `assigned - success - failure - abandoned - unjudged`. A filter of before this kind never counts it.
    Unjudged,
    /// A success whose answer a client can cause: 4xx, or a gRPC status like it (UNIMPLEMENTED, NOT_FOUND, DEADLINE_EXCEEDED
    /// of the client's own deadline, ...). Counted beside `success`. No fault of a server by itself, and evidence only where
    /// the arms differ: draws are random, so a share that differs is the revision's. A filter of before this kind never counts it.
    ClientError,
    /// Ended within the latency edge of this index and above the one before; the last index is the rest.
    Latency(u8),
}

impl Arm {
    /// Both arms.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Canary];
    /// Returns the word in metric names.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Canary => "canary",
        }
    }
}

impl Cohort {
    /// Every cohort.
    pub const ALL: [Self; 4] = [Self::Draw, Self::Match, Self::Sticky, Self::Direct];
    /// Returns the word in metric names.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Draw => "draw",
            Self::Match => "match",
            Self::Sticky => "sticky",
            Self::Direct => "direct",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assigned => f.write_str("assigned"),
            Self::Success => f.write_str("success"),
            Self::Failure => f.write_str("failure"),
            Self::Abandoned => f.write_str("abandoned"),
            Self::Unjudged => f.write_str("unjudged"),
            Self::ClientError => f.write_str("client_error"),
            Self::Latency(index) => write!(f, "le_{index}"),
        }
    }
}

/// Returns whether `id` is 16 lower-case hex digits.
#[must_use]
pub fn is_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A metric of the filter, parsed or to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric<'a> {
    /// A counter of requests.
    Requests {
        /// The canary.
        id: &'a str,
        /// `epoch % SLOTS`.
        slot: u8,
        /// The arm.
        arm: Arm,
        /// The cohort.
        cohort: Cohort,
        /// What is counted.
        kind: Kind,
    },
    /// Streams that outlived their slot.
    Late(&'a str),
    /// Requests that were kept from the canary: enough were outstanding, or nobody served it.
    Refused(&'a str),
    /// The epoch whose table tripped.
    Tripped(&'a str),
    /// Which table tripped: 1 comparison, 2 absolute.
    TripTest(&'a str),
    /// Failed canary requests of the run that the controller is waited for to see.
    Held(&'a str),
    /// VMs on the generation of this slot.
    Vms(u8),
    /// The generation of this slot.
    Generation(u8),
    /// Random number of the process.
    Boot,
    /// Whether the dead man's switch holds.
    Disarmed,
    /// Which additions to the configuration the module knows.
    Level,
}

impl fmt::Display for Metric<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Requests { id, slot, arm, cohort, kind } => {
                write!(f, "{PREFIX}{id}_{slot}_{}_{}_{kind}", arm.word(), cohort.word())
            }
            Self::Late(id) => write!(f, "{PREFIX}{id}_late"),
            Self::Refused(id) => write!(f, "{PREFIX}{id}_refused"),
            Self::Tripped(id) => write!(f, "{PREFIX}{id}_tripped"),
            Self::TripTest(id) => write!(f, "{PREFIX}{id}_trip_test"),
            Self::Held(id) => write!(f, "{PREFIX}{id}_held"),
            Self::Vms(slot) => write!(f, "{PREFIX}vms_{slot}"),
            Self::Generation(slot) => write!(f, "{PREFIX}generation_{slot}"),
            Self::Boot => f.write_str(BOOT),
            Self::Disarmed => f.write_str(DISARMED),
            Self::Level => f.write_str(LEVEL_NAME),
        }
    }
}

impl<'a> Metric<'a> {
    /// Reads a metric's name; nothing for a name that is not the filter's, or a newer filter's.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        match name {
            BOOT => return Some(Self::Boot),
            DISARMED => return Some(Self::Disarmed),
            LEVEL_NAME => return Some(Self::Level),
            _ => {}
        }
        let (head, rest) = name.strip_prefix(PREFIX)?.split_once('_')?;
        match head {
            "vms" => return slot(rest).map(Self::Vms),
            "generation" => return slot(rest).map(Self::Generation),
            _ if is_id(head) => {}
            _ => return None,
        }
        match rest {
            "late" => return Some(Self::Late(head)),
            "refused" => return Some(Self::Refused(head)),
            "tripped" => return Some(Self::Tripped(head)),
            "trip_test" => return Some(Self::TripTest(head)),
            "held" => return Some(Self::Held(head)),
            _ => {}
        }
        let mut words = rest.splitn(4, '_');
        let slot = slot(words.next()?)?;
        let arm = words.next()?;
        let cohort = words.next()?;
        let kind = match words.next()? {
            "assigned" => Kind::Assigned,
            "success" => Kind::Success,
            "failure" => Kind::Failure,
            "abandoned" => Kind::Abandoned,
            "unjudged" => Kind::Unjudged,
            "client_error" => Kind::ClientError,
            other => Kind::Latency(other.strip_prefix("le_")?.parse().ok()?),
        };
        Some(Self::Requests {
            id: head,
            slot,
            arm: Arm::ALL.into_iter().find(|a| a.word() == arm)?,
            cohort: Cohort::ALL.into_iter().find(|c| c.word() == cohort)?,
            kind,
        })
    }
}

fn slot(text: &str) -> Option<u8> {
    text.parse().ok().filter(|slot| u64::from(*slot) < SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_name_reads_back_as_itself() {
        let id = "a3f09c11d2e4b877";
        let ended = [Kind::Success, Kind::Failure, Kind::Abandoned, Kind::Unjudged];
        let kinds = ended.into_iter().chain([Kind::Assigned, Kind::ClientError, Kind::Latency(0), Kind::Latency(29)]);
        for slot in 0..8 {
            for arm in Arm::ALL {
                for cohort in Cohort::ALL {
                    for kind in kinds.clone() {
                        let metric = Metric::Requests { id, slot, arm, cohort, kind };
                        assert_eq!(Metric::parse(&metric.to_string()), Some(metric));
                    }
                }
            }
            for metric in [Metric::Vms(slot), Metric::Generation(slot)] {
                assert_eq!(Metric::parse(&metric.to_string()), Some(metric));
            }
        }
        let others =
            [Metric::Late(id), Metric::Refused(id), Metric::Tripped(id), Metric::TripTest(id), Metric::Held(id)];
        for metric in others.into_iter().chain([Metric::Boot, Metric::Disarmed, Metric::Level]) {
            assert_eq!(Metric::parse(&metric.to_string()), Some(metric));
        }
    }

    #[test]
    fn names_of_other_programs_and_newer_filters_are_ignored() {
        for name in [
            "envoy_requests",
            "weir_",
            "weir_vms_8",
            "weir_a3f09c11d2e4b877_9_canary_draw_success",
            "weir_a3f09c11d2e4b877_1_canary_draw_le_x",
            "weir_A3F09C11D2E4B877_late",
            "weir_a3f09c11d2e4b877_new_thing",
        ] {
            assert_eq!(Metric::parse(name), None, "{name}");
        }
    }
}
