//! Taking a canary back: looked at first in every stage until the primary has taken over, and never waited for.

use weir_wire::Weight;
use weir_wire::names::{Arm, Cohort};

use super::{Cause, CheckResult, Event, Pass, Phase, Readiness, Reason, Severity, Stage, WebhookKind};
use crate::counts::Cell;
use crate::evidence::{Test, Verdict};
use crate::state::Outcome;

impl Pass<'_> {
    /// Returns why the canary must be taken back now, if anything says so.
    pub(super) fn cause_to_take_back(&mut self, stage: Stage) -> Option<Cause> {
        match stage {
            Stage::Gated => self.rollback_webhook(),
            // Until the primary has taken over, its former revision can still come back.
            Stage::Promoting if !self.state.canary_is_fallback => self.guard().or_else(|| self.evidence()),
            Stage::Promoting | Stage::Returning | Stage::Draining | Stage::Stranded => None,
            _ => {
                let cause = self.guard().or_else(|| self.evidence()).or_else(|| self.workload());
                cause.or_else(|| self.rollback_webhook())
            }
        }
    }

    /// The guard in a gateway has stopped the canary already.
    fn guard(&self) -> Option<Cause> {
        let run = self.run();
        let tripped = self.seen.scrapes.iter().find(|scrape| scrape.tripped >= run.evidence.first)?;
        let test = if tripped.trip_test == 2 { "absolute" } else { "comparison" };
        let weight = run.evidence.weight(tripped.tripped).unwrap_or(self.state.traffic.weight);
        Some(Cause::Guard { gateway: tripped.gateway.clone(), test, numbers: self.numbers(weight) })
    }

    fn evidence(&self) -> Option<Cause> {
        let assessment = self.run().evidence.assess(&self.state.counters, self.plan);
        let Verdict::Bad { test } = assessment.verdict else { return None };
        let evidence = match assessment.log_e {
            log_e if log_e < 20.0 => format!("{:.0}", log_e.exp()),
            log_e => format!("1e{:.0}", log_e / std::f64::consts::LN_10),
        };
        let weight = self.state.traffic.weight;
        let bound = if self.has_bound(test) { self.shown(test) } else { None };
        let what = bound.unwrap_or_else(|| {
            format!("the evidence of {} is a verdict: {}", test.word(), self.numbers_of(test, weight))
        });
        let shown = format!("{what}; evidence {evidence} (needed {:.0})", assessment.threshold);
        Some(Cause::Evidence { test: test.word(), shown })
    }

    /// Returns whether a test judges a bound of the user's.
    fn has_bound(&self, test: Test) -> bool {
        match test {
            Test::Absolute => self.plan.allowed_failures().is_some(),
            test => test == Test::Slow,
        }
    }

    /// Returns what a test counted, in words.
    fn numbers_of(&self, test: Test, weight: Weight) -> String {
        let counts = self.run().evidence.total(&self.state.counters);
        let draws = |arm| counts.cell(arm, Cohort::Draw);
        let both = |what: &str, part: &dyn Fn(&Cell) -> u64, of: &dyn Fn(&Cell) -> u64| {
            let (canary, primary) = (draws(Arm::Canary), draws(Arm::Primary));
            let (k, n) = ([canary, primary].map(part), [canary, primary].map(of));
            format!("{what}: canary {} of {}, primary {} of {}, at weight {weight} %", k[0], n[0], k[1], n[1])
        };
        match (test, self.plan.slow_from()) {
            (Test::ClientErrors, _) => {
                both("answers that the client is at fault (4xx)", &|cell| cell.client_error, &Cell::answered)
            }
            (Test::Split, _) => {
                let [canary, primary] = [Arm::Canary, Arm::Primary].map(|arm| draws(arm).assigned);
                format!(
                    "{canary} of {} draws went to the canary at weight {weight} %: the split is at fault, not the revision; look at the \
                     gateways' logs and routes",
                    canary.saturating_add(primary)
                )
            }
            (Test::Latency, Some(from)) => both("slow requests", &|cell| cell.slow(from), &Cell::timed),
            _ => self.numbers(weight),
        }
    }

    /// Returns the run's counts in words.
    fn numbers(&self, weight: Weight) -> String {
        let counts = self.run().evidence.total(&self.state.counters);
        let (canary, primary) = (counts.arm(Arm::Canary), counts.arm(Arm::Primary));
        let abandoned = match (canary.abandoned, primary.abandoned) {
            (0, 0) => String::new(),
            (c, p) => format!(" (given up by clients: canary {c}, primary {p})"),
        };
        format!(
            "canary failed {} of {} requests, primary {} of {}, at weight {weight} %{abandoned}",
            canary.failure,
            canary.ended(),
            primary.failure,
            primary.ended()
        )
    }

    fn workload(&self) -> Option<Cause> {
        let (run, canary) = (self.run(), &self.seen.canary);
        let current = canary.revision.as_ref() == Some(&run.revision);
        let why = match &canary.readiness {
            Readiness::Broken(why) if current => return Some(Cause::Broken { why: why.clone() }),
            Readiness::Ready if current => return None,
            Readiness::Broken(why) | Readiness::Unready(why) => why.clone(),
            Readiness::Ready | Readiness::Absent => "not started yet".into(),
        };
        // Part of the canary serving is enough once it has been ready: scaling is no reason to give up.
        let serving = canary.available && run.ready_since.is_some();
        let late = self.now.since(run.since.max(run.ready_last)) >= self.plan.progress_deadline;
        (late && !serving).then_some(Cause::Deadline { deadline: self.plan.progress_deadline, why })
    }

    fn rollback_webhook(&mut self) -> Option<Cause> {
        let waiting: Vec<_> = self.unpassed(WebhookKind::Rollback, 0, true).into_iter().map(|(name, _)| name).collect();
        let passed = self.plan.webhooks(WebhookKind::Rollback).find(|hook| !waiting.contains(&hook.name))?;
        Some(Cause::Webhook { name: passed.name.clone() })
    }

    /// Takes the canary back: no request goes to it from the moment that gateways hear of it.
    pub(super) fn take_back(&mut self, cause: Cause) -> Reason {
        if self.plan.observe_only && cause != Cause::Aborted {
            return Reason::Observing { would: format!("take the canary back: {cause}"), is_bad: true };
        }
        let (name, text) = (self.plan.canary.clone(), cause.to_string());
        let text = match &cause {
            Cause::Checks { failed, .. } => format!("Rolling back {name} failed checks threshold reached {failed}"),
            Cause::Webhook { .. } => format!("Rolling back {name} manual webhook invoked"),
            _ => format!("Rolling back {name} {text}"),
        };
        let (severity, code) = match cause {
            Cause::Aborted | Cause::Webhook { .. } => (Severity::Warning, cause.code()),
            _ => (Severity::Error, cause.code()),
        };
        let reason = Reason::RolledBack(cause);
        self.end(Outcome::RolledBack, &reason);
        self.emit(severity, code, text);
        // A promotion that had begun is undone, which may take the primary's last pod, as its beginning did.
        let undone = self.run().stage == Stage::Promoting;
        let given_way = !self.seen.primary.available || self.serves_all() && self.seen.update_stops_primary;
        self.state.canary_is_fallback |= undone && given_way && self.seen.canary.available;
        self.run_mut().primary_gone = !self.seen.primary.available;
        self.state.installed.clone_from(&self.state.promoted);
        let weight = self.fallback_weight();
        self.fall_back(weight);
        if self.state.canary_is_fallback {
            if undone {
                self.emit(severity, code, format!("{name} serves until the primary has its former revision back"));
            }
            self.enter_stage(Stage::Stranded);
        } else {
            self.emit(severity, code, format!("Canary failed! Scaling down {name}"));
            self.enter_stage(Stage::Draining);
        }
        self.enter(Phase::Failed);
        reason
    }

    /// Takes the weight away, and the step again once nothing holds it.
    pub(super) fn withhold(&mut self) -> Reason {
        self.run_mut().confirmed = None;
        let weight = self.fallback_weight();
        self.fall_back(weight);
        self.enter_stage(Stage::Confirming);
        Reason::Suspended
    }

    /// Counts a failed check; takes the canary back when it was one too many.
    pub(super) fn fail_check(&mut self, what: String) -> Reason {
        let (name, threshold) = (self.plan.canary.clone(), self.plan.threshold);
        let webhook = self.failed_webhook.take();
        let event = Event::new(Severity::Warning, "Halted", format!("Halt {name} advancement {what}"));
        self.events.push(Event { webhook, ..event });
        let run = self.run_mut();
        run.failed_checks += 1;
        run.last_failed_check = Some(what.clone());
        run.check_passed = false;
        let failed = run.failed_checks;
        if failed >= threshold {
            return self.take_back(Cause::Checks { failed, last: what });
        }
        Reason::Halted { check: what, failed, threshold }
    }

    pub(super) fn answer_text(answer: Option<CheckResult>) -> String {
        match answer {
            Some(CheckResult::Failed(said) | CheckResult::NoValue(said)) => said,
            _ => "no answer".into(),
        }
    }
}
