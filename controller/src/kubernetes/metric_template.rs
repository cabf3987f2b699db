//! `MetricTemplate` as the API serves it.

use serde::{Deserialize, Deserializer};

use super::object::View;
use crate::api::{GROUP, MetricTemplateSpec, VERSION};

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

fn no_spec() -> Result<MetricTemplateSpec, String> {
    Err("the spec is missing".into())
}

fn read_spec<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Result<MetricTemplateSpec, String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).map_err(|error| error.to_string()))
}
