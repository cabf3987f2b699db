//! From the engine's values to what people see.

use weir_engine::evidence::{Finding, Interval};
use weir_engine::latency::quantile;
use weir_engine::{Cell, Counts, Ended, Observation, Phase, Plan, Readiness, Reason, Run, Stage, State, Workload};
use weir_wire::names::{Arm, Cohort};

use super::{Applied, ArmView, CanaryView, Checks, EndedView, EvidenceView, Quantile, RatioView, StepView, TestView};

impl CanaryView {
    /// Returns what people see of a Canary after a pass.
    #[must_use]
    pub fn of(namespace: &str, name: &str, plan: &Plan, state: &State, seen: &Observation, reason: &Reason) -> Self {
        let run = state.run.as_ref();
        let counts = match (run, &state.ended) {
            (Some(run), _) => run.evidence.total(&state.counters),
            // What the counters still have is of epochs of any time.
            (None, Some(_)) if !plan.observe_at_rest => Counts::default(),
            (None, _) => state.counters.since(0),
        };
        let ended = state.ended.as_ref().filter(|_| run.is_none() && !plan.observe_at_rest);
        let arm = |arm, workload| ArmView::of(plan, &counts.arm(arm), workload);
        let last = |view: ArmView, counted: Option<[u64; 2]>| match counted {
            Some([ended, failed]) => ArmView { requests: ended, ended, failed, ..view },
            None => view,
        };
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            phase: state.phase,
            since: state.since,
            // That a revision has failed is in the phase: what people look for is why.
            reason: match (reason, &state.ended) {
                (Reason::FailedRevision, Some(ended)) => ended.reason.clone(),
                _ => reason.code().to_owned(),
            },
            message: reason.to_string(),
            run: run.map(|run| run.id.clone()).unwrap_or_default(),
            started: run.map(|run| run.started),
            paused: state.paused,
            stalled: false,
            waiting: is_waiting(state, seen),
            overdue: false,
            in_cluster: false,
            weight: state.traffic.weight.percent(),
            matching: state.traffic.matching,
            only_matched: state.traffic.only_matched,
            applied: Applied::of(state, seen),
            step: run.and_then(|run| StepView::of(plan, run)),
            checks: Checks { failed: run.map_or(0, |run| run.failed_checks), threshold: plan.threshold },
            primary: last(arm(Arm::Primary, &seen.primary), ended.map(|ended| ended.primary)),
            canary: last(arm(Arm::Canary, &seen.canary), ended.map(|ended| ended.canary)),
            evidence: run.filter(|run| run.stage >= Stage::Analysing).map(|run| EvidenceView::of(plan, state, run)),
            ended: state.ended.as_ref().map(EndedView::of),
        }
    }
}

/// Returns whether the target declares a revision that no rollout was begun for. One that comes back to what serves needs none.
fn is_waiting(state: &State, seen: &Observation) -> bool {
    let at_rest = matches!(state.phase, Phase::Initialized | Phase::Succeeded | Phase::Failed) && state.run.is_none();
    at_rest && ![&state.applied, &state.promoted].contains(&&Some(seen.target.clone()))
}

impl Applied {
    fn of(state: &State, seen: &Observation) -> Self {
        let epoch = state.traffic.epoch;
        let behind = seen.gateways.iter().filter(|gateway| gateway.acknowledged.is_none_or(|known| known < epoch));
        let silent = behind.clone().filter(|gateway| gateway.silent).count();
        let missing: Vec<String> = behind.map(|gateway| gateway.name.clone()).collect();
        let mut window = state.counters.since(state.run.as_ref().map_or(epoch, |run| run.window));
        window.add(&state.run.as_ref().map(|run| run.window_retired.clone()).unwrap_or_default());
        let drawn = |arm| window.cell(arm, Cohort::Draw).assigned;
        let (canary, draws) = (drawn(Arm::Canary), drawn(Arm::Canary) + drawn(Arm::Primary));
        Self {
            gateways: seen.gateways.len() - missing.len(),
            of: seen.gateways.len(),
            weight: None,
            missing,
            silent,
            observed: (draws > 0).then(|| 100.0 * canary as f64 / draws as f64),
            draws,
        }
    }
}

impl StepView {
    fn of(plan: &Plan, run: &Run) -> Option<Self> {
        (run.stage == Stage::Analysing).then(|| Self {
            number: run.step + 1,
            of: plan.steps.len(),
            next: plan.steps.get(run.step + 1).map(|step| step.weight.percent()),
        })
    }
}

