//! `MetricTemplate` as the API serves it.

use serde::Deserialize;

use crate::api::{GROUP, MetricTemplateSpec, VERSION};
use crate::kubernetes::api_server::object::{Projection, no_spec, read_spec};

/// A metric that another system answers.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MetricTemplateView {
    /// Who answers what, or why it cannot be read.
    #[serde(default = "no_spec", deserialize_with = "read_spec")]
    pub(crate) spec: Result<MetricTemplateSpec, String>,
}

impl Projection for MetricTemplateView {
    const GROUP: &'static str = GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "MetricTemplate";
    const PLURAL: &'static str = "metrictemplates";
    const KEEP_RAW: bool = false;
}
