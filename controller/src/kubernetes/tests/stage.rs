//! A controller, its API server and a Deployment with a Canary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::server::{ApiServer, Write};
use crate::alerts::http::Http;
use crate::alerts::{AlertSettings, Transport};
use crate::kubernetes::gateway::GatewayRegistry;
use crate::kubernetes::render::Module;
use crate::kubernetes::run::{RunError, act};
use crate::kubernetes::settings::Settings;
use crate::kubernetes::stores::Stores;
use crate::outbound::Outbound;
use crate::status_store::StatusStore;

/// Namespace of everything here.
pub(super) const NAMESPACE: &str = "shop";

/// A controller and what it looks after.
pub(super) struct Stage {
    pub(super) server: ApiServer,
    pub(super) stores: Arc<Stores>,
    pub(super) registry: Arc<GatewayRegistry>,
    acting: JoinHandle<RunError>,
}

impl Stage {
    /// Starts a controller for what there is.
    pub(super) fn start(server: &ApiServer) -> Self {
        Self::start_as(server, "weir-0", false)
    }

    /// Starts the watches, and nothing that acts.
    pub(super) async fn idle(server: &ApiServer) -> Self {
        let (stores, registry, _) = Self::stores(server, "weir-0", false, None);
        stores.wait_until_synced().await;
        Self { server: server.clone(), stores, registry, acting: tokio::spawn(std::future::pending()) }
    }

    /// Starts one of several replicas.
    pub(super) fn start_as(server: &ApiServer, identity: &str, leader_election: bool) -> Self {
        Self::acting(server, Self::stores(server, identity, leader_election, None))
    }

    /// Starts a controller whose alerts are sent by this.
    pub(super) fn start_with(server: &ApiServer, transport: Arc<dyn Transport>) -> Self {
        Self::acting(server, Self::stores(server, "weir-0", false, Some(transport)))
    }

    fn acting(
        server: &ApiServer,
        (stores, registry, statuses): (Arc<Stores>, Arc<GatewayRegistry>, Arc<StatusStore>),
    ) -> Self {
        let acting = tokio::spawn(act(stores.clone(), registry.clone(), statuses));
        Self { server: server.clone(), stores, registry, acting }
    }

    fn stores(
        server: &ApiServer,
        identity: &str,
        leader_election: bool,
        transport: Option<Arc<dyn Transport>>,
    ) -> (Arc<Stores>, Arc<GatewayRegistry>, Arc<StatusStore>) {
        let settings = Settings {
            observe_at_rest: false,
            namespace: "weir-system".into(),
            identity: identity.into(),
            leader_election,
            listen: ([127, 0, 0, 1], 0).into(),
            probes: ([127, 0, 0, 1], 0).into(),
            details: ([127, 0, 0, 1], 0).into(),
            page: None,
            module: Module::Own { uri: "http://weir/module.wasm".into(), sha256: "00".into() },
            module_file: None,
            config_tracking: true,
            watch_namespaces: server.allowed(),
            gateway_namespaces: vec!["istio-ingress".into(), "istio-system".into()],
            caller_namespaces: server.caller_namespaces(&[]),
            default_callers: server.default_callers(&[]),
            root_namespace: server.root_namespace(None),
            cluster_domain: "cluster.local".into(),
            address_rules: Arc::default(),
            event_webhook: None,
            alerts: AlertSettings::default(),
            shared_namespaces: Vec::new(),
        };
        let outbound = Outbound::new(Some(settings.address_rules.clone()));
        let transport = transport.unwrap_or_else(|| Arc::new(Http(outbound.clone())));
        let stores = Stores::with(server.client(), settings, outbound, transport);
        let registry = Arc::new(GatewayRegistry::default());
        stores.start_watches(&registry);
        (stores, registry, StatusStore::new().0)
    }

    /// Starts a controller, a Deployment and its Canary, and waits until the primary serves and nothing is left to do.
    pub(super) async fn initialized() -> Self {
        let server = ApiServer::default();
        server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
        server.apply("flux", &canary("shop", json!({})));
        Self::initialized_of(&server).await
    }

    /// Starts a controller for what there is, and waits until the primary of the Canary `shop` serves and nothing is left to do.
    pub(super) async fn initialized_of(server: &ApiServer) -> Self {
        let stage = Self::start(server);
        stage.phase("shop", "Initialized").await;
        stage.rest().await;
        stage
    }

    /// Ends the controller on whatever line it is.
    pub(super) fn kill(self) -> ApiServer {
        self.acting.abort();
        self.registry.stop();
        self.server
    }

    /// Returns whether the controller has stopped by itself.
    pub(super) fn stopped(&self) -> bool {
        self.acting.is_finished()
    }

    /// Lets a minute pass and forgets what was written.
    pub(super) async fn rest(&self) {
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.server.writes();
    }

