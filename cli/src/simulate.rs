//! `weir simulate`: what releases would come to under given traffic, before there is any.

pub(crate) mod forecast;
mod json;
mod text;

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::{input, terminal};
use weir_controller::api::{self, Known, parse_duration};
use weir_engine::{Plan, Span};
use weir_lab::{Behaviour, Fidelity, Latency, Onset, Played, Scenario, Summary, play};

/// Play whole rollouts of a Canary against simulated requests, and tell how they end, after how many requests, failures
/// and minutes.
///
/// The decisions are the product's own code. With equal revisions the result is how often an innocent one is taken back.
/// Gates are open and webhooks and templates content; sticky clients are simulated as draws. The same seed gives the same
/// result. Exit status 2 when the arguments or the Canary make no sense.
#[derive(Args, Debug)]
#[command(
    after_help = "Example: weir simulate -f canary.yaml --rps 35 --primary-errors 0.5% --canary-errors 2.5%\n\nShares are \
                  written as fractions (0.005) or in percent (0.5%)."
)]
pub(crate) struct SimulateArgs {
    /// File with the Canary; - is standard input
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,

    /// Which Canary of the file, if it has several
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Requests per second, over all gateways
    #[arg(long, value_name = "R", value_parser = rate)]
    rps: f64,

    /// Share of the primary's requests that fail
    #[arg(long, value_name = "P", value_parser = share)]
    primary_errors: f64,

    /// Share of the canary's requests that fail
    #[arg(long, value_name = "P", value_parser = share)]
    canary_errors: f64,

    /// The primary's latency: median, or median and 99th percentile
    #[arg(long, value_name = "MEDIAN[:P99]", default_value = "20ms:100ms", value_parser = latency)]
    primary_latency: Latency,

    /// The canary's latency [default: the primary's]
    #[arg(long, value_name = "MEDIAN[:P99]", value_parser = latency)]
    canary_latency: Option<Latency>,

    /// The canary behaves like the primary until it gets this weight, in percent. Times in the forecast count from the new
    /// revision's appearance all the same
    #[arg(long, value_name = "PERCENT", value_parser = weight, conflicts_with = "onset_after")]
    onset_weight: Option<weir_wire::Weight>,

    /// The canary behaves like the primary for so long after its first request, for instance 5m. Times in the forecast count
    /// from the new revision's appearance all the same
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    onset_after: Option<Span>,

    /// Share of the requests that meet the Canary's match conditions
    #[arg(long, value_name = "P", default_value = "10%", value_parser = share)]
    matching: f64,

    /// Gateway pods that the requests are spread over
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=100))]
    gateways: u32,

    /// Envoy's worker threads in each gateway
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=128))]
    workers: u32,

    /// Rollouts to play
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    runs: u64,

    /// Another seed gives other random numbers
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,

    /// Send every request through the filter's own code, which is slow; otherwise sums of requests are drawn
    #[arg(long)]
    per_request: bool,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(rate),
        _ => Err(format!("{text:?} is not a rate: give requests per second, above 0 and at most 1000000")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(number) if (0.0..=scale).contains(&number) => Ok(number / scale),
        Ok(number) if (1.0..=100.0).contains(&number) => {
            Err(format!("{text:?} is more than all: write {number}% if you mean percent"))
        }
        _ => Err(format!("{text:?} is not a share: write a fraction from 0 to 1 (0.005), or percent (0.5%)")),
    }
}

fn weight(text: &str) -> Result<weir_wire::Weight, String> {
    let wrong = || format!("{text:?} is not a weight: give percent from 0.01 to 100, as in the Canary (30)");
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| wrong())?;
    let parts = (percent * 100.0).round();
    if !(1.0..=10_000.0).contains(&parts) {
        return Err(wrong());
    }
    weir_wire::Weight::new(parts as u32).map_err(|_| wrong())
}

fn latency(text: &str) -> Result<Latency, String> {
    let (median, p99) = text.split_once(':').map_or((text, None), |(median, p99)| (median, Some(p99)));
    let milliseconds = |text: &str| match parse_duration(text) {
        Ok(span) if span > Span(0) => Ok(span.0 as f64),
        Ok(_) => Err(format!("{text:?} is too short: give at least 1ms")),
        Err(problem) => Err(problem),
    };
    let median = milliseconds(median)?;
    let p99 = p99.map(milliseconds).transpose()?.unwrap_or(4.0 * median);
    if p99 < median {
        return Err(format!("{text:?} has its 99th percentile below its median: write MEDIAN:P99, as in 20ms:100ms"));
    }
    Ok(Latency { median, p99 })
}

