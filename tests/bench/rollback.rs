//! Measures what a bad canary does to users, and how long a configuration takes to be used: a real `weir standalone` with its
//! Envoy, the real module, real processes.
//!
//! Failures are those that users saw, not those that Weir says it counted. The rates are measured in turn, round by round, on
//! one Envoy: a machine that gets slower in between slows them all.
//!
//! `bench-rollback --weir FILE --demo FILE --filter FILE --envoy FILE [--rounds N] [--pushes N]`; `make bench` knows the files.

mod ask;
mod delays;
#[allow(dead_code, reason = "shared with the other measurements")]
mod figures;
mod harm;
mod pushes;
#[allow(dead_code, reason = "shared with the other measurements")]
mod requests;
mod stage;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use delays::Delays;
use figures::shares;
use harm::{CASES, Case, Harm};
use pushes::Pushed;
use stage::{Programs, Stage};

/// Pushes that requests are looked at for, for each push whose way is: one request in a thousand is seldom.
const DELAYED: usize = 10;

struct Arguments {
    programs: Programs,
    rounds: usize,
    pushes: usize,
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let file = PathBuf::new;
        let programs = Programs { weir: file(), demo: file(), filter: file(), envoy: file() };
        let mut read = Self { programs, rounds: 10, pushes: 30 };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or(format!("{argument} needs a value"))?;
            let number = || value.parse().map_err(|error| format!("{argument}: {error}"));
            match argument.as_str() {
                "--weir" => read.programs.weir = value.into(),
                "--demo" => read.programs.demo = value.into(),
                "--filter" => read.programs.filter = value.into(),
                "--envoy" => read.programs.envoy = value.into(),
                "--rounds" => read.rounds = number()?,
                "--pushes" => read.pushes = number()?,
                _ => return Err(format!("{argument} is not known")),
            }
        }
        Ok(read)
    }
}

fn main() -> ExitCode {
    match Arguments::read().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench-rollback: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let mut stage = Stage::start(arguments.programs)?;
    let mut table: Vec<(Case, Vec<Harm>)> = CASES.into_iter().map(|case| (case, Vec::new())).collect();
    for round in 1..=arguments.rounds {
        for (at, (case, harms)) in table.iter_mut().enumerate() {
            let harm = case.play(&mut stage, &format!("r{round}c{at}"))?;
            eprintln!("round {round}/{}: {}: {harm:?}", arguments.rounds, case.name());
            harms.push(harm);
        }
    }
    let pushes = pushes::pushes(&mut stage, arguments.pushes)?;
    let delays = delays::delays(&stage, DELAYED * arguments.pushes)?;
    print_harm(&table);
    print_pushes(&pushes);
    print_delays(&delays);
    println!("\nminimum / median / maximum; {} repetitions, {} pushes", arguments.rounds, pushes.len());
    Ok(())
}

fn print_harm(table: &[(Case, Vec<Harm>)]) {
    let head = ["canary fails everything", "requests/s", "reached", "failed requests"];
    let times = ["first failure → last canary response, ms", "→ weight 0 in every worker, ms", "other failures"];
    println!("| {} | {} |\n|---|---|---|---|---|---|---|", head.join(" | "), times.join(" | "));
    for (case, harms) in table {
        let spread = |of: fn(&Harm) -> Option<f64>| spread(harms.iter().filter_map(of).collect());
        let others: u64 = harms.iter().map(|harm| harm.others).sum();
        let (rate, failed) = (spread(|harm| Some(harm.rate.round())), spread(|harm| Some(harm.failed as f64)));
        let (last, off) = (spread(|harm| Some(harm.last_ms)), spread(|harm| harm.off_ms));
        println!("| {} | {rate} | {failed} | {last} | {off} | {others} |", case.name());
    }
}

fn print_pushes(pushes: &[Pushed]) {
    let column = |of: fn(&Pushed) -> f64| spread(pushes.iter().map(of).collect());
    println!("\n| configuration written → | ms |\n|---|---|");
    println!("| first response by the new weight | {} |", column(|push| push.first_ms));
    println!("| last response by the old weight | {} |", column(|push| push.last_ms));
    println!("| every worker says so in Envoy's metrics | {} |", column(|push| push.said_ms));
}

fn print_delays(delays: &Delays) {
    println!("\n| requests, 400 per second, p50 / p99 / p99.9 / maximum | ms | number |\n|---|---|---|");
    for (what, list) in [("while nothing happens", &delays.quiet), ("during a push", &delays.pushed)] {
        println!("| {what} | {} | {} |", shares(list), list.len());
    }
}

/// Returns minimum, median and maximum as people read them.
fn spread(mut numbers: Vec<f64>) -> String {
    numbers.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (numbers.first(), numbers.last()) else { return "–".into() };
    let digits = usize::from(*most < 100.0 && numbers.iter().any(|it| it.fract() > 0.0));
    format!("{least:.digits$} / {:.digits$} / {most:.digits$}", numbers[numbers.len() / 2])
}
