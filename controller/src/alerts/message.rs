//! What people are told: from an event of a Canary, and how it stands at that moment, to everything that a person needs who reads it
//! on a phone: which Canary, where, which revision and images, how much traffic, the numbers, why, and what to do.

use weir_engine::{Event, Outcome, Phase, Revision, Severity, State, Timestamp};

use crate::view::paint::{count, percent, several};
use crate::view::{ArmView, CanaryView, EndedView, why};

/// Events that say how far a rollout is. Chats that keep one message for each rollout show them; others are not sent them.
pub(crate) const STEPS: [&str; 7] =
    ["Advanced", "Analysing", "CheckPassed", "ConfigChanged", "Finalising", "Promoting", "Returning"];
/// Events that are about the object alone, or about alerts: nobody is sent them.
pub(crate) const UNSENT: [&str; 4] = ["AlertNotDelivered", "Hazard", "NoEffect", "VerbIgnored"];
/// Longest text of others (a webhook's answer, a query) in a message: chats refuse long ones.
const LONGEST: usize = 1000;

/// What one alert says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// The Canary's namespace.
    pub(crate) namespace: String,
    /// The Canary's name.
    pub(crate) name: String,
    /// The cluster's name, where it was given one.
    pub(crate) cluster: Option<String>,
    /// The rollout that it is about; empty where it is about none.
    pub(crate) run: String,
    /// The Canary's phase.
    pub(crate) phase: Phase,
    /// Whether somebody should look.
    pub(crate) severity: Severity,
    /// Whether it only says how far a rollout is.
    pub(crate) step: bool,
    /// The stable code of what happened.
    pub(crate) reason: String,
    /// One line: what happened to which Canary.
    pub(crate) title: String,
    /// The event's own sentence.
    pub(crate) text: String,
    /// Name and value of everything else.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// What identifies the revision, for programs; Flagger's `checksum`.
    pub(crate) checksum: String,
    /// When it happened.
    pub(crate) at: Timestamp,
}

/// How a Canary stands when something is told of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Situation {
    /// What people see of it.
    pub(crate) view: CanaryView,
    /// The revision that is talked about.
    pub(super) revision: String,
    /// The revision of the target that was dealt with last.
    applied: String,
    /// The images that the revision changes, see [`images`].
    images: Vec<String>,
}

impl Situation {
    /// Returns how a Canary stands after a pass.
    #[must_use]
    pub(crate) fn of(view: CanaryView, state: &State, images: Vec<String>) -> Self {
        let revision = match (ended(&view), &state.run) {
            (Some(ended), _) => Some(ended.revision.clone()),
            (None, Some(run)) => Some(run.revision.0.clone()),
            (None, None) => state.promoted.as_ref().or(state.installed.as_ref()).map(ToString::to_string),
        };
        let text = |revision: &Option<Revision>| revision.as_ref().map(ToString::to_string).unwrap_or_default();
        Self { view, revision: revision.unwrap_or_default(), applied: text(&state.applied), images }
    }

    /// Returns the Canary's phase.
    pub(crate) fn phase(&self) -> &'static str {
        self.view.phase.as_str()
    }

    /// Returns what identifies the revision for programs.
    pub(crate) fn checksum(&self) -> &str {
        &self.applied
    }

    /// Returns the images that the revision changes; what is told next has none.
    pub(crate) fn take_images(&mut self) -> Vec<String> {
        std::mem::take(&mut self.images)
    }

    /// Returns how a Canary stands that the engine knows nothing of yet.
    #[must_use]
    pub(crate) fn unknown(namespace: &str, name: &str) -> Self {
        let view = CanaryView { namespace: namespace.into(), name: name.into(), ..CanaryView::default() };
        Self { view, ..Self::default() }
    }
}

/// Returns how the last rollout ended, where that is how the Canary stands.
fn ended(view: &CanaryView) -> Option<&EndedView> {
    view.ended.as_ref().filter(|_| matches!(view.phase, Phase::Succeeded | Phase::Failed))
}

