//! One canary in one VM: what is asked of it now, and what was counted so far.
//!
//! The [`Plan`] changes with every configuration; counters, streams and the latch outlive it.

use weir_wire::names::{Arm, Cohort, Kind, Metric};
use weir_wire::{SLOTS, Weight};

use crate::admission::Admission;
use crate::affinity::{self, Client};
use crate::breaker::NoEndpointBreaker;
use crate::counters::Counters;
use crate::draw::{self, Generator};
use crate::guard::{Event, Guard, Trip};
use crate::host::{Host, MetricKind};
use crate::lease::Lease;
use crate::on_demand::OnDemand;
use crate::outcome::{self, Ending, Outcome, Timing};
use crate::plan::Plan;
use crate::stream::Stream;

/// What was chosen for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The canary was full, or has no endpoint; the request goes to the primary and is counted nowhere else.
    Refused,
    /// The request was given an arm.
    Given {
        /// The arm.
        arm: Arm,
        /// Why.
        cohort: Cohort,
        /// The number that the client gets as a cookie.
        cookie: Option<u64>,
    },
}

/// A canary's state in this VM.
#[derive(Debug)]
pub struct Canary {
    id: String,
    plan: Plan,
    counters: Counters,
    dirty: bool,
    guard: Guard,
    lease: Lease,
    breaker: NoEndpointBreaker,
    admission: Admission,
    on_demand: OnDemand,
    /// The same of requests that took long.
    slow_on_demand: OnDemand,
    /// Counts the runs that this VM has seen, so that a stream of an earlier run is known as such.
    run: u32,
    /// Streams under way.
    pub streams: u32,
    /// The trip of this run, once it is known here.
    trip: Option<Trip>,
    gauges: Option<[u32; 2]>,
    published: u64,
    /// The gauge of the lease, and what it says.
    held_gauge: Option<u32>,
    held: u64,
    /// The service was seen to speak gRPC, so the first bytes of its responses are worth a look.
    pub grpc: bool,
}

impl Canary {
    /// Returns a canary that nothing was counted for yet.
    #[must_use]
    pub fn new(id: &str, plan: Plan) -> Self {
        Self {
            id: id.to_owned(),
            plan,
            counters: Counters::default(),
            dirty: false,
            guard: Guard::new(id),
            lease: Lease::new(id),
            breaker: NoEndpointBreaker::new(id),
            admission: Admission::default(),
            on_demand: OnDemand::default(),
            slow_on_demand: OnDemand::default(),
            run: 0,
            streams: 0,
            trip: None,
            gauges: None,
            published: 0,
            held_gauge: None,
            held: 0,
            grpc: false,
        }
    }

    /// Follows another plan from now on.
    pub fn follow(&mut self, plan: Plan) {
        if plan.run != self.plan.run {
            self.run += 1;
            self.admission = Admission::default();
            self.trip = None;
        }
        self.plan = plan;
    }

    /// Takes note of what the controller has seen of this process, by its plan.
    pub fn see<H: Host>(&self, host: &mut H, boot: u64) {
        if let Some([_, seen]) = self.plan.seen.iter().find(|[of, _]| *of == boot) {
            self.lease.see(host, self.plan.run, *seen);
        }
    }