/// Runs the command.
///
/// # Errors
/// When the file has no such Canary, or it cannot work; or the result cannot be written.
pub(crate) fn run(args: &SimulateArgs) -> anyhow::Result<()> {
    let (name, plan) = canary(&args.filename, args.name.as_deref())?;
    let scenario = args.scenario(plan)?;
    let played = play_all(&scenario, args.runs, args.seed)?;
    let report = forecast::Report { name, scenario, summary: Summary::of(&played), seed: args.seed };
    let text = match args.output {
        Format::Text => text::render(&report),
        Format::Json => json::render(&report).context("write the result as JSON")?,
    };
    terminal::print(&text).map(drop)
}

impl SimulateArgs {
    fn scenario(&self, plan: Plan) -> anyhow::Result<Scenario> {
        let onset = match (self.onset_weight, self.onset_after) {
            (Some(weight), _) => Onset::Weight(weight),
            (_, Some(span)) => Onset::After(span),
            _ => Onset::FirstRequest,
        };
        if let Some(onset) = self.onset_weight
            && !plan.steps.iter().any(|step| step.weight >= onset)
        {
            bail!("--onset-weight {onset} is above every weight of the Canary, so the canary would never turn bad");
        }
        if plan.suspend {
            bail!("spec.suspend is true: nothing would be released; take it out to simulate the release");
        }
        let latency = self.canary_latency.unwrap_or(self.primary_latency);
        Ok(Scenario {
            plan,
            rps: self.rps,
            primary: Behaviour { errors: self.primary_errors, client_errors: 0.0, latency: self.primary_latency },
            canary: Behaviour { errors: self.canary_errors, client_errors: 0.0, latency },
            onset,
            gateways: self.gateways,
            workers: self.workers,
            matching: self.matching,
            fidelity: if self.per_request { Fidelity::Requests } else { Fidelity::Sums },
        })
    }
}

/// Reads the Canary; what it warns of goes to standard error.
fn canary(file: &Path, wanted: Option<&str>) -> anyhow::Result<(String, Plan)> {
    let (shown, text) = (input::shown(file), input::text(file)?);
    let mut canaries = Vec::new();
    for document in api::read(&text, &shown) {
        let document = document.map_err(|problem| anyhow::anyhow!("{problem}"))?;
        if let Known::Canary(object) = document.object
            && wanted.is_none_or(|wanted| wanted == object.metadata.name)
        {
            document.warnings.iter().for_each(|warning| eprintln!("weir: {warning}"));
            canaries.push((document.fields, object));
        }
    }
    let names: Vec<&str> = canaries.iter().map(|(_, object)| object.metadata.name.as_str()).collect();
    match (canaries.as_slice(), wanted) {
        ([(fields, object)], _) => {
            let plan = api::plan(object).map_err(|problems| {
                let lines: Vec<String> =
                    problems.into_iter().map(|problem| format!("\n  {}", fields.at(problem))).collect();
                anyhow::anyhow!("the Canary cannot work:{}", lines.concat())
            })?;
            Ok((object.metadata.name.clone(), plan))
        }
        ([], Some(wanted)) => bail!("{shown} has no Canary named {wanted}"),
        ([], None) => bail!("{shown} has no Canary of apiVersion {}/{}", api::GROUP, api::VERSION),
        _ => bail!("{shown} has several Canaries ({}): choose one with --name", names.join(", ")),
    }
}

/// Plays rollouts on all processors; the result does not depend on how many there are.
fn play_all(scenario: &Scenario, runs: u64, seed: u64) -> anyhow::Result<Vec<Played>> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(16);
    let played: Result<Vec<_>, _> = std::thread::scope(|scope| {
        let work = || {
            let mut mine = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= runs {
                    return mine;
                }
                // Far apart, so that neighbouring seeds share no rollout.
                let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index);
                mine.push((index, play(scenario, seed)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        tell_progress(&next, runs, || workers.iter().all(std::thread::ScopedJoinHandle::is_finished));
        workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let Ok(played) = played else {
        bail!("a simulated rollout broke off, which is a defect of Weir: please report it")
    };
    let mut played = played.concat();
    played.sort_by_key(|(index, _)| *index);
    Ok(played.into_iter().map(|(_, played)| played).collect())
}

/// Tells a person who waits how far it is.
fn tell_progress(begun: &AtomicU64, runs: u64, done: impl Fn() -> bool) {
    let (started, mut told) = (Instant::now(), false);
    let mut ticks = 0_u32;
    while !done() {
        std::thread::sleep(Duration::from_millis(if ticks < 50 { 2 } else { 100 }));
        ticks += 1;
        if std::io::stderr().is_terminal() && started.elapsed() > Duration::from_secs(2) {
            eprint!("\r{} of {runs} rollouts", begun.load(Ordering::Relaxed).min(runs));
            told = true;
        }
    }
    if told {
        // Clears the line.
        eprint!("\r\x1b[K");
        drop(std::io::stderr().flush());
    }
}
