//! Every happening in every situation, to a bounded depth: twice in a row where most can go wrong, else once. The controller
//! dies in the pass that follows each of them, between every two things that it does, and another one takes over.
//!
//! From every situation of a rollout (good, bad and stranded ones) everything that can happen does, and everything again
//! in each situation that this leads to. Situations that differ only in times and counts that no rule tells apart are one.
//! The witness judges every pass; every new situation is also asked to come to rest, to end once all is well, to end with
//! weight 0 if everything of the canary fails, and to take the canary back at once whatever else is the matter.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use weir_wire::Weight;

use super::play::{Happening::*, Health::*, *};
use super::world::{self, weight};
use crate::*;

const INTERVAL: Span = Span::seconds(2);
const DEADLINE: Span = Span::seconds(60);
/// Webhooks that a rollout can wait for, or be taken back by.
pub(super) const KINDS: [WebhookKind; 6] = [
    WebhookKind::ConfirmRollout,
    WebhookKind::PreRollout,
    WebhookKind::Rollout,
    WebhookKind::ConfirmTrafficIncrease,
    WebhookKind::ConfirmPromotion,
    WebhookKind::Rollback,
];
/// Time between two passes when nothing else happens.
pub(super) const TICK: Happening = Passes(Span(700));

pub(super) fn plan(steps: Vec<Step>) -> Plan {
    Plan { steps, interval: INTERVAL, progress_deadline: DEADLINE, min_requests: 3, ..world::plan() }
}

fn canary() -> Plan {
    plan(Step::canary(weight(10.0), weight(20.0), false))
}

pub(super) fn with_webhooks(plan: Plan, kinds: &[WebhookKind]) -> Plan {
    let webhook = |kind: &WebhookKind| Webhook { name: format!("{kind:?}"), kind: *kind };
    Plan { webhooks: kinds.iter().map(webhook).collect(), ..plan }
}

/// Everything that can happen under a plan.
pub(super) fn happenings(plan: &Plan) -> Vec<Happening> {
    let mut all = vec![Target("v1"), Target("v2"), Target("v3")];
    all.extend([Well, Partly, Down, Broken].into_iter().flat_map(|health| [Canary(health), Primary(health)]));
    all.extend([Failures(0, 0), Failures(100, 0), Failures(100, 100), Failures(0, 100), Requests(0), Requests(60)]);
    all.extend([Trip, Acknowledging(false), Acknowledging(true), Scraping(false), Scraping(true)]);
    all.extend([GatewayJoins, GatewayRestarts, GatewaysVanish, Suspended(true), Suspended(false), Deleted]);
    all.extend([Verb::Pause, Verb::Resume, Verb::Promote, Verb::Abort, Verb::Retry].map(Told));
    all.extend([Steps(1), Steps(4), UpdateStops(true), UpdateStops(false)]);
    all.extend([Span(700), Span(2700), DEADLINE, Span::seconds(601)].map(Passes));
    all.push(Back(Span::seconds(5)));
    for webhook in &plan.webhooks {
        all.extend([Says::Yes, Says::No, Says::Nothing].map(|says| Program(webhook.kind, says)));
    }
    if plan.checks.iter().any(|check| check.source == Source::Template) {
        all.extend([Says::Yes, Says::No, Says::Nothing].map(Template));
    }
    all
}

/// What is known already.
#[derive(Default)]
struct Known {
    situations: HashSet<u64>,
    /// How a situation ends once all is well, and once every request to the canary fails.
    ends: [HashMap<u64, Phase>; 2],
}

/// Explores a plan to a depth, and says how much that was.
fn explore(name: &str, plan: &Plan, depth: usize) {
    let (mut known, mut queue, mut passes) = (Known::default(), VecDeque::new(), 0);
    for play in journeys(plan) {
        if known.situations.insert(situation(&play)) {
            told(&play.story, || judge(&play, &mut known.ends));
            queue.push_back((play, depth));
        }
    }
    while let Some((play, left)) = queue.pop_front() {
        for happening in happenings(plan) {
            let story = play.story.iter().copied().chain([happening]).collect::<Vec<_>>();
            let mut next = play.clone();
            told(&story, || next.happen(happening));
            let mut found = vec![next];
            for mut left_behind in play.deaths(happening) {
                let _ = told(&left_behind.story.clone(), || left_behind.pass());
                found.push(left_behind);
            }
            passes += found.len();
            for next in found {
                if known.situations.insert(situation(&next)) {
                    told(&next.story, || judge(&next, &mut known.ends));
                    if left > 1 {
                        queue.push_back((next, left - 1));
                    }
                }
            }
        }
    }
    println!("{name}: {} situations, {passes} happenings in them", known.situations.len());
}

