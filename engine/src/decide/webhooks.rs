//! The calls to other programs: which are asked in a pass, and what they have said.

use std::fmt::Display;

use super::{CheckRequest, CheckResult, Event, Pass, Reason, Severity, WebhookKind};

impl Pass<'_> {
    /// Asks the webhooks of one kind and returns those that have not passed, with what they said.
    pub(super) fn unpassed(
        &mut self,
        kind: WebhookKind,
        number: impl Display,
        repeat: bool,
    ) -> Vec<(String, Option<CheckResult>)> {
        let run = self.run().id.clone();
        let mut answers = self.call(&run, kind, &number, repeat);
        answers.retain(|(_, answer)| *answer != Some(CheckResult::Passed));
        answers
    }

    /// Asks the webhooks of one kind for a rollout and returns what each has said.
    fn call(
        &mut self,
        run: &str,
        kind: WebhookKind,
        number: &dyn Display,
        repeat: bool,
    ) -> Vec<(String, Option<CheckResult>)> {
        let mut answers = Vec::new();
        for webhook in self.plan.webhooks(kind) {
            let key = format!("{run}/{kind:?}/{number}/{}", webhook.name);
            let answer = self.seen.check_results.get(&key).cloned();
            if repeat || answer.is_none() {
                self.check_requests.push(CheckRequest { key, name: webhook.name.clone(), webhook: Some(kind), repeat });
            }
            answers.push((webhook.name.clone(), answer));
        }
        answers
    }

    /// Tells the `post-rollout` webhooks how the last rollout ended. Nothing waits for them, a new rollout least of all.
    pub(super) fn post_rollout(&mut self) {
        let pending = self.state.ended.as_ref().filter(|ended| ended.post_rollout_pending);
        let Some(run) = pending.map(|ended| ended.run.clone()) else { return };
        let answers = self.call(&run, WebhookKind::PostRollout, &0, false);
        if answers.iter().any(|(_, answer)| answer.is_none()) {
            return;
        }
        for (name, answer) in answers {
            match answer {
                Some(CheckResult::Passed) => {
                    self.emit(Severity::Info, "CheckPassed", format!("Post-rollout check {name} passed"));
                }
                answer => {
                    let text = format!("Post-rollout hook {name} failed {}", Self::answer_text(answer));
                    let event = Event::new(Severity::Warning, "PostRolloutFailed", text);
                    self.events.push(Event { webhook: Some(name), ..event });
                }
            }
        }
        if let Some(ended) = &mut self.state.ended {
            ended.post_rollout_pending = false;
        }
    }

    /// Asks the gates of one kind; returns the hold of the first closed one.
    pub(super) fn gate(&mut self, kind: WebhookKind, number: impl Display) -> Option<Reason> {
        let (gate, answer) = self.unpassed(kind, number, true).into_iter().next()?;
        let said = match answer {
            Some(CheckResult::Failed(said)) => said,
            _ => "no answer yet".into(),
        };
        Some(Reason::WaitingForGate { gate, said })
    }
}
