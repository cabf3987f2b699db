//! Writes the filter's objects of one gateway workload.
//!
//! Changes of many Canaries are gathered: constant writes would keep istiod waiting for quiet. A canary that loses requests
//! is written at once, with all that waits. Every write carries the resource version that it was made from, so that of two
//! controllers that both think they lead only one gets through.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::DynamicObject;
use tracing::{info, warn};
use weir_wire::{Canary, Config, ConfigError, Weight};

use super::workload::{Order, Workload};
use crate::gateway_config::{config, next_generation};
use crate::kubernetes::api_server::apply::{ActError, apply, delete, guarded, is_status};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::api_server::cover::covers;
use crate::kubernetes::api_server::object::{Kept, resource};
use crate::kubernetes::kinds::EnvoyFilterView;
use crate::kubernetes::render::{config_filter, config_of, static_filter};
use crate::kubernetes::stores::World;
use crate::rollout::{Span, Timestamp};
use crate::telemetry::Chain;

/// Time between two ordinary writes.
const GATHERING: Span = Span(500);
/// A gateway process that starts this long after the last push sends nothing to a canary.
const ARMED: Span = Span::seconds(60);
/// Pushed again when this much of it is left.
const RENEWAL: Span = Span::seconds(20);
/// A push that a gateway has not taken over by then is made again: the agent beside it does not try a failed fetch again.
const UNANSWERED: Span = Span::seconds(2);
/// Longest time between two such attempts while a canary has requests, and while none has: each attempt makes istiod push
/// everything to every gateway.
const MOST_PATIENT: [Span; 2] = [Span::seconds(30), Span::seconds(300)];
/// A gateway that has not let go of its last Canary by then is left as it is.
const PARTING: Span = Span::seconds(30);
/// Our own cache may lag behind our own write by this much.
const LAG: Span = Span::seconds(5);
/// Time for a push to reach gateways that do not answer any more.
const FAREWELL: Span = Span::seconds(2);

struct Writer {
    world: Arc<World>,
    workload: Arc<Workload>,
    /// When the static object was last written.
    listener_at: Timestamp,
    /// When the last write was tried.
    tried_at: Timestamp,
    /// How long an unanswered push is waited for.
    patience: Span,
    /// The resource version that the last write made.
    version: Option<String>,
    /// Whether the last try to write failed.
    failed: bool,
    /// What the last write was made of.
    asked: Option<Vec<Canary>>,
    /// The resource version that was last found to say what it should, and the generation that it says.
    intact: Option<(Option<String>, u64)>,
}

/// Writes whatever must be written, for ever.
pub(super) async fn write(world: Arc<World>, workload: Arc<Workload>) {
    let live = world.envoy_filters.get(&workload.names.namespace, &workload.names.config());
    let version = live.and_then(|live| live.metadata.resource_version.clone());
    let mut writer = Writer {
        world,
        workload,
        listener_at: Timestamp(0),
        tried_at: Timestamp(0),
        patience: UNANSWERED,
        version,
        failed: false,
        asked: None,
        intact: None,
    };
    loop {
        let wait = writer.pass().await;
        tokio::select! {
            () = writer.workload.writes.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait.0)) => {}
        }
    }
}

impl Writer {
    /// Makes one pass; returns how long nothing needs to be done.
    async fn pass(&mut self) -> Span {
        let now = now();
        let order = self.workload.order();
        if order.canaries.is_empty() {
            return self.retire(&order, now).await;
        }
        match self.listener(now).await {
            Ok(true) => {}
            Ok(false) => return Span::seconds(1),
            Err(error) => {
                warn!(namespace = self.workload.names.namespace, error = %Chain(&error), "filter not inserted");
                return Span::seconds(2);
            }
        }
        let Some(why) = self.why(&order, now) else { return self.next_look(&order, now) };
        let since = now.since(self.tried_at);
        if !order.urgent && since < GATHERING {
            return Span(GATHERING.0 - since.0);
        }
        if self.failed && since < Span(200) {
            return Span(200 - since.0);
        }
        self.push(order.canaries, order.told.as_ref(), why, now).await;
        Span(50)
    }

