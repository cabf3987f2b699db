//! `weir standalone`: releases on this machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::alerts::AlertArgs;

use weir_controller::standalone::{self, Options};
use weir_controller::telemetry::{self, LogFormat};

/// Release the processes of a folder of YAML files on this machine, behind an Envoy.
///
/// The folder holds Canary objects whose target is a Process, and the Process objects. An edited command or environment is a
/// new revision, which is released step by step or taken back. Envoy and the processes outlive a Weir that is killed; the next
/// one goes on where it stood. Ctrl-C ends all of them.
#[derive(Args, Debug)]
#[command(after_help = "Example: weir standalone --dir releases --listen 127.0.0.1:8080")]
pub(crate) struct StandaloneArgs {
    /// Folder of YAML files; read again whenever one changes
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Address that Envoy takes requests on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Address of the API, /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    http: SocketAddr,

    /// Folder for what must survive a restart, and for logs [default: DIR/.weir]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// The filter's module [default: weir-filter.wasm beside this program or in target]
    #[arg(long, value_name = "FILE", env = "WEIR_FILTER")]
    wasm: Option<PathBuf>,

    /// Envoy 1.40 [default: the first in PATH, or in .tools of a checkout]
    #[arg(long, value_name = "FILE", env = "ENVOY")]
    envoy: Option<PathBuf>,

    /// Envoy's worker threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Option<u32>,

    #[command(flatten)]
    alerts: AlertArgs,

    /// How logs are written; RUST_LOG chooses what is logged
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Runs until it is told to stop.
///
/// # Errors
/// When it can't start.
pub(crate) async fn run(args: StandaloneArgs) -> anyhow::Result<()> {
    telemetry::init(args.log_format);
    let options = Options {
        folder: args.dir,
        listen: args.listen,
        http: args.http,
        state: args.state,
        module: args.wasm,
        envoy: args.envoy,
        concurrency: args.concurrency,
        event_webhook: args.alerts.event_webhook(),
        alerts: args.alerts.into(),
    };
    Ok(standalone::run(options).await?)
}
