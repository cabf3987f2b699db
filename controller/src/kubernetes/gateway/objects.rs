//! The two EnvoyFilters of one gateway workload, written and read.
//!
//! The small one is written with the resource version that the decision saw: of two controllers that both think they lead,
//! one is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Api;
use kube::api::DynamicObject;
use parking_lot::Mutex;
use serde_json::Value;
use weir_engine::{Span, Timestamp};
use weir_wire::Config;

use super::registry::GatewayRegistry;
use super::workload::GatewayWorkload;
use crate::gateway_config::RouteNames;
use crate::kubernetes::api_server::apply::{ActError, apply, delete, take_out, with_timeout};
use crate::kubernetes::api_server::cover::{covers, is_exactly};
use crate::kubernetes::api_server::object::{Cached, resource};
use crate::kubernetes::kinds::{EnvoyFilter, EnvoyFilterView};
use crate::kubernetes::render::{
    EVERYWHERE, FilterNames, config_filter, config_of, everywhere, static_filter, switched_of,
};
use crate::kubernetes::stores::Stores;
use crate::telemetry::Chain;

/// The two objects, in what is remembered of both.
const FILTER: usize = 0;
const CONFIG: usize = 1;
/// The cache may lag behind a write of this controller by this much.
const CACHE_LAG: Span = Span::seconds(5);

/// What is known of both objects beside the cache.
pub(super) struct Objects {
    stores: Arc<Stores>,
    registry: Arc<GatewayRegistry>,
    names: FilterNames,
    /// The resource version of the small object that the next write replaces.
    version: Option<String>,
    /// When the static object was last written.
    inserted_at: Timestamp,
    /// The resource versions of both objects as the API server answered the last writes: whatever it made of those, another one
    /// would come to the same.
    answered: Arc<Mutex<[Option<String>; 2]>>,
    /// The resource version of the small object that was last found to say what was pushed, and that push's generation.
    verified: Option<(Option<String>, u64)>,
}

/// By canary, the routes on which the filter is on.
pub(super) type Switched = BTreeMap<String, RouteNames>;

/// What a small object says.
pub(super) struct Live {
    pub(super) config: Config,
    pub(super) switched: Switched,
}

/// Whether the filter is in the gateway's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insertion {
    /// It is, as it should be.
    Done,
    /// The static object is not there.
    Missing,
    /// The static object is not as it should be.
    Needed,
    /// Some of the pods have the filter of another workload, and two would draw twice.
    Blocked,
}

impl Objects {
    pub(super) fn new(stores: Arc<Stores>, registry: Arc<GatewayRegistry>, names: FilterNames) -> Self {
        let live = stores.envoy_filters.get(&names.namespace, &names.config());
        let version = live.and_then(|live| live.metadata.resource_version.clone());
        let (inserted_at, answered) = (Timestamp(0), Arc::default());
        Self { stores, registry, names, version, inserted_at, answered, verified: None }
    }

    /// Returns what an earlier controller pushed.
    pub(super) fn live_config(&self) -> Option<Live> {
        self.stores.envoy_filters.get(&self.names.namespace, &self.names.config()).and_then(|live| read(&live))
    }

    /// Returns why the filter is on for all requests of the gateway, as it was inserted, where it is.
    pub(super) fn live_everywhere(&self) -> Option<String> {
        self.stores.envoy_filters.get(&self.names.namespace, &self.names.listener()).and_then(|live| everywhere(&live))
    }

    /// Returns whether the filter is in the gateway's listeners.
    pub(super) fn insertion(&self, workload: &GatewayWorkload, everywhere: Option<&str>, now: Timestamp) -> Insertion {
        let (stores, names) = (&self.stores, &self.names);
        let live = stores.envoy_filters.get(&names.namespace, &names.listener());
        let wanted = static_filter(names, everywhere);
        let same = live
            .as_ref()
            .is_some_and(|live| self.is_so(live, &wanted, FILTER) && live.annotation(EVERYWHERE) == everywhere);
        if same || now.since(self.inserted_at) < CACHE_LAG {
            return Insertion::Done;
        }
        match self.registry.conflict(stores, workload) {
            None if live.is_none() => Insertion::Missing,
            None => Insertion::Needed,
            Some(other) => {
                let (mine, theirs) = (&names.selector, &other.names.selector);
                tracing::debug!(namespace = names.namespace, selector = ?mine, ?theirs, "waiting for another filter to go");
                Insertion::Blocked
            }
        }
    }

