//! Judges the requests of a step against the user's bounds, at the end of each interval.
//!
//! Rates are exact quotients of the requests assigned since the window began, not moving averages: nothing of the step before is in
//! them. Too few requests are neither good nor bad: the step waits, and says for what. Nor is a rate outside of its bound bad before
//! that is shown ([`super::bound`]); what shows it is looked at first in every pass ([`super::rollback`]).

use weir_wire::RUN_TICK_MS;
use weir_wire::names::Arm;

use super::bound::Window;
use super::{Cause, CheckRequest, CheckResult, Pass, Reason, Severity, Span, Timestamp, WebhookKind};
use crate::counts::{Cell, Counts};
use crate::latency;
use crate::plan::{Bounds, Check, Plan, Source, Step};

/// The filter flushes once a tick; after two everything that ended before is in a scrape.
const FLUSHED: Span = Span(2 * RUN_TICK_MS as u64);
/// Longest wait for requests that do not end. After it they count as slow.
const PATIENCE: Span = Span::seconds(30);

/// What a check says.
pub(super) enum Outcome {
    /// Every bound holds.
    Passed,
    /// A bound is not met and not shown to be broken; with the numbers. For as long as a step is held for that, this is one of the
    /// checks that hold it; at their limit it passes.
    Undecided(String),
    /// Something does not hold; with the numbers.
    Failed {
        /// What.
        what: String,
        /// Whether the next check counts from 0: not after another program's no, which says nothing of the requests.
        anew: bool,
    },
    /// Not known yet, and why.
    Waiting(Reason),
}

impl Outcome {
    fn no_of_a_program(what: String) -> Self {
        Self::Failed { what, anew: false }
    }
}

