//! A rollout as a line over time: what its view was, at most [`POINTS`] times. It is kept where the rollout is decided, and is gone with
//! that program.

use serde::{Deserialize, Serialize};
use weir_engine::evidence::GOOD;
use weir_engine::{Span, Timestamp};

use super::{ArmView, CanaryView, EvidenceView, MetricView};

/// Points of one rollout. A page draws one for each two of its pixels.
pub const POINTS: usize = 300;
/// Time between two points at first. A rollout of five minutes has one for each second; longer ones have them further apart.
const EVERY: Span = Span::seconds(1);

/// One moment of a rollout. Small, since a thousand Canaries may have three hundred each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Point {
    /// Milliseconds since the first point.
    pub ms: u32,
    /// Percent that was asked for.
    pub asked: f32,
    /// Percent of the drawn requests that went to the canary since the step began; nothing while none was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<f32>,
    /// Canary requests that had failed, of those that had ended.
    pub canary: [u32; 2],
    /// Primary requests that had failed, of those that had ended.
    pub primary: [u32; 2],
    /// How much of the way to the verdict bad had been gone: 1 is the verdict.
    pub bad: f32,
    /// How much of the way to the verdict good had been gone.
    pub good: f32,
}

/// A rollout as a line over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The rollout.
    pub run: String,
    /// When its first point was seen: later than it began where another program decided before.
    pub from: Timestamp,
    /// What was seen, oldest first.
    pub points: Vec<Point>,
    /// Least time between two points that stay.
    #[serde(skip, default = "every")]
    every: Span,
}

/// What was seen of a rollout when it was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastView {
    /// The rollout.
    pub run: String,
    /// The revision in production, as its requests had ended.
    pub primary: ArmView,
    /// The revision under test, as its requests had ended.
    pub canary: ArmView,
    /// The evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceView>,
    /// The metrics of a check, with their last values.
    pub metrics: Vec<MetricView>,
    /// Whether it was decided: what is counted afterwards decided nothing.
    #[serde(skip)]
    decided: bool,
}

impl LastView {
    /// Takes in how a Canary stands.
    pub fn record(&mut self, view: &CanaryView, metrics: &[MetricView]) {
        if view.run.is_empty() || self.run == view.run && self.decided {
            return;
        }
        let Self { run, primary, canary, evidence, metrics: kept, decided } = self;
        if *run != view.run {
            (*evidence, *kept) = (None, Vec::new());
        }
        run.clone_from(&view.run);
        primary.clone_from(&view.primary);
        canary.clone_from(&view.canary);
        *decided = view.ended.as_ref().is_some_and(|ended| ended.run == view.run);
        // The way back to the primary compares nothing, and has no value.
        if view.evidence.is_some() {
            evidence.clone_from(&view.evidence);
        }
        if kept.is_empty() || metrics.iter().any(|metric| metric.value.is_some()) {
            *kept = metrics.to_vec();
        }
    }
}

fn every() -> Span {
    EVERY
}

impl History {
    /// Takes in how a Canary stands.
    pub fn record(&mut self, view: &CanaryView, at: Timestamp) {
        // What ended stays to be looked at until the next one begins.
        if view.run.is_empty() {
            return;
        }
        if self.run != view.run {
            *self = Self { run: view.run.clone(), from: at, points: Vec::new(), every: EVERY };
        }
        let point = Point::of(view, at.since(self.from));
        // The newest point moves until the one before it is old enough.
        let before = self.points.len().checked_sub(2).and_then(|i| self.points.get(i));
        let moves = before.is_some_and(|before| u64::from(point.ms.saturating_sub(before.ms)) < self.every.0);
        match self.points.last_mut() {
            Some(newest) if moves => *newest = point,
            _ => self.points.push(point),
        }
        if self.points.len() > POINTS {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.every = Span(self.every.0 * 2);
        }
    }
}

impl Point {
    fn of(view: &CanaryView, age: Span) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let (bad, good) = view.evidence.as_ref().map_or((0.0, 0.0), EvidenceView::distances);
        Self {
            ms: small(age.0),
            asked: rounded(view.weight),
            // Before the first weight it is what the last rollout left behind.
            observed: view.applied.observed.filter(|_| view.weight > 0.0).map(rounded),
            canary: [small(view.canary.failed), small(view.canary.ended)],
            primary: [small(view.primary.failed), small(view.primary.ended)],
            bad: rounded(bad),
            good: rounded(good),
        }
    }
}

