//! `weir completion`: what a shell needs to complete commands.

use clap::{Args, Command};
use clap_complete::Shell;

/// Write a shell's completions.
#[derive(Args, Debug)]
#[command(after_help = "Example: source <(weir completion bash)")]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn run(args: &CompletionArgs, mut command: Command) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "weir", &mut text);
    crate::terminal::print(&String::from_utf8_lossy(&text)).map(drop)
}
