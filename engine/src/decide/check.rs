//! Judges one interval of one step against the user's bounds.
//!
//! Rates are exact quotients of the requests assigned in the interval, not moving averages: nothing of the step before is in
//! them. Too few requests are neither good nor bad: the step waits, and says for what.

use weir_wire::RUN_TICK_MS;
use weir_wire::names::Arm;

use super::{Cause, CheckRequest, CheckResult, Pass, Reason, Span, Timestamp, WebhookKind};
use crate::counts::Cell;
use crate::latency;
use crate::plan::{Check, Source, Step};

/// The filter flushes once a tick; after two everything that ended before is in a scrape.
const FLUSHED: Span = Span(2 * RUN_TICK_MS as u64);
/// Longest wait for requests that do not end. After it they count as slow.
const PATIENCE: Span = Span::seconds(30);

/// What a check says.
pub(super) enum Outcome {
    /// Every bound holds.
    Passed,
    /// A bound does not hold; with the numbers.
    Failed(String),
    /// Not known yet, and why.
    Waiting(Reason),
}

impl Pass<'_> {
    /// Makes the check that was due at `due`.
    pub(super) fn check(&mut self, step: Step, due: Timestamp) -> Outcome {
        let number = self.run().checks;
        let unpassed = self.unpassed(WebhookKind::Rollout, number, false);
        if let Some((name, answer)) = unpassed.iter().find(|(_, answer)| answer.is_some()) {
            let said = Self::answer_text(answer.clone());
            self.failed_webhook = Some(name.clone());
            return Outcome::Failed(format!("external check {name} failed {said}"));
        }
        let built_in = |check: &&Check| check.source != Source::Template;
        let checks: Vec<&Check> = self.plan.checks.iter().filter(built_in).collect();
        if step.judged && !checks.is_empty() {
            let canary = match self.window_cell(due) {
                Ok(cell) => cell,
                Err(outcome) => return outcome,
            };
            for check in checks {
                if let Some(what) = self.out_of_bounds(check, &canary) {
                    return Outcome::Failed(what);
                }
            }
        }
        if let Some((name, _)) = unpassed.into_iter().next() {
            return Outcome::Waiting(Reason::WaitingForAnswer { name });
        }
        // Asked last: by then a load test has made its requests, and there are enough of them for a rate. An answer that was
        // asked for when the interval ended would be old once a slow check is through.
        for (check, answer) in &self.ask_templates(number) {
            match answer {
                Some(CheckResult::Value(value)) if check.bounds.hold(*value) => {}
                Some(CheckResult::Value(value)) => {
                    return Outcome::Failed(broken_bound(&check.name, *value, "", check));
                }
                Some(CheckResult::NoValue(why) | CheckResult::Failed(why)) => {
                    return Outcome::Failed(format!("no values found for metric {}: {why}", check.name));
                }
                Some(CheckResult::Passed) | None => {
                    return Outcome::Waiting(Reason::WaitingForAnswer { name: check.name.clone() });
                }
            }
        }
        Outcome::Passed
    }

    /// Returns the canary's requests of the interval, once they can be judged.
    fn window_cell(&mut self, due: Timestamp) -> Result<Cell, Outcome> {
        let stale = |name: &str| self.state.counters.scraped(name).is_none_or(|begun| begun < due + FLUSHED);
        if let Some(gateway) = self.seen.gateways.iter().find(|gateway| !gateway.silent && stale(&gateway.name)) {
            return Err(Outcome::Waiting(Reason::WaitingForScrape { gateway: gateway.name.clone() }));
        }
        let run = self.run();
        let mut counts = self.state.counters.since(run.window);
        counts.add(&run.window_retired);
        let canary = counts.arm(Arm::Canary);
        let unended = canary.unended();
        if unended * 100 > canary.assigned && self.now.since(due) < PATIENCE {
            return Err(Outcome::Waiting(Reason::WaitingForRequests { unended }));
        }
        let (requests, needed) = (canary.success + canary.failure, self.plan.min_requests);
        if requests < needed {
            let opened = run.since.max(run.window_opened);
            if let Some(deadline) = self.plan.insufficient_deadline
                && self.now.since(opened) >= deadline
            {
                let reason = self.take_back(Cause::Insufficient { deadline, requests, needed });
                return Err(Outcome::Waiting(reason));
            }
            return Err(Outcome::Waiting(Reason::Insufficient { requests, needed }));
        }
        Ok(canary)
    }

    /// Returns what a built-in metric does wrong.
    fn out_of_bounds(&self, check: &Check, canary: &Cell) -> Option<String> {
        match check.source {
            Source::SuccessRate => {
                let judged = canary.success + canary.failure;
                if judged == 0 {
                    return None;
                }
                let rate = canary.success as f64 / judged as f64 * 100.0;
                (!check.bounds.hold(rate)).then(|| broken_bound("success rate", rate, "%", check))
            }
            Source::Duration => {
                let unended = canary.unended();
                let p99 = latency::quantile(0.99, &canary.latency, unended, &self.plan.latency_ms)?;
                (!check.bounds.hold(p99)).then(|| broken_duration(p99, check))
            }
            Source::Template => None,
        }
    }

    fn ask_templates(&mut self, number: u32) -> Vec<(Check, Option<CheckResult>)> {
        let run = self.run().id.clone();
        let templates = self.plan.checks.iter().filter(|check| check.source == Source::Template);
        let mut answers = Vec::new();
        for check in templates {
            let key = format!("{run}/metric/{number}/{}", check.name);
            let answer = self.seen.check_results.get(&key).cloned();
            if answer.is_none() {
                self.check_requests.push(CheckRequest { key, name: check.name.clone(), webhook: None, repeat: false });
            }
            answers.push((check.clone(), answer));
        }
        answers
    }
}

/// Writes the bound that a value breaks, as Flagger does: `success rate 69.17% < 99%`.
fn broken_bound(what: &str, value: f64, unit: &str, check: &Check) -> String {
    match (check.bounds.min, check.bounds.max) {
        (Some(min), _) if value < min => format!("{what} {value:.2}{unit} < {min}{unit}"),
        (_, Some(max)) => format!("{what} {value:.2}{unit} > {max}{unit}"),
        _ => format!("{what} {value:.2}{unit} is not a number in bounds"),
    }
}

fn broken_duration(p99: f64, check: &Check) -> String {
    let text = |ms: f64| if ms.is_finite() { Span(ms.ceil() as u64).to_string() } else { "above the last edge".into() };
    match (check.bounds.min, check.bounds.max) {
        (Some(min), _) if p99 < min => format!("request duration {} < {}", text(p99), text(min)),
        (_, Some(max)) => format!("request duration {} > {}", text(p99), text(max)),
        _ => format!("request duration {} is out of bounds", text(p99)),
    }
}