    /// Returns why the small object must be written, if it must.
    fn why(&mut self, order: &Order, now: Timestamp) -> Option<&'static str> {
        let Some(told) = &order.told else { return Some("first") };
        if self.asked.as_ref() != Some(&order.canaries) && order.canaries != told.canaries {
            return Some("changed");
        }
        if order.canaries.iter().any(reaches) && told.armed_until.saturating_mul(1000) < (now + RENEWAL).0 {
            return Some("renewal");
        }
        if self.altered(told, order.told_at, now) {
            return Some("repair");
        }
        let age = now.since(order.told_at);
        if age < self.patience {
            return None;
        }
        let behind = self.workload.behind(&self.world, told.generation, order.told_at + Span(500));
        if behind.is_empty() {
            self.patience = UNANSWERED;
            return None;
        }
        warn!(pods = behind.join(", "), generation = told.generation, "push not taken over, pushing again");
        let active = order.canaries.iter().any(reaches);
        self.patience = Span(self.patience.0 * 2).min(MOST_PATIENT[usize::from(!active)]);
        Some("unanswered")
    }

    /// Returns whether somebody else changed or deleted the small object, or it is of another module.
    fn altered(&mut self, told: &Config, told_at: Timestamp, now: Timestamp) -> bool {
        let names = &self.workload.names;
        let Some(live) = self.world.envoy_filters.get(&names.namespace, &names.config()) else {
            return now.since(told_at) >= LAG;
        };
        // A thousand Canaries make it half a megabyte: too much to be read again for nothing.
        let seen = Some((live.metadata.resource_version.clone(), told.generation));
        if self.intact == seen {
            return false;
        }
        let own = self.version.is_none() || live.metadata.resource_version == self.version;
        let wanted = config_filter(names, &self.world.settings.module, told, None);
        if covers(&live.body()["spec"], &wanted["spec"]) {
            self.intact = seen;
            return false;
        }
        own || now.since(told_at) >= LAG
    }

    fn next_look(&self, order: &Order, now: Timestamp) -> Span {
        let left = self.patience.0.saturating_sub(now.since(order.told_at).0);
        Span(if left == 0 { 1000 } else { left.max(50) })
    }

    async fn push(&mut self, canaries: Vec<Canary>, told: Option<&Config>, why: &'static str, now: Timestamp) {
        let active = canaries.iter().any(reaches);
        let asked = canaries.clone();
        let armed_until = if active { now + ARMED } else { now };
        let generation = next_generation(told.map_or(0, |told| told.generation), now);
        let config = acceptable(config(generation, armed_until, canaries));
        self.tried_at = now;
        match self.write_config(&config).await {
            Ok(version) => {
                self.failed = false;
                self.version = version;
                self.asked = Some(asked);
                let namespace = &self.workload.names.namespace;
                let (generation, weights) = (config.generation, Weights(&config.canaries));
                tracing::debug!(namespace, generation, why, %weights, "pushed");
                if why != "unanswered" {
                    self.patience = UNANSWERED;
                }
                self.workload.told(config, now);
            }
            Err(ActError::Write { source, .. }) if is_status(&source, 409) => self.adopt().await,
            Err(error) => {
                self.failed = true;
                warn!(namespace = self.workload.names.namespace, error = %Chain(&error), "push failed");
            }
        }
    }

    async fn write_config(&self, config: &Config) -> Result<Option<String>, ActError> {
        let names = &self.workload.names;
        let object = config_filter(names, &self.world.settings.module, config, self.version.as_deref());
        let written = apply(&self.world.api, &self.world.envoy_filters, &object).await?;
        Ok(written.metadata.resource_version.clone())
    }

    /// Somebody wrote in between: goes on from what is there now.
    async fn adopt(&mut self) {
        self.asked = None;
        let names = &self.workload.names;
        let resource = resource::<EnvoyFilterView>();
        let api: Api<DynamicObject> = Api::namespaced_with(self.world.api.client.clone(), &names.namespace, &resource);
        let name = names.config();
        match guarded("get", "EnvoyFilter", &name, api.get_opt(&name)).await {
            Ok(Some(live)) => {
                self.version.clone_from(&live.metadata.resource_version);
                if let Some(config) = Kept::new(live).ok().and_then(|live| config_of(&live)) {
                    self.workload.told(config, now());
                }
            }
            Ok(None) => {
                self.version = None;
                self.workload.untold();
            }
            Err(error) => warn!(error = %Chain(&error), "push failed"),
        }
        self.workload.kick();
    }

    /// Inserts the filter into the gateway's listeners, once. Returns whether it is there: it is not while some of the pods
    /// have that of another workload.
    async fn listener(&mut self, now: Timestamp) -> Result<bool, ActError> {
        let (world, names) = (&self.world, &self.workload.names);
        let wanted = static_filter(names);
        let live = world.envoy_filters.get(&names.namespace, &names.listener());
        let same = live.is_some_and(|live| covers(&live.body()["spec"], &wanted["spec"]));
        if same || now.since(self.listener_at) < LAG {
            return Ok(true);
        }
        if let Some(rival) = world.fleet.rival(world, &self.workload) {
            tracing::debug!(namespace = names.namespace, selector = ?names.selector, rival = ?rival.names.selector, "waiting");
            return Ok(false);
        }
        apply(&world.api, &world.envoy_filters, &wanted).await?;
        info!(namespace = names.namespace, selector = ?names.selector, "filter inserted");
        self.listener_at = now;
        Ok(true)
    }

    /// Takes the filter out of a gateway that has no Canary any more: first a configuration without any, then the filter, and
    /// last the configuration, which a running gateway would otherwise never let go.
    async fn retire(&mut self, order: &Order, now: Timestamp) -> Span {
        let (world, names) = (self.world.clone(), self.workload.names.clone());
        let Some(told) = &order.told else {
            return Span::seconds(10);
        };
        if !told.canaries.is_empty() {
            self.push(Vec::new(), Some(told), "last Canary gone", now).await;
            return Span(100);
        }
        let silent = now.since(order.told_at) >= PARTING;
        let behind = self.workload.behind(&world, told.generation, order.told_at + Span(500));
        if now.since(order.told_at) < FAREWELL || (!behind.is_empty() && !silent) {
            return Span(100);
        }
        let removed = async {
            delete::<EnvoyFilterView>(&world.api, &names.namespace, &names.listener()).await?;
            tokio::time::sleep(Duration::from_millis(FAREWELL.0)).await;
            if self.workload.order().canaries.is_empty() {
                delete::<EnvoyFilterView>(&world.api, &names.namespace, &names.config()).await?;
            }
            Ok::<_, ActError>(())
        };
        match removed.await {
            Ok(()) => {
                info!(namespace = names.namespace, selector = ?names.selector, "filter removed");
                self.version = None;
                self.listener_at = Timestamp(0);
                self.workload.untold();
                Span(50)
            }
            Err(error) => {
                warn!(namespace = names.namespace, error = %Chain(&error), "filter not removed");
                Span::seconds(2)
            }
        }
    }
}

/// Leaves out what the filter would refuse: one Canary's fault must not keep all others from being told anything.
fn acceptable(mut config: Config) -> Config {
    while let Err(error) = config.check() {
        warn!(%error, "canary left out of its gateway");
        match error {
            ConfigError::Field { index, .. } if index < config.canaries.len() => drop(config.canaries.remove(index)),
            _ => break,
        }
    }
    config
}

/// What canaries are given, for the log.
struct Weights<'a>(&'a [Canary]);

impl std::fmt::Display for Weights<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut reached = self.0.iter().filter(|canary| reaches(canary));
        reached.try_for_each(|canary| write!(f, "{}={} ", canary.name, canary.weight))
    }
}

fn reaches(canary: &Canary) -> bool {
    canary.weight > Weight::ZERO || !canary.conditions.is_empty()
}
