//! The result of `weir simulate` for programs. Fields are only added to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::forecast::{CONFIDENCE, Report};
use weir_lab::{End, Figures};

#[derive(Serialize)]
struct Document<'a> {
    canary: &'a str,
    rps: f64,
    primary_errors: f64,
    canary_errors: f64,
    gateways: u32,
    alpha: f64,
    seed: u64,
    /// What was drawn: `sums` of requests per slice of time, or single `requests`.
    drawn: &'static str,
    runs: u64,
    /// Rollouts by how they ended.
    ends: BTreeMap<&'static str, u64>,
    /// Those that were taken back, by reason.
    rolled_back_by: BTreeMap<&'a str, u64>,
    /// Those that did not end, by what they waited for.
    waiting_for: BTreeMap<&'a str, u64>,
    promoted: &'a Figures,
    rolled_back: &'a Figures,
    waiting: &'a Figures,
    /// Only for equally good revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    false_rollbacks: Option<Share>,
    forecast: String,
}

#[derive(Serialize)]
struct Share {
    count: u64,
    at_least: f64,
    at_most: f64,
    confidence: f64,
}

pub(crate) fn render(report: &Report) -> serde_json::Result<String> {
    let (scenario, summary) = (&report.scenario, &report.summary);
    let mut ends = BTreeMap::from([("promoted", 0), ("rolled_back", 0), ("waiting", 0)]);
    let (mut rolled_back_by, mut waiting_for) = (BTreeMap::new(), BTreeMap::new());
    for (end, count) in &summary.ends {
        let word = match end {
            End::Promoted => "promoted",
            End::RolledBack(code) => {
                rolled_back_by.insert(code.as_str(), *count);
                "rolled_back"
            }
            End::Waiting(code) => {
                waiting_for.insert(code.as_str(), *count);
                "waiting"
            }
        };
        *ends.entry(word).or_default() += count;
    }
    let document = Document {
        canary: &report.name,
        rps: scenario.rps,
        primary_errors: scenario.primary.errors,
        canary_errors: scenario.canary.errors,
        gateways: scenario.gateways,
        alpha: scenario.plan.alpha,
        seed: report.seed,
        drawn: report.fidelity(),
        runs: summary.runs,
        ends,
        rolled_back_by,
        waiting_for,
        promoted: &summary.promoted,
        rolled_back: &summary.rolled_back,
        waiting: &summary.waiting,
        false_rollbacks: report.false_rollbacks().map(|found| Share {
            count: found.count,
            at_least: found.at_least,
            at_most: found.at_most,
            confidence: CONFIDENCE,
        }),
        forecast: report.sentence(),
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}
