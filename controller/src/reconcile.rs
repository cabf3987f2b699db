//! One pass of one Canary, the same on every platform: look, decide, protect, persist, execute.
//!
//! Protection comes first: a split that takes requests away from a canary is asked for before anything is stored or written
//! elsewhere, so neither a full disk nor a slow API server stands before weight 0. Everything else is stored before it is
//! done, so a controller that dies on any line finds out at its next start what it had meant to do, and does it: every action
//! may be carried out twice.
//!
//! # A split that was asked for and never stored
//! is harmless. A controller that dies between the two decides again from the older state. It finds the same cause and takes
//! the canary back again; or the cause is gone, and the canary is unharmed. Until then the canary gets less than the state
//! says, never more. The lost split's number is taken: gateways report it, and the engine gives its next split a greater one
//! (`supersede_unknown_epoch`), so that no acknowledgement and no counter of the lost one is taken for another's. A gateway
//! that acknowledges the lost split late, when the number has been given again, does so while the newer configuration is on
//! its way to it; what it then runs for that moment still reaches less of the canary than the state had allowed.

use std::future::Future;

use weir_engine::{Action, CheckRequest, Decision, Event, Observation, Plan, Reason, Span, State, Timestamp, decide};

/// Where the engine's decisions come true: a cluster, or this machine. It makes no choices.
pub trait Platform {
    /// What goes wrong there.
    type Error;

    /// Gathers what one decision looks at.
    fn observe(&mut self) -> impl Future<Output = Result<Observation, Self::Error>>;

    /// Stores what was decided, so that it survives the death of this program. Does nothing else.
    fn persist(&mut self, decision: &Decision) -> impl Future<Output = Result<(), Self::Error>>;

    /// Makes it so. What is so already costs nothing.
    fn execute(&mut self, action: &Action) -> impl Future<Output = Result<(), Self::Error>>;

    /// Tells people.
    fn emit(&mut self, event: &Event);

    /// Asks other programs; the answers are in a later observation. A gate is asked until it is asked for no more.
    fn request_checks(&mut self, requests: &[CheckRequest]);
}

/// When to make the next pass, and why things stand as they do until then.
#[derive(Clone, Debug, PartialEq)]
pub struct Requeue {
    /// Why things stand as they do.
    pub reason: Reason,
    /// When to look again, and to scrape, without being woken.
    pub after: Span,
}

