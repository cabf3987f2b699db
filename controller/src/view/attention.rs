//! Who has to do something about a Canary.

use serde::{Deserialize, Serialize};
use weir_engine::{Phase, Span};

use super::CanaryView;

/// Who has to do something about a Canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// A person: without one it stays as it is.
    Person,
    /// Nobody: it moves by itself.
    Moving,
    /// Nobody: it has nothing to do.
    #[default]
    Resting,
}

/// Reasons with which a Canary stays as it is until a person does something.
const HELD: [&str; 9] = [
    "Suspended",
    "Paused",
    "WaitingForGate",
    "ModuleTooOld",
    "NoGateway",
    "NoCaller",
    "Insufficient",
    "NoSyntheticLoad",
    "Observing",
];

/// Longest time for which gateways, pods and other programs keep a release waiting where all is well.
const SOON: Span = Span::seconds(60);
/// The same of whole workloads: Kubernetes' own default of `progressDeadlineSeconds`.
const LATER: Span = Span::seconds(600);

/// Reasons that pass by themselves where all is well, and how long they last there at most.
const PASSING: [(&str, Span); 12] = [
    ("FilterOff", SOON),
    ("NotRoutable", SOON),
    ("NotAcknowledged", SOON),
    ("CanaryNotReady", SOON),
    ("PrimaryNotReady", SOON),
    ("WaitingForAnswer", SOON),
    ("WaitingForRequests", SOON),
    ("WaitingForScrape", SOON),
    ("Draining", SOON),
    ("Initializing", LATER),
    ("Promoting", LATER),
    ("Terminating", LATER),
];

/// Returns whether a reason that has lasted so long passes by itself no more, as far as one may expect.
#[must_use]
pub fn is_overdue(reason: &str, lasted: Span) -> bool {
    PASSING.iter().any(|(passing, longest)| *passing == reason && lasted > *longest)
}

impl Attention {
    /// Returns its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Moving => "moving",
            Self::Resting => "resting",
        }
    }

    /// Returns who has to do something about a Canary.
    #[must_use]
    pub fn of(view: &CanaryView) -> Self {
        let held = HELD.contains(&view.reason.as_str()) || view.overdue;
        match view.phase {
            _ if view.stalled || view.paused || view.phase == Phase::Failed => Self::Person,
            Phase::Initialized | Phase::Succeeded if view.run.is_empty() && !held => Self::Resting,
            _ if held => Self::Person,
            _ => Self::Moving,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_person_is_told_from_what_moves_and_what_rests() {
        let view = |phase, reason: &str| CanaryView { phase, reason: reason.into(), ..CanaryView::default() };
        for (view, expected) in [
            (view(Phase::Failed, "GuardTripped"), Attention::Person),
            (view(Phase::Progressing, "WaitingForGate"), Attention::Person),
            (CanaryView { paused: true, ..view(Phase::Progressing, "Paused") }, Attention::Person),
            (CanaryView { stalled: true, ..view(Phase::Succeeded, "InvalidSpec") }, Attention::Person),
            (CanaryView { overdue: true, ..view(Phase::Progressing, "FilterOff") }, Attention::Person),
            (view(Phase::Progressing, "FilterOff"), Attention::Moving),
            (view(Phase::Initialized, "Suspended"), Attention::Person),
            (view(Phase::Progressing, "Observing"), Attention::Person),
            (view(Phase::Progressing, "Analysing"), Attention::Moving),
            (CanaryView { run: "r".into(), ..view(Phase::Succeeded, "Draining") }, Attention::Moving),
            (view(Phase::Succeeded, "UpToDate"), Attention::Resting),
        ] {
            assert_eq!(Attention::of(&view), expected, "{view:?}");
        }
    }

    #[test]
    fn a_reason_that_passes_by_itself_is_overdue_after_its_time_and_one_that_counts_down_never_is() {
        for (reason, seconds, expected) in [
            ("FilterOff", 60, false),
            ("FilterOff", 61, true),
            ("Promoting", 61, false),
            ("Promoting", 601, true),
            ("Analysing", 100_000, false),
            ("Undecided", 100_000, false),
        ] {
            assert_eq!(is_overdue(reason, Span::seconds(seconds)), expected, "{reason} {seconds}");
        }
    }
}
