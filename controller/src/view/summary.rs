//! Every Canary in a line, and what changed of them since somebody looked last: a page of a thousand Canaries is sent once, and then
//! what moves.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use weir_engine::{Phase, Timestamp};

use super::{ArmView, Attention, CanaryView};

/// Canaries that were gone are remembered so many: who looked longer ago than that is sent everything.
const GONE: usize = 256;

/// One Canary in a line. What is as usual is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// The Canary's namespace.
    pub namespace: String,
    /// The Canary's name.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// When it got there.
    #[serde(skip_serializing_if = "is_default")]
    pub since: Timestamp,
    /// Stable code of the reason.
    #[serde(skip_serializing_if = "is_default")]
    pub reason: String,
    /// The reason in words; nothing of a Canary at rest.
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
    /// Who has to do something.
    #[serde(skip_serializing_if = "is_default")]
    pub attention: Attention,
    /// Whether it cannot work as it is.
    #[serde(skip_serializing_if = "is_default")]
    pub stalled: bool,
    /// Whether whoever is told this may not be told the rest.
    #[serde(skip_serializing_if = "is_default")]
    pub restricted: bool,
    /// Whether a person paused it.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: bool,
    /// Percent that gateways were asked to send to the canary.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: f64,
    /// Whether requests that meet a condition go to the canary.
    #[serde(skip_serializing_if = "is_default")]
    pub matching: bool,
    /// Whether the weight is a share of the requests that meet a condition.
    #[serde(skip_serializing_if = "is_default")]
    pub only_matched: bool,
    /// The step under way, and how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<[usize; 2]>,
    /// Canary requests of the rollout that failed, of those that ended.
    #[serde(skip_serializing_if = "is_default")]
    pub canary: [u64; 2],
    /// Primary requests of the rollout that failed, of those that ended.
    #[serde(skip_serializing_if = "is_default")]
    pub primary: [u64; 2],
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What changed of the Canaries since somebody looked last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// What to say next time.
    pub cursor: String,
    /// Whether these are all: whatever else was known is gone.
    pub whole: bool,
    /// Those that changed.
    pub items: Vec<Summary>,
    /// Namespace and name of those that are gone.
    pub gone: Vec<(String, String)>,
    /// What is wrong with objects that could not be used.
    pub problems: Vec<String>,
}

/// Every Canary in a line, each with the number of its last change.
#[derive(Debug)]
pub struct Summaries {
    /// Tells the numbers of this program from those of another.
    origin: u32,
    number: u64,
    items: BTreeMap<(String, String), (u64, Summary)>,
    gone: VecDeque<(u64, (String, String))>,
    /// The number of the last change that is not remembered any more.
    forgotten: u64,
    problems: (u64, Vec<String>),
}

impl Default for Summaries {
    fn default() -> Self {
        Self {
            origin: rand::random(),
            number: 1,
            items: BTreeMap::new(),
            gone: VecDeque::new(),
            forgotten: 0,
            problems: (1, Vec::new()),
        }
    }
}

impl Summaries {
    /// Returns the number of the last change.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Says that something changed that stands in no line: who waits for changes looks again.
    pub fn touch(&mut self) {
        self.number += 1;
    }

    /// Shows a Canary as it stands.
    pub fn put(&mut self, summary: Summary) {
        let key = (summary.namespace.clone(), summary.name.clone());
        if self.items.get(&key).is_some_and(|(_, known)| *known == summary) {
            return;
        }
        self.number += 1;
        self.items.insert(key, (self.number, summary));
    }

    /// Shows a Canary no more.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if self.items.remove(&key).is_none() {
            return;
        }
        self.number += 1;
        self.gone.push_back((self.number, key));
        if self.gone.len() > GONE
            && let Some((number, _)) = self.gone.pop_front()
        {
            self.forgotten = number;
        }
    }

    /// Returns whether a Canary is shown.
    #[must_use]
    pub fn contains(&self, namespace: &str, name: &str) -> bool {
        self.items.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// Says what is wrong with objects that cannot be used.
    pub fn set_problems(&mut self, problems: &[String]) {
        if self.problems.1 != problems {
            self.number += 1;
            self.problems = (self.number, problems.to_vec());
        }
    }

    /// Shows these Canaries and no others.
    pub fn replace(&mut self, items: Vec<Summary>) {
        let stays = |key: &(String, String)| items.iter().any(|item| item.namespace == key.0 && item.name == key.1);
        let gone: Vec<_> = self.items.keys().filter(|key| !stays(key)).cloned().collect();
        gone.iter().for_each(|(namespace, name)| self.remove(namespace, name));
        items.into_iter().for_each(|item| self.put(item));
    }

    /// Takes in what changed elsewhere.
    pub fn apply(&mut self, changes: Changes) {
        self.set_problems(&changes.problems);
        if changes.whole {
            return self.replace(changes.items);
        }
        changes.gone.iter().for_each(|(namespace, name)| self.remove(namespace, name));
        changes.items.into_iter().for_each(|item| self.put(item));
    }

    /// Returns what changed since a cursor was given; everything where it is not known.
    #[must_use]
    pub fn since(&self, cursor: &str) -> Changes {
        let known = cursor.split_once('-').filter(|(origin, _)| *origin == self.origin.to_string());
        let number = known.and_then(|(_, number)| number.parse::<u64>().ok());
        let number = number.filter(|number| (self.forgotten..=self.number).contains(number));
        let after = number.unwrap_or_default();
        let newer = |changed: u64| changed > after;
        Changes {
            cursor: format!("{}-{}", self.origin, self.number),
            whole: number.is_none(),
            items: self.items.values().filter(|(at, _)| newer(*at)).map(|(_, item)| item.clone()).collect(),
            gone: match number {
                Some(_) => self.gone.iter().filter(|(at, _)| newer(*at)).map(|(_, key)| key.clone()).collect(),
                None => Vec::new(),
            },
            problems: self.problems.1.clone(),
        }
    }
}