/// Tells what had happened, if a promise was broken.
fn told<T>(story: &[Happening], judge: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(judge)) {
        Ok(fine) => fine,
        Err(broken) => {
            let story: Vec<_> = story.iter().filter(|happening| **happening != TICK).collect();
            eprintln!("a promise is broken after {story:?}");
            resume_unwind(broken)
        }
    }
}

/// Rollouts of a good revision, of a bad one, and of one whose promotion fails; every moment of them.
pub(super) fn journeys(plan: &Plan) -> Vec<Play> {
    let mut moments = vec![Play::new(plan.clone())];
    let wells = [&[][..], &[Failures(100, 0)], &[Primary(Partly)], &[Primary(Broken)]];
    for (turn, when) in
        wells.into_iter().zip([Phase::Progressing, Phase::Progressing, Phase::Promoting, Phase::Promoting])
    {
        let mut play = Play::new(plan.clone());
        play.happen(Target("v2"));
        let mut turned = false;
        for _ in 0..300 {
            moments.push(play.clone());
            if play.world.phase() == when && !turned {
                turned = true;
                turn.iter().for_each(|happening| play.happen(*happening));
            }
            if play.is_settled() {
                break;
            }
            play.happen(TICK);
        }
        moments.push(play);
    }
    moments
}

/// What the rules can tell apart.
fn situation(play: &Play) -> u64 {
    let world = &play.world;
    let State { phase, promoted, installed, applied, run, traffic, canary_is_fallback, paused, unrouted, .. } =
        &world.state;
    let age = |at: Timestamp| {
        [Span(700), INTERVAL, Span(2200), DEADLINE, Span::seconds(600)].map(|old| world.now.since(at) >= old)
    };
    let acknowledged = |epoch: u64| world.gateways.iter().map(|pod| pod.traffic.epoch >= epoch).collect::<Vec<_>>();
    let mut hasher = DefaultHasher::new();
    (phase, promoted, installed, applied, canary_is_fallback, paused, age(world.state.since)).hash(&mut hasher);
    (traffic.weight, traffic.matching, traffic.only_matched, traffic.limits.is_empty(), age(traffic.since))
        .hash(&mut hasher);
    (acknowledged(traffic.epoch), unrouted.map(acknowledged), world.deleted, world.plan.suspend).hash(&mut hasher);
    (world.plan.steps.len(), world.acknowledge, world.scrape, &world.target, world.update_stops_primary)
        .hash(&mut hasher);
    for (workload, comes_up) in [(&world.primary, world.primary_comes_up), (&world.canary, world.canary_comes_up)] {
        let ready = std::mem::discriminant(&workload.readiness);
        (&workload.revision, ready, workload.available, comes_up, workload.routable_since.map(age)).hash(&mut hasher);
    }
    let tripped: Vec<bool> = world.gateways.iter().map(|pod| pod.tripped > 0).collect();
    (tripped, world.canary_fails, world.primary_fails, world.requests == 0, play.programs()).hash(&mut hasher);
    if let Some(run) = run {
        let enough = run.evidence.total(&world.state.counters).arm(weir_wire::names::Arm::Canary).ended() >= 3;
        (run.stage, &run.revision, run.failed_checks, run.step, run.check_passed, run.window_kept, run.promote, enough)
            .hash(&mut hasher);
        (run.last_failed_check.is_some(), run.confirmed.map(acknowledged), run.window_since.map(age)).hash(&mut hasher);
        (age(run.since), run.ready_since.map(age), age(run.ready_last), run.unreachable_reported).hash(&mut hasher);
    }
    hasher.finish()
}

/// Judges a situation by what can become of it.
fn judge(play: &Play, ends: &mut [HashMap<u64, Phase>; 2]) {
    assert!(play.comes_to_rest(), "does not come to rest");
    play.is_the_same_after_a_restart();
    is_taken_back_at_once(play);

    let [well, bad] = ends;
    let mut healed = play.clone();
    healed.heal();
    end(healed, well);

    let mut failing = play.clone();
    failing.heal();
    failing.happen(Failures(100, 0));
    let phase = end(failing, bad);
    let world = &play.world;
    let Some(run) = world.state.run.as_ref().filter(|run| run.stage < Stage::Promoting) else { return };
    let judged = run.check_passed || run.window_since.is_some_and(|since| world.now.since(since) >= INTERVAL);
    let passed = run.stage == Stage::Relieving || judged && run.step + 1 >= world.plan.steps.len();
    let exempt = run.promote || world.plan.skip_analysis || world.deleted || world.state.canary_is_fallback;
    if !passed && !exempt && world.target == run.revision {
        assert_eq!(phase, Phase::Failed, "every request to the canary fails: {:#?}", sketch(&world.state));
    }
}