    /// Returns the canary's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what is asked of the canary.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns whether something was counted that the proxy does not have.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Returns whether something was counted since the last time that everything was handed over, and says so once.
    pub fn has_become_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, !self.counters.is_clean()) && self.dirty
    }

    /// Returns whether the gauges of a trip belong on the tick: there may be one, or one has to be taken back.
    #[must_use]
    pub fn has_trip_to_publish(&self) -> bool {
        self.plan.is_run() || self.published != 0 || self.held != 0
    }

    // === A request comes ===

    /// Chooses the arm of the request of this callback, and counts the choice.
    ///
    /// `direct` says that it calls the canary's own Service. What the primary has to serve of those says nothing of either arm.
    pub fn choose<H: Host>(
        &mut self,
        host: &mut H,
        generator: &mut Generator,
        armed: bool,
        direct: bool,
        now_ns: u64,
    ) -> Choice {
        let (wanted, cohort, mut cookie) = match direct {
            true => (true, Cohort::Direct, None),
            false => self.route_wish(host, generator),
        };
        let mut arm = Arm::Primary;
        if wanted {
            let stopped = !(armed || self.plan.fallback) || self.is_tripped(host);
            if stopped && !direct {
                cookie = None;
            } else if !stopped
                && !self.waits(host)
                && !self.breaker.is_open(host, now_ns)
                && self.admission.admit(self.plan.admission, now_ns)
            {
                arm = Arm::Canary;
            } else {
                self.counters.refused();
                self.keep_cookies(host);
                return Choice::Refused;
            }
        }
        match arm {
            Arm::Canary => host.set_request_header(weir_wire::TOKEN_HEADER, &self.plan.token),
            Arm::Primary => self.keep_cookies(host),
        }
        self.counters.count(self.plan.epoch, arm, cohort, Kind::Assigned);
        Choice::Given { arm, cohort, cookie }
    }

    /// Says where the request would go if nothing stood in its way: conditions first, then the cookie, then the draw.
    fn route_wish<H: Host>(&self, host: &mut H, generator: &mut Generator) -> (bool, Cohort, Option<u64>) {
        let plan = &self.plan;
        match (!plan.conditions.is_empty() && plan.conditions.are_met(host), plan.only_matched) {
            (true, false) => return (true, Cohort::Match, None),
            // No draw: what is drawn among the others says nothing of these.
            (false, true) => return (false, Cohort::Match, None),
            _ => {}
        }
        if plan.weight == Weight::ZERO {
            return (false, Cohort::Draw, None);
        }
        match &plan.affinity {
            None => (draw::falls_within(generator.number(), plan.weight), Cohort::Draw, None),
            Some(affinity) => match affinity::client(host, affinity) {
                Client::Returning(number, had) => {
                    let wanted = affinity::falls_within(number, plan.run, plan.weight);
                    // Who moves to the canary brings its cookie from then on.
                    (wanted, Cohort::Sticky, Some(number).filter(|_| wanted && had == Arm::Primary))
                }
                Client::New => {
                    // The proxy's randomness, since the client gets to see it: a few of the generator's own numbers give away
                    // its state, and with it every later draw.
                    let number = host.random();
                    (affinity::falls_within(number, plan.run, plan.weight), Cohort::Draw, Some(number))
                }
            },
        }
    }

    /// Leads a request to the primary past the route that ends its cookies, while clients are kept on their arms.
    fn keep_cookies<H: Host>(&self, host: &mut H) {
        if self.plan.gives_cookies()
            && let Some(affinity) = &self.plan.affinity
            && affinity::brings_cookie(host, affinity)
        {
            host.set_request_header(weir_wire::TOKEN_HEADER, weir_wire::KEPT);
        }
    }

    /// Returns whether the guard has stopped this run, here or in another worker.
    fn is_tripped<H: Host>(&mut self, host: &mut H) -> bool {
        if self.trip.is_none() && self.plan.is_run() {
            self.trip = self.guard.trip(host, self.plan.run);
        }
        self.trip.is_some()
    }

    /// Returns whether as many failures of this run are unseen as may be.
    fn waits<H: Host>(&self, host: &mut H) -> bool {
        self.plan.lease > 0 && !self.plan.fallback && self.lease.held(host, self.plan.run, self.plan.lease) > 0
    }

    /// Returns the stream that begins with this choice.
    #[must_use]
    pub fn begin(&mut self, place: usize, arm: Arm, cohort: Cohort, cookie: Option<u64>, now_ns: u64) -> Stream {
        self.streams += 1;
        Stream {
            canary: place,
            run: self.run,
            epoch: self.plan.epoch,
            arm,
            cohort,
            began_ns: now_ns,
            cookie,
            body: outcome::Body::default(),
            is_counted: false,
            has_body: false,
        }
    }

    /// Returns the header that gives a client of an arm its number.
    #[must_use]
    pub fn set_cookie(&self, arm: Arm, number: u64) -> Option<String> {
        self.plan.affinity.as_ref().map(|affinity| affinity::set_cookie(affinity, arm, number))
    }

    // === A request ends ===

    /// Counts a connection whose upgrade was accepted. It may last for hours, and how it ends says nothing.
    pub fn accept<H: Host>(&mut self, host: &mut H, stream: &Stream, now_ns: u64) {
        self.count_end(host, stream, Ending::open(Outcome::Success), now_ns);
    }

    /// Counts how a request ended, and lets the guard judge it.
    pub fn end<H: Host>(&mut self, host: &mut H, stream: &Stream, ending: Ending, now_ns: u64) {
        self.streams = self.streams.saturating_sub(1);
        self.grpc |= ending.grpc;
        if !stream.is_counted {
            self.count_end(host, stream, ending, now_ns);
        }
    }

    fn count_end<H: Host>(&mut self, host: &mut H, stream: &Stream, ending: Ending, now_ns: u64) {
        let Ending { mut outcome, timing, client_error, .. } = ending;
        // Whoever chooses his arm can send it what makes it fail, again and again.
        if outcome == Outcome::Failure && stream.is_chosen() && self.on_demand.exceeded(host, stream.epoch) {
            outcome = Outcome::Unjudged;
        }
        if stream.arm == Arm::Canary && stream.run == self.run {
            self.admission.end(stream.began_ns, outcome != Outcome::Unjudged);
        }
        // Streams older than this have lost their slot to a newer epoch.
        if self.plan.epoch.saturating_sub(stream.epoch) >= SLOTS {
            return self.counters.late();
        }
        let kind = match outcome {
            Outcome::Success => Kind::Success,
            Outcome::Failure => Kind::Failure,
            Outcome::Abandoned => Kind::Abandoned,
            Outcome::Unjudged => Kind::Unjudged,
        };
        let mut count = |kind| self.counters.count(stream.epoch, stream.arm, stream.cohort, kind);
        count(kind);
        if client_error {
            count(Kind::ClientError);
        }
        if outcome == Outcome::Unjudged {
            return;
        }
        if timing == Timing::Latency && !self.plan.edges_ns.is_empty() {
            let last_byte_ns = if stream.body.last_byte_ns > 0 { stream.body.last_byte_ns } else { now_ns };
            let took_ns = last_byte_ns.saturating_sub(stream.began_ns);
            let bucket = self.plan.edges_ns.partition_point(|edge| *edge < took_ns);
            // How long its request takes to arrive is the client's choice, and only one without a body has arrived when its clock begins.
            let his_choice = bucket > 0 && stream.has_body && stream.is_chosen();
            if !his_choice || !self.slow_on_demand.exceeded(host, stream.epoch) {
                // At most 30, by the number of edges.
                self.counters.count(stream.epoch, stream.arm, stream.cohort, Kind::Latency(bucket as u8));
            }
        }
        if outcome != Outcome::Success {
            self.flush(host);
        }
        if stream.arm == Arm::Canary && outcome == Outcome::Failure && outcome::no_upstream(host) {
            self.breaker.record(host, now_ns);
        }
        self.judge(host, stream, outcome);
    }

    fn judge<H: Host>(&mut self, host: &mut H, stream: &Stream, outcome: Outcome) {
        let failed = outcome == Outcome::Failure;
        let draw = stream.cohort == Cohort::Draw;
        let event = match stream.arm {
            Arm::Primary if failed && draw => Event::PrimaryFailure,
            Arm::Primary => return,
            Arm::Canary => Event::Canary { draw, failed },
        };
        if stream.run != self.run || !self.plan.is_run() {
            return;
        }
        if self.plan.lease > 0 {
            if stream.arm == Arm::Canary && failed {
                self.lease.fail(host, self.plan.run);
                self.publish_held(host);
            }
            return;
        }
        let Some(limits) = self.plan.limits.iter().find(|limits| limits.epoch == stream.epoch) else { return };
        let Some(counts) = self.guard.add(host, stream.epoch, event) else { return };
        // Only a failure of the canary can reach a limit; all else moves the limit away.
        if stream.arm == Arm::Canary
            && failed
            && self.trip.is_none()
            && let Some(test) = counts.judge(limits)
        {
            self.guard.latch(host, Trip { run: self.plan.run, epoch: stream.epoch, test: test as u64 });
            self.publish_trip(host);
        }
    }

    // === In between ===

    /// Takes the counters over that other VMs have made known.
    pub fn adopt<H: Host>(&mut self, host: &mut H) {
        self.counters.adopt(host, &self.id);
    }

    /// Hands the counters over to the proxy.
    pub fn flush<H: Host>(&mut self, host: &mut H) {
        self.counters.flush(host, &self.id);
        self.dirty = !self.counters.is_clean();
    }

    /// Publishes what the guard and the lease of this run say.
    pub fn publish_trip<H: Host>(&mut self, host: &mut H) {
        self.publish_held(host);
        self.trip = self.guard.trip(host, self.plan.run);
        let (epoch, test) = self.trip.map_or((0, 0), |trip| (trip.epoch, trip.test));
        // Another worker may overwrite the gauges with what it read a moment before the trip, so a trip is said again.
        if epoch == 0 && self.published == 0 && (self.gauges.is_some() || !self.plan.is_run()) {
            return;
        }
        if self.gauges.is_none() {
            let tripped = host.define(MetricKind::Gauge, &Metric::Tripped(&self.id).to_string());
            let test = host.define(MetricKind::Gauge, &Metric::TripTest(&self.id).to_string());
            self.gauges = tripped.zip(test).map(|(tripped, test)| [tripped, test]);
        }
        if let Some([tripped_gauge, test_gauge]) = self.gauges {
            host.record(test_gauge, test);
            host.record(tripped_gauge, epoch);
            self.published = epoch;
        }
    }

    /// Publishes how many failures the controller is waited for to see.
    fn publish_held<H: Host>(&mut self, host: &mut H) {
        let held = self.lease.held(host, self.plan.run, self.plan.lease);
        // Another worker may have said what it read a moment before, so it is said again while it holds; and once more after it.
        if held == 0 && self.held == 0 {
            return;
        }
        if self.held_gauge.is_none() {
            self.held_gauge = host.define(MetricKind::Gauge, &Metric::Held(&self.id).to_string());
        }
        if let Some(gauge) = self.held_gauge {
            host.record(gauge, held);
            self.held = held;
        }
    }
}