    /// Lets a minute pass; returns what was written.
    pub(super) async fn written(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.server.writes().iter().map(ToString::to_string).collect()
    }

    /// As [`Stage::written`], without statuses.
    pub(super) async fn changed(&self) -> Vec<String> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.server.writes().iter().filter(|write| !write.status).map(ToString::to_string).collect()
    }

    /// Waits until a Canary is in a phase.
    pub(super) async fn phase(&self, name: &str, phase: &str) {
        self.until(name, |status| status["phase"] == phase).await;
    }

    /// Waits until a Canary has a reason.
    pub(super) async fn reason(&self, name: &str, reason: &str) {
        self.until(name, |status| status["reason"] == reason).await;
    }

    /// Waits until a Canary is not stalled any more.
    pub(super) async fn until_not_stalled(&self, name: &str) {
        for _ in 0..6000 {
            if !self.is(name, "Stalled") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:#}", self.status(name));
    }

    async fn until(&self, name: &str, is_so: impl Fn(&Value) -> bool) {
        for _ in 0..6000 {
            if is_so(&self.status(name)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let writes: Vec<String> = self.server.writes().iter().map(ToString::to_string).collect();
        panic!("{:#}\n{}", self.status(name), writes.join("\n"));
    }

    /// Returns the status of a Canary.
    pub(super) fn status(&self, name: &str) -> Value {
        self.get("canaries", name)["status"].clone()
    }

    /// Returns reason and message of a Canary.
    pub(super) fn said(&self, name: &str) -> (String, String) {
        let status = self.status(name);
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    /// Returns whether a condition of a Canary is true.
    pub(super) fn is(&self, name: &str, condition: &str) -> bool {
        let status = self.status(name);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|found| found["type"] == condition && found["status"] == "True")
    }

    /// Returns a condition of a Canary: its status, reason and message, each empty where it has none such.
    pub(super) fn condition(&self, name: &str, kind: &str) -> [String; 3] {
        let conditions = self.status(name)["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        ["status", "reason", "message"].map(|field| found[field].as_str().unwrap_or_default().to_owned())
    }

    /// Returns an object, `null` if there is none.
    pub(super) fn get(&self, plural: &str, name: &str) -> Value {
        self.server.get(plural, NAMESPACE, name).unwrap_or_default()
    }

    /// Edits an object of the namespace, as a person does.
    pub(super) fn edit(&self, plural: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        self.server.edit(plural, NAMESPACE, name, edit);
    }

    /// Returns how often each event was told.
    pub(super) fn events(&self) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for event in self.server.all("events") {
            *told.entry(event["message"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        told
    }
}

/// Returns what of the writes concerns one kind.
pub(super) fn of_kind(writes: &[Write], kind: &str) -> Vec<String> {
    writes.iter().filter(|write| write.kind == kind).map(ToString::to_string).collect()
}

/// Returns an object of the namespace.
pub(super) fn object(version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

/// Returns a Deployment whose pods have these labels.
pub(super) fn deployment(name: &str, labels: &[(&str, &str)], version: &str) -> Value {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    let container =
        json!({"name": "c", "image": format!("shop:{version}"), "ports": [{"containerPort": 8080, "protocol": "TCP"}]});
    object(
        "apps/v1",
        "Deployment",
        name,
        json!({
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        }),
    )
}

/// Returns the Canary of the Deployment of its name; `service` is added to what its service needs.
pub(super) fn canary(name: &str, service: Value) -> Value {
    let mut wanted = json!({"port": 80, "targetPort": 8080});
    wanted.as_object_mut().unwrap().extend(service.as_object().cloned().unwrap());
    object(
        "weir.dev/v1beta1",
        "Canary",
        name,
        json!({
            "targetRef": {"kind": "Deployment", "name": name}, "service": wanted,
            "analysis": {"interval": "5s", "threshold": 2, "stepWeights": [20, 50],
                         "metrics": [{"name": "request-success-rate", "thresholdRange": {"min": 99}}]},
        }),
    )
}

/// Returns a Service that existed before Weir.
pub(super) fn service(name: &str, label: &str, ports: Value) -> Value {
    object("v1", "Service", name, json!({"selector": {"app": label}, "ports": ports}))
}

/// Returns a VirtualService that existed before Weir.
pub(super) fn routes(name: &str, hosts: &[&str], gateways: &[&str], http: Value) -> Value {
    object(
        "networking.istio.io/v1",
        "VirtualService",
        name,
        json!({"hosts": hosts, "gateways": gateways, "http": http}),
    )
}

/// Changes what a Canary's status has of the engine's memory.
pub(super) fn edit_state(canary: &mut Value, edit: impl FnOnce(&mut Value)) {
    let mut state: Value = serde_json::from_str(canary["status"]["state"].as_str().unwrap()).unwrap();
    edit(&mut state);
    canary["status"]["state"] = state.to_string().into();
}
