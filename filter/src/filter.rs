//! The filter in one VM: a configuration comes, requests pass, the timer ticks.
//!
//! A new configuration comes to the VM that ran the one before, while requests of that one are under way. So everything that
//! was counted lives here, by canary, and only the plans are replaced.

use weir_wire::{Config, ConfigError, RUN_TICK_MS, TICK_MS};

use crate::canary::{Canary, Choice};
use crate::draw::Generator;
use crate::gauges::Gauges;
use crate::hashing::{self, Map};
use crate::host::{Host, Level};
use crate::lookup::{Index, Target};
use crate::outcome;
use crate::plan::Plan;
use crate::process::{self, Acceptance, Boot};
use crate::stream::Streams;

/// Time to the first tick of a configuration, in milliseconds: as soon as Envoy is back in its event loop.
const FIRST_TICK_MS: u32 = 1;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot work; the error names the field.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another one came first.
    #[error("generation: {found} is older than {newest}, which this gateway has accepted")]
    Older {
        /// Of the refused one.
        found: u64,
        /// Of the newest one.
        newest: u64,
    },
    /// Nothing could be newer or older than it.
    #[error("generation: must be at least 1")]
    NoGeneration,
    /// Two configurations with one number.
    #[error("generation: {0} was accepted before with another content")]
    Different(u64),
}

/// What runs now.
#[derive(Debug, Default)]
struct Running {
    generation: u64,
    /// Hash of the configuration as it came.
    content: u64,
    index: Index,
    /// The configuration's canaries by their places in the filter's list.
    places: Vec<usize>,
    /// Places of those that a trip is published for: in a run now, or in the configuration before.
    watched: Vec<usize>,
    armed: bool,
    /// Unix time in seconds from which no canary gets requests any more; 0: never.
    expires_at: u64,
    boot: u64,
    tick_ms: u32,
    /// This VM was counted among those that run the generation.
    counted: bool,
}

/// The filter in one VM.
#[derive(Debug, Default)]
pub struct Filter {
    running: Running,
    canaries: Vec<Option<Canary>>,
    by_id: Map<String, usize>,
    /// Places of the canaries that counted something since it was last handed over.
    dirty: Vec<usize>,
    streams: Streams,
    /// Requests under way that asked for an upgrade which was not seen to be accepted.
    upgrades: Vec<u32>,
    generator: Option<Generator>,
    gauges: Gauges,
}

