//! `weir migrate`: Flagger's objects as Weir's.

use std::process::ExitCode;

use clap::Args;

use crate::input::{Exit, Files, shown};
use crate::lint::unusable;
use crate::terminal;
use weir_controller::api::{self, Known, Parsed, Problem};

/// Turn Flagger's objects into Weir's, and list what changes its meaning.
///
/// The objects are written to standard output, in their order and with their comments; everything else stays as it is. What Weir
/// refuses, and what it takes otherwise than Flagger, is on standard error with its file, document, line and field.
///
/// Exit status: 0 all can work, 1 some objects cannot be read or cannot work, 2 a file cannot be read.
#[derive(Args, Debug)]
#[command(after_help = "Example: weir migrate -f canary.yaml > weir-canary.yaml")]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    files: Files,
    /// Have the Canaries ask Weir to take over what Flagger controls, by the annotation weir.dev/take-over: flagger
    #[arg(long)]
    take_over: bool,
}

/// Runs the command.
///
/// # Errors
/// When the objects cannot be written.
pub(crate) fn run(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let (mut changed, mut problems, mut written) = (0, 0, String::new());
    let mut exit = Exit::default();
    for file in &args.files.filename {
        let Some(text) = exit.read(file) else { continue };
        // What is told is of the file's own lines.
        let mut migration = api::migrate(&text, &shown(file));
        if args.take_over {
            migration.text = api::migrate(&api::taking_over(&text), "").text;
        }
        if !written.is_empty() {
            terminal::print(if written.ends_with('\n') { "---\n" } else { "\n---\n" })?;
        }
        terminal::print(&migration.text)?;
        migration.problems.iter().for_each(|problem| eprintln!("weir: error: {problem}"));
        migration.remarks.iter().for_each(|remark| eprintln!("weir: note: {remark}"));
        // What neither of the two says of an object alone: whether its metric can be asked, and anything be sent to it.
        let parsed = api::read(&migration.text, &shown(file)).into_iter().flatten();
        let told = |it: Parsed| unusable(&it.object).or_else(|| unasked(&it.object, args)).map(|why| it.fields.at(why));
        let unusable: Vec<_> = parsed.filter_map(told).collect();
        unusable.iter().for_each(|problem| eprintln!("weir: error: {problem}"));
        changed += migration.changed;
        problems += migration.problems.len() + unusable.len();
        written = migration.text;
    }
    eprintln!("weir: {changed} of Flagger's objects changed, {problems} errors");
    Ok(exit.code(problems))
}

/// Says which Canary does not ask to be taken over though it should.
fn unasked(object: &Known, args: &MigrateArgs) -> Option<Problem> {
    let Known::Canary(canary) = object else { return None };
    let asks = canary.metadata.annotations.contains_key("weir.dev/take-over");
    let text = "could not be added to, as they are written: add weir.dev/take-over: flagger";
    (args.take_over && !asks).then(|| Problem::new("metadata.annotations", text))
}
