//! Whether the metrics that a Canary names can be answered.

use crate::api::{Rules, asked};
use crate::checks::CheckRunner;
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::stores::Stores;

/// Returns what is wrong with the metrics that a Canary names.
#[must_use]
pub(super) fn unusable_metric(stores: &Stores, canary: &Canary, rules: Rules) -> Option<Fault> {
    let metrics = &canary.fields.spec.as_ref().ok()?.analysis.metrics;
    if asked(metrics).is_empty() {
        return None;
    }
    let problem = CheckRunner::validate(&canary.object().ok()?, |namespace, name| {
        stores.template(canary.namespace(), namespace, name, rules)
    });
    problem.map(|problem| ("MetricUnanswerable", problem))
}