    /// Returns whether somebody else changed or deleted the small object since it was pushed, or it is of another module.
    pub(super) fn has_drifted(
        &mut self,
        pushed: &Config,
        switched: &Switched,
        pushed_at: Timestamp,
        now: Timestamp,
    ) -> bool {
        let names = &self.names;
        let Some(live) = self.stores.envoy_filters.get(&names.namespace, &names.config()) else {
            return now.since(pushed_at) >= CACHE_LAG;
        };
        // A thousand Canaries make it half a megabyte: too much to be compared again for nothing.
        let seen = Some((live.metadata.resource_version.clone(), pushed.generation));
        if self.verified == seen {
            return false;
        }
        let own = self.version.is_none() || live.metadata.resource_version == self.version;
        let wanted = config_filter(names, &self.stores.settings.module, pushed, switched, None);
        if self.is_so(&live, &wanted, CONFIG) {
            self.verified = seen;
            return false;
        }
        own || now.since(pushed_at) >= CACHE_LAG
    }

    /// Returns whether a live object says what is wanted, and nothing that somebody else has added.
    fn is_so(&self, live: &EnvoyFilter, wanted: &Value, which: usize) -> bool {
        let answered = live.version().is_some() && self.answered.lock()[which].as_deref() == live.version();
        let is_so = if answered { covers } else { is_exactly };
        is_so(&live.body()["spec"], &wanted["spec"])
    }

    /// Takes note of the resource version that a write or a look found.
    pub(super) fn set_version(&mut self, version: Option<String>) {
        self.version = version;
    }

    /// Takes note that the static object was written, or deleted.
    pub(super) fn set_inserted(&mut self, at: Timestamp) {
        self.inserted_at = at;
    }

    /// Writes the small object; returns its new resource version.
    pub(super) fn push(
        &self,
        config: &Config,
        switched: &Switched,
    ) -> impl Future<Output = Result<Option<String>, ActError>> + use<> {
        let module = &self.stores.settings.module;
        let object = config_filter(&self.names, module, config, switched, self.version.as_deref());
        let (stores, answered) = (self.stores.clone(), self.answered.clone());
        async move {
            let version = write(&stores, &object).await?.metadata.resource_version.clone();
            answered.lock()[CONFIG].clone_from(&version);
            Ok(version)
        }
    }

    /// Inserts the filter into the gateway's listeners.
    pub(super) fn insert(&self, everywhere: Option<&str>) -> impl Future<Output = Result<(), ActError>> + use<> {
        let (stores, object) = (self.stores.clone(), static_filter(&self.names, everywhere));
        let answered = self.answered.clone();
        async move {
            let version = write(&stores, &object).await?.metadata.resource_version.clone();
            answered.lock()[FILTER] = version;
            Ok(())
        }
    }

    /// Reads the small object from the API server; returns its resource version and what it says.
    pub(super) fn read(&self) -> impl Future<Output = Result<(Option<String>, Option<Live>), ActError>> + use<> {
        let (client, namespace, name) =
            (self.stores.api.client.clone(), self.names.namespace.clone(), self.names.config());
        async move {
            let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource::<EnvoyFilterView>());
            let live = with_timeout("get", "EnvoyFilter", &name, api.get_opt(&name)).await?;
            let version = live.as_ref().and_then(|live| live.metadata.resource_version.clone());
            Ok((version, live.and_then(|live| Cached::new(live).ok()).and_then(|live| read(&live))))
        }
    }

    /// Deletes one of the two objects.
    pub(super) fn delete(&self, name: String) -> impl Future<Output = Result<(), ActError>> + use<> {
        let (stores, namespace) = (self.stores.clone(), self.names.namespace.clone());
        async move { delete::<EnvoyFilterView>(&stores.api, &namespace, &name).await }
    }
}

/// Writes one of the two objects, and takes out what somebody else has added to it.
async fn write(stores: &Stores, object: &Value) -> Result<Arc<EnvoyFilter>, ActError> {
    let written = apply(&stores.api, &stores.envoy_filters, object).await?;
    let added = written.owners().and_then(|owners| owners.additions(&written.json(), object));
    let Some(added) = added else { return Ok(written) };
    let (namespace, name) = (written.namespace(), written.name());
    tracing::warn!(namespace, name, %added, "takes out what somebody added to the gateway's filter");
    match take_out(&stores.api, &stores.envoy_filters, &written, added).await {
        Ok(written) => Ok(written),
        // What was pushed stands, and is what matters.
        Err(error) => {
            tracing::warn!(namespace, name, error = %Chain(&error), "what somebody added is not taken out");
            Ok(written)
        }
    }
}

fn read(live: &EnvoyFilter) -> Option<Live> {
    Some(Live { config: config_of(live)?, switched: switched_of(live) })
}
