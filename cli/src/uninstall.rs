//! `weir uninstall`: gives everything back before Weir goes.

use anyhow::{Context, Result};
use clap::Args;

use weir_controller::kubernetes::uninstall;
use weir_controller::telemetry::{self, LogFormat};

/// Delete all Canaries of a cluster and wait until their traffic is given back. The controller must still run.
#[derive(Args)]
pub(crate) struct UninstallArgs {}

/// Runs the command.
///
/// # Errors
/// When the cluster cannot be reached or refuses.
pub(crate) async fn run(_: UninstallArgs) -> Result<()> {
    telemetry::init(LogFormat::Text);
    let client = kube::Client::try_default().await.context("find the cluster")?;
    uninstall(client).await.context("uninstall")
}
