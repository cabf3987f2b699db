//! Whether the metrics that a Canary names can be answered.

use crate::answers::Answers;
use crate::api::asked;
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::stores::Stores;

/// Returns what is wrong with the metrics that a Canary names.
#[must_use]
pub(super) fn unanswerable(stores: &Stores, canary: &Canary) -> Option<Fault> {
    let metrics = &canary.view.spec.as_ref().ok()?.analysis.metrics;
    if asked(metrics).is_empty() {
        return None;
    }
    let problem = Answers::unanswerable(&canary.object().ok()?, |namespace, name| stores.template(namespace, name));
    problem.map(|problem| ("MetricUnanswerable", problem))
}
