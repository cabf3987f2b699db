//! All that is known of the cluster, and which reconcilers wake when something of it changed.

mod canary_hosts;
mod gateway_namespaces;
mod host_index;
mod lending;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use kube::Client;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

use crate::alerts::http::Http;
use crate::alerts::{Alerts, Transport};
use crate::api::{CanarySpec, TargetKind};
use crate::kubernetes::api_server::cache::Cache;
use crate::kubernetes::api_server::hash_key::HashKey;
use crate::kubernetes::api_server::object::{Cached, Projection};
use crate::kubernetes::api_server::secrets::ClusterSecrets;
use crate::kubernetes::api_server::{ApiServer, MANAGER};
use crate::kubernetes::kinds::alert_provider::AlertProviderView;
use crate::kubernetes::kinds::canary::{Canary, CanaryView};
use crate::kubernetes::kinds::config::{Config, ConfigMapView, SecretView};
use crate::kubernetes::kinds::metric_template::MetricTemplateView;
use crate::kubernetes::kinds::{
    DeploymentView, DestinationRuleView, EndpointSliceView, EnvoyFilterView, GatewayView, NamespaceView, Pod, PodView,
    ReplicaSetView, RevisionView, ScalerView, ServiceView, Target, VirtualServiceBody, VirtualServiceView,
};
use crate::kubernetes::render::{CANARY_LABEL, concerns};
use crate::kubernetes::settings::Settings;
use crate::outbound::Outbound;
use canary_hosts::CanaryHosts;
use host_index::HostIndex;

pub(crate) use gateway_namespaces::{ALLOWED, CALLERS_LABEL, GATEWAYS_LABEL};
pub(crate) use host_index::{covers, hosts, suffixes};

/// Namespace and name of a Canary.
pub(crate) type Key = (String, String);

/// Hears of what wakes no Canary by itself. Whoever looks after gateways stands above the stores.
pub(crate) trait GatewayListener: Send + Sync + 'static {
    /// A Gateway, or what may be one, came, changed or went.
    fn gateway_changed(&self);
    /// A pod came, changed or went.
    fn pod_changed(&self, pod: &Pod);
    /// One of the filter's objects in a namespace came, changed or went.
    fn filter_changed(&self, namespace: &str);
}

/// All that is known of the cluster.
pub(crate) struct Stores {
    /// The way to write.
    pub(crate) api: ApiServer,
    /// How Weir was started.
    pub(crate) settings: Settings,
    /// Calls of programs that Canaries name.
    pub(crate) outbound: Arc<Outbound>,
    /// Canaries.
    pub(crate) canaries: Arc<Cache<CanaryView>>,
    /// Deployments.
    pub(crate) deployments: Arc<Cache<DeploymentView>>,
    /// Their autoscalers.
    pub(crate) scalers: Arc<Cache<ScalerView>>,
    /// Their versions.
    pub(crate) replica_sets: Arc<Cache<ReplicaSetView>>,
    /// Pod templates that Weir keeps.
    pub(crate) revisions: Arc<Cache<RevisionView>>,
    /// Pods.
    pub(crate) pods: Arc<Cache<PodView>>,
    /// Namespaces.
    pub(crate) namespaces: Arc<Cache<NamespaceView>>,
    /// Services.
    pub(crate) services: Arc<Cache<ServiceView>>,
    /// Addresses behind the services that Weir makes.
    pub(crate) slices: Arc<Cache<EndpointSliceView>>,
    /// Istio's gateways.
    pub(crate) gateways: Arc<Cache<GatewayView>>,
    /// Istio's routes.
    pub(crate) virtual_services: Arc<Cache<VirtualServiceView>>,
    /// Istio's policies of destinations.
    pub(crate) destination_rules: Arc<Cache<DestinationRuleView>>,
    /// The filter's objects.
    pub(crate) envoy_filters: Arc<Cache<EnvoyFilterView>>,
    /// ConfigMaps, where they are tracked.
    pub(crate) config_maps: Arc<Cache<ConfigMapView>>,
    /// The key of the hashes of Secrets, once it was read.
    pub(crate) hash_key: OnceLock<HashKey>,
    /// Secrets, where they are tracked.
    pub(crate) secrets: Arc<Cache<SecretView>>,
    /// Metrics that other systems answer.
    pub(crate) templates: Arc<Cache<MetricTemplateView>>,
    /// Who is told how rollouts go.
    pub(crate) alert_providers: Arc<Cache<AlertProviderView>>,
    /// What sends alerts.
    pub(crate) alerts: Arc<Alerts>,
    wakes: Mutex<HashMap<Key, Arc<Notify>>>,
    host_index: RwLock<HostIndex>,
    canary_hosts: Mutex<CanaryHosts>,
    /// Notified when there may be Canaries that nobody looks after yet.
    pub(crate) canaries_changed: Notify,
}

