//! `weir pause|resume|promote|abort|retry NAME`: what a person can ask of a rollout.

use std::process::ExitCode;

use crate::client::Api;
use crate::describe::{Which, namespace};
use crate::terminal;

/// Asks for it. What became of it is in the events: `weir describe canary NAME`.
///
/// # Errors
/// When the server cannot be asked, or does not know the Canary.
pub(crate) async fn run(verb: &str, which: Which) -> anyhow::Result<ExitCode> {
    let api = Api::reach(&which.server).await?;
    let namespace = namespace(&which, &api).await?;
    api.ask(&namespace, &which.name, verb).await?;
    let (program, name) = (api.program(), &which.name);
    terminal::print(&format!("{verb} of {name} asked for; see `{program} why -n {namespace} {name}`\n"))?;
    Ok(ExitCode::SUCCESS)
}