impl ArmView {
    fn of(plan: &Plan, cell: &Cell, workload: &Workload) -> Self {
        let quantile = |q| {
            let last = plan.latency_ms.last().copied().map(f64::from).unwrap_or_default();
            quantile(q, &cell.latency, 0, &plan.latency_ms).map(|ms| Quantile {
                // A hundredth of a millisecond is finer than any histogram.
                ms: if ms.is_finite() { (ms * 100.0).round() / 100.0 } else { last },
                beyond: !ms.is_finite(),
            })
        };
        Self {
            revision: workload.revision.as_ref().map(ToString::to_string),
            readiness: match &workload.readiness {
                Readiness::Absent => "absent".to_owned(),
                Readiness::Ready => "ready".to_owned(),
                Readiness::Unready(why) | Readiness::Broken(why) => why.clone(),
            },
            requests: cell.assigned,
            ended: cell.ended(),
            failed: cell.failure,
            abandoned: cell.abandoned,
            p50: quantile(0.5),
            p99: quantile(0.99),
        }
    }
}

impl EvidenceView {
    fn of(plan: &Plan, state: &State, run: &Run) -> Self {
        let assessment = run.evidence.assess(&state.counters, plan);
        let test = |finding: &Finding| TestView { test: finding.test.word().to_owned(), log_e: finding.log_e };
        Self {
            verdict: assessment.verdict.word().to_owned(),
            log_e: assessment.log_e,
            threshold: assessment.threshold,
            good: assessment.good_progress().min(1.0),
            tests: assessment.findings.iter().map(test).collect(),
            ratio: run.evidence.ratio(&state.counters, plan).map(RatioView::from),
        }
    }
}

impl From<Interval> for RatioView {
    fn from(found: Interval) -> Self {
        let finite = |bound: f64| bound.is_finite().then_some(bound);
        Self { low: found.low, estimate: finite(found.estimate), high: finite(found.high) }
    }
}

