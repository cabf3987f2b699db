//! From the engine's values to what people see.

use weir_wire::names::{Arm, Cohort};

use super::{Applied, ArmView, CanaryView, Checks, EndedView, Quantile, StepView};
use crate::rollout::latency::quantile;
use crate::rollout::{Cell, Ended, Observation, Plan, Readiness, Reason, Run, Stage, State, Workload};

impl CanaryView {
    /// Returns what people see of a Canary after a pass.
    #[must_use]
    pub fn of(namespace: &str, name: &str, plan: &Plan, state: &State, seen: &Observation, reason: &Reason) -> Self {
        let run = state.run.as_ref();
        let counts = match run {
            Some(run) => run.proof.total(&state.ledger),
            None => state.ledger.since(0),
        };
        let arm = |arm, workload| ArmView::of(plan, &counts.arm(arm), workload);
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            phase: state.phase,
            since: state.since,
            reason: reason.code().to_owned(),
            message: reason.to_string(),
            run: run.map(|run| run.id.clone()).unwrap_or_default(),
            started: run.map(|run| run.started),
            paused: state.paused,
            weight: state.traffic.weight.percent(),
            matching: state.traffic.matching,
            applied: Applied::of(state, seen),
            step: run.and_then(|run| StepView::of(plan, run)),
            checks: Checks { failed: run.map_or(0, |run| run.failed_checks), threshold: plan.threshold },
            primary: arm(Arm::Primary, &seen.primary),
            canary: arm(Arm::Canary, &seen.canary),
            evidence: None,
            ended: state.ended.as_ref().map(EndedView::of),
        }
    }
}

impl Applied {
    fn of(state: &State, seen: &Observation) -> Self {
        let epoch = state.traffic.epoch;
        let behind = seen.gateways.iter().filter(|gateway| gateway.acknowledged.is_none_or(|known| known < epoch));
        let missing: Vec<String> = behind.map(|gateway| gateway.name.clone()).collect();
        let mut window = state.ledger.since(state.run.as_ref().map_or(epoch, |run| run.window));
        window.add(&state.run.as_ref().map(|run| run.window_retired.clone()).unwrap_or_default());
        let drawn = |arm| window.cell(arm, Cohort::Draw).assigned;
        let (canary, draws) = (drawn(Arm::Canary), drawn(Arm::Canary) + drawn(Arm::Primary));
        Self {
            gateways: seen.gateways.len() - missing.len(),
            of: seen.gateways.len(),
            missing,
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
            quantile(q, &cell.latency, 0, &plan.latency_ms)
                .map(|ms| Quantile { ms: if ms.is_finite() { ms } else { last }, beyond: !ms.is_finite() })
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