impl Message {
    /// Returns what is told of an event; nothing where it is nobody's news.
    #[must_use]
    pub(crate) fn of(event: &Event, situation: &Situation, cluster: Option<&str>, at: Timestamp) -> Option<Self> {
        if UNSENT.contains(&event.reason) {
            return None;
        }
        let Situation { view, revision, applied, images } = situation;
        let step = STEPS.contains(&event.reason);
        let ended = ended(view);
        let what = headline(event, view, revision);
        let arm = |ended, failed| format!("failed {} of {}", count(failed), several(ended, "request"));
        let (seen, canary, primary) = match ended {
            Some(it) => {
                (it.canary_ended, arm(it.canary_ended, it.canary_failed), arm(it.primary_ended, it.primary_failed))
            }
            None => {
                let of = |it: &ArmView| arm(it.ended, it.failed);
                (view.canary.ended, of(&view.canary), of(&view.primary))
            }
        };
        let mut facts = Vec::new();
        let mut fact = |name, value: Option<String>| {
            facts.extend(value.filter(|value| !value.is_empty()).map(|value| (name, short(&value))));
        };
        fact("Cluster", cluster.map(str::to_owned));
        fact("Revision", Some(revision.clone()));
        fact("Images", Some(images.join(", ")));
        let weight = ended.filter(|ended| ended.result != Outcome::Promoted).map_or(view.weight, |ended| ended.weight);
        let matching = if view.matching { " and matching requests" } else { "" };
        let in_rollout = !view.run.is_empty() || ended.is_some();
        fact("Weight", in_rollout.then(|| format!("{} %{matching}", percent(weight))));
        fact("Requests", (in_rollout && seen > 0).then(|| format!("canary {canary}, primary {primary}")));
        let because = match ended {
            // The event of a failed threshold does not say what failed; the end of the rollout does.
            Some(ended) if event.severity == Severity::Error && ended.reason == event.reason => &*ended.message,
            _ => "",
        };
        fact("Reason", Some([event.reason, because].join(" ").trim().to_owned()));
        fact("Next", (!step).then(|| advice(event, view)));
        Some(Self {
            namespace: view.namespace.clone(),
            name: view.name.clone(),
            cluster: cluster.map(str::to_owned),
            run: ended.map_or_else(|| view.run.clone(), |ended| ended.run.clone()),
            phase: view.phase,
            severity: event.severity,
            step,
            reason: event.reason.to_owned(),
            title: format!("{}/{}: {what}", view.namespace, view.name),
            text: short(&event.text),
            facts,
            checksum: applied.clone(),
            at,
        })
    }

    /// Returns a sign that is seen before anything is read.
    #[must_use]
    pub(crate) fn sign(&self) -> &'static str {
        match (self.severity, self.phase) {
            _ if self.only_edits() => "⏭️",
            (Severity::Error, _) | (Severity::Info, Phase::Failed) => "❌",
            (Severity::Warning, _) => "⚠️",
            (Severity::Info, Phase::Succeeded | Phase::Initialized) => "✅",
            (Severity::Info, _) => "⏳",
        }
    }

    /// Returns the colour of its side, as `#rrggbb`: red for a failure, yellow for a hold, green for an end, blue for progress,
    /// grey for what another one replaced.
    #[must_use]
    pub(crate) fn colour(&self) -> &'static str {
        match (self.severity, self.phase) {
            _ if self.only_edits() => "#5f6368",
            (Severity::Error, _) | (Severity::Info, Phase::Failed) => "#d93025",
            (Severity::Warning, _) => "#f9ab00",
            (Severity::Info, Phase::Succeeded | Phase::Initialized) => "#188038",
            (Severity::Info, _) => "#1a73e8",
        }
    }

    /// Returns the word of its severity; Flagger's.
    #[must_use]
    pub(crate) fn level(&self) -> &'static str {
        word(self.severity)
    }
}

/// Returns the word that users write for a severity.
#[must_use]
pub(crate) fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warn",
        Severity::Error => "error",
    }
}

