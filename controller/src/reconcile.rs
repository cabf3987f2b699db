//! One pass of one Canary, the same on every platform: look, decide, remember, carry out.
//!
//! What was decided is stored before anything is done, so a controller that dies on any line finds out at its next start what
//! it had meant to do, and does it: every action may be carried out twice.

use std::future::Future;

use crate::rollout::{Action, Ask, Decision, Event, Observation, Plan, Reason, Span, State, Timestamp, decide};

/// Where the engine's decisions come true: a cluster, or this machine. It makes no choices.
pub trait Platform {
    /// What goes wrong there.
    type Error;

    /// Gathers what one decision looks at.
    fn observe(&mut self) -> impl Future<Output = Result<Observation, Self::Error>>;

    /// Stores what was decided, so that it survives the death of this program.
    fn remember(&mut self, decision: &Decision) -> impl Future<Output = Result<(), Self::Error>>;

    /// Makes it so. What is so already costs nothing.
    fn carry_out(&mut self, action: &Action) -> impl Future<Output = Result<(), Self::Error>>;

    /// Tells people.
    fn tell(&mut self, event: &Event);

    /// Asks other programs; the answers are in a later observation. A gate is asked until it is asked for no more.
    fn ask(&mut self, asks: &[Ask]);
}

/// What a pass leaves to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// Why things stand as they do.
    pub reason: Reason,
    /// When to look again, and to scrape, without being woken.
    pub recheck_after: Span,
}

/// Makes one pass. `state` is what was remembered by the last one, and becomes what this one remembered.
///
/// # Errors
/// The platform's first error. Nothing is lost by it: the next pass does the rest.
pub async fn pass<P: Platform>(
    platform: &mut P,
    plan: &Plan,
    state: &mut State,
    now: Timestamp,
) -> Result<Passed, P::Error> {
    let seen = platform.observe().await?;
    let decision = decide(plan, state, &seen, now);
    if let Err(error) = platform.remember(&decision).await {
        // Taking the canary's requests away needs no memory: whoever decides again from the older state decides the same,
        // or finds the canary unharmed. So a full disk never stands before a rollback.
        for action in decision.actions.iter().filter(|action| protects(action)) {
            platform.carry_out(action).await?;
        }
        return Err(error);
    }
    state.clone_from(&decision.state);
    for event in &decision.events {
        platform.tell(event);
    }
    platform.ask(&decision.asks);
    for action in &decision.actions {
        platform.carry_out(action).await?;
    }
    Ok(Passed { reason: decision.reason, recheck_after: decision.recheck_after })
}

fn protects(action: &Action) -> bool {
    matches!(action, Action::Traffic(traffic) if !traffic.reaches_canary())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{Gateway, Phase, Readiness, Revision, Step, Workload};
    use weir_wire::Weight;

    /// Writes down what it is asked, and fails where it is told to.
    #[derive(Default)]
    struct Notebook {
        seen: Observation,
        disk_full: bool,
        done: Vec<String>,
    }

    impl Platform for Notebook {
        type Error = &'static str;

        async fn observe(&mut self) -> Result<Observation, Self::Error> {
            Ok(self.seen.clone())
        }

        async fn remember(&mut self, _: &Decision) -> Result<(), Self::Error> {
            self.done.push("remember".into());
            if self.disk_full { Err("disk full") } else { Ok(()) }
        }

        async fn carry_out(&mut self, action: &Action) -> Result<(), Self::Error> {
            self.done.push(match action {
                Action::Traffic(traffic) => format!("weight {}", traffic.weight),
                action => format!("{action:?}").split('(').next().unwrap_or_default().to_owned(),
            });
            Ok(())
        }

        fn tell(&mut self, _: &Event) {}

        fn ask(&mut self, _: &[Ask]) {}
    }

    fn plan() -> Plan {
        Plan {
            canary: "shop.default".into(),
            target: "shop.default".into(),
            steps: vec![Step::weight(Weight::FULL, false)],
            promotion_step: None,
            interval: Span::seconds(1),
            threshold: 1,
            checks: vec![],
            webhooks: vec![],
            min_requests: 0,
            insufficient_deadline: None,
            progress_deadline: Span::seconds(60),
            skip_analysis: false,
            suspend: false,
            revert_on_deletion: false,
            alpha: 0.01,
            latency_ratio: 2.0,
            latency_ms: vec![],
            conditions: vec![],
            affinity: None,
            admission: 10,
            observe_at_rest: false,
        }
    }

    /// A canary that was taken back: weight 0 is asked for on every pass.
    fn failed() -> (Notebook, State) {
        let revision = Some(Revision("v1".into()));
        let workload = Workload { revision: revision.clone(), readiness: Readiness::Ready, ..Workload::default() };
        let seen = Observation {
            target: Revision("v2".into()),
            primary: workload,
            gateways: vec![Gateway { name: "envoy".into(), acknowledged: None, filtering: false }],
            ..Observation::default()
        };
        let applied = Some(Revision("v2".into()));
        let (promoted, installed) = (revision.clone(), revision);
        let state = State { phase: Phase::Failed, promoted, installed, applied, ..State::default() };
        (Notebook { seen, ..Notebook::default() }, state)
    }

    #[tokio::test]
    async fn what_was_decided_is_remembered_before_anything_is_done() {
        let (mut platform, mut state) = failed();
        pass(&mut platform, &plan(), &mut state, Timestamp(1)).await.unwrap();
        assert_eq!(platform.done, ["remember", "weight 0", "Primary", "Canary", "Route"]);
    }

    #[tokio::test]
    async fn a_full_disk_stands_before_everything_but_the_way_back_to_the_primary() {
        let (platform, mut state) = failed();
        let mut platform = Notebook { disk_full: true, ..platform };
        let before = state.clone();
        assert_eq!(pass(&mut platform, &plan(), &mut state, Timestamp(1)).await, Err("disk full"));
        assert_eq!(platform.done, ["remember", "weight 0"]);
        assert_eq!(state, before);
    }
}