impl Stores {
    /// Returns stores that nothing fills yet.
    #[must_use]
    pub(crate) fn new(client: Client, settings: Settings) -> Arc<Self> {
        let secrets = Arc::new(ClusterSecrets(client.clone()));
        let outbound = Outbound::with_secrets(Some(settings.address_rules.clone()), secrets);
        Self::with(client, settings, outbound.clone(), Arc::new(Http(outbound)))
    }

    /// As [`Stores::new`], with something else that sends alerts.
    #[must_use]
    pub(crate) fn with(
        client: Client,
        settings: Settings,
        outbound: Arc<Outbound>,
        transport: Arc<dyn Transport>,
    ) -> Arc<Self> {
        let secrets = Arc::new(ClusterSecrets(client.clone()));
        let alerts = Alerts::new(settings.alerts.clone(), secrets, transport);
        Arc::new(Self {
            alerts,
            alert_providers: Cache::empty(),
            api: ApiServer::new(client),
            outbound,
            settings,
            canaries: Cache::empty(),
            deployments: Cache::empty(),
            scalers: Cache::empty(),
            replica_sets: Cache::empty(),
            revisions: Cache::empty(),
            pods: Cache::empty(),
            namespaces: Cache::empty(),
            services: Cache::empty(),
            slices: Cache::empty(),
            gateways: Cache::empty(),
            virtual_services: Cache::empty(),
            destination_rules: Cache::empty(),
            envoy_filters: Cache::empty(),
            config_maps: Cache::empty(),
            hash_key: OnceLock::new(),
            secrets: Cache::empty(),
            templates: Cache::empty(),
            wakes: Mutex::default(),
            host_index: RwLock::default(),
            canary_hosts: Mutex::default(),
            canaries_changed: Notify::new(),
        })
    }

