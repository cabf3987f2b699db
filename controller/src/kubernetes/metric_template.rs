//! `MetricTemplate` as the API serves it.

use serde::Deserialize;

use super::canary::Canary;
use super::object::{View, no_spec, read_spec};
use super::status::Fault;
use super::world::World;
use crate::answers::Answers;
use crate::api::{GROUP, MetricTemplateSpec, VERSION, asked};

/// A metric that another system answers.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MetricTemplateView {
    /// Who answers what, or why it cannot be read.
    #[serde(default = "no_spec", deserialize_with = "read_spec")]
    pub(crate) spec: Result<MetricTemplateSpec, String>,
}

impl View for MetricTemplateView {
    const GROUP: &'static str = GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "MetricTemplate";
    const PLURAL: &'static str = "metrictemplates";
    const WHOLE: bool = false;
}

/// Returns what is wrong with the metrics that a Canary names.
#[must_use]
pub(super) fn unanswerable(world: &World, canary: &Canary) -> Option<Fault> {
    let metrics = &canary.view.spec.as_ref().ok()?.analysis.metrics;
    if asked(metrics).is_empty() {
        return None;
    }
    let problem = Answers::unanswerable(&canary.object().ok()?, |namespace, name| world.template(namespace, name));
    problem.map(|problem| ("MetricUnanswerable", problem))
}
