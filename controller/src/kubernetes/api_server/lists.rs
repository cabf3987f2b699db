//! Objects that are asked for now and then, and not watched: kinds that matter at a release's beginning alone, of which there may be
//! very many, and which many clusters do not serve.
//!
//! All Canaries of a namespace share what was asked; a Canary at rest asks for nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

use super::apply::{ActError, is_status, with_timeout};
use crate::telemetry::Chain;

/// Objects of a list that are asked for at a time: each may be a megabyte, and is ten times as much once it is parsed.
const PAGE: u32 = 20;
/// Pages of one kind in one namespace that are looked at.
const PAGES: usize = 100;
/// The same of what has hosts, in a whole cluster: one tenant's thousands are not to hide everybody's.
const PAGES_OF_HOSTS: usize = 1_000;
/// Bytes of one object that are kept. Nobody writes a longer selector.
const LARGEST: usize = 16 << 10;
/// Bytes of all objects of a namespace that are kept; what comes after them is not looked at.
const ALL: usize = 1 << 20;
/// The same of the hosts that a cluster's Ingresses, or HTTPRoutes, have.
const ALL_HOSTS: usize = 8 << 20;
/// Of a whole cluster's objects of one kind, a namespace's may take this part of the room: beyond it, its own are not known.
const SHARE: usize = 16;
/// Lists that are asked for at a time.
const CALLS: usize = 4;
/// What nobody has asked for so long is forgotten; a kind that is not served is asked for again after it.
const KEPT: Duration = Duration::from_secs(600);

/// In place of a namespace: all of them. Of these, only what chooses namespaces is kept.
pub(crate) const EVERYWHERE: &str = "";

/// A kind that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listable {
    /// API group; empty for the core group.
    pub(crate) group: &'static str,
    /// Version of the group.
    pub(crate) version: &'static str,
    /// The kind.
    pub(crate) kind: &'static str,
    /// The kind's name in paths.
    pub(crate) plural: &'static str,
}

/// An object that was listed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    /// Its kind.
    pub(crate) kind: &'static str,
    /// Its namespace.
    pub(crate) namespace: Box<str>,
    /// Its name.
    pub(crate) name: Box<str>,
    /// What is asked of it.
    pub(crate) spec: Value,
}