impl Pass<'_> {
    /// Makes the check that was due at `due`.
    pub(super) fn check(&mut self, step: Step, due: Timestamp) -> Outcome {
        let number = self.run().checks;
        let unpassed = self.unpassed(WebhookKind::Rollout, number, false);
        if let Some((name, answer)) = unpassed.iter().find(|(_, answer)| answer.is_some()) {
            let said = Self::answer_text(answer.clone());
            self.failed_webhook = Some(name.clone());
            return Outcome::no_of_a_program(format!("external check {name} failed {said}"));
        }
        let mut bounds = Vec::new();
        let built_in = self.plan.checks.iter().any(|check| check.source != Source::Template);
        let answered = unpassed.is_empty() && self.plan.webhooks(WebhookKind::Rollout).next().is_some();
        let window = match step {
            _ if !built_in => Ok(None),
            // It can be seen once it is made.
            Step { judged: false, .. } if step.judged_if_seen() && answered => self.seen_window(step, due),
            Step { judged: false, .. } => Ok(None),
            _ => {
                self.run_mut().load_made |= answered;
                self.judged_window(step, due, answered).map(Some)
            }
        };
        let window = match window {
            Ok(window) => window,
            Err(outcome) => return outcome,
        };
        if let Some(window) = window {
            if let Some(what) = self.out_of_plain_bounds(&window.all.arm(Arm::Canary)) {
                return Outcome::Failed { what, anew: true };
            }
            bounds = if self.plan.plain_bounds { Vec::new() } else { self.bounds(&window, true) };
            if let Some(broken) = bounds.iter().find(|bound| bound.allows_none() && !bound.holds()) {
                return Outcome::Failed { what: format!("{} ({})", broken.text(), broken.counts()), anew: true };
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
                    return Outcome::no_of_a_program(broken_bound(&check.name, *value, "", check));
                }
                Some(CheckResult::NoValue(why) | CheckResult::Failed(why)) => {
                    let what = format!("no values found for metric {}: {why}", check.name);
                    return Outcome::no_of_a_program(what);
                }
                Some(CheckResult::Passed) | None => {
                    return Outcome::Waiting(Reason::WaitingForAnswer { name: check.name.clone() });
                }
            }
        }
        match bounds.iter().find(|bound| !bound.holds()) {
            Some(bound) => Outcome::Undecided(format!("{} ({})", bound.text(), bound.counts())),
            None => Outcome::Passed,
        }
    }

    /// Returns the requests since the window began, if there are enough of them: of a load test that may be seen or not.
    fn seen_window(&mut self, step: Step, due: Timestamp) -> Result<Option<Window>, Outcome> {
        let window = self.settled_window(due)?;
        if window.all.arm(Arm::Canary).answered() >= self.plan.min_requests.max(1) {
            return self.judged_window(step, due, true).map(Some);
        }
        // Told once: it was the last chance.
        if !self.run().check_passed && self.following().is_some_and(|next| next.confirm) {
            let Plan { canary, canary_service, min_requests, .. } = self.plan;
            let text = format!(
                "{canary} was tested while idle, and its built-in metrics are judged from the switch on: no sidecar has seen the \
                 {min_requests} requests to http://{canary_service} that a check needs; make them from a pod with a sidecar that \
                 service.callers names"
            );
            self.emit(Severity::Warning, "NoSyntheticLoad", text);
        }
        Ok(None)
    }

    /// Returns the requests since the window began, once everything that ended in it is known.
    fn settled_window(&self, due: Timestamp) -> Result<Window, Outcome> {
        let scraped = self.state.counters.scraped();
        let stale = |name: &str| scraped.get(name).is_none_or(|begun| *begun < due + FLUSHED);
        if let Some(gateway) = self.seen.gateways.iter().find(|gateway| !gateway.silent && stale(&gateway.name)) {
            return Err(Outcome::Waiting(Reason::WaitingForScrape { gateway: gateway.name.clone() }));
        }
        let window = self.window();
        let canary = window.all.arm(Arm::Canary);
        let unended = canary.unended();
        if unended.saturating_mul(100) > canary.assigned && self.now.since(due) < PATIENCE {
            return Err(Outcome::Waiting(Reason::WaitingForRequests { unended }));
        }
        Ok(window)
    }

    /// Returns the requests since the window began, once they can be judged. `answered` says that the `rollout` webhooks of this check
    /// have.
    fn judged_window(&mut self, step: Step, due: Timestamp, answered: bool) -> Result<Window, Outcome> {
        let window = self.settled_window(due)?;
        let canary = window.all.arm(Arm::Canary);
        let (requests, needed) = (canary.answered(), self.plan.min_requests);
        let run = self.run();
        let cold = self.plan.latency_edge().is_some()
            && run.evidence.warm(run.window).next().is_none()
            && run.window_retired_warm == Counts::default();
        if requests < needed || cold {
            let opened = run.since.max(run.window_opened);
            if let Some(deadline) = self.plan.insufficient_deadline
                && self.now.since(opened) >= deadline
            {
                let reason = self.take_back(Cause::Insufficient { deadline, requests, needed });
                return Err(Outcome::Waiting(reason));
            }
            let unsplit = self.unsplit(step, &window);
            let insufficient = Reason::Insufficient { requests, needed, cold: requests >= needed, unsplit };
            let reason = self.module_too_old(step).or_else(|| self.no_synthetic_load(step, &window, opened));
            let (now, interval) = (self.now, self.plan.interval);
            let run = self.run_mut();
            if answered && now.since(run.load_asked.unwrap_or_default().max(due)) >= interval {
                // The load test is made again, as in every interval: the one before was too small, or went elsewhere.
                run.checks += 1;
                run.load_asked = Some(now);
            }
            return Err(Outcome::Waiting(reason.unwrap_or(insufficient)));
        }
        Ok(window)
    }

    /// Returns what a built-in metric does wrong where its plain value is judged: what a bad canary would not break, and where the
    /// user asked for it everything.
    fn out_of_plain_bounds(&self, canary: &Cell) -> Option<String> {
        self.plan.checks.iter().find_map(|check| {
            let plain = self.plan.plain_bounds;
            match check.source {
                Source::SuccessRate => {
                    let bounds = Bounds { min: check.bounds.min.filter(|_| plain), ..check.bounds };
                    let answered = canary.answered();
                    let rate = (answered > 0).then(|| canary.success as f64 / answered as f64 * 100.0)?;
                    (!bounds.hold(rate)).then(|| broken_bound("success rate", rate, "%", check))
                }
                Source::Duration => {
                    let bounds = Bounds { max: check.bounds.max.filter(|_| plain), ..check.bounds };
                    let p99 = latency::quantile(0.99, &canary.latency, canary.unended(), &self.plan.latency_ms)?;
                    (!bounds.hold(p99)).then(|| broken_duration(p99, check))
                }
                Source::Template => None,
            }
        })
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
