//! `weir evidence`: what given counts prove, without a gateway or a cluster.
//!
//! The same functions judge a rollout. So a person can ask what the controller would have said, or check Weir's arithmetic
//! against another implementation. A failure rate cannot be given: only failed draws move the comparison.

mod json;
mod report;
mod text;

use std::io::{self, Write};
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, ValueEnum};

use report::Report;

/// Print the evidence of given counts, the verdict, what is missing for one, and the guard's tables.
///
/// Each --epoch is a stretch of one weight, in order: the canary's share of requests as a fraction, and the failed requests
/// that were assigned in it. Exit status 0 with any verdict, 2 when the arguments make no sense.
#[derive(Args, Debug)]
#[command(after_help = "Example: weir evidence --epoch 0.05:2:10 --epoch 0.2:6:12")]
pub(crate) struct EvidenceArgs {
    /// Failed requests under one weight, for instance 0.05:2:10; once for each epoch, in order
    #[arg(
        long = "epoch",
        required_unless_present = "absolute",
        value_name = "WEIGHT:CANARY_FAILURES:PRIMARY_FAILURES"
    )]
    epochs: Vec<Epoch>,

    /// Chance of a false "bad" over all looks; the verdict needs evidence of 1/ALPHA
    #[arg(long, default_value = "0.01", value_parser = fraction)]
    alpha: f64,

    /// How many times as often as the primary the canary may fail
    #[arg(long, default_value = "1", value_parser = ratio)]
    ratio: f64,

    /// Failed and completed canary requests, for instance 3:40; once for each epoch, in order
    #[arg(long, value_name = "FAILURES:COMPLETED")]
    absolute: Vec<Completed>,

    /// Failure rate that is fine for any canary, as a fraction: what --absolute is judged against
    #[arg(long, value_name = "P", default_value = "0.05", value_parser = fraction)]
    p0: f64,

    /// Gateway pods that the guard's part of ALPHA is divided among
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    gateways: u32,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people, at most 100 columns
    Text,
    /// For programs; fields are explained in docs/evidence.md
    Json,
}

/// Failed draws of one epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Epoch {
    weight: f64,
    canary: u64,
    primary: u64,
}

impl FromStr for Epoch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [weight, canary, primary] = parts[..] else {
            return Err(format!("it has {} parts and needs 3, for instance 0.05:2:10", parts.len()));
        };
        let weight = fraction(weight).map_err(|problem| format!("weight: {problem}"))?;
        Ok(Self { weight, canary: count("canary failures", canary)?, primary: count("primary failures", primary)? })
    }
}

/// Canary requests of one epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Completed {
    failures: u64,
    completed: u64,
}

impl FromStr for Completed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [failures, completed] = parts[..] else {
            return Err(format!("it has {} parts and needs 2, for instance 3:40", parts.len()));
        };
        let (failures, completed) = (count("failures", failures)?, count("completed", completed)?);
        if failures > completed {
            return Err(format!("{failures} failures of {completed} requests; completed requests include failed ones"));
        }
        Ok(Self { failures, completed })
    }
}

fn count(what: &str, text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(count) if digits => Ok(count),
        _ if digits => Err(format!("{what}: {text} is too large, the most is {}", u64::MAX)),
        _ => Err(format!("{what}: {text:?} is not a whole number, write digits only")),
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1.0 => Ok(number),
        _ => Err(format!("{text:?} is not a fraction above 0 and below 1, write 0.05 for 5 %")),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is not a number above 0, write 2 for \"twice as often\"")),
    }
}

/// Runs the command.
///
/// # Errors
/// When standard output cannot be written. A reader that has read enough, like `head`, is no error.
pub(crate) fn run(args: EvidenceArgs) -> anyhow::Result<()> {
    let report = Report::of(&args);
    let text = match args.output {
        Format::Text => text::render(&report),
        Format::Json => json::render(&report).context("write the report as JSON")?,
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("write to standard output"),
        _ => Ok(()),
    }
}