/// Returns how a situation ends if nothing else happens. That it ends is the promise.
fn end(mut play: Play, ends: &mut HashMap<u64, Phase>) -> Phase {
    let mut visited = Vec::new();
    for _ in 0..300 {
        let here = situation(&play);
        let phase = match ends.get(&here) {
            Some(phase) => Some(*phase),
            None => play.is_settled().then_some(play.world.state.phase),
        };
        visited.push(here);
        if let Some(phase) = phase {
            ends.extend(visited.into_iter().map(|here| (here, phase)));
            return phase;
        }
        play.happen(TICK);
    }
    panic!("does not end but stays: {}\n{:#?}", play.pass().reason, sketch(&play.world.state));
}

/// Whatever is the matter with gates, readiness, pause or suspension: the next pass takes the canary back.
pub(super) fn is_taken_back_at_once(play: &Play) {
    let world = &play.world;
    let Some(run) = &world.state.run else { return };
    let under_test = Stage::Gated < run.stage && run.stage < Stage::Promoting;
    if world.deleted || !under_test || world.state.phase == Phase::Terminating {
        return;
    }
    for code in ["GuardTripped", "CanaryBroken", "Aborted"] {
        let mut bad = play.clone();
        let world = &mut bad.world;
        match code {
            "GuardTripped" if world.gateways.is_empty() => continue,
            "GuardTripped" => {
                world.scrape = true;
                world.gateways.iter_mut().for_each(|pod| pod.tripped = world.state.traffic.epoch);
            }
            "CanaryBroken" => {
                let revision = world.state.run.as_ref().map(|run| run.revision.clone());
                let readiness = Readiness::Broken("CrashLoopBackOff".into());
                world.canary = Workload { revision, readiness, ..Workload::default() };
            }
            _ => world.verb = Some(VerbRequest { verb: Verb::Abort, id: "abort".into() }),
        }
        let decision = bad.pass();
        let (state, weight) = (&decision.state, decision.state.traffic.weight);
        assert_eq!(state.phase, Phase::Failed, "{code} is not a rollback but {}", decision.reason);
        let alone = state.canary_is_fallback && bad.world.canary.available && !bad.world.primary.available;
        let home = if alone { Weight::FULL } else { Weight::ZERO };
        assert!(weight == home && !state.traffic.matching, "{code} leaves weight {weight}");
    }
}

#[test]
fn a_canary_release_keeps_its_promises_whatever_happens() {
    explore("canary", &canary(), 2);
}

#[test]
fn a_release_with_gates_keeps_its_promises_whatever_happens() {
    use WebhookKind::*;
    let plan = with_webhooks(canary(), &[ConfirmRollout, ConfirmTrafficIncrease, ConfirmPromotion, Rollback]);
    explore("gates", &plan, 2);
}

#[test]
fn a_release_with_checks_keeps_its_promises_whatever_happens() {
    let mut plan = with_webhooks(canary(), &[WebhookKind::PreRollout, WebhookKind::Rollout]);
    let bounds = Bounds { min: None, max: Some(10.0) };
    plan.checks.push(Check { name: "errors".into(), source: Source::Template, bounds });
    explore("checks", &plan, 1);
}

#[test]
fn a_blue_green_release_keeps_its_promises_whatever_happens() {
    explore("blue/green", &with_webhooks(plan(Step::blue_green(2)), &[WebhookKind::ConfirmPromotion]), 1);
}

#[test]
fn an_ab_test_keeps_its_promises_whatever_happens() {
    explore("A/B", &plan(Step::ab_test(2)), 1);
}

#[test]
fn a_release_by_weight_and_match_that_returns_in_steps_keeps_its_promises_whatever_happens() {
    let steps = Step::canary(weight(30.0), weight(50.0), true);
    explore("weights and match", &Plan { promotion_step: Some(weight(25.0)), ..plan(steps) }, 1);
}

#[test]
fn a_release_to_matching_requests_keeps_its_promises_whatever_happens() {
    let steps = Step::canary(weight(30.0), weight(100.0), false).into_iter().map(Step::of_matched).collect();
    explore("matching only", &Plan { promotion_step: Some(weight(50.0)), ..plan(steps) }, 1);
}

#[test]
fn a_release_without_analysis_keeps_its_promises_whatever_happens() {
    explore("skipAnalysis", &Plan { skip_analysis: true, ..canary() }, 1);
}
