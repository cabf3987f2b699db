//! The next move.
use super::{Decision, Observation, Plan, Reason, Span, State, Timestamp};
/// Decides the next move of one rollout.
pub fn decide(_plan: &Plan, state: &State, _seen: &Observation, _now: Timestamp) -> Decision {
    Decision {
        state: state.clone(),
        actions: vec![],
        events: vec![],
        asks: vec![],
        reason: Reason::UpToDate,
        recheck_after: Span::seconds(1),
    }
}
