//! The result of `weir simulate` for people.

use std::fmt::{Result, Write};

use super::forecast::{Report, columns, number, percent};
use weir_controller::view::paint;
use weir_lab::{End, Figures};

pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> Result {
    let (scenario, summary) = (&report.scenario, &report.summary);
    let gateways = if scenario.gateways == 1 { "1 gateway".into() } else { format!("{} gateways", scenario.gateways) };
    let (primary, canary) = (percent(scenario.primary.errors), percent(scenario.canary.errors));
    let (runs, name, rps) = (paint::count(summary.runs), &report.name, number(scenario.rps));
    writeln!(
        out,
        "{runs} rollouts of {name}: {rps} requests/s through {gateways}; primary fails {primary}, canary {canary}\n"
    )?;
    for (end, count) in &summary.ends {
        let what = match end {
            End::Promoted => "promoted".to_owned(),
            End::RolledBack(code) => format!("taken back: {code}"),
            End::Waiting(code) => format!("still waiting: {code}"),
        };
        writeln!(out, "  {what:<40} {:>9}", paint::count(*count))?;
    }
    for (name, figures) in
        [("promoted", &summary.promoted), ("taken back", &summary.rolled_back), ("still waiting", &summary.waiting)]
    {
        if figures.rollouts > 0 {
            write_figures(out, name, figures)?;
        }
    }
    if let Some(found) = report.false_rollbacks() {
        writeln!(
            out,
            "\nFalse rollbacks: {} of {runs}; their true share is from {} to {} (each with 99 % confidence), and alpha allows \
             {}.",
            paint::count(found.count),
            percent(found.at_least),
            percent(found.at_most),
            percent(scenario.plan.alpha)
        )?;
    }
    writeln!(out, "\n{}", report.sentence())
}

fn write_figures(out: &mut String, name: &str, figures: &Figures) -> Result {
    writeln!(out, "\n  {name:<28} {:>12} {:>12} {:>12}", "median", "p90", "max")?;
    for (what, spread, digits) in [
        ("minutes", figures.minutes, 1),
        ("requests", figures.requests, 0),
        ("canary requests", figures.canary_requests, 0),
        ("failed requests of users", figures.failed_requests, 0),
        ("failed by the canary", figures.canary_failures, 0),
    ] {
        let [median, p90, max] = columns(spread, digits);
        writeln!(out, "  {what:<28} {median:>12} {p90:>12} {max:>12}")?;
    }
    Ok(())
}
