//! Whether a Canary's spec or what its target declares has changed a moment ago: one apply brings both, one after the other, and neither is
//! to hold for what runs without the other.

use weir_engine::{Revision, Span, Timestamp};

/// Time that the other one may take: longer than an apply of many files, and shorter than a person waits for an edit to take effect.
const MOMENT: Span = Span::seconds(10);

/// What was seen last, and since when.
#[derive(Debug, Default)]
pub(super) struct Fresh(Option<(Option<i64>, Revision, Option<Timestamp>)>);

impl Fresh {
    /// Takes in the generation of the spec and the revision that the target declares; returns how long they are still fresh. What a
    /// controller finds at its start is not.
    pub(super) fn left(
        &mut self,
        generation: Option<i64>,
        declared: Option<&Revision>,
        now: Timestamp,
    ) -> Option<Span> {
        let known = self.0.as_ref().map(|(_, revision, _)| revision.clone());
        let revision = declared.cloned().or(known).unwrap_or_default();
        let since = match &self.0 {
            None => None,
            Some((of, was, since)) if *of == generation && *was == revision => *since,
            Some(_) => Some(now),
        };
        self.0 = Some((generation, revision, since));
        let waited = now.since(since?);
        (waited < MOMENT).then(|| Span(MOMENT.0 - waited.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_fresh_for_a_moment_and_what_was_there_is_not() {
        let at = |seconds: u64| Timestamp(1_000_000 + seconds * 1000);
        let (one, two) = (Revision("1".into()), Revision("2".into()));
        let mut fresh = Fresh::default();
        assert_eq!(fresh.left(Some(1), Some(&one), at(0)), None);
        assert_eq!(fresh.left(Some(2), Some(&one), at(1)), Some(Span::seconds(10)));
        assert_eq!(fresh.left(Some(2), Some(&two), at(4)), Some(Span::seconds(10)));
        // A target that cannot be told declares nothing new.
        assert_eq!(fresh.left(Some(2), None, at(6)), Some(Span::seconds(8)));
        assert_eq!(fresh.left(Some(2), Some(&two), at(14)), None);
        assert_eq!(fresh.left(Some(2), Some(&one), at(15)), Some(Span::seconds(10)), "it is taken back");
    }
}