/// A namespace, and the first of the kinds that are asked for together.
type Key = (String, &'static str);

/// What was listed.
pub(crate) struct Lists {
    known: Mutex<HashMap<Key, Known>>,
    /// When what nobody asks for was last forgotten.
    swept: Mutex<Option<Instant>>,
    /// Kinds that the API server does not serve, and since when that is known.
    unserved: Mutex<HashMap<&'static str, Instant>>,
    calls: Semaphore,
}

/// Bytes that are left for what is kept.
struct Room {
    all: usize,
    /// What one namespace may have of it, where objects of all are listed.
    each: Option<usize>,
    taken: HashMap<String, usize>,
}

impl Room {
    /// Returns the room for one namespace's objects, or for those of one kind of the whole cluster.
    fn of(namespace: &str, kind: &str) -> Self {
        let all = if has_hosts(kind) { ALL_HOSTS } else { ALL };
        let each = (namespace == EVERYWHERE).then_some(all / SHARE);
        Self { all, each, taken: HashMap::new() }
    }

    /// Takes so many bytes for an object of a namespace, where they are there.
    fn take(&mut self, namespace: &str, bytes: usize) -> bool {
        if let Some(each) = self.each {
            let taken = self.taken.entry(namespace.to_owned()).or_default();
            if *taken + bytes > each {
                return false;
            }
            *taken += bytes;
        }
        self.all = self.all.saturating_sub(bytes);
        self.all > 0
    }
}

#[derive(Default)]
struct Known {
    items: Option<Arc<[Listed]>>,
    /// Whether there was more than is looked at.
    cut: bool,
    at: Option<Instant>,
    asking: bool,
}

impl Lists {
    /// Returns lists of nothing yet.
    #[must_use]
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            known: Mutex::default(),
            swept: Mutex::default(),
            unserved: Mutex::default(),
            calls: Semaphore::new(CALLS),
        })
    }

    /// Returns the objects of some kinds in a namespace, or in all of them where it is empty, as they were asked for last; nothing as long as there is no answer. What
    /// is older than `fresh` is asked for again, and `wake` is called with the answer. A kind that is not served, or not for
    /// Weir to read, has no objects.
    pub(crate) fn of(
        self: &Arc<Self>,
        client: &Client,
        namespace: &str,
        kinds: &'static [Listable],
        fresh: Duration,
        wake: impl FnOnce() + Send + 'static,
    ) -> Option<Arc<[Listed]>> {
        let key: Key = (namespace.to_owned(), kinds.first()?.plural);
        let mut known = self.known.lock();
        let mut swept = self.swept.lock();
        if swept.is_none_or(|swept| swept.elapsed() >= KEPT / 10) {
            *swept = Some(Instant::now());
            known.retain(|_, known| known.asking || known.at.is_some_and(|at| at.elapsed() < KEPT));
        }
        let found = known.entry(key.clone()).or_default();
        if !found.asking && found.at.is_none_or(|at| at.elapsed() >= fresh) {
            found.asking = true;
            let (lists, client, before) = (self.clone(), client.clone(), found.items.clone());
            tokio::spawn(async move {
                let (items, cut) = lists.ask(&client, &key.0, kinds, before.as_deref().unwrap_or_default()).await;
                let known = Known { items: Some(items.into()), cut, at: Some(Instant::now()), asking: false };
                lists.known.lock().insert(key, known);
                wake();
            });
        }
        found.items.clone()
    }

    /// Returns whether there was more of some kinds in a namespace, or in all of them, than was looked at.
    pub(crate) fn is_cut(&self, namespace: &str, kinds: &'static [Listable]) -> bool {
        let Some(first) = kinds.first() else { return false };
        self.known.lock().get(&(namespace.to_owned(), first.plural)).is_some_and(|known| known.cut)
    }

    async fn ask(
        &self,
        client: &Client,
        namespace: &str,
        kinds: &[Listable],
        before: &[Listed],
    ) -> (Vec<Listed>, bool) {
        let (mut items, mut cut) = (Vec::new(), false);
        let mut room = Room::of(namespace, "");
        for Listable { group, version, kind, plural } in kinds.iter().copied() {
            if self.unserved.lock().get(plural).is_some_and(|at| at.elapsed() < KEPT) {
                continue;
            }
            let _turn = self.calls.acquire().await;
            let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            let (group, version, words) = (group.to_owned(), version.to_owned(), (kind.to_owned(), plural.to_owned()));
            let resource = ApiResource { group, version, api_version, kind: words.0, plural: words.1 };
            let api: Api<DynamicObject> = match namespace {
                EVERYWHERE => Api::all_with(client.clone(), &resource),
                namespace => Api::namespaced_with(client.clone(), namespace, &resource),
            };
            if namespace == EVERYWHERE {
                room = Room::of(namespace, kind);
            }
            match pages(&api, kind, namespace, &mut room).await {
                Ok((list, more)) => {
                    items.extend(list);
                    cut |= more;
                }
                Err(ActError::Write { source, .. }) if is_status(&source, 404) => {
                    self.unserved.lock().insert(plural, Instant::now());
                }
                Err(ActError::Write { source, .. }) if is_status(&source, 403) => {
                    debug!(kind, namespace, "Weir may not list it");
                }
                Err(error) => {
                    debug!(kind, namespace, error = %Chain(&error), "not listed");
                    items.extend(before.iter().filter(|listed| listed.kind == kind).cloned());
                }
            }
        }
        (items, cut)
    }
}

