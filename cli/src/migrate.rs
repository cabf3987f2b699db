//! `weir migrate`: Flagger's objects as Weir's.

use std::process::ExitCode;

use clap::Args;

use crate::input::{Files, shown, text};
use crate::lint::unanswerable;
use crate::terminal;
use weir_controller::api::{self, Known};

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
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, or the objects cannot be written.
pub(crate) fn run(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let (mut changed, mut problems) = (0, 0);
    for (i, file) in args.files.filename.iter().enumerate() {
        let migration = api::migrate(&text(file)?, &shown(file));
        if i > 0 {
            terminal::print("---\n")?;
        }
        terminal::print(&migration.text)?;
        migration.problems.iter().for_each(|problem| eprintln!("weir: error: {problem}"));
        migration.remarks.iter().for_each(|remark| eprintln!("weir: note: {remark}"));
        // What neither of the two says of an object alone: whether its metric can be asked.
        let parsed = api::read(&migration.text, &shown(file)).into_iter().flatten();
        let templates = parsed.filter_map(|it| match it.object {
            Known::MetricTemplate(template) => unanswerable(&template).map(|problem| problem.at(&it.place)),
            _ => None,
        });
        let templates: Vec<_> = templates.collect();
        templates.iter().for_each(|problem| eprintln!("weir: error: {problem}"));
        changed += migration.changed;
        problems += migration.problems.len() + templates.len();
    }
    eprintln!("weir: {changed} of Flagger's objects changed, {problems} errors");
    Ok(ExitCode::from(u8::from(problems > 0)))
}
