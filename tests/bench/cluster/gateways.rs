//! The gateways' pods: what they are told, by the small EnvoyFilter, and what they say.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_wire::names::Metric;
use weir_wire::{Config, SLOTS};

use crate::api::Api;
use crate::ask::ask;

/// Namespace of the ingress gateway.
pub(crate) const NAMESPACE: &str = "istio-ingress";
/// Where the small object holds the filter's configuration.
pub(crate) const CONFIGURATION: &str = "/spec/configPatches/0/patch/value/typed_config/config/configuration/value";
/// Nothing takes longer on a machine that is not broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// What of Envoy says that connections were disturbed.
pub(crate) const DISTURBED: [&str; 3] = [
    "envoy_listener_manager_listener_modified",
    "envoy_listener_manager_total_listeners_draining",
    "envoy_listener_manager_total_filter_chains_draining",
];

/// A gateway's pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) address: String,
    /// Where it says its metrics: its agent's port, or Envoy's own.
    pub(crate) port: u16,
}

/// Returns the gateways that are ready and have a label.
pub(crate) fn pods(api: &Api, label: &str) -> Vec<Pod> {
    pods_in(api, NAMESPACE, label)
}

/// Returns the pods of a namespace that are ready and have a label.
pub(crate) fn pods_in(api: &Api, namespace: &str, label: &str) -> Vec<Pod> {
    let list = api.get(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector={}", label.replace('=', "%3D")));
    let ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions.is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"))
    };
    let read = |pod: &Value| Pod {
        uid: pod["metadata"]["uid"].as_str().unwrap().to_owned(),
        address: pod["status"]["podIP"].as_str().unwrap().to_owned(),
        port: 15020,
    };
    list["items"].as_array().unwrap().iter().filter(ready).map(read).collect()
}

impl Pod {
    /// Returns those of Envoy's metrics whose names fit.
    pub(crate) fn metrics(&self, filter: &str) -> String {
        let path = format!("/stats/prometheus?filter={filter}");
        ask((self.address.as_str(), self.port), "GET", &path, None).map(|(_, body)| body).unwrap_or_default()
    }

    /// Returns the sum of a metric over all its labels.
    pub(crate) fn metric(&self, filter: &str, name: &str) -> f64 {
        let metrics = self.metrics(filter);
        let lines = metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(|it| it.starts_with(['{', ' '])));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Returns whether every worker's VM, and the main thread's, says that it runs this generation.
    pub(crate) fn runs(&self, generation: u64) -> bool {
        let metrics = self.metrics("(weir_generation%7Cweir_vms%7Cserver.concurrency)");
        let value = |name: &str| {
            let line = metrics.lines().find(|it| it.strip_prefix(name).is_some_and(|it| it.starts_with(['{', ' '])))?;
            line.rsplit(' ').next()?.parse::<u64>().ok()
        };
        let slot = (generation % SLOTS) as u8;
        let vms = value(&Metric::Vms(slot).to_string());
        let workers = value("envoy_server_concurrency");
        value(&Metric::Generation(slot).to_string()) == Some(generation) && vms > workers
    }
}

/// Waits until every gateway runs a generation; returns when the last one was seen to. Each look costs the gateway some of its time, so
/// where that matters there is a `pause` between two.
pub(crate) fn acknowledged(pods: &[Pod], generation: u64, pause: Duration) -> Instant {
    let began = Instant::now();
    let taken = &|pod: &Pod| {
        while !pod.runs(generation) {
            assert!(began.elapsed() < PATIENCE, "generation {generation} is not taken over within {PATIENCE:?}");
            std::thread::sleep(pause);
        }
        Instant::now()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(move || taken(pod))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).fold(began, Instant::max)
    })
}

/// The small object of a gateway workload, to be rewritten as Weir would. Weir must be away, or it repairs it.
pub(crate) struct Small {
    path: String,
    object: Value,
    /// What it says.
    pub(crate) config: Config,
}

impl Small {
    /// Reads the one of the workload with a label, `key=value`.
    pub(crate) fn read(api: &Api, label: &str) -> Self {
        let (key, value) = label.split_once('=').unwrap();
        Self::find(api, NAMESPACE, |filter| filter["spec"]["workloadSelector"]["labels"][key] == value)
    }

    /// Reads the one of all callers in a namespace.
    pub(crate) fn of_callers(api: &Api, namespace: &str) -> Self {
        Self::find(api, namespace, |_| true)
    }

    fn find(api: &Api, namespace: &str, is_it: impl Fn(&Value) -> bool) -> Self {
        let all = format!("/apis/networking.istio.io/v1alpha3/namespaces/{namespace}/envoyfilters");
        let list = api.get(&all);
        let mut known = list["items"].as_array().unwrap().iter();
        let own = known.find(|filter| is_it(filter) && filter.pointer(CONFIGURATION).is_some());
        let object = own.unwrap_or_else(|| panic!("no configuration in {namespace}")).clone();
        let config = Config::parse(object.pointer(CONFIGURATION).unwrap().as_str().unwrap().as_bytes()).unwrap();
        Self { path: format!("{all}/{}", object["metadata"]["name"].as_str().unwrap()), object, config }
    }

    /// Writes what `config` says, as a new generation.
    pub(crate) fn push(&mut self, api: &Api) {
        self.config.generation += 1;
        let text = serde_json::to_string(&self.config).unwrap();
        *self.object.pointer_mut(CONFIGURATION).unwrap() = text.into();
        if let Some(metadata) = self.object["metadata"].as_object_mut() {
            // Whoever wrote before is not here.
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        api.patch(&self.path, &serde_json::json!({"spec": self.object["spec"]})).unwrap();
    }
}
