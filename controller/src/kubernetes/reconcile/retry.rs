//! What becomes of a pass that fails: it is made again, later each time, and what the API server refuses is told.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::kinds::canary::Fault;

/// Time to the second try. The times double from there, each with a part of chance, so that a thousand Canaries that failed
/// at once do not come back at once.
const MIN_DELAY: Duration = Duration::from_secs(1);
/// Longest time between two tries: a person who has mended something sees it within half a minute, without a change that wakes.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// However many changes wake it, a failed pass is made again only after this: what it wrote before it failed wakes it too.
pub(super) const COOLDOWN: Duration = Duration::from_millis(500);

/// Returns times between tries.
#[must_use]
pub(super) fn delays(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

/// The passes of one Canary that have failed since the last one that did not.
#[derive(Debug, Default)]
pub(super) struct Retry {
    delays: Option<ExponentialBackoff>,
    failures: u32,
    /// What is told of them.
    refused: Option<Fault>,
}

impl Retry {
    /// Takes in that a pass failed; returns when to try again, and what must be told and was not yet.
    pub(super) fn failed(&mut self, error: &ActError) -> (Duration, Option<Fault>) {
        self.failures += 1;
        let delay = self.delays.get_or_insert_with(|| delays(MIN_DELAY, MAX_DELAY)).next().unwrap_or(MAX_DELAY);
        let fault = error.fault(self.failures).filter(|fault| self.refused.as_ref() != Some(fault));
        if fault.is_some() {
            self.refused.clone_from(&fault);
        }
        (delay.min(MAX_DELAY), fault)
    }

    /// Takes in that a pass did everything; returns whether a refusal is to be told no more.
    pub(super) fn passed(&mut self) -> bool {
        std::mem::take(self).refused.is_some()
    }

    /// Returns what was refused, as long as it is.
    #[must_use]
    pub(super) fn refused(&self) -> Option<Fault> {
        self.refused.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn refused(code: u16, message: &str) -> ActError {
        let source = kube::Error::Api(Status { code, message: message.into(), ..Status::default() }.boxed());
        ActError::Write { verb: "apply", kind: "Service", name: "shop".into(), source: Box::new(source) }
    }

    #[test]
    fn tries_come_later_and_later_and_never_all_at_once() {
        let all = || {
            let mut retry = Retry::default();
            (0..12).map(|_| retry.failed(&refused(500, "")).0).collect::<Vec<_>>()
        };
        let (one, other) = (all(), all());
        assert!(
            one[0] >= MIN_DELAY && one[0] <= 2 * MIN_DELAY && one.iter().all(|delay| *delay <= MAX_DELAY),
            "{one:?}"
        );
        assert!(one[4] >= 16 * MIN_DELAY && one != other, "{one:?} {other:?}");
    }

    #[test]
    fn a_refusal_is_told_once_and_taken_back_once() {
        let mut retry = Retry::default();
        let told = retry.failed(&refused(422, "Duplicate value")).1.unwrap();
        assert_eq!(told, ("WriteRefused", "apply Service shop: Duplicate value".to_owned()));
        assert_eq!(retry.failed(&refused(422, "Duplicate value")).1, None);
        assert_eq!(retry.failed(&refused(403, "exceeded quota")).1.unwrap().1, "apply Service shop: exceeded quota");
        assert!(retry.refused().is_some() && retry.passed() && !retry.passed() && retry.refused().is_none());
    }

    #[test]
    fn what_passes_by_itself_is_told_once_it_lasts() {
        for code in [409, 429, 503, 504] {
            let mut retry = Retry::default();
            let told: Vec<bool> = (0..4).map(|_| retry.failed(&refused(code, "too many")).1.is_some()).collect();
            assert_eq!(told, [false, false, true, false], "{code}");
            assert_eq!(retry.refused().unwrap(), ("WriteRefused", "apply Service shop: too many".to_owned()));
            assert!(retry.passed() && retry.failed(&refused(code, "")).1.is_none(), "in a row");
        }
        let silent = || ActError::Timeout { verb: "apply", kind: "Service", name: "shop".into() };
        let mut retry = Retry::default();
        assert_eq!(retry.failed(&silent()).1, None);
        assert_eq!(retry.failed(&silent()).1.unwrap().0, "NoAnswer");
    }
}
