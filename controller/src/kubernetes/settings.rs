//! How the controller was started.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::alerts::AlertSettings;
use crate::http_client::AddressRules;
use crate::kubernetes::render::Module;

/// How the controller was started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where Weir itself runs: its lease lives there.
    pub namespace: String,
    /// Who this process is among the replicas.
    pub identity: String,
    /// Whether one of several replicas acts, or this one always does.
    pub leader_election: bool,
    /// Where metrics and the module are served.
    pub listen: SocketAddr,
    /// Where probes are answered.
    pub probes: SocketAddr,
    /// Where everything that is known of Canaries is served.
    pub details: SocketAddr,
    /// Where the page is served; nowhere unless an admin wants it.
    pub page: Option<SocketAddr>,
    /// Where gateways get the module.
    pub module: Module,
    /// The module's file, where it is served from here.
    pub module_file: Option<PathBuf>,
    /// Whether ConfigMaps and Secrets that a target refers to are part of its revision.
    pub config_tracking: bool,
    /// Whether requests pass the filter, and are counted, between rollouts too, whatever a Canary says.
    pub observe_at_rest: bool,
    /// Who is told every event of the Canaries that have no `event` webhook of their own.
    pub event_webhook: Option<String>,
    /// How alerts are sent.
    pub alerts: AlertSettings,
    /// Namespaces whose AlertProviders, and MetricTemplates with credentials, every Canary may use, beside Weir's own.
    pub shared_namespaces: Vec<String>,
    /// Namespaces whose Canaries are looked after; all of the cluster where there are none. Then nothing is watched elsewhere but
    /// gateways, in their namespaces, and what is lent.
    pub watch_namespaces: Vec<String>,
    /// Namespaces whose pods may be gateways, beside those that an admin has labelled so.
    pub gateway_namespaces: Vec<String>,
    /// Namespaces whose pods may be callers of other namespaces' Canaries, beside those that an admin has labelled so; `*` is all.
    pub caller_namespaces: Vec<String>,
    /// Namespaces of the callers of Canaries that name none, beside their own; `*` is all that may have callers.
    pub default_callers: Vec<String>,
    /// Istio's root namespace: what is written there holds in the whole mesh.
    pub root_namespace: String,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// Which addresses webhooks and metrics are not asked at.
    pub address_rules: Arc<AddressRules>,
}

impl Settings {
    /// Returns whether only some namespaces are watched, so that rights in those suffice.
    #[must_use]
    pub(crate) fn is_restricted(&self) -> bool {
        !self.watch_namespaces.is_empty()
    }

    /// Returns where something is watched that Canaries have, and also in these namespaces; nothing for everywhere.
    #[must_use]
    pub(crate) fn watched_with(&self, others: &[&[String]]) -> Vec<String> {
        if !self.is_restricted() {
            return Vec::new();
        }
        let all: BTreeSet<&String> = self.watch_namespaces.iter().chain(others.iter().copied().flatten()).collect();
        all.into_iter().cloned().collect()
    }

    /// Returns where nothing but callers is looked for, with rights in those namespaces alone.
    #[must_use]
    pub(crate) fn only_callers(&self) -> Vec<String> {
        let others = self.watched_with(&[&self.gateway_namespaces, std::slice::from_ref(&self.namespace)]);
        let mut callers = self.watched_with_proxies();
        callers.retain(|namespace| !others.contains(namespace) && !self.shared_namespaces.contains(namespace));
        callers
    }

    /// Returns where gateways and callers may be, which the filter is written for; nothing for everywhere.
    #[must_use]
    pub(crate) fn watched_with_proxies(&self) -> Vec<String> {
        let callers: Vec<String> = self.caller_namespaces.iter().filter(|name| *name != "*").cloned().collect();
        self.watched_with(&[&self.gateway_namespaces, &callers])
    }
}
