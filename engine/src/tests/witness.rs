//! A witness who holds the engine to its promises on every pass.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::Weight;

use super::play::sketch;
use super::world::*;
use crate::*;

/// What has to be remembered of earlier passes to judge the next one.
#[derive(Clone, Default)]
pub(super) struct Witness {
    taken_back: BTreeSet<String>,
    /// Canary requests in the world when the window of the check under way was opened.
    pub(super) served: u64,
}

impl Witness {
    pub(super) fn check(&mut self, world: &World, seen: &Observation, decision: &Decision) {
        let (before, after) = (&world.state, &decision.state);
        let text = || {
            let seen = Observation { scrapes: Vec::new(), check_results: BTreeMap::new(), ..seen.clone() };
            format!("{}\nbefore {:#?}\nafter {:#?}\nseen {seen:#?}", decision.reason, sketch(before), sketch(after))
        };

        // Every hold has a reason.
        assert!(!decision.reason.code().is_empty() && !decision.reason.to_string().trim().is_empty());
        assert!(decision.events.iter().all(|event| !event.text.is_empty() && !event.reason.is_empty()));
        assert!(decision.recheck_after > Span(0), "a pass that asks for another one at once never ends");
        // The weights sum to 10,000, and every other split has another number.
        let split = |traffic: &Traffic| {
            (traffic.weight, traffic.matching, traffic.only_matched, traffic.run.clone(), traffic.limits.clone())
        };
        assert_eq!(after.traffic.weight.parts() + after.traffic.weight.complement().parts(), 10_000);
        assert!(after.traffic.epoch >= before.traffic.epoch, "epochs never go back: {}", text());
        if split(&before.traffic) != split(&after.traffic) {
            assert!(after.traffic.epoch > before.traffic.epoch, "another split, the same epoch: {}", text());
        }

        // After a rollback decision the weight never rises for that run.
        if let Some(ended) = after.ended.as_ref().filter(|ended| ended.result == Outcome::RolledBack) {
            self.taken_back.insert(ended.run.clone());
        }
        let alone = after.canary_is_fallback && !seen.primary.available;
        if self.taken_back.contains(&after.traffic.run) && !alone {
            assert!(!after.traffic.reaches_canary(), "taken back, and yet sent requests: {}", text());
        }

        // A canary that serves because the primary cannot keeps its requests until something else serves.
        let alone_serves = !seen.primary.available && seen.canary.available && before.traffic.fallback;
        let served_all = before.traffic.weight == Weight::FULL && !before.traffic.only_matched;
        let stage = before.run.as_ref().map(|run| run.stage);
        let replaced =
            stage == Some(Stage::Returning) && before.run.as_ref().is_some_and(|run| run.revision != seen.target);
        if alone_serves && served_all && after.unrouted.is_none() && !replaced {
            assert_eq!(after.traffic.weight, Weight::FULL, "requests are led to a primary without a pod: {}", text());
            let stoppable = stage != Some(Stage::Returning) && !after.traffic.run.is_empty();
            assert!(!stoppable, "a guard can lead requests to a primary without a pod: {}", text());
        }

        // A deletion takes no primary that serves alone.
        if before.unrouted.is_none() && after.unrouted.is_some() && after.installed.is_some() {
            let serves = seen.canary.available || !seen.primary.available || seen.target_is_deleted;
            assert!(serves, "requests are led to a target that does not serve: {}", text());
        }

        // No request for a revision that is not the one under analysis, while anything else can serve it.
        if let Some(run) = &after.run
            && run.stage < Stage::Promoting
            && after.traffic.reaches_canary()
            && !alone
        {
            assert_eq!(run.revision, seen.target, "requests for another revision: {}", text());
            let in_step = run.stage == Stage::Analysing;
            assert!(in_step || run.stage == Stage::Relieving, "requests outside of a step: {}", text());
            let step = world.plan.steps.get(run.step).or(world.plan.steps.last());
            let most = step.map_or(Weight::ZERO, |step| step.weight.max(before.traffic.weight));
            assert!(!in_step || after.traffic.weight <= most, "{}", text());
        }

        // Weight 0 stands behind nothing, unless the target must have its routes first.
        let sends = world.gateways.iter().any(|pod| pod.traffic.reaches_canary());
        let splits = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Traffic(_)));
        if sends && !after.traffic.reaches_canary() && after.unrouted.is_none() && splits(&decision.actions) {
            panic!("requests are taken away only after something else: {}", text());
        }

        // The canary is not taken down under requests.
        let takes_down = |action: &Action| matches!(action, Action::Canary { replicas: Replicas::Exactly(0), .. });
        if decision.actions.iter().any(takes_down) {
            assert!(!sends, "the canary is taken down while a gateway sends to it: {}", text());
        }
        self.check_steps(world, before, decision, &text);
    }

    /// Nothing is promoted that was not analysed, and what is promoted is what was analysed.
    fn check_steps(&mut self, world: &World, before: &State, decision: &Decision, text: &dyn Fn() -> String) {
        let after = &decision.state;
        let installs = |action: &Action| {
            let news = |to: &Revision| ![&before.installed, &before.promoted].contains(&&Some(to.clone()));
            matches!(action, Action::Primary { revision, .. } if news(revision))
        };
        let relieving = |state: &State| state.run.as_ref().is_some_and(|run| run.stage == Stage::Relieving);
        let installs = decision.actions.iter().any(installs) && after.phase != Phase::Initializing;
        if installs {
            let run = before.run.as_ref().unwrap();
            assert_eq!(after.installed.as_ref(), Some(&run.revision), "not what was analysed: {}", text());
        }
        // The analysis ends where the promotion begins, be it with the canary that takes all of the traffic first.
        if (installs || relieving(after)) && !relieving(before) {
            let run = before.run.as_ref().unwrap();
            let asked = world.plan.skip_analysis || run.promote || after.run.as_ref().is_some_and(|run| run.promote);
            let alone = before.canary_is_fallback && !world.primary.available;
            let last = run.step + 1 >= world.plan.steps.len() || alone;
            assert!(asked || (last && run.stage == Stage::Analysing), "promoted too early: {}", text());
            if !asked && !run.check_passed {
                self.check_window(world, before, text);
            }
        }
        if let (Some(old), Some(new)) = (&before.run, &after.run)
            && old.id == new.id
        {
            assert!(new.step == old.step || new.step == old.step + 1, "a step was left out: {}", text());
            if (new.step > old.step || new.check_passed) && !old.check_passed {
                self.check_window(world, before, text);
            }
        }
    }

    /// The check that passes now saw its requests.
    fn check_window(&self, world: &World, before: &State, text: &dyn Fn() -> String) {
        let Some(run) = &before.run else { return };
        let step = world.plan.steps.get(run.step).or(world.plan.steps.last()).copied();
        let built_in = world.plan.checks.iter().any(|check| check.source != Source::Template);
        if step.is_some_and(|step| step.judged) && built_in && !before.canary_is_fallback {
            let served = world.served[1] - self.served;
            assert!(served >= world.plan.min_requests, "a check of {served} requests passed: {}", text());
        }
    }
}
