//! The spec of one Canary, read once for each generation: a plan compiles every regular expression that a user wrote, and a Canary
//! is looked at every second of its rollout.

use weir_engine::Plan;

use crate::api::{self, CanarySpec, Problem, Rules, TargetKind, words};
use crate::kubernetes::kinds::canary::Canary;

/// What is known of a Canary's spec.
#[derive(Debug, Default)]
pub(crate) struct LastReading {
    /// The generation that was read.
    generation: Option<i64>,
    /// What is wrong with it.
    problem: Option<String>,
    /// The rules that it was read by.
    rules: Rules,
    /// What of it has no effect.
    remarks: Vec<Problem>,
    /// The newest plan that can work. A spec that cannot leaves it in force, so that a rollout under way is still looked after.
    plan: Option<(Plan, CanarySpec)>,
    /// What stands in for it where there is none, as after a restart.
    stand_in: Option<(Plan, CanarySpec)>,
}

impl LastReading {
    /// Reads the spec, unless this generation of it was read before.
    pub(crate) fn update(&mut self, canary: &Canary) {
        let generation = canary.metadata.generation;
        if generation.is_some() && self.generation == generation {
            return;
        }
        self.generation = generation;
        self.rules = canary.rules();
        self.remarks.clear();
        self.problem = match &canary.fields.spec {
            Err(problem) => Some(problem.clone()),
            Ok(spec) => {
                let reading = api::reading_by(self.rules, canary.namespace(), canary.name(), spec);
                self.remarks = reading.remarks;
                match reading.plan {
                    Ok(_) if TargetKind::of(&spec.target_ref.kind).is_none() => {
                        let (kind, known) =
                            (&spec.target_ref.kind, words(TargetKind::ALL, TargetKind::word).join(" or "));
                        Some(format!(
                            "spec.targetRef.kind: {kind} is for weir standalone alone: use {known} in a cluster"
                        ))
                    }
                    Ok(plan) => {
                        self.plan = Some((plan, spec.clone()));
                        None
                    }
                    Err(problems) => Some(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
                }
            }
        };
        self.stand_in = self.stand_in(canary);
    }

    /// Returns what a Canary whose spec has no plan is looked after by: it begins nothing, and takes and gives back what there is. None
    /// where not even the way to the arms can be read.
    fn stand_in(&self, canary: &Canary) -> Option<(Plan, CanarySpec)> {
        let spec = canary.fields.spec.as_ref().ok().filter(|_| self.plan.is_none())?;
        TargetKind::of(&spec.target_ref.kind)?;
        let analysis = serde_json::from_value(serde_json::json!({"stepWeight": 100, "metrics": []})).ok()?;
        let spec = CanarySpec {
            analysis,
            suspend: Some(true),
            progress_deadline_seconds: None,
            observe_only: None,
            ..spec.clone()
        };
        let plan = api::reading_by(self.rules, canary.namespace(), canary.name(), &spec).plan.ok()?;
        Some((plan, spec))
    }

    /// Returns the rules that the newest spec was read by.
    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// Returns what is wrong with the newest spec.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Returns what of the newest spec has no effect.
    pub(crate) fn remarks(&self) -> &[Problem] {
        &self.remarks
    }

    /// Returns the newest plan that can work, and its spec.
    pub(crate) fn plan(&self) -> Option<&(Plan, CanarySpec)> {
        self.plan.as_ref()
    }

    /// Returns by what a Canary is looked after that has no plan that can work, and something of which there is to be given back.
    pub(crate) fn plan_to_give_back(&self, canary: &Canary) -> Option<&(Plan, CanarySpec)> {
        let status = &canary.fields.status;
        self.stand_in.as_ref().filter(|_| status.last_promoted_spec.is_some() || status.taken_over.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn canary(generation: i64, analysis: serde_json::Value) -> Canary {
        let object = json!({
            "apiVersion": "weir.dev/v1beta1", "kind": "Canary",
            "metadata": {"name": "cart", "namespace": "shop", "generation": generation},
            "spec": {"targetRef": {"kind": "Deployment", "name": "cart"}, "service": {"port": 80}, "analysis": analysis},
        });
        Canary::new(serde_json::from_value(object).unwrap()).unwrap()
    }

    fn steps(last: &LastReading) -> Option<usize> {
        last.plan().map(|(plan, _)| plan.steps.len())
    }

    #[test]
    fn a_plan_is_made_once_for_each_generation() {
        let mut last = LastReading::default();
        last.update(&canary(1, json!({"stepWeights": [1, 2]})));
        assert_eq!((steps(&last), last.problem()), (Some(2), None));
        // The API server gives every other spec another generation: what would be read here is not.
        last.update(&canary(1, json!({"stepWeights": [1, 2, 3]})));
        assert_eq!(steps(&last), Some(2));
        last.update(&canary(2, json!({"stepWeights": [1, 2, 3]})));
        assert_eq!(steps(&last), Some(3));
    }

    #[test]
    fn a_spec_that_cannot_work_leaves_the_last_plan_in_force() {
        let mut last = LastReading::default();
        last.update(&canary(1, json!({"stepWeight": 50, "metrics": [], "mirrorWeight": 3})));
        assert_eq!((steps(&last), last.remarks().len()), (Some(2), 1));
        last.update(&canary(2, json!({"stepWeight": 500})));
        assert!(last.problem().is_some_and(|problem| problem.contains("stepWeight: 500 is out of range")));
        assert_eq!((steps(&last), last.remarks().len()), (Some(2), 0));
        last.update(&canary(3, json!({"stepWeight": "many"})));
        assert!(last.problem().is_some() && steps(&last) == Some(2));
    }

    #[test]
    fn a_process_is_not_released_in_a_cluster() {
        let mut canary = canary(1, json!({"stepWeight": 50}));
        canary.fields.spec.as_mut().unwrap().target_ref.kind = "Process".into();
        let mut last = LastReading::default();
        last.update(&canary);
        assert_eq!(
            last.problem(),
            Some("spec.targetRef.kind: Process is for weir standalone alone: use Deployment in a cluster")
        );
        assert_eq!(steps(&last), None);
    }

    #[test]
    fn a_spec_that_is_too_large_is_not_kept_in_memory() {
        let spec = canary(1, json!({"stepWeight": 5, "webhooks": [{"name": "a".repeat(70_000), "url": "http://a"}]}))
            .fields
            .spec;
        assert!(spec.unwrap_err().ends_with("and 65536 is the limit: shorten it"));
    }
}
