//! `docs/evidence.md` shows what the programs say: every transcript and table in it is made here.
//!
//! `make generate` rewrites them (`UPDATE_GOLDEN=1`); otherwise the test compares.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use weir_engine::evidence::{Comparison, Onset, Quantiles, forecast, guard, log_e_below, log_e_not_worse};
use weir_engine::evidence::{GOOD, Stretch, Terms, Test, Thresholds, budget};

use super::command::weir;

/// The text between `<!-- made: NAME -->` and `<!-- end -->`.
fn block(name: &str) -> String {
    match name.strip_prefix("weir ") {
        Some(arguments) => {
            let output = String::from_utf8(weir(arguments).stdout).unwrap();
            format!("```console\n$ weir {arguments}\n{output}```\n")
        }
        None => match name {
            "failures to a verdict" => failures_to_a_verdict(),
            "forecast" => forecasts(),
            "budget" => budgets(),
            "shares" => shares(),
            "good" => failures_to_good(),
            "certificate" => certificates(),
            other => panic!("nothing makes {other:?}"),
        },
    }
}

const WEIGHTS: [f64; 5] = [0.01, 0.05, 0.1, 0.3, 0.5];

fn begun() -> Onset {
    let mut onset = Onset::new(Comparison::WEIGHTS.len());
    onset.begin_block(&Comparison::WEIGHTS);
    onset
}

fn heading(first: &str, columns: &[String]) -> String {
    format!("| {first} | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()))
}

fn percents() -> Vec<String> {
    WEIGHTS.map(|rho| format!("{} %", rho * 100.0)).into()
}

fn failures_to_a_verdict() -> String {
    let mut table = heading("evidence", &percents());
    for threshold in [100.0, 200.0, 400.0] {
        let limit = |rho: f64| guard::comparison(&Comparison::EQUAL, &begun(), rho, threshold, 1).limit(0).unwrap();
        let cells = WEIGHTS.map(|rho| limit(rho).to_string());
        writeln!(table, "| {threshold} | {} |", cells.join(" | ")).unwrap();
    }
    table
}

fn forecasts() -> String {
    let mut table = heading("canary fails", &percents());
    for ratio in [2.0, 5.0, 10.0, 100.0] {
        let cells = WEIGHTS.map(|rho| {
            let Quantiles { median, p90 } = forecast(&Comparison::EQUAL, &begun(), rho, ratio, 200.0).unwrap().canary;
            format!("{median} ({p90})")
        });
        writeln!(table, "| {ratio}x as often | {} |", cells.join(" | ")).unwrap();
    }
    table
}

fn budgets() -> String {
    let mut table = heading("processes", &["comparison guard", "absolute guard", "controller"].map(String::from));
    let (alone, of_two, of_ten) = (budget(0.01, 1), budget(0.01, 2), budget(0.01, 10));
    let guards = |of: Thresholds| format!("{} | {}", of.comparison_guard, of.absolute_guard);
    writeln!(table, "| 1 | {} | {} |", guards(alone), alone.controller).unwrap();
    assert_eq!(of_two.controller, of_ten.controller);
    writeln!(table, "| 2 or more | none, it waits | none, it waits | {} |", of_two.controller).unwrap();
    writeln!(table, "| 2 of an earlier module | {} | {} |", guards(of_two), of_two.controller).unwrap();
    writeln!(table, "| 10 of an earlier module | {} | {} |", guards(of_ten), of_ten.controller).unwrap();
    table
}

fn shares() -> String {
    let mut table = heading("run", &Test::ALL.map(|test| test.word().to_owned()));
    for (name, draws, latency_ratio) in [
        ("with draws and a latency edge", true, Some(2.0)),
        ("with draws", true, None),
        ("without draws (A/B, blue/green), with a latency edge", false, Some(2.0)),
        ("without draws", false, None),
    ] {
        let terms = Terms::new(draws, latency_ratio);
        let cells = Test::ALL.map(|test| format!("{:.0} %", terms.weight(test) * 100.0));
        writeln!(table, "| {name} | {} |", cells.join(" | ")).unwrap();
    }
    table
}

fn failures_to_good() -> String {
    let mut table = heading("shown", &percents());
    for margin in [2.0, 3.0] {
        let needed = WEIGHTS.map(|rho| {
            let good = |all: &u64| {
                let canary = (*all as f64 * rho).round() as u64;
                log_e_not_worse(margin, &[Stretch { rho, canary, primary: all - canary }]) >= GOOD.ln()
            };
            (1..).find(good).unwrap().to_string()
        });
        writeln!(table, "| not {margin}x worse | {} |", needed.join(" | ")).unwrap();
    }
    table
}

fn certificates() -> String {
    let bounds = [0.05, 0.01, 0.005, 0.001];
    let mut table = heading("failures so far", &bounds.map(|p0: f64| format!("below {} %", p0 * 100.0)));
    for failures in [0, 1, 2] {
        let needed = |p0| {
            // Each further clean request is further evidence: bisection.
            let (mut low, mut high) = (0u64, 100_000);
            while high - low > 1 {
                let middle = low.midpoint(high);
                if log_e_below(p0, failures, middle) >= GOOD.ln() { high = middle } else { low = middle }
            }
            high
        };
        let cells = bounds.map(|p0| needed(p0).to_string());
        writeln!(table, "| {failures} | {} |", cells.join(" | ")).unwrap();
    }
    table
}

#[test]
fn the_documentation_shows_what_the_programs_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/evidence.md");
    let text = fs::read_to_string(&path).unwrap();
    let mut made = String::new();
    let mut rest = text.as_str();
    let mut blocks = 0;
    while let Some((before, after)) = rest.split_once("<!-- made: ") {
        let (name, after) = after.split_once(" -->\n").unwrap();
        let (_, after) = after.split_once("<!-- end -->").unwrap();
        write!(made, "{before}<!-- made: {name} -->\n{}<!-- end -->", block(name)).unwrap();
        rest = after;
        blocks += 1;
    }
    made += rest;
    assert!(blocks > 5, "docs/evidence.md lost its marks");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert_eq!(text, made, "docs/evidence.md is not what the programs say: run `make generate`");
    }
}
