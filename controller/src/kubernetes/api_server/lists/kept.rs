//! What of an object that was listed is kept, and how much of all of them.

use std::collections::{BTreeSet, HashMap};

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{EVERYWHERE, Listed};

/// Bytes of one object that are kept. Nobody writes a longer selector.
const LARGEST: usize = 16 << 10;
/// Bytes of all objects of a namespace that are kept; what comes after them is not looked at.
const ALL: usize = 1 << 20;
/// The same of the hosts that a cluster's Ingresses, or routes of one kind, have.
const ALL_HOSTS: usize = 8 << 20;
/// Of a whole cluster's objects of one kind, a namespace's may take this part of the room: beyond it, its own are not known.
const SHARE: usize = 16;

/// Bytes that are left for what is kept.
pub(super) struct Room {
    pub(super) all: usize,
    /// What one namespace may have of it, where objects of all are listed.
    each: Option<usize>,
    taken: HashMap<String, usize>,
}

impl Room {
    /// Returns the room for one namespace's objects, or for those of one kind of the whole cluster.
    pub(super) fn of(namespace: &str, kind: &str) -> Self {
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

/// Routes of the Gateway API that are for hosts.
const ROUTES: [&str; 3] = ["HTTPRoute", "GRPCRoute", "TLSRoute"];

/// Returns whether of a kind the hosts are kept, and nothing else.
pub(super) fn has_hosts(kind: &str) -> bool {
    kind == "Ingress" || ROUTES.contains(&kind)
}

/// Returns of an Ingress or a route of the Gateway API the hosts, in lower case: nothing else of it is looked at, and a cluster may have thousands. An Ingress
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
        kind if ROUTES.contains(&kind) => spec["hostnames"].as_array().into_iter().flatten().collect(),
        _ => return None,
    };
    let hosts: BTreeSet<String> = hosts.into_iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect();
    Some(json!({"hosts": hosts}))
}

/// The label by which Cilium knows a pod's namespace.
pub(crate) const OF_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// Returns whether some part of a spec says which namespaces it is about.
pub(super) fn chooses_namespaces(spec: &Value) -> bool {
    match spec {
        Value::Object(fields) => {
            // Cilium says it by a label that its pods have.
            let names = |key: &String| key == "namespaceSelector" || key.contains(OF_NAMESPACE);
            fields.keys().any(names) || fields.values().any(chooses_namespaces)
        }
        Value::Array(list) => list.iter().any(chooses_namespaces),
        Value::String(text) => text.contains(OF_NAMESPACE),
        _ => false,
    }
}

/// Keeps an object, of a spec that is too large a part; nothing where there is no room for it any more.
pub(super) fn listed(kind: &'static str, mut object: DynamicObject, room: &mut Room) -> Option<Listed> {
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
