//! `weir controller`: runs in a cluster, beside Istio.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use crate::alerts::AlertArgs;
use weir_controller::http_client::{AddressRules, IpNet, network};
use weir_controller::kubernetes::{self, Module, SERVED, Settings};
use weir_controller::telemetry::{self, LogFormat};

/// Look after the Canaries of a cluster.
#[derive(Args)]
pub(crate) struct ControllerArgs {
    /// Namespace that Weir runs in; its lease lives there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "weir-system")]
    namespace: String,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "weir")]
    identity: String,
    /// Whether several replicas elect one that acts.
    #[arg(long, env = "WEIR_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    leader_election: bool,
    /// Where metrics and the module are served, to everybody who reaches it.
    #[arg(long, env = "WEIR_LISTEN", default_value = "[::]:8080")]
    listen: SocketAddr,
    /// Where the kubelet's probes are answered: apart, so that no flood of requests makes them fail.
    #[arg(long, env = "WEIR_PROBES_LISTEN", default_value = "[::]:8081")]
    probes_listen: SocketAddr,
    /// Where everything that is known of Canaries is served. `kubectl weir` forwards this port of the pod's loopback.
    #[arg(long, env = "WEIR_DETAILS_LISTEN", default_value = "127.0.0.1:8090")]
    details_listen: SocketAddr,
    /// Where the page is served to who brings a token of the cluster. Default: nowhere.
    #[arg(long, env = "WEIR_PAGE_LISTEN", value_name = "ADDRESS")]
    page_listen: Option<SocketAddr>,
    /// The filter's module, to be served to the gateways.
    #[arg(long, env = "WEIR_MODULE", default_value = "/weir-filter.wasm")]
    module: PathBuf,
    /// Where gateways get the module: `http://HOST{path}` (served from here; `{path}` is filled in), any other `http://`,
    /// `https://` or `oci://` address, or `file:///path` in the gateway's own pods.
    #[arg(long, env = "WEIR_MODULE_URL", default_value = "http://weir.weir-system.svc.cluster.local:8080{path}")]
    module_url: String,
    /// Checksum of the module at another address: of the file, or of the image's manifest.
    #[arg(long, env = "WEIR_MODULE_SHA256")]
    module_sha256: Option<String>,
    /// Whether ConfigMaps and Secrets that a target refers to are part of its revision.
    #[arg(long, env = "WEIR_CONFIG_TRACKING", default_value_t = true, action = clap::ArgAction::Set)]
    config_tracking: bool,
    /// Whether requests pass the filter, and are counted, between rollouts too, whatever a Canary says.
    #[arg(long, env = "WEIR_OBSERVE_AT_REST", default_value_t = false, action = clap::ArgAction::Set)]
    observe_at_rest: bool,
    /// Namespaces whose Canaries are looked after, separated by commas; all where there are none. With some, rights in those, and in the
    /// gateways' namespaces, suffice.
    #[arg(long, env = "WEIR_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    watch_namespaces: Vec<String>,
    /// Namespaces whose pods may be gateways, beside those that have the label `weir.dev/gateways: allowed`.
    #[arg(long, env = "WEIR_GATEWAY_NAMESPACES", value_delimiter = ',', default_value = "istio-system,istio-ingress")]
    gateway_namespaces: Vec<String>,
    /// Namespaces whose pods may be callers of other namespaces' Canaries, beside those that have the label `weir.dev/callers:
    /// allowed`; separated by commas, `*` is all.
    #[arg(long, env = "WEIR_CALLER_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    caller_namespaces: Vec<String>,
    /// Namespaces of the callers of Canaries that have no `service.callers`, beside their own; separated by commas, `*` is all that may have
    /// callers.
    #[arg(long, env = "WEIR_DEFAULT_CALLERS", value_delimiter = ',', value_name = "NAMESPACE")]
    default_callers: Vec<String>,
    /// The mesh's root namespace, as istiod's `rootNamespace` names it: what is written there holds for every proxy, so nobody's callers
    /// are there.
    #[arg(long, env = "WEIR_ROOT_NAMESPACE", default_value = "istio-system", value_name = "NAMESPACE")]
    root_namespace: String,
    /// The cluster's domain.
    #[arg(long, env = "WEIR_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Addresses or networks, separated by commas, that webhooks, metrics and alerts may be sent to although Weir refuses such
    /// addresses: loopback, link-local, a cloud's metadata service, the API server.
    #[arg(long, env = "WEIR_ALLOWED_ADDRESSES", value_delimiter = ',', value_parser = network, value_name = "NETWORK")]
    allowed_addresses: Vec<IpNet>,
    #[command(flatten)]
    alerts: AlertArgs,
    /// Namespaces whose AlertProviders, and MetricTemplates with credentials, every Canary may use, beside Weir's own; separated by
    /// commas.
    #[arg(long, env = "WEIR_SHARED_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    shared_namespaces: Vec<String>,
    /// How logs are written.
    #[arg(long, env = "WEIR_LOG_FORMAT", value_enum, default_value = "json")]
    log_format: LogFormat,
}

/// Runs the command.
///
/// # Errors
/// When it cannot start, or when it must stop because another replica leads.
pub(crate) async fn run(args: ControllerArgs) -> Result<()> {
    telemetry::init(args.log_format);
    let served = args.module_url.contains(SERVED);
    let module = match (args.module_url.strip_prefix("file://"), args.module_sha256) {
        (Some(path), None) => Module::File(path.to_owned()),
        (Some(_), Some(_)) => bail!("--module-sha256 has no meaning for a file: its name should say what is in it"),
        (None, sha256) if served => Module::Own { uri: args.module_url, sha256: sha256.unwrap_or_default() },
        (None, Some(sha256)) => Module::Remote { uri: args.module_url, sha256 },
        (None, None) => bail!("--module-sha256 is missing: gateways run nothing that is not pinned"),
    };
    let settings = Settings {
        namespace: args.namespace,
        identity: args.identity,
        leader_election: args.leader_election,
        listen: args.listen,
        probes: args.probes_listen,
        details: args.details_listen,
        page: args.page_listen,
        module,
        module_file: served.then_some(args.module),
        config_tracking: args.config_tracking,
        observe_at_rest: args.observe_at_rest,
        watch_namespaces: args.watch_namespaces.into_iter().filter(|namespace| !namespace.is_empty()).collect(),
        gateway_namespaces: args.gateway_namespaces,
        caller_namespaces: args.caller_namespaces,
        default_callers: args.default_callers,
        root_namespace: args.root_namespace,
        cluster_domain: args.cluster_domain,
        shared_namespaces: args.shared_namespaces,
        address_rules: Arc::new(AddressRules::new(args.allowed_addresses)),
        event_webhook: args.alerts.event_webhook(),
        alerts: args.alerts.into(),
    };
    Ok(kubernetes::run(settings).await?)
}
