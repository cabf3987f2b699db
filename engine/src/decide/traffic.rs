//! Epochs: every stretch of one split has a number, which gateways acknowledge and which requests are counted under.

use weir_wire::names::{DIRECT, MATCHED};
use weir_wire::{SLOTS, Weight};

use super::{Pass, Readiness, Reason, Severity};
use crate::observation::Gateway;
use crate::plan::Step;
use crate::state::{Outcome, Phase, Stage, Traffic};
use crate::time::{Span, Timestamp};

/// Longest epoch during a run. The evidence looks for the moment of onset in blocks of this length (statistics §12).
const EPOCH: Span = Span::seconds(30);
/// The canary's first seconds are no measure of its latency (cold caches, connections to be made).
pub(crate) const WARM_UP: Span = Span::seconds(10);
/// Time after which gateways that do not report weight 0 are reported to people. The canary stays as long as they do not; of
/// one that has never acknowledged anything, its least size.
pub const UNREACHABLE: Span = Span::seconds(600);
/// Tables of so many epochs are kept in force: failures come late.
const GUARDED_EPOCHS: usize = 3;

/// Who is sent to the canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    weight: Weight,
    matching: bool,
    only_matched: bool,
    direct: bool,
}

impl From<&Traffic> for Split {
    fn from(traffic: &Traffic) -> Self {
        let Traffic { weight, matching, only_matched, direct, .. } = *traffic;
        Self { weight, matching, only_matched, direct }
    }
}

impl From<Step> for Split {
    fn from(step: Step) -> Self {
        let Step { weight, matching, only_matched, direct, .. } = step;
        Self { weight, matching, only_matched, direct }
    }
}

impl Split {
    /// Nobody but who calls the canary's own Service.
    pub(super) fn load_tests() -> Self {
        Self { direct: true, ..Self::default() }
    }

    /// Returns whether this sends users' requests to the canary that `other` does not.
    pub(super) fn adds_to(self, other: Self) -> bool {
        let widens = other.only_matched && !self.only_matched && self.weight > Weight::ZERO;
        self.weight > other.weight || (self.matching && !other.matching) || widens
    }
}

