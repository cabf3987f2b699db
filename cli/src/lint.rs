//! `weir lint`: what Weir would make of objects, without a cluster.

mod forecast;

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;

use crate::input::{Exit, Files};
use crate::terminal;
use weir_controller::api::{
    self, CanarySpec, Clash, Fields, Known, MetricTemplateSpec, Object, Parsed, Place, Problem,
};

/// Check objects without a cluster: what is refused, what has no effect or another meaning, and how a release would go.
///
/// A line begins with `error` for what Weir or the API server refuses, unknown fields included, with `note` for what has no effect or less than
/// it says, and with `meaning` for what Flagger does otherwise.
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
    let (mut out, mut errors) = (String::new(), 0);
    let mut tell = |told: Judged| {
        errors += told.errors.len();
        told.errors.iter().for_each(|text| out += &format!("error: {text}\n"));
        told.notes.iter().for_each(|text| out += &format!("note: {text}\n"));
        told.meanings.iter().for_each(|text| out += &format!("meaning: {text}\n"));
        out += &told.release;
    };
    let mut exit = Exit::default();
    let texts = args.files.read(&mut exit);
    let documents: Vec<_> = texts.iter().flat_map(|(file, text)| api::read(text, file)).collect();
    let templates = templates(&documents);
    let (mut canaries, mut objects) = (Vec::new(), BTreeSet::new());
    for document in documents {
        let (place, told) = match document {
            Ok(Parsed { object: Known::Other, meant: false, .. }) => continue,
            Ok(parsed) => {
                let parsed = parsed.placed();
                if let Known::Canary(canary) = &parsed.object {
                    canaries.push((canary.clone(), parsed.fields.clone()));
                }
                (parsed.place.clone(), judged(parsed, &templates))
            }
            // Each with a line of its own, and of one document.
            Err(problem) => {
                let place = Place { line: 0, ..problem.place.clone() };
                (place, Judged { errors: vec![problem.to_string()], ..Judged::default() })
            }
        };
        objects.insert(place);
        tell(told);
    }
    tell(together(&canaries));
    let nothing = if objects.is_empty() { ": there is none of Weir's or Flagger's" } else { "" };
    out += &format!("{} objects, {errors} errors{nothing}\n", objects.len());
    terminal::print(&out)?;
    Ok(exit.code(errors))
}

/// Returns the MetricTemplates of all that was read: Canaries ask them.
pub(crate) fn templates(documents: &[Result<Parsed, Problem>]) -> Vec<Object<MetricTemplateSpec>> {
    let template = |document: &Result<Parsed, Problem>| match document {
        Ok(Parsed { object: Known::MetricTemplate(template), .. }) => Some(template.clone()),
        _ => None,
    };
    documents.iter().filter_map(template).collect()
}

/// Says what cannot be seen in one Canary: that another one wants the same.
fn together(canaries: &[(Box<Object<CanarySpec>>, Fields)]) -> Judged {
    let all: Vec<&Object<CanarySpec>> = canaries.iter().map(|(canary, _)| &**canary).collect();
    let service = |i: usize| &all[i].spec.service;
    // The same object in two files, a base and what is made of it, is one.
    let are_two = |clash: &Clash| all[clash.first].to_string() != all[clash.second].to_string();
    let tell = |clash: Clash| canaries[clash.second].1.at(clash.problem).to_string();
    // Where a gateway can tell the routes apart, both may serve.
    let meet = |clash: &Clash| {
        let (one, other) = (service(clash.first), service(clash.second));
        one.r#match == other.r#match && one.gateways.iter().any(|gateway| other.gateways.contains(gateway))
    };
    Judged {
        errors: api::shared_targets(&all).into_iter().filter(are_two).map(tell).collect(),
        notes: api::shared_hosts(&all).into_iter().filter(are_two).filter(meet).map(tell).collect(),
        ..Judged::default()
    }
}

#[derive(Default)]
struct Judged {
    errors: Vec<String>,
    notes: Vec<String>,
    meanings: Vec<String>,
    release: String,
}

fn judged(parsed: Parsed, templates: &[Object<MetricTemplateSpec>]) -> Judged {
    let (refused, meanings) = (refused(&parsed, templates), api::differences(&parsed));
    let Parsed { object, warnings, meant, fields, .. } = parsed;
    let said = |problems: Vec<Problem>| problems.into_iter().map(|it| fields.at(it).to_string()).collect::<Vec<_>>();
    if meant {
        return Judged { errors: said(warnings), ..Judged::default() };
    }
    let (mut problems, mut notes, mut release) = (Vec::new(), warnings, String::new());
    match &object {
        Known::Canary(canary) => {
            notes.extend(api::remarks(canary));
            match api::plan(canary) {
                Ok(plan) if refused.is_empty() => {
                    release = format!("{canary}: {}\n", forecast::lines(&plan).join("\n  "));
                }
                plan => problems = plan.err().unwrap_or_default(),
            }
        }
        Known::Process(process) => problems = api::process(process).err().unwrap_or_default(),
        Known::MetricTemplate(template) => notes.extend(template.spec.remarks()),
        Known::AlertProvider(_) | Known::Secret(_) | Known::Other => {}
    }
    Judged {
        errors: said(api::with_refused(problems, &refused)),
        notes: said(api::without_refused(notes, &refused)),
        meanings: said(meanings),
        release,
    }
}

/// Returns what is refused of an object by others than its plan: by the API server, and by those that it has asked or told something.
pub(crate) fn refused(parsed: &Parsed, templates: &[Object<MetricTemplateSpec>]) -> Vec<Problem> {
    api::with_refused(unusable(&parsed.object, templates), &weir_controller::kubernetes::refused(parsed))
}

/// Returns why a MetricTemplate cannot be asked, or a Canary's metrics, or nothing be sent to an AlertProvider.
fn unusable(object: &Known, templates: &[Object<MetricTemplateSpec>]) -> Vec<Problem> {
    match object {
        Known::Canary(canary) => weir_controller::unanswerable_metrics(canary, templates),
        Known::MetricTemplate(template) => weir_controller::unanswerable(template).into_iter().collect(),
        Known::AlertProvider(provider) => weir_controller::alerts::unsendable(&provider.spec).into_iter().collect(),
        Known::Process(_) | Known::Secret(_) | Known::Other => Vec::new(),
    }
}