impl EndedView {
    fn of(ended: &Ended) -> Self {
        Self {
            run: ended.run.clone(),
            revision: ended.revision.to_string(),
            result: ended.result,
            reason: ended.reason.clone(),
            message: ended.text.clone(),
            started: ended.started,
            at: ended.at,
            weight: ended.weight.percent(),
            canary_ended: ended.canary[0],
            canary_failed: ended.canary[1],
            primary_ended: ended.primary[0],
            primary_failed: ended.primary[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CanarySpec, Object, plan};
    use crate::view::{Particulars, Replies};
    use weir_engine::CheckResult;
    use weir_engine::evidence::{Stretch, ratio_interval};
    use weir_engine::{Gateway, Phase, Revision, Scrape, Timestamp, Traffic};
    use weir_wire::Weight;
    use weir_wire::names::Kind;

    fn a_plan() -> Plan {
        let spec = r#"{"apiVersion": "", "kind": "", "metadata": {"name": "cart", "namespace": "shop"}, "spec":
            {"targetRef": {"kind": "Process", "name": "cart"}, "analysis": {"stepWeights": [10, 30], "threshold": 4}}}"#;
        plan(&serde_json::from_str::<Object<CanarySpec>>(spec).unwrap()).unwrap()
    }

    /// A rollout at its first step: 200 draws, of which 25 went to the canary and 2 failed there.
    fn analysing(plan: &Plan) -> (State, Observation) {
        let traffic = Traffic { run: "r".into(), epoch: 9, weight: Weight::new(1000).unwrap(), ..Traffic::default() };
        let run = Run {
            id: "r".into(),
            stage: Stage::Analysing,
            window: 9,
            failed_checks: 1,
            evidence: weir_engine::run_evidence::RunEvidence::new(plan, 9, [0, 0], 1),
            started: Timestamp(5),
            ..Run::default()
        };
        let mut state =
            State { phase: Phase::Progressing, since: Timestamp(7), run: Some(run), traffic, ..State::default() };
        if let Some(run) = &mut state.run {
            run.evidence.open(&state.counters, plan, &state.traffic, true, [1, 1]);
        }
        let mut scrape = Scrape { gateway: "a".into(), boot: 1, ..Scrape::default() };
        state.counters.absorb(&scrape, 9);
        scrape.begun = Timestamp(10);
        for (arm, kind, n) in [
            (Arm::Primary, Kind::Assigned, 175),
            (Arm::Primary, Kind::Success, 170),
            (Arm::Canary, Kind::Assigned, 25),
            (Arm::Canary, Kind::Success, 20),
            (Arm::Canary, Kind::Failure, 2),
            (Arm::Canary, Kind::Abandoned, 1),
            (Arm::Canary, Kind::Latency(2), 22),
        ] {
            scrape.slots[1].cell_mut(arm, Cohort::Draw).count(kind, n);
        }
        state.counters.absorb(&scrape, 9);
        let gateway = |name: &str, acknowledged| Gateway {
            name: name.into(),
            acknowledged: Some(acknowledged),
            ..Gateway::default()
        };
        let revision = |text: &str| Some(Revision(text.into()));
        let seen = Observation {
            gateways: vec![gateway("a", 9), gateway("b", 8)],
            scrapes: vec![Scrape { gateway: "b".into(), held: 2, ..Scrape::default() }],
            primary: Workload { revision: revision("old"), readiness: Readiness::Ready, ..Workload::default() },
            canary: Workload {
                revision: revision("new"),
                readiness: Readiness::Unready("1 of 2".into()),
                ..Workload::default()
            },
            ..Observation::default()
        };
        (state, seen)
    }

    #[test]
    fn a_rollout_is_seen_with_its_numbers() {
        let plan = a_plan();
        let (state, seen) = analysing(&plan);
        let reason = Reason::Insufficient { requests: 23, needed: 30, cold: false, unsplit: None };
        let view = CanaryView::of("shop", "cart", &plan, &state, &seen, &reason);
        let quantile = |ms| Some(Quantile { ms, beyond: false });
        let canary = ArmView {
            revision: Some("new".into()),
            readiness: "1 of 2".into(),
            requests: 25,
            ended: 23,
            failed: 2,
            abandoned: 1,
            p50: quantile(3.5),
            p99: quantile(4.97),
        };
        assert_eq!(view.canary, canary);
        let missing = vec!["b".to_owned()];
        assert_eq!(
            view.applied,
            Applied { gateways: 1, of: 2, weight: None, missing, silent: 0, observed: Some(12.5), draws: 200 }
        );
        assert_eq!(view.step, Some(StepView { number: 1, of: 2, next: Some(30.0) }));
        assert_eq!((view.reason.as_str(), view.message.as_str()), ("Insufficient", reason.to_string().as_str()));
        assert_eq!((view.phase, view.weight, view.started), (Phase::Progressing, 10.0, Some(Timestamp(5))));
        assert_eq!(view.checks, Checks { failed: 1, threshold: 4 });
        let evidence = view.evidence.unwrap();
        assert_eq!(evidence.tests.len(), 7);
        // Two failures on the canary and none on the primary, at 10 %.
        let known = ratio_interval(&[Stretch { rho: 0.1, canary: 2, primary: 0 }]).unwrap();
        assert_eq!(evidence.ratio, Some(RatioView { low: known.low, estimate: None, high: None }));
    }

    #[test]
    fn after_a_rollout_the_arms_have_the_numbers_that_it_ended_with() {
        let plan = a_plan();
        let (mut state, seen) = analysing(&plan);
        let run = state.run.take().unwrap();
        state.phase = Phase::Failed;
        state.ended = Some(Ended {
            run: run.id,
            revision: Revision("new".into()),
            result: weir_engine::Outcome::RolledBack,
            reason: "GuardTripped".into(),
            text: "stopped".into(),
            started: Timestamp(5),
            at: Timestamp(9),
            weight: Weight::new(1000).unwrap(),
            canary: [19, 4],
            primary: [160, 0],
            post_rollout_pending: false,
        });
        let view = |plan: &Plan| CanaryView::of("shop", "cart", plan, &state, &seen, &Reason::FailedRevision);
        let (failed, numbers) = (view(&plan), |arm: &ArmView| (arm.requests, arm.ended, arm.failed, arm.p99));
        assert_eq!((numbers(&failed.canary), numbers(&failed.primary)), ((19, 19, 4, None), (160, 160, 0, None)));
        assert_eq!((failed.reason.as_str(), failed.cause()), ("GuardTripped", "stopped"));
        let observed = view(&Plan { observe_at_rest: true, ..plan });
        assert_eq!(observed.canary.ended, 23, "what is counted at rest is seen");
    }

    #[test]
    fn a_revision_that_no_rollout_was_begun_for_waits() {
        let (plan, revision) = (a_plan(), |text: &str| Some(Revision(text.into())));
        let view = |phase, target: &str| {
            let state = State { phase, applied: revision("bad"), promoted: revision("good"), ..State::default() };
            let seen = Observation { target: Revision(target.into()), ..Observation::default() };
            CanaryView::of("shop", "cart", &plan, &state, &seen, &Reason::Suspended)
        };
        for (target, waits) in [("new", true), ("bad", false), ("good", false)] {
            assert_eq!(view(Phase::Failed, target).waiting, waits, "{target}");
        }
        assert!(!view(Phase::Initializing, "new").waiting, "the first one serves without a rollout");
    }

    #[test]
    fn a_rollout_is_seen_with_its_steps_its_gateways_and_what_its_guard_still_allows() {
        let plan = a_plan();
        let (mut state, seen) = analysing(&plan);
        let run = state.run.as_mut().unwrap();
        let limits = run.evidence.open(&state.counters, &plan, &state.traffic, true, [1, 1]).unwrap();
        state.traffic.limits = vec![limits.clone()];
        let alone = Observation { gateways: seen.gateways[..1].to_vec(), ..seen.clone() };
        let guard = Particulars::of(&plan, &state, &alone, &Replies::default()).guard.unwrap();
        let seen = Particulars::of(&plan, &state, &seen, &Replies::default());
        let states: Vec<&str> = seen.steps.iter().map(|step| step.state.as_str()).collect();
        assert_eq!((states, seen.steps[1].weight), (vec!["now", ""], 30.0));
        // Without a metric of its own a step waits for its interval alone; evidence is looked at all the time.
        assert_eq!(seen.steps[0].waits, [plan.interval.to_string()]);
        let acknowledged: Vec<(&str, bool)> =
            seen.gateways.iter().map(|gateway| (gateway.name.as_str(), gateway.acknowledged)).collect();
        assert_eq!(acknowledged, [("a", true), ("b", false)]);
        assert_eq!(seen.gateways.iter().map(|gateway| gateway.waits).collect::<Vec<_>>(), [0, 2]);
        // Of 23 requests that the canary ended on gateway a, 2 failed, and none of the primary's did.
        assert_eq!((guard.gateway.as_str(), guard.failed), ("a", 2));
        let stops = |failed: u64| {
            let failed = u32::try_from(failed).unwrap();
            limits.comparison_limit(0).is_some_and(|limit| failed >= limit)
                || limits.absolute_limit(23 - 2 + failed).is_some_and(|limit| failed >= limit)
        };
        assert!(stops(guard.limit) && !stops(guard.limit - 1), "{guard:?} {limits:?}");
        state.traffic.lease = 1;
        let leased = Particulars::of(&plan, &state, &alone, &Replies::default()).guard.unwrap();
        assert_eq!((leased.failed, leased.limit), (0, 1));
    }

    #[test]
    fn a_metric_is_seen_with_its_last_value_and_whether_that_is_inside() {
        let spec = r#"{"apiVersion": "", "kind": "", "metadata": {"name": "cart", "namespace": "shop"}, "spec":
            {"targetRef": {"kind": "Process", "name": "cart"}, "analysis": {"stepWeights": [10], "metrics": [
                {"name": "request-success-rate", "thresholdRange": {"min": 99}},
                {"name": "queue", "templateRef": {"name": "queue"}, "thresholdRange": {"max": 20}}],
             "webhooks": [{"name": "qa", "type": "confirm-promotion", "url": "http://qa"}]}}}"#;
        let plan = plan(&serde_json::from_str::<Object<CanarySpec>>(spec).unwrap()).unwrap();
        let (state, seen) = analysing(&plan);
        let failed = CheckResult::Failed("closed".into());
        let replies = Replies {
            webhooks: [("qa".to_owned(), ("confirm-promotion".to_owned(), failed))].into(),
            metrics: [("queue".to_owned(), CheckResult::Value(7.0))].into(),
        };
        let seen = Particulars::of(&plan, &state, &seen, &replies);
        let [rate, queue] = &seen.metrics[..] else { panic!("{:?}", seen.metrics) };
        // 20 of 22 answered requests.
        assert_eq!((rate.value, rate.result.as_str(), rate.min), (Some(90.909), "outside", Some(99.0)));
        assert_eq!((queue.value, queue.result.as_str(), queue.unit.as_str()), (Some(7.0), "inside", ""));
        let qa = &seen.webhooks[0];
        assert_eq!(
            (qa.result.as_str(), qa.message.as_str(), qa.kind.as_str()),
            ("Failed", "closed", "confirm-promotion")
        );
        assert_eq!(seen.steps[0].waits.last().unwrap(), "gate qa");
        let unknown = Particulars::of(&plan, &State::default(), &Observation::default(), &Replies::default());
        assert!(
            unknown.metrics.iter().all(|metric| metric.result == "unknown") && unknown.webhooks[0].result.is_empty()
        );
    }

    #[test]
    fn a_latency_above_every_edge_is_no_number() {
        let plan = a_plan();
        let cell = Cell { latency: [vec![0; 16], vec![7]].concat(), ..Cell::default() };
        let arm = ArmView::of(&plan, &cell, &Workload::default());
        assert_eq!(arm.p99, Some(Quantile { ms: 10_000.0, beyond: true }));
        assert_eq!(ArmView::of(&plan, &Cell::default(), &Workload::default()).p50, None);
    }
}
