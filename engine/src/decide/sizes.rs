//! How much of each arm runs, and whose the number is.

use super::{Action, Pass, Phase, Replicas, Stage};
use crate::observation::{Autoscaler, Sizer};

impl Pass<'_> {
    pub(super) fn primary(&self) -> Option<Action> {
        let replicas = match (self.seen.primary.replicas, self.seen.canary.replicas) {
            (Some(_), _) if self.seen.autoscaler.sizes_primary => Replicas::Declared,
            (Some(replicas), _) => Replicas::Exactly(self.promoted_replicas().unwrap_or(replicas)),
            (None, Some(of_target)) => Replicas::Exactly(of_target.max(1)),
            (None, None) => Replicas::Declared,
        };
        let revision = self.state.installed.clone()?;
        // What came with a revision under analysis takes effect with its promotion.
        Some(Action::Primary { revision, replicas, follow_autoscaler: !self.is_analysing() })
    }

    /// Returns how many replicas come with the revision that the primary takes over, if somebody declares a number.
    pub(super) fn promoted_replicas(&self) -> Option<u32> {
        let promoting = self.state.run.as_ref().is_some_and(|run| run.stage == Stage::Promoting);
        let unchanged = promoting && self.state.run.as_ref().is_some_and(|run| run.revision == self.seen.target);
        self.seen.declared_replicas.filter(|replicas| unchanged && *replicas > 0)
    }

    /// How much of the canary a rollout needs. None of it is taken away while it serves, or gateways may still send to it.
    pub(super) fn canary(&self) -> Action {
        let run = self.state.run.as_ref();
        let epoch = self.state.traffic.epoch;
        let sending = self.is_sending(epoch);
        let silent = self.is_kept_for_silent(epoch);
        let replicas = match run.map(|run| run.stage) {
            _ if self.state.phase == Phase::Initializing => Replicas::Keep,
            // Nothing of it would outlive its Canary.
            _ if self.state.phase == Phase::Terminating && self.seen.target_ends_with_canary => Replicas::Keep,
            _ if self.state.phase == Phase::Terminating || self.state.canary_is_fallback => self.full(),
            Some(Stage::Draining) => Replicas::Keep,
            None | Some(Stage::Gated) if sending => Replicas::Keep,
            None | Some(Stage::Gated) if silent => self.least(),
            None | Some(Stage::Gated) => Replicas::Exactly(0),
            Some(_) => self.full(),
        };
        let started = !matches!(replicas, Replicas::Keep | Replicas::Exactly(0));
        let fresh_for = run.filter(|_| started && self.is_analysing()).map(|run| run.id.clone());
        let revision = run.map_or_else(|| self.seen.target.clone(), |run| run.revision.clone());
        Action::Canary { revision, replicas, fresh_for }
    }

    /// A gateway that nobody hears of may still send a little there. Where nothing runs, nothing is started for it.
    fn least(&self) -> Replicas {
        match self.seen.canary.replicas {
            Some(0) | None => Replicas::Keep,
            Some(_) => Replicas::Exactly(self.seen.autoscaler.minimum.unwrap_or(1).max(1)),
        }
    }

    /// A number that somebody has set is left alone: it is the user's, or an autoscaler's; but for what is too little.
    fn full(&self) -> Replicas {
        if self.seen.canary.replicas != Some(0) {
            return self.lacking().map_or(Replicas::Declared, Replicas::Exactly);
        }
        let (least, primary) = (self.seen.autoscaler.minimum, self.seen.primary.replicas);
        // An autoscaler adds to its least as the traffic comes; one that takes all of it back at once needs more.
        let start = if self.seen.deleted { least.max(primary) } else { least.or(primary) };
        Replicas::Exactly(start.unwrap_or(1).max(1))
    }

    /// Returns how much of the canary there has to be where there is less: as much as of the primary. A number of Weir's own may be what was
    /// kept for a gateway that nobody hears of. An autoscaler has sized it for its share, and may be raised only where all of the
    /// traffic comes at once: later, the two would undo each other's numbers.
    pub(super) fn lacking(&self) -> Option<u32> {
        let Autoscaler { minimum, maximum, .. } = self.seen.autoscaler;
        let primary = self.seen.primary.replicas?;
        let relieves = self.run().stage == Stage::Relieving && !self.serves_all();
        let takes_all = self.seen.deleted || self.state.phase == Phase::Terminating || relieves;
        let wanted = match minimum {
            None if takes_all || self.seen.sized_by == Sizer::Weir => primary,
            Some(_) if takes_all => primary.min(maximum.unwrap_or(primary)),
            _ => return None,
        };
        let runs = self.seen.canary.replicas?;
        (runs < wanted && self.seen.sized_by != Sizer::User).then_some(wanted)
    }
}