impl Filter {
    /// Returns a filter that leaves every request alone until it is configured.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the generation that runs; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.running.generation
    }

    // === Configuration ===

    /// Takes a configuration, or refuses it and goes on with the one before.
    ///
    /// # Errors
    /// Says why it was refused; the same sentence is in the proxy's log.
    pub fn configure<H: Host>(&mut self, host: &mut H, json: &[u8]) -> Result<(), Refusal> {
        let configured = self.try_configure(host, json);
        if let Err(refusal) = &configured {
            host.log(Level::Error, &format!("weir: configuration refused, the previous one stays in force: {refusal}"));
        }
        configured
    }

    fn try_configure<H: Host>(&mut self, host: &mut H, json: &[u8]) -> Result<(), Refusal> {
        let config = Config::parse(json)?;
        if config.generation == 0 {
            return Err(Refusal::NoGeneration);
        }
        let plans = compile(&config)?;
        let content = hashing::hash(json);
        let mut adopt = false;
        if self.running.generation == 0 {
            match process::accept(host, config.generation, content) {
                // A throw-away VM counts nothing.
                Acceptance::New => {}
                // This VM may take the place of one that counted; the proxy forgets what no VM knows.
                Acceptance::Known => adopt = true,
                Acceptance::Older { newest } => return Err(Refusal::Older { found: config.generation, newest }),
                Acceptance::Different => return Err(Refusal::Different(config.generation)),
            }
        } else if config.generation <= self.running.generation {
            // The throw-away VM let it pass, so it is what runs here already, or a newer one has overtaken it.
            if content != self.running.content {
                let (found, newest) = (config.generation, self.running.generation);
                host.log(Level::Warn, &format!("weir: generation {found} ignored, {newest} runs here"));
            }
            host.set_tick(self.running.tick_ms);
            return Ok(());
        }
        self.run(host, &config, plans, content);
        if adopt {
            for canary in self.canaries.iter_mut().flatten() {
                canary.adopt(host);
            }
        }
        Ok(())
    }

    fn run<H: Host>(&mut self, host: &mut H, config: &Config, plans: Vec<Plan>, content: u64) {
        let boot = Boot::of_process(host, config.generation, config.armed_until);
        let armed = config.generation > boot.disarmed;
        if !armed {
            host.log(Level::Warn, "weir: armed_until is past, every request goes to the primary until a newer push");
        }
        let tick_ms = if plans.iter().any(Plan::is_run) { RUN_TICK_MS } else { TICK_MS };
        let places: Vec<usize> =
            config.canaries.iter().zip(plans).map(|(canary, plan)| self.place(&canary.id, plan)).collect();
        for place in &places {
            if let Some(Some(canary)) = self.canaries.get(*place) {
                canary.see(host, boot.number);
            }
        }
        let watched =
            |place: &usize| self.canaries.get(*place).and_then(Option::as_ref).is_some_and(Canary::has_trip_to_publish);
        let watched = places.iter().copied().filter(watched).collect();
        self.running = Running {
            generation: config.generation,
            content,
            index: Index::new(config),
            places,
            watched,
            armed,
            expires_at: config.expires_at,
            boot: boot.number,
            tick_ms,
            counted: false,
        };
        if self.generator.is_none() {
            self.generator = Some(Generator::seeded(|| host.random()));
        }
        // The first tick says that the generation runs here: whoever pushed it waits for that.
        host.set_tick(FIRST_TICK_MS);
    }

    /// Gives a plan to the canary with this id, and returns the canary's place.
    fn place(&mut self, id: &str, plan: Plan) -> usize {
        if let Some(place) = self.by_id.get(id).copied()
            && let Some(Some(canary)) = self.canaries.get_mut(place)
        {
            canary.follow(plan);
            return place;
        }
        let place = self.canaries.iter().position(Option::is_none).unwrap_or(self.canaries.len());
        if place == self.canaries.len() {
            self.canaries.push(None);
        }
        self.canaries[place] = Some(Canary::new(id, plan));
        self.by_id.insert(id.to_owned(), place);
        place
    }

    // === Requests ===

    /// Chooses the arm of a request; nothing if it belongs to no canary. `stream` is any number that no other request
    /// under way has.
    pub fn request<H: Host>(&mut self, host: &mut H, stream: u32) -> Option<Choice> {
        let (place, direct) = self.find(host)?;
        let canary = self.canaries.get_mut(place)?.as_mut()?;
        let now_ns = host.monotonic_ns();
        let choice = canary.choose(host, self.generator.as_mut()?, self.running.armed, direct, now_ns);
        if canary.has_become_dirty() {
            self.dirty.push(place);
        }
        if let Choice::Given { arm, cohort, cookie } = choice {
            let begun = canary.begin(place, arm, cohort, cookie, now_ns);
            self.streams.insert(stream, begun);
        }
        Some(choice)
    }

    /// Notes that a request does not end with its headers; one that asks for an upgrade never does.
    pub fn goes_on<H: Host>(&mut self, host: &mut H, stream: u32) {
        let Some(begun) = self.streams.get_mut(stream) else { return };
        begun.has_body = true;
        self.upgrades.extend(host.request_header("upgrade").is_some().then_some(stream));
    }

    /// Returns the place of a request's canary, and whether the request calls the canary's own Service. Where the host was read to
    /// find the canary, it is not read again.
    fn find<H: Host>(&self, host: &mut H) -> Option<(usize, bool)> {
        let running = &self.running;
        let index = &running.index;
        let mut direct = None;
        let target = match index.whatever_the_host() {
            Some(target) => target,
            None => {
                let authority = host.request_header(":authority")?;
                let target = index.host(authority)?;
                if let Target::Canary(in_config) = target {
                    direct = Some(index.is_direct(in_config, authority));
                }
                target
            }
        };
        let (in_config, by_own_route) = match target {
            Target::Canary(in_config) => (in_config, false),
            Target::ByRoute => index.route(host.route_name()?)?,
        };
        let direct = by_own_route
            || direct.unwrap_or_else(|| {
                index.has_direct(in_config)
                    && host.request_header(":authority").is_some_and(|authority| index.is_direct(in_config, authority))
            });
        Some((running.places.get(in_config).copied()?, direct))
    }

    /// Adds to the headers of a response what its client is to be given.
    pub fn response<H: Host>(&mut self, host: &mut H, stream: u32) {
        if let Some(stream) = self.streams.get_mut(stream)
            && let Some(number) = stream.cookie
            && let Some(Some(canary)) = self.canaries.get(stream.canary)
            && let Some(cookie) = canary.set_cookie(stream.arm, number)
        {
            host.add_response_header("set-cookie", &cookie);
        }
    }

    /// Notes a piece of a response's body.
    pub fn response_body<H: Host>(&mut self, host: &mut H, stream: u32, bytes: u32, ended: bool) {
        let Some(stream) = self.streams.get_mut(stream) else { return };
        let body = &mut stream.body;
        let is_grpc = self.canaries.get(stream.canary).and_then(Option::as_ref).is_some_and(|canary| canary.grpc);
        if body.bytes == 0 && bytes > 0 && is_grpc {
            body.first_message = outcome::first_message(host);
        }
        body.bytes += u64::from(bytes);
        body.ended |= ended;
        // Trailers follow the last piece of a gRPC body, and no callback sees them.
        if ended || is_grpc {
            body.last_byte_ns = host.monotonic_ns();
        }
    }

    /// Judges and counts a request that ended, however it did.
    ///
    /// When the last request under way has ended, all counts are handed over at once. A VM goes when it is replaced and its
    /// last request has ended, and so takes no count with it; the callback that announces its end would cost every request
    /// a crossing. A busy worker is seldom without a request, and one that is has the time.
    pub fn ended<H: Host>(&mut self, host: &mut H, stream: u32) {
        let number = stream;
        let Some(stream) = self.streams.remove(number) else { return };
        if !self.upgrades.is_empty() {
            self.upgrades.retain(|upgrade| *upgrade != number);
        }
        // What ended well has said when; only the others need the time.
        let now_ns = if stream.body.ended { stream.body.last_byte_ns } else { host.monotonic_ns() };
        let ending = outcome::judge(host, stream.body, now_ns.saturating_sub(stream.began_ns));
        if let Some(Some(canary)) = self.canaries.get_mut(stream.canary) {
            canary.end(host, &stream, ending, now_ns);
            if canary.has_become_dirty() {
                self.dirty.push(stream.canary);
            }
        }
        if self.streams.is_empty() {
            self.flush(host);
        }
    }

    // === Time ===

    /// Hands over what was counted, and says what runs here.
    pub fn tick<H: Host>(&mut self, host: &mut H) {
        if self.running.generation == 0 {
            return;
        }
        if !self.running.counted {
            self.running.counted = true;
            process::count_vm(host, self.running.generation);
        }
        self.expire(host);
        self.flush(host);
        for place in &self.running.watched {
            if let Some(Some(canary)) = self.canaries.get_mut(*place) {
                canary.publish_trip(host);
            }
        }
        self.forget();
        let is_published = self.gauges.publish(host, self.running.generation, self.running.boot, self.running.armed);
        // Whoever pushed the generation waits for its gauge, so a VM that found another one publishing comes again at once.
        // Set on every tick: each root context has a timer of its own, and which one ticks first is not known here.
        host.set_tick(if is_published { self.running.tick_ms } else { FIRST_TICK_MS });
        // Last, because the host's calls are about the requests from then on.
        self.accept_upgrades(host);
    }

    /// Counts the connections whose upgrade was accepted since the last tick. No callback says so without being made for
    /// every response.
    fn accept_upgrades<H: Host>(&mut self, host: &mut H) {
        if self.upgrades.is_empty() {
            return;
        }
        let (streams, canaries, dirty) = (&mut self.streams, &mut self.canaries, &mut self.dirty);
        self.upgrades.retain(|number| {
            let Some(stream) = streams.get_mut(*number) else { return false };
            let status = host.status_of(*number);
            if status == Some(101)
                && let Some(Some(canary)) = canaries.get_mut(stream.canary)
            {
                let now_ns = host.monotonic_ns();
                canary.accept(host, stream, now_ns);
                stream.is_counted = true;
                if canary.has_become_dirty() {
                    dirty.push(stream.canary);
                }
            }
            status.is_none()
        });
        self.flush(host);
    }

    /// Stops sending to canaries once nobody has renewed the configuration for too long. A tick is soon enough.
    fn expire<H: Host>(&mut self, host: &mut H) {
        let running = &mut self.running;
        if running.armed && running.expires_at != 0 && host.unix_seconds() > running.expires_at {
            running.armed = false;
            host.log(Level::Warn, "weir: expires_at is past, every request goes to the primary until a newer push");
        }
    }

    /// Hands over what was counted.
    fn flush<H: Host>(&mut self, host: &mut H) {
        let canaries = &mut self.canaries;
        self.dirty.retain(|place| match canaries.get_mut(*place) {
            Some(Some(canary)) => {
                canary.flush(host);
                canary.is_dirty()
            }
            _ => false,
        });
    }

    /// Forgets canaries that are configured no more and have nothing under way.
    fn forget(&mut self) {
        if self.by_id.len() == self.running.places.len() {
            return;
        }
        let places = &self.running.places;
        for (place, slot) in self.canaries.iter_mut().enumerate() {
            if slot.as_ref().is_some_and(|canary| canary.streams == 0 && !canary.is_dirty() && !places.contains(&place))
                && let Some(canary) = slot.take()
            {
                self.by_id.remove(canary.id());
            }
        }
    }
}

fn compile(config: &Config) -> Result<Vec<Plan>, ConfigError> {
    let compile = |(index, canary): (usize, &weir_wire::Canary)| {
        Plan::compile(canary).map_err(|(field, problem)| ConfigError::Field {
            index,
            name: canary.name.clone(),
            field,
            problem,
        })
    };
    config.canaries.iter().enumerate().map(compile).collect()
}