    /// Starts every watch.
    pub(crate) fn start_watches(self: &Arc<Self>, listener: &Arc<impl GatewayListener>) {
        let own = format!("app.kubernetes.io/managed-by={MANAGER}");
        let settings = &self.settings;
        let tenants = settings.watched_with(&[]);
        let with_proxies = settings.watched_with_proxies();
        let with_lenders =
            settings.watched_with(&[&settings.shared_namespaces, std::slice::from_ref(&settings.namespace)]);
        self.watch(&self.canaries, None, &tenants, |stores, canary| {
            let key: Key = (canary.namespace().into(), canary.name().into());
            let now = stores.canaries.get(&key.0, &key.1);
            stores.canary_hosts.lock().update(&key, now.as_deref(), &stores.settings.cluster_domain);
            stores.wake(&key);
            if stores.wakes(|wakes| !wakes.contains_key(&key)) {
                stores.canaries_changed.notify_one();
            }
        });
        self.watch(&self.deployments, None, &tenants, |stores, deployment| stores.wake_around(deployment));
        self.watch(&self.scalers, None, &tenants, |stores, scaler| stores.wake_around(scaler));
        self.watch(&self.services, None, &tenants, |stores, service| stores.wake_around(service));
        self.watch(
            &self.destination_rules,
            None,
            &settings.watched_with(&[std::slice::from_ref(&settings.root_namespace)]),
            |stores, rule| stores.wake_ruled(rule),
        );
        self.watch(&self.replica_sets, None, &tenants, |stores, set| stores.wake_owner(set));
        let hears = listener.clone();
        self.watch(&self.pods, None, &with_proxies, move |stores, pod| {
            stores.wake_owner(pod);
            hears.pod_changed(pod);
        });
        // Rights in some namespaces do not show the others: then only those of the settings have gateways.
        if !settings.is_restricted() {
            let hears = listener.clone();
            self.watch(&self.namespaces, None, &[], move |stores, _| {
                hears.gateway_changed();
                stores.wake_all();
            });
        }
        self.watch(&self.slices, Some(own.clone()), &tenants, |stores, slice| stores.wake_labelled(slice));
        self.watch(&self.revisions, Some(own.clone()), &tenants, |_, _| {});
        let hears = listener.clone();
        self.watch(&self.gateways, None, &with_proxies, move |stores, _| {
            hears.gateway_changed();
            stores.wake_all();
        });
        // As it was when it was last told of: what Weir writes itself is in the cache before.
        let mut known: HashMap<Key, VirtualServiceBody> = HashMap::new();
        self.watch(&self.virtual_services, None, &with_proxies, move |stores, routes| {
            let key = (routes.namespace().to_owned(), routes.name().to_owned());
            let now = stores.virtual_services.get(&key.0, &key.1);
            stores.host_index.write().update(key.clone(), now.clone());
            stores.wake_around(routes);
            let older = match now {
                Some(_) => known.insert(key, routes.fields.spec.clone()),
                None => known.remove(&key).and(None),
            };
            // A host that is no longer exclusive changes how its Canary's requests are found.
            if older.as_ref() != Some(&routes.fields.spec) {
                stores.wake_affected(routes.namespace(), &routes.fields.spec);
                older.inspect(|older| stores.wake_affected(routes.namespace(), older));
            }
        });
        let hears = listener.clone();
        self.watch(&self.envoy_filters, Some(own), &with_proxies, move |_, filter| {
            hears.filter_changed(filter.namespace())
        });
        self.watch(&self.templates, None, &with_lenders, |stores, template| {
            let name = template.name();
            stores.wake_where(None, |_, spec| spec.analysis.metrics.iter().any(|metric| metric.asks(name)));
        });
        self.watch(&self.alert_providers, None, &with_lenders, |stores, provider| {
            let name = provider.name();
            stores.wake_where(None, |_, spec| spec.analysis.alerts.iter().any(|alert| alert.provider_ref.name == name));
        });
        if self.settings.config_tracking {
            self.watch(&self.config_maps, None, &tenants, |stores, config| stores.wake_readers(config));
            self.watch(&self.secrets, None, &tenants, |stores, config| stores.wake_readers(config));
        }
    }

    fn watch<V: Projection>(
        self: &Arc<Self>,
        cache: &Arc<Cache<V>>,
        selector: Option<String>,
        namespaces: &[String],
        mut changed: impl FnMut(&Stores, &Cached<V>) + Send + 'static,
    ) {
        let (stores, cache, namespaces) = (self.clone(), cache.clone(), namespaces.to_vec());
        let callers = self.settings.only_callers();
        tokio::spawn(async move {
            let client = stores.api.client.clone();
            cache.run(client, selector.as_deref(), &namespaces, &callers, move |object| changed(&stores, object)).await;
        });
    }

    /// Waits until everything that existed when the watches began is known. Not for MetricTemplates and AlertProviders: where their definition is
    /// missing, as after an upgrade by Helm alone, all other Canaries are looked after nevertheless.
    pub(crate) async fn wait_until_synced(&self) {
        self.canaries.wait_until_synced().await;
        self.deployments.wait_until_synced().await;
        self.scalers.wait_until_synced().await;
        self.replica_sets.wait_until_synced().await;
        self.revisions.wait_until_synced().await;
        self.pods.wait_until_synced().await;
        if !self.settings.is_restricted() {
            self.namespaces.wait_until_synced().await;
        }
        self.services.wait_until_synced().await;
        self.slices.wait_until_synced().await;
        self.gateways.wait_until_synced().await;
        self.virtual_services.wait_until_synced().await;
        self.destination_rules.wait_until_synced().await;
        self.envoy_filters.wait_until_synced().await;
        if self.settings.config_tracking {
            self.config_maps.wait_until_synced().await;
            self.secrets.wait_until_synced().await;
        }
    }

    /// Returns a workload.
    pub(crate) fn target(&self, kind: TargetKind, namespace: &str, name: &str) -> Option<Target> {
        match kind {
            TargetKind::Deployment => self.deployments.get(namespace, name).map(Target::Deployment),
        }
    }

    /// Returns all workloads of a namespace that could be released.
    pub(crate) fn targets_of(&self, namespace: &str) -> Vec<Target> {
        let of_kind = |kind: &TargetKind| match kind {
            TargetKind::Deployment => self.deployments.of(namespace).into_iter().map(Target::Deployment),
        };
        TargetKind::ALL.iter().flat_map(of_kind).collect()
    }

