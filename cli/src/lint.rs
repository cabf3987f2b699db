//! `weir lint`: what Weir would make of objects, without a cluster.

use std::process::ExitCode;

use clap::Args;

use crate::input::{Files, shown, text};
use crate::terminal;
use weir_controller::api::{self, Known, MetricTemplateSpec, Object, Parsed, Problem};
use weir_controller::view::paint;
use weir_engine::{Plan, Span};

/// Check objects without a cluster: what is refused, what has no effect, and how a release would go.
///
/// Exit status: 0 all can work, 1 some objects cannot be read or cannot work, 2 a file cannot be read.
#[derive(Args, Debug)]
#[command(
    after_help = "Example: kubectl kustomize . | weir lint -f -\n\n`weir simulate` plays the releases against traffic, and tells what \
                  a bad revision would cost."
)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    files: Files,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn run(args: &LintArgs) -> anyhow::Result<ExitCode> {
    let (mut out, mut errors, mut found) = (String::new(), 0, 0);
    for file in &args.files.filename {
        for document in api::read(&text(file)?, &shown(file)) {
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
    Ok(ExitCode::from(u8::from(errors > 0)))
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
                Ok(plan) => judged.release = format!("{canary}: {}\n", release(&plan)),
                Err(problems) => judged.errors = problems.into_iter().map(|it| it.at(&place).to_string()).collect(),
            }
        }
        Known::Process(process) => {
            if let Err(problems) = api::process(&process) {
                judged.errors = problems.into_iter().map(|it| it.at(&place).to_string()).collect();
            }
        }
        Known::MetricTemplate(template) => {
            judged.errors.extend(unanswerable(&template).map(|problem| problem.at(&place).to_string()));
        }
        Known::AlertProvider(_) | Known::Secret(_) | Known::Other => {}
    }
    judged
}

/// Returns why a MetricTemplate cannot be asked.
pub(crate) fn unanswerable(template: &Object<MetricTemplateSpec>) -> Option<Problem> {
    let text = weir_controller::unanswerable(template)?;
    Some(Problem::new(format!("MetricTemplate {}", template.metadata.name), text))
}

/// Says how a release goes if nothing holds it.
fn release(plan: &Plan) -> String {
    if plan.skip_analysis {
        return "promotes at once, without analysis".into();
    }
    let steps = plan.steps.len();
    let least = Span(plan.interval.0.saturating_mul(u64::try_from(steps).unwrap_or(u64::MAX)));
    let mut weights: Vec<String> = plan.steps.iter().map(|step| paint::percent(step.weight.percent())).collect();
    weights.dedup();
    let how = match plan.steps.iter().any(|step| step.iteration.is_some()) {
        true => format!("{steps} checks"),
        false => format!("weights {} %", weights.join(", ")),
    };
    format!("{how}; promoted after {} at least", paint::age(least))
}