/// Makes one pass. `state` is what was stored by the last one, and becomes what this one stored.
///
/// # Errors
/// The platform's first error. Nothing is lost by it: the next pass does what waits for it, and the rest is done in this one.
pub async fn pass<P: Platform>(
    platform: &mut P,
    plan: &Plan,
    state: &mut State,
    now: Timestamp,
) -> Result<Requeue, P::Error> {
    let seen = platform.observe().await?;
    let decision = decide(plan, state, &seen, now);
    for action in &decision.protect {
        platform.execute(action).await?;
    }
    platform.persist(&decision).await?;
    state.clone_from(&decision.state);
    for event in &decision.events {
        platform.emit(event);
    }
    platform.request_checks(&decision.check_requests);
    let mut failed: Option<(&Action, P::Error)> = None;
    for action in &decision.actions {
        if failed.as_ref().is_some_and(|(earlier, _)| !action.goes_on_without(earlier)) {
            continue;
        }
        if let Err(error) = platform.execute(action).await {
            failed.get_or_insert((action, error));
        }
    }
    if let Some((_, error)) = failed {
        return Err(error);
    }
    Ok(Requeue { reason: decision.reason, after: decision.recheck_after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::{Gateway, Phase, Readiness, Revision, Run, Stage, Traffic, Workload};
    use weir_wire::Weight;

    /// Writes down what it is asked, and fails where it is told to.
    #[derive(Default)]
    struct Notebook {
        seen: Observation,
        disk_full: bool,
        /// Whether nothing can be written of the primary.
        primary_refused: bool,
        done: Vec<String>,
    }

    impl Platform for Notebook {
        type Error = &'static str;

        async fn observe(&mut self) -> Result<Observation, Self::Error> {
            Ok(self.seen.clone())
        }

        async fn persist(&mut self, _: &Decision) -> Result<(), Self::Error> {
            self.done.push("persist".into());
            if self.disk_full { Err("disk full") } else { Ok(()) }
        }

        async fn execute(&mut self, action: &Action) -> Result<(), Self::Error> {
            self.done.push(match action {
                Action::Traffic(traffic) => format!("weight {}", traffic.weight),
                action => format!("{action:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
            });
            match action {
                Action::Primary { .. } if self.primary_refused => Err("primary refused"),
                _ => Ok(()),
            }
        }

        fn emit(&mut self, _: &Event) {}

        fn request_checks(&mut self, _: &[CheckRequest]) {}
    }

    /// A canary at 5 % that crash-loops.
    fn broken() -> (Notebook, State) {
        let revision = |name: &str| Some(Revision(name.into()));
        let primary = Workload { revision: revision("v1"), readiness: Readiness::Ready, ..Workload::default() };
        let readiness = Readiness::Broken("CrashLoopBackOff".into());
        let canary = Workload { revision: revision("v2"), readiness, ..Workload::default() };
        let seen = Observation {
            target: Revision("v2".into()),
            primary: Workload { available: true, ..primary },
            canary,
            gateways: vec![Gateway {
                name: "envoy".into(),
                caller: false,
                silent: false,
                acknowledged: Some(7),
                filtering: true,
                unrouted: false,
                level: weir_wire::names::LEVEL,
            }],
            ..Observation::default()
        };
        let run = Run { id: "1".into(), revision: Revision("v2".into()), stage: Stage::Analysing, ..Run::default() };
        let weight = Weight::new(500).unwrap();
        let state = State {
            phase: Phase::Progressing,
            promoted: revision("v1"),
            installed: revision("v1"),
            applied: revision("v2"),
            traffic: Traffic { run: run.id.clone(), epoch: 7, weight, ..Traffic::default() },
            run: Some(run),
            ..State::default()
        };
        (Notebook { seen, ..Notebook::default() }, state)
    }

    #[tokio::test]
    async fn weight_0_comes_before_what_is_stored_and_everything_else_after_it() {
        let (mut platform, mut state) = broken();
        let requeue = pass(&mut platform, &Plan::example(), &mut state, Timestamp(1)).await.unwrap();
        assert_eq!(requeue.reason.code(), "CanaryBroken");
        let order = ["weight 0", "persist", "KeepRevision", "CopyConfigs", "Primary", "Canary", "Route", "Prune"];
        assert_eq!(platform.done, order);
    }

    #[tokio::test]
    async fn a_weight_that_gives_the_canary_requests_is_stored_before_it_is_asked_for() {
        let (mut platform, mut state) = broken();
        platform.seen.canary.readiness = Readiness::Ready;
        platform.seen.canary.available = true;
        pass(&mut platform, &Plan::example(), &mut state, Timestamp(1)).await.unwrap();
        assert_eq!(platform.done[..2], ["persist", "weight 10"]);
    }

    #[tokio::test]
    async fn a_refused_write_of_the_primary_stands_before_neither_the_canary_nor_the_routes_to_one_that_serves_for_it()
    {
        let (mut platform, mut state) = broken();
        (platform.seen.canary.readiness, platform.seen.canary.available) = (Readiness::Ready, true);
        platform.primary_refused = true;
        let refused = pass(&mut platform, &Plan::example(), &mut state, Timestamp(1)).await;
        assert_eq!(refused, Err("primary refused"));
        assert_eq!(platform.done[2..], ["KeepRevision", "CopyConfigs", "Primary", "Canary"]);
        // Its promotion has failed, and the primary is to have its former revision again.
        let mut run = state.run.take().unwrap();
        run.stage = Stage::Stranded;
        let traffic = Traffic { weight: Weight::FULL, fallback: true, run: String::new(), ..state.traffic.clone() };
        state = State { phase: Phase::Failed, canary_is_fallback: true, traffic, run: Some(run), ..state };
        (platform.seen.primary.available, platform.seen.primary.readiness) = (false, Readiness::Unready("0".into()));
        platform.done.clear();
        assert_eq!(pass(&mut platform, &Plan::example(), &mut state, Timestamp(2)).await, refused);
        let order = ["KeepRevision", "CopyConfigs", "Route", "Primary", "Canary"];
        assert_eq!(platform.done[platform.done.len() - 5..], order, "{:?}", platform.done);
    }

    #[tokio::test]
    async fn a_full_disk_stands_before_everything_but_the_way_back_to_the_primary() {
        let (platform, mut state) = broken();
        let mut platform = Notebook { disk_full: true, ..platform };
        let before = state.clone();
        assert_eq!(pass(&mut platform, &Plan::example(), &mut state, Timestamp(1)).await, Err("disk full"));
        assert_eq!(platform.done, ["weight 0", "persist"]);
        assert_eq!(state, before);
    }
}