impl Pass<'_> {
    /// Takes in what was scraped, and closes the books on epochs that no stream can change any more.
    pub(super) fn ingest(&mut self) {
        let epoch = self.newest_epoch();
        let failures =
            |state: &super::State| state.run.as_ref().map(|run| run.evidence.canary_failures(&state.counters));
        let before = failures(&self.state);
        for scrape in &self.seen.scrapes {
            self.state.counters.absorb(scrape, epoch);
        }
        let first_open = (epoch + 1).saturating_sub(SLOTS);
        let serving = self.seen.gateways.iter().map(|gateway| (gateway.name.as_str(), gateway.acknowledged)).collect();
        self.state.counters.keep(&serving, self.now);
        let retired = self.state.counters.retire(first_open);
        let Some(run) = &mut self.state.run else {
            self.state.counters.close(first_open);
            return;
        };
        let warm: Vec<u64> = run.evidence.warm(run.window).collect();
        for (epoch, counts) in retired.range(run.window..) {
            run.window_retired.add(counts);
            if warm.contains(epoch) {
                run.window_retired_warm.add(counts);
            }
        }
        run.evidence.close(self.plan, first_open, &retired, &self.state.counters);
        self.state.counters.close(first_open);
        if !self.seen.gateways.is_empty() {
            let oldest = self.seen.gateways.iter().map(|gateway| gateway.acknowledged.unwrap_or_default()).min();
            run.evidence.end_before(oldest.unwrap_or_default(), self.now);
        }
        if self.seen.primary.readiness == Readiness::Ready {
            run.primary_ready_last = self.now;
        }
        let ready = self.seen.canary.readiness == Readiness::Ready;
        if ready && self.seen.canary.revision.as_ref() == Some(&run.revision) {
            run.ready_since.get_or_insert(self.now);
        } else if !self.seen.canary.available {
            run.ready_since = None;
        }
        if failures(&self.state) > before {
            self.state.run.get_or_insert_default().failure_seen = Some(self.now);
        }
    }

    /// Returns the newest epoch that any gateway may know. A split that protects is asked for before it is stored; a
    /// controller that died in between left one behind that the state knows nothing of.
    fn newest_epoch(&self) -> u64 {
        let known = self.seen.gateways.iter().filter_map(|gateway| gateway.acknowledged).max();
        self.state.traffic.epoch.max(known.unwrap_or_default())
    }

    /// Gives the split a number that no gateway knows, where one of them has acknowledged a split that was never stored:
    /// its acknowledgement, and what it counted under it, are of another split.
    pub(super) fn supersede_unknown_epoch(&mut self) {
        let epoch = self.state.traffic.epoch;
        if epoch > 0 && self.newest_epoch() > epoch {
            self.reopen_epoch();
        }
    }

    /// Asks the gateways for the same split under a new number.
    pub(super) fn reopen_epoch(&mut self) {
        self.split((&self.state.traffic).into());
    }

    /// Asks the gateways for another share of everybody's requests.
    pub(super) fn open_epoch(&mut self, weight: Weight) {
        self.split(Split { weight, ..Split::default() });
    }

    /// Asks the gateways for another share of the requests that are split now: of everybody's, or of those that meet a condition.
    pub(super) fn change_share(&mut self, weight: Weight) {
        self.split(Split { weight, ..(&self.state.traffic).into() });
    }

    /// Asks the gateways for a split.
    pub(super) fn split(&mut self, Split { weight, matching, only_matched, direct }: Split) {
        let old = &self.state.traffic;
        // An epoch must be newer than any that a gateway may still know of a Canary that was deleted and made again:
        // the first one starts at the clock's seconds.
        let first = if old.epoch == 0 { self.now.0 / 1000 } else { 0 };
        let epoch = (self.newest_epoch() + 1).max(first);
        // From here on the primary may not be able to serve: its promotion is under way or has failed, or its Canary goes.
        let gives_way =
            (self.run().stage == Stage::Promoting || self.seen.deleted) && weight == Weight::FULL && !only_matched;
        let reaches = matching || weight > Weight::ZERO;
        let fallback = reaches && (self.state.canary_is_fallback || gives_way);
        let (run, since) = (String::new(), self.now);
        let (limits, filter) = (old.limits.clone(), old.filter);
        let (guarding, judging) = (self.guarding(), self.judging());
        let (lease, (seen, seen_at)) = (if fallback { 0 } else { self.lease(weight) }, self.seen_failures());
        let mut traffic = Traffic {
            run,
            epoch,
            weight,
            matching,
            only_matched,
            direct,
            since,
            fallback,
            limits,
            filter,
            seen,
            seen_at,
            ..Traffic::default()
        };
        let warm = self.run().ready_since.is_some_and(|since| self.now.since(since) >= WARM_UP);
        let guarded = self.is_guarded();
        if let Some(run) = &mut self.state.run {
            // Nothing may stop a canary that serves because the primary cannot: the trip of a run would, which is latched.
            let alone = gives_way && (self.seen.update_stops_primary || !self.seen.primary.available);
            if !(self.state.canary_is_fallback || alone) || !reaches {
                traffic.run.clone_from(&run.id);
            }
            if traffic.reaches_canary() {
                let judging = if lease == 0 { guarding } else { judging };
                let limits = run.evidence.open(&self.state.counters, self.plan, &traffic, warm, [guarding, judging]);
                if guarded {
                    traffic.lease = lease;
                    traffic.limits.splice(0..0, limits);
                }
            }
            if !guarded {
                traffic.limits.clear();
            }
            let first = run.evidence.first;
            traffic.limits.retain(|limits| limits.epoch >= first);
            traffic.limits.truncate(GUARDED_EPOCHS);
        } else {
            traffic.limits.clear();
        }
        self.state.counters.begin(epoch);
        self.state.traffic = traffic;
        self.requeue_now = true;
    }

    /// Opens a new epoch of the same split when the present one is as long as the evidence allows, the canary is warm,
    /// the primary was seen to fail more than the guards' tables were made for, or a process that was alone no longer is: its
    /// tables would be every other one's as well.
    pub(super) fn roll_epoch(&mut self) {
        let traffic = &self.state.traffic;
        let age = self.now.since(traffic.since);
        let warm_at = self.run().ready_since.map(|since| since + WARM_UP);
        let warmed = warm_at.is_some_and(|at| traffic.since < at && at <= self.now);
        let outgrown = self.run().evidence.outgrown(&self.state.counters, self.plan);
        let unleased = traffic.lease == 0 && !traffic.fallback && self.guarding() > 1 && self.is_guarded();
        let due = age >= EPOCH || warmed || outgrown || unleased;
        if traffic.reaches_canary() && due && self.acknowledged(traffic.epoch) {
            self.reopen_epoch();
        }
    }

    /// Returns whether every gateway that serves is known to use an epoch at least this new, but for those that have never
    /// acknowledged anything: that is enough to go on by. Where all are silent, it is not.
    pub(super) fn acknowledged(&self, epoch: u64) -> bool {
        let mut heard = self.seen.gateways.iter().filter(|gateway| !gateway.silent).peekable();
        heard.peek().is_some() && heard.all(|gateway| gateway.acknowledged >= Some(epoch))
    }

    /// Returns whether no gateway can still send to the canary, or to a primary that gives way. A silent one may be a real one
    /// that nobody can read: it is waited for until `since` is ten minutes ago.
    pub(super) fn relinquished(&self, epoch: u64, since: Timestamp) -> bool {
        !self.is_sending(epoch) && (self.now.since(since) >= UNREACHABLE || self.silent(epoch).is_empty())
    }

    /// Returns whether a gateway that has acknowledged something may use an older epoch.
    pub(super) fn is_sending(&self, epoch: u64) -> bool {
        self.seen.gateways.iter().any(|gateway| !gateway.silent && gateway.acknowledged < Some(epoch))
    }

    /// Returns the gateways that have never acknowledged anything, this epoch included.
    pub(super) fn silent(&self, epoch: u64) -> Vec<&str> {
        let silent = self.seen.gateways.iter().filter(|gateway| gateway.silent && gateway.acknowledged < Some(epoch));
        silent.map(|gateway| gateway.name.as_str()).collect()
    }

    /// Returns whether a gateway that nobody hears of may still send a little to the canary, so that some of it is kept. A caller's sidecar
    /// may for as long as it is waited for, and no longer: of hundreds one is always ill.
    pub(super) fn is_kept_for_silent(&self, epoch: u64) -> bool {
        let mut silent = self.seen.gateways.iter().filter(|gateway| gateway.silent && !gateway.caller);
        silent.any(|gateway| gateway.acknowledged < Some(epoch))
    }

    /// Returns whether the gateways stop the canary by themselves.
    fn is_guarded(&self) -> bool {
        self.run().stage <= Stage::Promoting && !self.state.canary_is_fallback && !self.plan.observe_only
    }

    /// Returns how many gateways the guards' budget is for.
    pub(super) fn guarding(&self) -> usize {
        self.seen.gateways.iter().filter(|gateway| !gateway.silent).count()
    }

    /// Tells people, once for each time that it matters, which gateways are waited for no longer.
    pub(super) fn emit_unreachable(&mut self, what: &str) {
        let text = format!("{}; {what}", self.not_acknowledged());
        self.emit(Severity::Warning, "GatewayUnreachable", text);
    }

    pub(super) fn acknowledging(&self) -> usize {
        let epoch = Some(self.state.traffic.epoch);
        self.seen.gateways.iter().filter(|gateway| gateway.acknowledged >= epoch).count()
    }

    /// Returns that a gateway does not have the filter on: without it nothing would be split, and nobody would guard. One without a
    /// route to the service has nothing to split, and holds nobody as long as another one has.
    pub(super) fn filter_off(&self) -> Option<Reason> {
        let mut heard = self.seen.gateways.iter().filter(|gateway| !gateway.silent);
        let any_on = heard.clone().any(|gateway| gateway.filtering);
        let off = heard.find(|gateway| !(gateway.filtering || gateway.unrouted && any_on))?;
        Some(Reason::FilterOff { gateway: off.name.clone() })
    }

    /// Returns that a gateway's module does not know the step's split, and sends nothing to the canary. Load tests are missed only where
    /// nobody else calls.
    pub(super) fn module_too_old(&self, step: Step) -> Option<Reason> {
        let (needed, what) = match step {
            Step { only_matched: true, .. } => (MATCHED, "split matching requests alone"),
            Step { direct: true, .. } if !step.has_users() => (DIRECT, "know load tests by the canary's own name"),
            _ => return None,
        };
        let old = |gateway: &&Gateway| gateway.level < needed;
        let gateway = self.seen.gateways.iter().find(old)?;
        Some(Reason::ModuleTooOld { gateway: gateway.name.clone(), what })
    }

    pub(super) fn not_acknowledged(&self) -> Reason {
        let epoch = Some(self.state.traffic.epoch);
        let behind = || self.seen.gateways.iter().filter(|gateway| gateway.acknowledged < epoch);
        match behind().find(|gateway| !gateway.silent).or_else(|| behind().next()) {
            Some(missing) => Reason::NotAcknowledged {
                by: self.acknowledging(),
                of: self.seen.gateways.len(),
                missing: missing.name.clone(),
            },
            None if self.seen.only_callers => Reason::NoCaller,
            None => Reason::NoGateway,
        }
    }

    /// Returns the canary's weight when it is not analysed: none, unless the primary is still to be restored.
    ///
    /// Then everything, if nothing else serves. If something does, the revision that passed its analysis keeps the share
    /// that it had, and any other one gets nothing; but where the primary's update stops its last pod, that is about to go.
    pub(super) fn fallback_weight(&self) -> Weight {
        if self.only_canary_serves() {
            return Weight::FULL;
        }
        let keeps = match self.outcome() {
            Some(Outcome::PromotionFailed) => true,
            Some(Outcome::RolledBack) => {
                self.seen.update_stops_primary && self.serves_all() && !self.run().primary_gone
            }
            _ => false,
        };
        let serves = self.state.canary_is_fallback && self.seen.canary.available;
        match serves && keeps && self.seen.target == self.run().revision {
            true => self.state.traffic.weight,
            false => Weight::ZERO,
        }
    }

    /// Returns what became of the run whose canary still serves.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.state.ended.as_ref().filter(|ended| ended.run == self.run().id).map(|ended| ended.result)
    }

    /// Returns whether nothing but the canary serves, since a promotion failed.
    pub(super) fn only_canary_serves(&self) -> bool {
        self.state.canary_is_fallback && self.seen.canary.available && !self.seen.primary.available
    }

    /// Notices a primary that was restored, so that the canary is no longer its fallback; until then, whether anything but the
    /// canary serves.
    pub(super) fn primary_recovered(&mut self) {
        if !self.state.canary_is_fallback {
            return;
        }
        let (seen, stage) = (self.seen, self.run().stage);
        let primary = &seen.primary;
        let up = primary.readiness == Readiness::Ready && primary.revision == self.state.installed;
        let stranded = stage == Stage::Stranded;
        if stranded && !primary.available {
            self.run_mut().primary_gone = true;
        }
        if !up || stranded {
            let weight = self.fallback_weight();
            if (stage < Stage::Analysing || stranded) && self.state.traffic.weight != weight {
                self.fall_back(weight);
            }
            return;
        }
        self.state.canary_is_fallback = false;
        self.state.promoted.clone_from(&self.state.installed);
        if self.state.phase == Phase::Progressing {
            self.run_mut().confirmed = None;
            self.enter_stage(Stage::Starting);
        }
        self.open_epoch(Weight::ZERO);
    }

    /// Gives the canary its share when it is not analysed. One that it had of matching requests stays one of those.
    pub(super) fn fall_back(&mut self, weight: Weight) {
        match weight == self.state.traffic.weight && weight < Weight::FULL && weight > Weight::ZERO {
            true => self.split(Split { matching: false, direct: false, ..(&self.state.traffic).into() }),
            false => self.open_epoch(weight),
        }
    }
}