/// A thousandth is finer than a line is thick.
fn rounded(value: f64) -> f32 {
    ((value * 1000.0).round() / 1000.0) as f32
}

impl EvidenceView {
    /// Returns how much of the way to the verdicts bad and good has been gone, from 0 to 1. Evidence multiplies with each request, so
    /// the ways are logarithmic: half of one is half of the requests.
    #[must_use]
    pub fn distances(&self) -> (f64, f64) {
        let bad = self.log_e / self.threshold.ln();
        let good = 1.0 + self.good.ln() / GOOD.ln();
        let within = |way: f64| if way.is_finite() { way.clamp(0.0, 1.0) } else { 0.0 };
        (within(bad), within(good))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::EndedView;

    fn view(run: &str, ended: u64) -> CanaryView {
        let mut view = CanaryView { run: run.into(), weight: 10.0, ..CanaryView::default() };
        view.canary.ended = ended;
        view
    }

    #[test]
    fn a_rollout_of_any_length_has_three_hundred_points_at_most_and_its_newest_one() {
        let mut history = History::default();
        for second in 0..100_000u64 {
            history.record(&view("r", second), Timestamp(5_000 + second * 250));
            assert!(history.points.len() <= POINTS);
            let newest = history.points.last().unwrap();
            assert_eq!(u64::from(newest.canary[1]), second, "the newest is what is now");
        }
        assert_eq!((history.from, history.points[0].ms), (Timestamp(5_000), 0));
        assert!(history.points.len() > POINTS / 3, "{}", history.points.len());
        assert!(history.points.is_sorted_by_key(|point| point.ms));
    }

    #[test]
    fn the_line_of_a_rollout_stays_until_the_next_one_begins() {
        let mut history = History::default();
        history.record(&view("r", 1), Timestamp(1));
        history.record(&view("", 0), Timestamp(9_000));
        assert_eq!((history.run.as_str(), history.points.len()), ("r", 1));
        history.record(&view("s", 0), Timestamp(10_000));
        assert_eq!((history.run.as_str(), history.points.len(), history.from), ("s", 1, Timestamp(10_000)));
    }

    #[test]
    fn what_a_rollout_was_decided_on_stays_until_the_next_one_begins() {
        let metric = |value| vec![MetricView { value, ..MetricView::default() }];
        let evidence = || Some(EvidenceView { log_e: 5.0, ..EvidenceView::default() });
        let ended = |run: &str| Some(EndedView { run: run.into(), ..EndedView::default() });
        let mut last = LastView::default();
        last.record(&CanaryView { evidence: evidence(), ..view("r", 10) }, &metric(Some(92.0)));
        last.record(&CanaryView { ended: ended("r"), ..view("r", 19) }, &metric(None));
        let decided = last.clone();
        assert_eq!(
            (decided.canary.ended, decided.evidence.clone(), decided.metrics.clone()),
            (19, evidence(), metric(Some(92.0)))
        );
        last.record(&CanaryView { ended: ended("r"), ..view("r", 213) }, &metric(None));
        last.record(&view("", 0), &metric(None));
        assert_eq!(last, decided);
        last.record(&CanaryView { ended: ended("r"), ..view("s", 1) }, &metric(None));
        assert_eq!((last.run.as_str(), last.canary.ended, last.evidence), ("s", 1, None));
    }

    #[test]
    fn ways_to_a_verdict_are_between_nothing_and_all() {
        let way = |log_e: f64, good: f64| {
            EvidenceView { log_e, good, threshold: 100.0, ..EvidenceView::default() }.distances()
        };
        assert_eq!(way(100f64.ln() / 2.0, 0.05), (0.5, 0.0));
        assert_eq!(way(-3.0, 0.0), (0.0, 0.0));
        assert_eq!(way(99.0, 1.0), (1.0, 1.0));
        assert_eq!(EvidenceView::default().distances(), (0.0, 0.0));
    }
}
