//! `weir completion`: what a shell needs to complete commands; and what kubectl asks of a plugin while somebody types.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::client::is_plugin;

/// Write a shell's completions.
///
/// As `kubectl weir` it is kubectl that completes, with a program called kubectl_complete-weir in the PATH: a link to kubectl-weir.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  source <(weir completion bash)\n  ln -s \"$(command -v kubectl-weir)\" ~/.local/bin/kubectl_complete-weir"
)]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The name under which kubectl looks for what completes this plugin.
const COMPLETES: &str = "kubectl_complete-weir";
/// Says to kubectl that no names of files are meant, after cobra's ShellCompDirectiveNoFileComp.
const NO_FILES: &str = ":4";

/// Runs the command.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn run(args: &CompletionArgs, mut command: Command) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let name = if is_plugin() { "kubectl-weir" } else { "weir" };
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    crate::terminal::print(&String::from_utf8_lossy(&text)).map(drop)
}

/// Returns whether kubectl asks how a command may go on.
pub(crate) fn is_asked() -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    std::path::Path::new(&program).file_stem().is_some_and(|name| name == COMPLETES)
}

/// Answers kubectl: how the last of the words may end, a line each.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn answer(command: &Command) -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let found = match before.first() {
        None => command.get_subcommands().map(|known| known.get_name().to_owned()).collect(),
        Some(name) => command.find_subcommand(name).map(options).unwrap_or_default(),
    };
    let lines: String = found.iter().filter(|word| word.starts_with(last)).map(|word| format!("{word}\n")).collect();
    crate::terminal::print(&format!("{lines}{NO_FILES}\n")).map(drop)
}

/// Returns the options of a command, and the words that it takes.
fn options(command: &Command) -> Vec<String> {
    let arguments = || command.get_arguments();
    let options = arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
    let words = arguments().filter(|argument| argument.is_positional()).flat_map(|argument| {
        argument.get_possible_values().into_iter().map(|value| value.get_name().to_owned()).collect::<Vec<_>>()
    });
    options.chain(words).collect()
}
