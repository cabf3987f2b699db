//! `weir uninstall`: gives everything back before Weir goes.

use anyhow::{Context, Result};
use clap::Args;

use weir_controller::kubernetes::uninstall;
use weir_controller::telemetry::{self, LogFormat};

/// Delete all Canaries of a cluster and wait until their traffic is given back. The controller must still be there.
#[derive(Args)]
pub(crate) struct UninstallArgs {
    /// The controller's Deployment, which is started where it was scaled to zero: nobody else gives the traffic back.
    #[arg(long, env = "WEIR_CONTROLLER", value_name = "NAMESPACE/NAME", value_parser = namespace_and_name)]
    controller: Option<(String, String)>,
    /// Namespaces whose Canaries are deleted, separated by commas; all where there are none.
    #[arg(long, env = "WEIR_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    watch_namespaces: Vec<String>,
    /// Namespaces that may have gateways: the filter is waited for to go from there, where not all namespaces are looked after.
    #[arg(long, env = "WEIR_GATEWAY_NAMESPACES", value_delimiter = ',', default_value = "istio-system,istio-ingress")]
    gateway_namespaces: Vec<String>,
    /// Namespaces that may have callers: as those of gateways.
    #[arg(long, env = "WEIR_CALLER_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    caller_namespaces: Vec<String>,
}

fn namespace_and_name(text: &str) -> Result<(String, String), &'static str> {
    let (namespace, name) = text.split_once('/').ok_or("NAMESPACE/NAME is wanted")?;
    Ok((namespace.into(), name.into()))
}

/// Runs the command.
///
/// # Errors
/// When the cluster cannot be reached or refuses.
pub(crate) async fn run(args: UninstallArgs) -> Result<()> {
    telemetry::init(LogFormat::Text);
    let client = kube::Client::try_default().await.context("find the cluster")?;
    let named = |namespaces: Vec<String>| namespaces.into_iter().filter(|name| !["", "*"].contains(&name.as_str()));
    let watched: Vec<String> = named(args.watch_namespaces).collect();
    let proxies: Vec<String> = named(args.gateway_namespaces).chain(named(args.caller_namespaces)).collect();
    let controller = args.controller.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
    uninstall(client, controller, &watched, &proxies).await.context("uninstall")
}
