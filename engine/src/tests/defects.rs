//! Defects of other tools (`flagger.md` §4.1 and §3.4), each as a row that shows it absent; and what must hold in every
//! moment of a rollout, whatever the phase.
//!
//! Not here, because no state machine has them: B5, B8, B15 (routes and cookies), B9 (copies of configuration).

use super::explore::{self, TICK, is_taken_back_at_once, journeys};
use super::play::{Happening::*, Health::*, *};
use super::world::{revision, weight};
use crate::*;

/// A defect: in this situation this happens, and this must come of it.
struct Row {
    name: &'static str,
    plan: Plan,
    /// The revision v2 is pushed, and this phase and weight are reached; then this happens.
    situation: (Phase, f64, &'static [Happening]),
    event: &'static [Happening],
    /// Phase, weight and reason after it.
    expected: (Phase, f64, &'static str),
}

fn canary() -> Plan {
    explore::plan(Step::canary(weight(10.0), weight(20.0), false))
}

fn gated(kind: WebhookKind) -> Plan {
    explore::with_webhooks(canary(), &[kind])
}

const LONG: Happening = Passes(Span::seconds(61));

fn rows() -> Vec<Row> {
    use Phase::*;
    let progressing = |percent| (Progressing, percent, &[][..]);
    vec![
        Row {
            name: "B1 a release after a failure is not lost while the primary is not ready",
            plan: canary(),
            situation: (Failed, 0.0, &[TICK, TICK, Primary(Partly), TICK]),
            event: &[Target("v3")],
            expected: (Progressing, 0.0, "NewRevision"),
        },
        Row {
            name: "B2 a fix pushed while the rollback is under way is analysed",
            plan: canary(),
            situation: (Progressing, 10.0, &[Acknowledging(false), Told(Verb::Abort)]),
            event: &[Target("v3")],
            expected: (Progressing, 0.0, "NewRevision"),
        },
        Row {
            name: "B2a a fix after a failed promotion finds the traffic where it is served",
            plan: canary(),
            situation: (Promoting, 20.0, &[Primary(Broken), TICK]),
            event: &[Target("v3"), TICK],
            expected: (Progressing, 100.0, "NewRevision"),
        },
        Row {
            name: "B3 what is live is not promoted in place of what was analysed",
            plan: canary(),
            situation: progressing(20.0),
            event: &[Passes(Span(2100)), Target("v3")],
            expected: (Progressing, 0.0, "NewRevision"),
        },
        Row {
            name: "B4 a promotion in steps ends where the canary has no weight already",
            plan: Plan { skip_analysis: true, promotion_step: Some(weight(10.0)), ..canary() },
            situation: (Promoting, 0.0, &[]),
            event: &[TICK, TICK, TICK, TICK, TICK],
            expected: (Succeeded, 0.0, "UpToDate"),
        },
        Row {
            name: "B6 an edit of the steps never jumps to all of the traffic",
            plan: canary(),
            situation: progressing(20.0),
            event: &[Steps(1), TICK],
            expected: (Progressing, 10.0, "Analysing"),
        },
        Row {
            name: "B7 a primary scaled to zero is not ready",
            plan: canary(),
            situation: (Progressing, 0.0, &[Primary(Down)]),
            event: &[TICK, TICK, TICK, TICK, TICK, TICK],
            expected: (Progressing, 0.0, "PrimaryNotReady"),
        },
        Row {
            name: "B11 a canary that never gets ready ends at its deadline, with a reason",
            plan: canary(),
            situation: (Progressing, 0.0, &[Canary(Down)]),
            event: &[LONG],
            expected: (Failed, 0.0, "ProgressDeadlineExceeded"),
        },
        Row {
            name: "B13 the weight in WaitingPromotion is the weight",
            plan: gated(WebhookKind::ConfirmPromotion),
            situation: (Progressing, 20.0, &[Program(WebhookKind::ConfirmPromotion, Says::No)]),
            event: &[Passes(Span(2700)), TICK, Passes(Span(2700)), TICK],
            expected: (WaitingPromotion, 20.0, "WaitingForGate"),
        },
        Row {
            name: "B14 a skipped analysis has not succeeded before the primary has rolled",
            plan: Plan { skip_analysis: true, ..canary() },
            situation: (Progressing, 0.0, &[Primary(Partly)]),
            event: &[TICK, TICK, TICK, TICK],
            expected: (Promoting, 0.0, "Promoting"),
        },
        Row {
            name: "B17 the rollback webhook works while the rollout waits for its gate",
            plan: explore::with_webhooks(canary(), &[WebhookKind::ConfirmRollout, WebhookKind::Rollback]),
            situation: (Initialized, 0.0, &[Program(WebhookKind::ConfirmRollout, Says::No), Target("v2"), TICK]),
            event: &[Program(WebhookKind::Rollback, Says::Yes), TICK],
            expected: (Failed, 0.0, "RollbackWebhook"),
        },
        Row {
            name: "3.4 a canary that crashes at a weight loses it at once",
            plan: canary(),
            situation: progressing(20.0),
            event: &[Canary(Down)],
            expected: (Progressing, 0.0, "CanaryNotReady"),
        },
        Row {
            name: "3.4 a crash loop ends the rollout at once",
            plan: canary(),
            situation: progressing(20.0),
            event: &[Canary(Broken)],
            expected: (Failed, 0.0, "CanaryBroken"),
        },
        Row {
            name: "3.4 a canary that is ready in part keeps its weight",
            plan: canary(),
            situation: progressing(20.0),
            event: &[Canary(Partly)],
            expected: (Progressing, 20.0, "Analysing"),
        },
        Row {
            name: "3.4 a canary that is ready in part is still taken back",
            plan: canary(),
            situation: (Progressing, 20.0, &[Canary(Partly)]),
            event: &[Trip],
            expected: (Failed, 0.0, "GuardTripped"),
        },
        Row {
            name: "3.4 a primary that scales delays no rollback",
            plan: canary(),
            situation: (Progressing, 20.0, &[Primary(Partly)]),
            event: &[Trip],
            expected: (Failed, 0.0, "GuardTripped"),
        },
        Row {
            name: "3.4 a canary that only fails is judged, not taken for idle",
            plan: Plan { alpha: 1e-300, threshold: 1, plain_bounds: true, ..canary() },
            situation: (Progressing, 10.0, &[Failures(100, 0)]),
            event: &[TICK, TICK, Passes(Span(2700)), TICK, Passes(Span(2700)), TICK],
            expected: (Failed, 0.0, "FailedRevision"),
        },
        Row {
            name: "3.4 a new revision gets no request before its own analysis",
            plan: canary(),
            situation: progressing(20.0),
            event: &[Target("v3")],
            expected: (Progressing, 0.0, "NewRevision"),
        },
        Row {
            name: "3.4 a new revision while promoting gets no request either",
            plan: canary(),
            situation: (Promoting, 20.0, &[Primary(Partly)]),
            event: &[Target("v3")],
            expected: (Promoting, 0.0, "Promoting"),
        },
        Row {
            name: "3.4 a webhook that does not answer delays no rollback",
            plan: gated(WebhookKind::Rollout),
            situation: (Progressing, 20.0, &[Program(WebhookKind::Rollout, Says::Nothing)]),
            event: &[Trip],
            expected: (Failed, 0.0, "GuardTripped"),
        },
        Row {
            name: "3.4 a primary that breaks during promotion leaves the traffic with the healthy canary",
            plan: canary(),
            situation: (Promoting, 20.0, &[]),
            event: &[Primary(Broken)],
            expected: (Failed, 100.0, "PromotionFailed"),
        },
    ]
}

fn reach(plan: &Plan, phase: Phase, percent: f64) -> Play {
    let mut play = Play::new(plan.clone());
    if phase == Phase::Initialized {
        return play;
    }
    play.happen(Target("v2"));
    let failing = phase == Phase::Failed;
    for _ in 0..60 {
        let state = &play.world.state;
        if state.phase == phase && state.traffic.weight >= weight(percent) {
            return play;
        }
        play.happen(if failing && state.traffic.reaches_canary() { Trip } else { TICK });
    }
    panic!("{phase:?} at {percent} % is not reached: {:?}", sketch(&play.world.state));
}

#[test]
fn every_defect_is_absent() {
    let mut broken = Vec::new();
    for Row { name, plan, situation: (phase, percent, before), event, expected } in rows() {
        let mut play = reach(&plan, phase, percent);
        before.iter().chain(event).for_each(|happening| play.happen(*happening));
        let found = (play.world.phase(), play.world.state.traffic.weight, play.code());
        if found != (expected.0, weight(expected.1), expected.2) {
            broken.push(format!("{name}: {found:?} and not {expected:?}"));
        }
        play.heal();
        play.until_settled(name);
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// B10, B12, B16: what must not happen, however often the controller looks.
#[test]
fn looking_more_often_changes_nothing() {
    let mut play = reach(&canary(), Phase::Progressing, 10.0);
    play.happen(TICK);
    let weight = play.world.state.traffic.weight;
    for _ in 0..50 {
        let _ = play.pass();
    }
    assert_eq!(
        play.world.state.traffic.weight, weight,
        "B12: a controller that restarts again and again advances nothing"
    );

    play.happen(Acknowledging(false));
    play.happen(Told(Verb::Abort));
    for _ in 0..50 {
        let decision = play.pass();
        let takes_down = |action: &Action| matches!(action, Action::Canary { replicas: Replicas::Exactly(0), .. });
        assert!(!decision.actions.iter().any(takes_down), "B10: not before the gateways have stopped");
    }
    play.happen(Acknowledging(true));
    play.until_settled("aborted");
    let before = play.world.state.clone();
    for _ in 0..50 {
        let decision = play.pass();
        assert!(decision.events.is_empty() && decision.state == before, "B16: a failed canary at rest changes nothing");
    }
}

#[test]
fn a_revision_pushed_in_any_moment_is_analysed_or_never_needed() {
    for plan in [canary(), gated(WebhookKind::ConfirmPromotion), explore::plan(Step::blue_green(2))] {
        for mut play in journeys(&plan) {
            play.happen(Target("v3"));
            play.heal();
            play.until_settled("a new revision");
            assert_eq!(play.world.state.promoted, Some(revision("v3")), "{:?}", play.story);
        }
    }
}

#[test]
fn a_primary_that_breaks_in_any_moment_costs_no_revision() {
    for mut play in journeys(&canary()) {
        play.happen(Primary(Broken));
        (0..5).for_each(|_| play.happen(TICK));
        play.happen(LONG);
        play.heal();
        play.until_settled("the primary broke");
    }
}

#[test]
fn a_restart_in_any_moment_changes_no_outcome() {
    for play in journeys(&explore::with_webhooks(canary(), &explore::KINDS)) {
        play.is_the_same_after_a_restart();
    }
}

#[test]
fn verbs_in_any_moment_do_what_they_say_or_nothing() {
    for verb in [Verb::Pause, Verb::Resume, Verb::Promote, Verb::Abort, Verb::Retry] {
        for mut play in journeys(&canary()) {
            let before = play.world.state.clone();
            let under_test = before.run.as_ref().is_some_and(|run| run.stage < Stage::Promoting);
            play.happen(Told(verb));
            let after = &play.world.state;
            match verb {
                Verb::Pause => assert!(after.paused),
                Verb::Resume => assert!(!after.paused),
                Verb::Abort if under_test => assert_eq!(after.phase, Phase::Failed),
                Verb::Promote if under_test => assert!(after.run.as_ref().is_some_and(|run| run.promote)),
                Verb::Retry if before.phase == Phase::Failed && !before.canary_is_fallback => {
                    assert_eq!(after.phase, Phase::Progressing);
                }
                _ => {}
            }
            let verb = after.verb.clone();
            play.happen(TICK);
            assert_eq!(play.world.state.verb, verb, "carried out once");
        }
    }
}

#[test]
fn gates_that_are_closed_or_dead_delay_no_rollback_in_any_moment() {
    let plan = explore::with_webhooks(canary(), &explore::KINDS);
    for says in [Says::No, Says::Nothing] {
        for mut play in journeys(&plan) {
            for kind in explore::KINDS.into_iter().filter(|kind| *kind != WebhookKind::Rollback) {
                play.happen(Program(kind, says));
            }
            is_taken_back_at_once(&play);
        }
    }
}
