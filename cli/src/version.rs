//! `weir version`: this program's, and that of the Weir that is asked.

use std::process::ExitCode;

use clap::Args;
use weir_controller::http::VERSION;

use crate::client::{Api, Server};
use crate::terminal;

/// Say the version of this program, and of the running Weir.
///
/// Exit status: 0 both are known, 1 no Weir answers, 2 a wrong argument.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example: kubectl weir version")]
pub(crate) struct VersionArgs {
    #[command(flatten)]
    server: Server,
    /// This program's alone; nothing is asked
    #[arg(long)]
    client: bool,
}

/// Runs the command.
///
/// # Errors
/// When nothing can be written.
pub(crate) async fn run(args: VersionArgs) -> anyhow::Result<ExitCode> {
    terminal::print(&format!("client: {VERSION}\n"))?;
    if args.client {
        return Ok(ExitCode::SUCCESS);
    }
    let found = match Api::reach(&args.server).await {
        Ok(api) => api.version().await,
        Err(error) => Err(error),
    };
    match found {
        Ok(version) => {
            terminal::print(&format!("controller: {version}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("weir: the controller's version is not known: {error:#}");
            Ok(ExitCode::from(1))
        }
    }
}