/// Returns the severity that a user wrote.
#[must_use]
pub(crate) fn severity(word: Option<&str>) -> Option<Severity> {
    match word.unwrap_or_default() {
        "" | "info" => Some(Severity::Info),
        "warn" => Some(Severity::Warning),
        "error" => Some(Severity::Error),
        _ => None,
    }
}

/// Returns what a revision changes of the images of its containers, each as `cart: shop/cart:1.0 → 1.1`.
#[must_use]
pub(crate) fn images<'a>(old: &[(&'a str, &'a str)], new: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let change = |(container, image): (&str, &str)| {
        let before = old.iter().find(|(name, _)| *name == container).map(|(_, image)| *image);
        let (repository, tag) = split(image);
        match before {
            Some(before) if before == image => None,
            Some(before) if split(before).0 == repository => {
                Some(format!("{container}: {repository} {} → {}", split(before).1, tag))
            }
            Some(before) => Some(format!("{container}: {before} → {image}")),
            None => Some(format!("{container}: {image}")),
        }
    };
    new.into_iter().filter_map(change).collect()
}

/// Splits an image's name from its tag or the beginning of its digest. The port of a registry is no tag.
fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest.get(.."sha256:".len() + 12).unwrap_or(digest));
    }
    let path = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[path..].rfind(':') {
        Some(colon) => (&image[..path + colon], &image[path + colon + 1..]),
        None => (image, "latest"),
    }
}

fn headline(event: &Event, view: &CanaryView, revision: &str) -> String {
    let (revision, weight) = (crate::view::paint::short(revision), percent(view.weight));
    match event.reason {
        "NewRevision" => format!("revision {revision} is being released"),
        "Initialized" => format!("set up, the primary serves revision {revision}"),
        "WaitingForGate" => {
            let gate = event.webhook.as_deref().unwrap_or("a gate");
            format!("revision {revision} waits for {gate}")
        }
        "Halted" => format!("a check of revision {revision} failed, the canary stays at {weight} %"),
        reason => match ended(view) {
            // What comes after the end (a webhook that was told of it) leaves standing how it ended.
            Some(ended) if ended.reason == reason || STEPS.contains(&reason) => {
                format!("revision {revision} {}", outcome(ended.result))
            }
            None if STEPS.contains(&reason) => {
                format!("revision {revision} is being released, canary weight {weight} %")
            }
            _ => short(&event.text),
        },
    }
}

fn outcome(result: Outcome) -> &'static str {
    match result {
        Outcome::Promoted => "is in production",
        Outcome::RolledBack => "was taken back",
        Outcome::PromotionFailed => "was not promoted, the canary serves",
        Outcome::Superseded => "was replaced",
    }
}

fn advice(event: &Event, view: &CanaryView) -> String {
    if event.reason == "GatewayUnreachable" {
        return "look at the gateway that is named: it may still send requests to the canary".into();
    }
    why::advice(view)
}

pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::Run;

    fn view(phase: Phase) -> CanaryView {
        CanaryView { namespace: "store".into(), name: "shop".into(), phase, weight: 5.0, ..CanaryView::default() }
    }

    fn facts(message: &Message) -> Vec<String> {
        message.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn a_rollback_says_which_revision_where_by_what_numbers_why_and_what_to_do() {
        let ended = EndedView {
            run: "r1".into(),
            revision: "5c6b7d8e9f".into(),
            result: Outcome::RolledBack,
            reason: "EvidenceBad".into(),
            message: "the evidence of failures is a verdict".into(),
            weight: 5.0,
            canary_ended: 41,
            canary_failed: 3,
            primary_ended: 792,
            ..EndedView::default()
        };
        let view = CanaryView { ended: Some(ended), weight: 0.0, ..view(Phase::Failed) };
        let images = vec!["app: store/shop 1.0 → 1.1".to_owned()];
        let situation = Situation::of(view, &State::default(), images);
        let event = Event::new(Severity::Error, "EvidenceBad", "Rolling back shop.store …");
        let message = Message::of(&event, &situation, Some("eu-1"), Timestamp(0)).unwrap();
        assert_eq!(message.title, "store/shop: revision 5c6b7d8e was taken back");
        assert_eq!((message.level(), message.run.as_str(), message.step), ("error", "r1", false));
        assert_eq!(
            facts(&message),
            [
                "Cluster: eu-1",
                "Revision: 5c6b7d8e9f",
                "Images: app: store/shop 1.0 → 1.1",
                "Weight: 5 %",
                "Requests: canary failed 3 of 41 requests, primary failed 0 of 792 requests",
                "Reason: EvidenceBad the evidence of failures is a verdict",
                "Next: change the target: a new revision is analysed; or `weir retry -n store shop` to analyse the same one again",
            ]
        );
    }

    #[test]
    fn a_step_says_the_weight_and_nothing_that_is_to_be_done() {
        let run = Run { id: "r1".into(), revision: Revision("abc".into()), ..Run::default() };
        let state = State { phase: Phase::Progressing, run: Some(run), ..State::default() };
        let view = CanaryView { run: "r1".into(), ..view(Phase::Progressing) };
        let situation = Situation::of(view, &state, Vec::new());
        let event = Event::new(Severity::Info, "Advanced", "Advance shop.store canary weight 5");
        let message = Message::of(&event, &situation, None, Timestamp(0)).unwrap();
        assert_eq!(message.title, "store/shop: revision abc is being released, canary weight 5 %");
        assert!(message.step && message.facts.iter().all(|(name, _)| *name != "Next"), "{:?}", message.facts);
        let silent = Event::new(Severity::Warning, "NoEffect", "…");
        assert_eq!(Message::of(&silent, &situation, None, Timestamp(0)), None);
    }

    #[test]
    fn what_comes_after_the_end_leaves_standing_how_it_ended() {
        for (result, phase, sign, expected) in [
            (Outcome::Promoted, Phase::Succeeded, "✅", "store/shop: revision abc is in production"),
            (Outcome::RolledBack, Phase::Failed, "❌", "store/shop: revision abc was taken back"),
        ] {
            let ended = EndedView { revision: "abc".into(), result, ..EndedView::default() };
            let view = CanaryView { ended: Some(ended), ..view(phase) };
            let event = Event::new(Severity::Info, "CheckPassed", "Post-rollout check mail passed");
            let situation = Situation::of(view, &State::default(), Vec::new());
            let message = Message::of(&event, &situation, None, Timestamp(0)).unwrap();
            assert_eq!((message.title.as_str(), message.sign()), (expected, sign));
        }
    }

    #[test]
    fn images_are_shown_by_what_changes_of_them() {
        let old =
            [("app", "ghcr.io:443/store/shop:1.0"), ("proxy", "envoy:v1"), ("log", "a/fluent@sha256:0123456789abcdef")];
        let new = [
            ("app", "ghcr.io:443/store/shop:1.1"),
            ("proxy", "envoy:v1"),
            ("log", "a/fluent@sha256:fedcba9876543210"),
            ("new", "localhost:5000/tool"),
        ];
        assert_eq!(
            images(&old, new),
            [
                "app: ghcr.io:443/store/shop 1.0 → 1.1",
                "log: a/fluent sha256:0123456789ab → sha256:fedcba987654",
                "new: localhost:5000/tool"
            ]
        );
        assert_eq!(images(&[("app", "a/x:1")], [("app", "b/x:1")]), ["app: a/x:1 → b/x:1"]);
        assert_eq!(images(&[("app", "tool")], [("app", "tool:2")]), ["app: tool latest → 2"]);
    }

    #[test]
    fn a_text_of_others_is_cut_where_it_is_long_and_never_inside_a_letter() {
        let long = "ä".repeat(LONGEST + 1);
        assert_eq!(short(&long).chars().count(), LONGEST + 1);
        assert_eq!(short("kurz"), "kurz");
    }
}