    /// Returns what wakes the reconciler of a Canary.
    pub(crate) fn waker(&self, key: &Key) -> Arc<Notify> {
        self.wakes(|wakes| wakes.entry(key.clone()).or_default().clone())
    }

    /// Forgets a Canary that is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.wakes(|wakes| wakes.remove(key));
    }

    /// Wakes the reconciler of a Canary.
    pub(crate) fn wake(&self, key: &Key) {
        self.wakes(|wakes| wakes.get(key).inspect(|notify| notify.notify_one()).is_some());
    }

    /// Wakes every reconciler.
    pub(crate) fn wake_all(&self) {
        self.wakes(|wakes| wakes.values().for_each(|notify| notify.notify_one()));
    }

    /// Returns the Canaries that have exactly this host, in lower case.
    pub(crate) fn canaries_of_host(&self, host: &str) -> Vec<Arc<Canary>> {
        let keys: Vec<Key> = self.canary_hosts.lock().of_host(host).cloned().collect();
        keys.iter().filter_map(|(namespace, name)| self.canaries.get(namespace, name)).collect()
    }

    /// Returns who claims which hosts. A pass looks more than once, so that whoever waits to write must not stand in between.
    pub(crate) fn host_index(&self) -> RwLockReadGuard<'_, HostIndex> {
        self.host_index.read_recursive()
    }

    /// Wakes whoever an object is the target or a service of.
    fn wake_around<V: Projection>(&self, object: &Cached<V>) {
        self.wake_where(Some(object.namespace()), |_, spec| concerns(spec, object.name()));
    }

    /// Wakes whoever's connections a policy may be about: those of its namespace, or all where it is the mesh's own.
    fn wake_ruled(&self, rule: &Cached<DestinationRuleView>) {
        let namespace = rule.namespace();
        self.wake_where((namespace != self.settings.root_namespace).then_some(namespace), |_, _| true);
    }

    /// Wakes whoever a pod or a version of a Deployment belongs to: by the beginning of its name.
    fn wake_owner<V: Projection>(&self, object: &Cached<V>) {
        let name = object.name();
        self.wake_where(Some(object.namespace()), |_, spec| {
            name.strip_prefix(spec.target_ref.name.as_str()).is_some_and(|rest| rest.starts_with('-'))
        });
    }

    /// Wakes whoever's requests are found otherwise because of these routes.
    fn wake_affected(&self, of: &str, routes: &VirtualServiceBody) {
        let affected = self.canary_hosts.lock().affected(of, routes);
        for key in &affected {
            self.wake(key);
        }
    }

    fn wake_labelled<V: Projection>(&self, object: &Cached<V>) {
        if let Some(canary) = object.label(CANARY_LABEL) {
            self.wake(&(object.namespace().into(), canary.into()));
        }
    }

    /// Wakes whoever has made a copy, or has a target whose pods read the object.
    fn wake_readers<V: Config>(&self, config: &Cached<V>) {
        if config.label(CANARY_LABEL).is_some() {
            return self.wake_labelled(config);
        }
        let namespace = config.namespace();
        self.wake_where(Some(namespace), |_, spec| {
            let target = TargetKind::of(&spec.target_ref.kind);
            let target = target.and_then(|kind| self.target(kind, namespace, &spec.target_ref.name));
            target.is_some_and(|target| target.mentions(config.name()))
        });
    }

    fn wake_where(&self, namespace: Option<&str>, concerned: impl Fn(&Canary, &CanarySpec) -> bool) {
        // While the caches fill, every object of the cluster is news, and nobody is there yet to be woken.
        if self.wakes(|wakes| wakes.is_empty()) {
            return;
        }
        let canaries = namespace.map_or_else(|| self.canaries.all(), |namespace| self.canaries.of(namespace));
        for canary in canaries {
            let Ok(spec) = &canary.fields.spec else { continue };
            if concerned(&canary, spec) {
                self.wake(&(canary.namespace().into(), canary.name().into()));
            }
        }
    }

    fn wakes<T>(&self, with: impl FnOnce(&mut HashMap<Key, Arc<Notify>>) -> T) -> T {
        with(&mut self.wakes.lock())
    }
}