impl Changes {
    /// Returns whether there is nothing to tell to somebody who was told these problems.
    #[must_use]
    pub fn is_silent(&self, problems: &[String]) -> bool {
        !self.whole && self.items.is_empty() && self.gone.is_empty() && self.problems == problems
    }
}

impl From<&CanaryView> for Summary {
    fn from(view: &CanaryView) -> Self {
        let attention = Attention::of(view);
        let of = |arm: &ArmView| [arm.failed, arm.ended];
        let (canary, primary) = match &view.ended {
            _ if attention == Attention::Resting => ([0; 2], [0; 2]),
            // What was counted since is of no rollout.
            Some(ended) if view.phase == Phase::Failed && view.run.is_empty() => {
                ([ended.canary_failed, ended.canary_ended], [ended.primary_failed, ended.primary_ended])
            }
            _ => (of(&view.canary), of(&view.primary)),
        };
        Self {
            namespace: view.namespace.clone(),
            name: view.name.clone(),
            phase: view.phase,
            since: view.since,
            reason: view.reason.clone(),
            message: if attention == Attention::Resting { String::new() } else { view.cause().to_owned() },
            attention,
            stalled: view.stalled,
            restricted: false,
            paused: view.paused,
            weight: view.weight,
            matching: view.matching,
            only_matched: view.only_matched,
            step: view.step.as_ref().map(|step| [step.number, step.of]),
            canary,
            primary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::EndedView;

    fn summary(name: &str, weight: f64) -> Summary {
        Summary { namespace: "shop".into(), name: name.into(), weight, ..Summary::default() }
    }

    fn names(changes: &Changes) -> Vec<&str> {
        changes.items.iter().map(|item| item.name.as_str()).collect()
    }

    #[test]
    fn who_looks_again_is_told_what_changed_and_nothing_else() {
        let mut summaries = Summaries::default();
        summaries.replace(vec![summary("a", 0.0), summary("b", 0.0), summary("c", 0.0)]);
        let first = summaries.since("");
        assert!(first.whole && names(&first) == ["a", "b", "c"], "{first:?}");
        summaries.put(summary("a", 0.0));
        summaries.put(summary("b", 10.0));
        summaries.remove("shop", "c");
        let then = summaries.since(&first.cursor);
        assert!(!then.whole && names(&then) == ["b"] && then.gone == [("shop".into(), "c".into())], "{then:?}");
        assert!(summaries.since(&then.cursor).is_silent(&[]));
        summaries.set_problems(&["shop.yaml: no".into()]);
        assert!(!summaries.since(&then.cursor).is_silent(&[]));
    }

    #[test]
    fn a_cursor_of_another_program_or_of_long_ago_gets_everything() {
        let mut summaries = Summaries::default();
        summaries.put(summary("a", 0.0));
        let old = summaries.since("").cursor;
        for cursor in [Summaries::default().since("").cursor.as_str(), "x", "1-", "-1"] {
            assert!(summaries.since(cursor).whole, "{cursor}");
        }
        for n in 0..=GONE {
            let name = format!("n{n}");
            summaries.put(summary(&name, 0.0));
            summaries.remove("shop", &name);
        }
        assert!(summaries.since(&old).whole, "not all that went since is remembered");
    }

    #[test]
    fn what_is_taken_in_from_elsewhere_is_what_is_there() {
        let (mut there, mut here) = (Summaries::default(), Summaries::default());
        let mut cursor = String::new();
        for turn in 0..3 {
            there.replace((turn..turn + 3).map(|n| summary(&format!("n{n}"), f64::from(turn))).collect());
            let changes = there.since(&cursor);
            cursor.clone_from(&changes.cursor);
            here.apply(changes);
            assert_eq!(here.since("").items, there.since("").items);
        }
    }

    #[test]
    fn a_line_says_that_a_canary_cannot_work_and_what_took_a_release_back_with_its_numbers() {
        let ended = EndedView {
            reason: "GuardTripped".into(),
            message: "the guard stopped it".into(),
            canary_ended: 19,
            canary_failed: 4,
            primary_ended: 800,
            ..EndedView::default()
        };
        let failed = CanaryView {
            phase: Phase::Failed,
            reason: "GuardTripped".into(),
            message: "waiting for another one".into(),
            ended: Some(ended),
            // Of requests that came after it.
            canary: ArmView { ended: 213, ..ArmView::default() },
            ..CanaryView::default()
        };
        let line = Summary::from(&failed);
        assert_eq!((line.message.as_str(), line.canary, line.primary), ("the guard stopped it", [4, 19], [0, 800]));
        let line = Summary::from(&failed.stalled_by("InvalidSpec", "no such field"));
        assert!(line.stalled);
        assert_eq!(line.message, "no such field");
    }

    #[test]
    fn a_canary_at_rest_is_a_hundred_and_fifty_bytes() {
        let view = CanaryView {
            namespace: "production".into(),
            name: "checkout-service".into(),
            phase: Phase::Succeeded,
            reason: "UpToDate".into(),
            message: "the primary runs what the target declares".into(),
            since: Timestamp(1_790_000_000_000),
            ..CanaryView::default()
        };
        let text = serde_json::to_string(&Summary::from(&view)).unwrap();
        assert!(text.len() <= 150, "{} {text}", text.len());
    }
}
