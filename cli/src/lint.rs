//! `weir lint`: what Weir would make of objects, without a cluster.

mod forecast;

use std::process::ExitCode;

use clap::Args;

use crate::input::{Exit, Files, shown};
use crate::terminal;
use weir_controller::api::{self, Known, Parsed, Problem};

/// Check objects without a cluster: what is refused, what has no effect, and how a release would go.
///
/// The forecast of a release says how long it takes at least, how many requests it needs and at what rate, and how many failures a
/// bad revision costs until it is taken back.
///
/// Exit status: 0 all can work, 1 some objects cannot be read or cannot work, 2 a file cannot be read.
#[derive(Args, Debug)]
#[command(
    after_help = "Example: kubectl kustomize . | weir lint -f -\n\nThe forecast is exact for one gateway process. `weir simulate` plays \
                  the release against traffic of your own."
)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    files: Files,
}

/// Runs the command.
///
/// # Errors
/// When nothing can be written.
pub(crate) fn run(args: &LintArgs) -> anyhow::Result<ExitCode> {
    let (mut out, mut errors, mut found) = (String::new(), 0, 0);
    let mut exit = Exit::default();
    for file in &args.files.filename {
        let Some(text) = exit.read(file) else { continue };
        for document in api::read(&text, &shown(file)) {
            let told = match document {
                Ok(Parsed { object: Known::Other, .. }) => continue,
                Ok(parsed) => judged(parsed),
                Err(problem) => Judged { errors: vec![problem.to_string()], ..Judged::default() },
            };
            found += 1;
            errors += told.errors.len();
            told.errors.iter().for_each(|text| out += &format!("error: {text}\n"));
            told.notes.iter().for_each(|text| out += &format!("note: {text}\n"));
            out += &told.release;
        }
    }
    out += &format!("{found} objects, {errors} errors\n");
    terminal::print(&out)?;
    Ok(exit.code(errors))
}

#[derive(Default)]
struct Judged {
    errors: Vec<String>,
    notes: Vec<String>,
    release: String,
}

fn judged(parsed: Parsed) -> Judged {
    let Parsed { place, object, warnings } = parsed;
    let mut judged = Judged { notes: warnings.iter().map(ToString::to_string).collect(), ..Judged::default() };
    match object {
        Known::Canary(canary) => {
            let told = api::remarks(&canary).into_iter().map(|remark| remark.at(&place).to_string());
            judged.notes.extend(told);
            match api::plan(&canary) {
                Ok(plan) => judged.release = format!("{canary}: {}\n", forecast::lines(&plan).join("\n  ")),
                Err(problems) => judged.errors = problems.into_iter().map(|it| it.at(&place).to_string()).collect(),
            }
        }
        Known::Process(process) => {
            if let Err(problems) = api::process(&process) {
                judged.errors = problems.into_iter().map(|it| it.at(&place).to_string()).collect();
            }
        }
        provider => judged.errors.extend(unusable(&provider).map(|problem| problem.at(&place).to_string())),
    }
    judged
}

/// Returns why a MetricTemplate cannot be asked, or nothing be sent to an AlertProvider.
pub(crate) fn unusable(object: &Known) -> Option<Problem> {
    match object {
        Known::MetricTemplate(template) => {
            let text = weir_controller::unanswerable(template)?;
            Some(Problem::new(format!("MetricTemplate {}", template.metadata.name), text))
        }
        Known::AlertProvider(provider) => {
            let text = weir_controller::alerts::unsendable(&provider.spec)?;
            Some(Problem::new(format!("AlertProvider {}", provider.metadata.name), text))
        }
        _ => None,
    }
}
