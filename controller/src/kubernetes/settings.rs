//! How the controller was started.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::kubernetes::render::Module;

/// How the controller was started.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where Weir itself runs: its lease lives there.
    pub(crate) namespace: String,
    /// Who this process is among the replicas.
    pub(crate) identity: String,
    /// Whether one of several replicas acts, or this one always does.
    pub(crate) leader_election: bool,
    /// Where health, metrics and the module are served.
    pub(crate) listen: SocketAddr,
    /// Where gateways get the module.
    pub(crate) module: Module,
    /// The module's file, where it is served from here.
    pub(crate) module_file: Option<PathBuf>,
    /// Whether ConfigMaps and Secrets that a target refers to are part of its revision.
    pub(crate) config_tracking: bool,
    /// The cluster's domain.
    pub(crate) cluster_domain: String,
}
