//! A reference to something that is not there yet: it may be on its way, in the next file that Flux or a person applies.
//!
//! Flux fails a `Stalled` object at once, and with it whatever depends on it. So what is missing is waited for: an object that was
//! never Ready is in progress meanwhile, and one that was stays Ready, with the reason.

use weir_engine::{Span, Timestamp};

use super::status::REFERENCES;
use crate::kubernetes::api_server::clock::timestamp;
use crate::kubernetes::kinds::canary::{CanaryStatus, Fault};

/// What a Canary refers to and others make.
const MISSING: [&str; 6] =
    ["TargetMissing", "AutoscalerMissing", "ConfigMissing", "VolumeMissing", "VolumeUnknown", "MetricUnanswerable"];
/// Time that something missing is waited for: longer than an apply of many files takes, and shorter than a person waits.
const GRACE: Span = Span::seconds(60);

/// What is missing, and since when.
#[derive(Debug, Default)]
pub(super) struct Grace(Option<(&'static str, Timestamp)>);

impl Grace {
    /// Takes in what is wrong now; returns how long it is still waited for, which is not at all where it is something else, or
    /// where a status says already that it was waited for.
    pub(super) fn left(&mut self, fault: Option<&Fault>, told: &CanaryStatus, now: Timestamp) -> Option<Span> {
        let missing = fault.map(|(reason, _)| *reason).filter(|reason| MISSING.contains(reason));
        let Some(reason) = missing else {
            self.0 = None;
            return None;
        };
        let is_told = |kind| told.conditions.iter().find(|it| it.kind == kind && it.reason == reason);
        let since = match self.0 {
            Some((of, since)) if of == reason => since,
            None if is_told("Stalled").is_some() => return None,
            // A controller that starts anew goes on waiting from where the last one was.
            None => is_told(REFERENCES).and_then(|it| timestamp(&it.last_transition_time)).unwrap_or(now),
            Some(_) => now,
        };
        self.0 = Some((reason, since));
        let waited = now.since(since);
        (waited < GRACE).then(|| Span(GRACE.0 - waited.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::reconcile::status::{missing, stalled};

    const AT: fn(u64) -> Timestamp = |seconds| Timestamp(1_000_000 + seconds * 1000);

    #[test]
    fn what_is_missing_is_waited_for_a_minute_and_only_once() {
        let (mut grace, status) = (Grace::default(), CanaryStatus::default());
        let fault: Fault = ("TargetMissing", "Deployment shop does not exist".into());
        assert_eq!(grace.left(Some(&fault), &status, AT(0)), Some(Span::seconds(60)));
        assert_eq!(grace.left(Some(&fault), &status, AT(59)), Some(Span::seconds(1)));
        assert_eq!(grace.left(Some(&fault), &status, AT(60)), None);
        // A controller that starts anew says what the last one said.
        let told = stalled(&status, fault.0, &fault.1, 1, AT(60));
        assert_eq!(Grace::default().left(Some(&fault), &told, AT(61)), None);
        assert_eq!(grace.left(None, &told, AT(70)), None);
        assert_eq!(grace.left(Some(&fault), &status, AT(80)), Some(Span::seconds(60)), "it was there in between");
    }

    #[test]
    fn a_controller_that_is_started_again_and_again_waits_no_longer_for_what_is_missing() {
        let fault: Fault = ("ConfigMissing", "ConfigMap settings does not exist".into());
        let told = missing(&CanaryStatus::default(), fault.0, &fault.1, 1, AT(0));
        assert_eq!(Grace::default().left(Some(&fault), &told, AT(40)), Some(Span::seconds(20)));
        assert_eq!(Grace::default().left(Some(&fault), &told, AT(60)), None);
        let other: Fault = ("TargetMissing", "Deployment shop does not exist".into());
        assert_eq!(Grace::default().left(Some(&other), &told, AT(60)), Some(Span::seconds(60)));
        let stalled = stalled(&told, fault.0, &fault.1, 1, AT(60));
        assert!(stalled.conditions.iter().any(|condition| condition.kind == REFERENCES), "{:?}", stalled.conditions);
    }

    #[test]
    fn what_no_later_apply_mends_is_not_waited_for() {
        for reason in ["InvalidSpec", "NameTaken", "WriteRefused"] {
            assert_eq!(Grace::default().left(Some(&(reason, String::new())), &CanaryStatus::default(), AT(0)), None);
        }
    }
}
