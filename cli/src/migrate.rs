//! `weir migrate`: Flagger's objects as Weir's.

use std::process::ExitCode;

use clap::Args;

use crate::input::{Exit, Files};
use crate::lint::{refused, templates};
use crate::terminal;
use weir_controller::api::{self, Known, Problem};

/// Turn Flagger's objects into Weir's, and list what changes its meaning.
///
/// The objects are written to standard output, in their order and with their comments; everything else stays as it is. What Weir
/// or the API server refuses, and what Weir takes otherwise than Flagger, is on standard error with its file, document, line and field.
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
    let texts = args.files.read(&mut exit);
    let documents: Vec<_> =
        texts.iter().flat_map(|(file, text)| api::read(&api::migrate(text, file).text, file)).collect();
    let templates = templates(&documents);
    for (file, text) in &texts {
        // What is told is of the file's own lines.
        let mut migration = api::migrate_for(text, file, |parsed| refused(parsed, &templates));
        if args.take_over {
            let asking = api::migrate(&api::taking_over(text), "").text;
            migration.problems.extend(unasked(&migration.text, &asking, file));
            migration.text = asking;
        }
        if !written.is_empty() {
            terminal::print(if written.ends_with('\n') { "---\n" } else { "\n---\n" })?;
        }
        terminal::print(&migration.text)?;
        migration.problems.iter().for_each(|problem| eprintln!("weir: error: {problem}"));
        migration.remarks.iter().for_each(|remark| eprintln!("weir: note: {remark}"));
        changed += migration.changed;
        problems += migration.problems.len();
        written = migration.text;
    }
    eprintln!("weir: {changed} of Flagger's objects changed, {problems} errors");
    Ok(exit.code(problems))
}

/// Says which Canaries do not ask to be taken over though they should, where they stand in the text as it was.
fn unasked(text: &str, asking: &str, file: &str) -> Vec<Problem> {
    let pairs = api::read(text, file).into_iter().zip(api::read(asking, file));
    let told = pairs.filter_map(|(before, after)| {
        let Known::Canary(canary) = &after.ok()?.object else { return None };
        let asks = canary.metadata.annotations.contains_key("weir.dev/take-over");
        let text = "could not be added to, as they are written: add weir.dev/take-over: flagger";
        let fields = before.ok().filter(|_| !asks)?.fields;
        Some(fields.at(Problem::new("metadata.annotations", text)))
    });
    told.collect()
}