/// Returns the objects of a kind as far as there is `room` for them, and whether there are more.
async fn pages(
    api: &Api<DynamicObject>,
    kind: &'static str,
    namespace: &str,
    room: &mut Room,
) -> Result<(Vec<Listed>, bool), ActError> {
    let (mut items, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    let most = if has_hosts(kind) { PAGES_OF_HOSTS } else { PAGES };
    for _ in 0..most {
        let list = with_timeout("list", kind, namespace, api.list(&params)).await?;
        // Of all the cluster's policies those that are about their own namespace alone say nothing to others.
        let about_own = kind == "NetworkPolicy" && namespace == EVERYWHERE;
        let told = list.items.into_iter().filter(|it| !about_own || chooses_namespaces(&it.data["spec"]));
        items.extend(told.filter_map(|it| listed(kind, it, room)));
        if room.all == 0 {
            break;
        }
        let Some(next) = list.metadata.continue_.filter(|next| !next.is_empty()) else { return Ok((items, false)) };
        params = params.continue_token(&next);
    }
    debug!(kind, namespace, "not all are looked at");
    Ok((items, true))
}

/// Fields that say whom an object is about.
const SELECTING: [&str; 6] =
    ["podSelector", "selector", "workloadSelector", "endpointSelector", "targetRef", "scaleTargetRef"];

/// Returns of a spec that is too large what says whom it is about.
fn shortened(mut spec: Value) -> Value {
    let fits = |spec: &Value| spec.to_string().len() <= LARGEST;
    if !fits(&spec)
        && let Some(map) = spec.as_object_mut()
    {
        map.retain(|field, _| SELECTING.contains(&field.as_str()));
    }
    Some(spec).filter(fits).unwrap_or_default()
}

/// Who serves an Ingress, as it was said before there was a field for it.
const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

/// Returns whether of a kind the hosts are kept, and nothing else.
fn has_hosts(kind: &str) -> bool {
    ["Ingress", "HTTPRoute"].contains(&kind)
}

/// Returns of an Ingress or an HTTPRoute the hosts, in lower case: nothing else of it is looked at, and a cluster may have thousands. An Ingress
/// that is not for Istio has none at its gateways.
fn served_hosts(kind: &str, object: &DynamicObject) -> Option<Value> {
    let spec = &object.data["spec"];
    let hosts: Vec<&Value> = match kind {
        "Ingress" => {
            let noted = object.metadata.annotations.as_ref().and_then(|all| all.get(INGRESS_CLASS)).map(String::as_str);
            let class = noted.or(spec["ingressClassName"].as_str()).unwrap_or_default();
            let rules = spec["rules"].as_array().into_iter().flatten().filter(|_| class.contains("istio"));
            rules.map(|rule| &rule["host"]).collect()
        }
        "HTTPRoute" => spec["hostnames"].as_array().into_iter().flatten().collect(),
        _ => return None,
    };
    let hosts: BTreeSet<String> = hosts.into_iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect();
    Some(json!({"hosts": hosts}))
}

/// Returns whether some part of a spec says which namespaces it is about.
fn chooses_namespaces(spec: &Value) -> bool {
    match spec {
        Value::Object(fields) => fields.contains_key("namespaceSelector") || fields.values().any(chooses_namespaces),
        Value::Array(list) => list.iter().any(chooses_namespaces),
        _ => false,
    }
}

/// Keeps an object, of a spec that is too large a part; nothing where there is no room for it any more.
fn listed(kind: &'static str, mut object: DynamicObject, room: &mut Room) -> Option<Listed> {
    if room.all == 0 {
        return None;
    }
    let spec = served_hosts(kind, &object).unwrap_or_else(|| shortened(object.data["spec"].take()));
    let name: Box<str> = object.metadata.name.unwrap_or_default().into();
    let namespace: Box<str> = object.metadata.namespace.unwrap_or_default().into();
    let bytes = name.len() + spec.to_string().len();
    room.take(&namespace, bytes).then_some(Listed { kind, namespace, name, spec })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_serves_a_host_the_hosts_are_kept_where_istio_serves_it() {
        let of = |kind: &str, annotations: Value, spec: Value| {
            let metadata = json!({"name": "a", "namespace": "bank", "annotations": annotations});
            let object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            let mut room = Room::of(EVERYWHERE, "Ingress");
            let listed = listed(if kind == "Ingress" { "Ingress" } else { "HTTPRoute" }, object, &mut room).unwrap();
            assert_eq!(&*listed.namespace, "bank");
            listed.spec["hosts"].clone()
        };
        let rules =
            json!([{"host": "Pay.example.com", "http": {"paths": vec![json!({"path": "/"}); 2_000]}}, {"http": {}}]);
        let classed = |class: &str| json!({"ingressClassName": class, "rules": rules});
        let hosts = json!(["pay.example.com"]);
        assert_eq!(of("Ingress", json!({}), classed("istio")), hosts);
        assert_eq!(of("Ingress", json!({(INGRESS_CLASS): "istio-internal"}), json!({"rules": rules})), hosts);
        assert_eq!(of("Ingress", json!({(INGRESS_CLASS): "nginx"}), json!({"rules": rules})), json!([]));
        assert_eq!(of("Ingress", json!({}), json!({"rules": rules})), json!([]));
        assert_eq!(of("HTTPRoute", json!({}), json!({"hostnames": ["pay.example.com"], "rules": rules})), hosts);
        assert_eq!(of("HTTPRoute", json!({}), json!({})), json!([]));
    }

    #[test]
    fn one_namespaces_hosts_leave_room_for_those_of_all_others() {
        let ingress = |namespace: &str, host: &str| {
            let spec = json!({"ingressClassName": "istio", "rules": [{"host": host}]});
            let metadata = json!({"name": "a", "namespace": namespace});
            let object = json!({"apiVersion": "v1", "kind": "Ingress", "metadata": metadata, "spec": spec});
            serde_json::from_value::<DynamicObject>(object).unwrap()
        };
        let mut room = Room::of(EVERYWHERE, "Ingress");
        let long = "a".repeat(1_000);
        let kept = (0..100_000).filter_map(|_| listed("Ingress", ingress("aaa-evil", &long), &mut room)).count();
        assert!((500..600).contains(&kept), "{kept}");
        let other = listed("Ingress", ingress("bank", "pay.example.com"), &mut room).unwrap();
        assert_eq!((&*other.namespace, other.spec), ("bank", json!({"hosts": ["pay.example.com"]})));
        // Sixteen of them leave none, and what is listed then counts as cut.
        let namespaces: Vec<String> = (0..SHARE).map(|number| format!("n{number}")).collect();
        for namespace in &namespaces {
            (0..600).for_each(|_| drop(listed("Ingress", ingress(namespace, &long), &mut room)));
        }
        assert_eq!(room.all, 0);
        assert_eq!(listed("Ingress", ingress("shop", "a.b"), &mut room), None);
    }

    #[test]
    fn of_what_a_tenant_has_no_more_is_kept_than_there_is_room_for() {
        let object = |bytes: usize| {
            let spec = json!({"podSelector": {"matchLabels": {"app": "a".repeat(bytes)}}});
            let object = json!({"apiVersion": "v1", "kind": "Any", "metadata": {"name": "a"}, "spec": spec});
            serde_json::from_value::<DynamicObject>(object).unwrap()
        };
        let mut room = Room::of("shop", "");
        let large = listed("NetworkPolicy", object(LARGEST), &mut room).unwrap();
        assert_eq!((large.spec, room.all), (Value::Null, ALL - "a".len() - "null".len()));
        let many = json!({"podSelector": {}, "ingress": vec![json!({"from": [{"podSelector": {}}]}); 2_000]});
        assert_eq!(shortened(many), json!({"podSelector": {}}), "whom it is about is known");
        let kept: Vec<Listed> = (0..1000).filter_map(|_| listed("NetworkPolicy", object(10_000), &mut room)).collect();
        let bytes: usize = kept.iter().map(|it| it.spec.to_string().len()).sum();
        assert!((90..110).contains(&kept.len()) && bytes <= ALL && room.all == 0, "{}", kept.len());
    }
}
