//! `AlertProvider` as the API serves it.

use serde::Deserialize;

use crate::api::{AlertProviderSpec, GROUP, VERSION};
use crate::kubernetes::api_server::object::{Projection, no_spec, read_spec};

/// Somebody who is told how rollouts go.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AlertProviderView {
    /// Where it is, or why it cannot be read.
    #[serde(default = "no_spec", deserialize_with = "read_spec")]
    pub(crate) spec: Result<AlertProviderSpec, String>,
}

impl Projection for AlertProviderView {
    const GROUP: &'static str = GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "AlertProvider";
    const PLURAL: &'static str = "alertproviders";
    const KEEP_RAW: bool = false;
}
