//! `spec.service`, checked.

use std::collections::BTreeSet;

use super::canary::CanarySpec;
use super::duration::parse_duration;
use super::kinds::PROCESS;
use super::limits;
use super::object::{is_label, is_namespace};
use super::passed_on;
use super::problem::Problems;
use super::rules::{DISTRIBUTIONS, may_set};
use super::service::{ExtraMetadata, ServiceSpec, is_opaque};

/// What a service's name looks like: a label of DNS that begins with a letter.
const SERVICE_NAME: &str = "use lower-case letters, digits and -, begin with a letter, and end with a letter or digit";

/// Notes what is wrong with the service of a Canary in `namespace`.
pub(super) fn check(namespace: &str, spec: &CanarySpec, p: &mut Problems) {
    let service = &spec.service;
    let in_cluster = spec.target_ref.kind != PROCESS;
    match service.port {
        None if in_cluster => p.add("spec.service.port", "is missing: give the port that the service listens on"),
        Some(port) if !(1..=65535).contains(&port) => {
            p.add("spec.service.port", format!("{port} is not a port: give a number from 1 to 65535"));
        }
        _ => {}
    }
    if let Some(text) = name_problem(spec.apex()).filter(|_| in_cluster) {
        let field = if service.name.is_some() { "spec.service.name" } else { "spec.targetRef.name" };
        p.add(field, text);
    }
    check_hosts(namespace, service, p);
    if service.delegation == Some(true) && !(service.hosts.is_empty() && service.gateways.is_empty()) {
        let text = "excludes hosts and gateways, which belong to the VirtualService that delegates: remove them";
        p.add("spec.service.delegation", text);
    }
    let retries = service.retries.clone().unwrap_or_default();
    if retries.attempts.is_some_and(|attempts| attempts < 0) {
        p.add("spec.service.retries.attempts", "is at least 0");
    }
    for (field, text) in
        [("spec.service.timeout", &service.timeout), ("spec.service.retries.perTryTimeout", &retries.per_try_timeout)]
    {
        text.as_deref().and_then(|text| p.keep(field, parse_duration(text)));
    }
    if service.app_protocol.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp")) {
        p.add("spec.service.appProtocol", "tcp is not supported: only HTTP requests can be split and counted");
    } else if in_cluster && service.is_on_mesh() {
        check_protocol(service, p);
    }
    check_callers(service, p);
    if let Some(word) =
        service.traffic_distribution.as_deref().filter(|word| in_cluster && !DISTRIBUTIONS.contains(word))
    {
        let text = format!("{word:?} is not known to Kubernetes: use {}", DISTRIBUTIONS.join(" or "));
        p.refuse_in_new("spec.service.trafficDistribution", text);
    }
    passed_on::check(service, p);
    check_metadata(service, p);
    check_others(service, p);
}

/// Returns the names of the canary's own Service that the Canary's hosts cover, in a cluster of this domain: requests to them come by
/// the Canary's routes.
#[must_use]
pub fn direct_names(namespace: &str, spec: &CanarySpec, domain: &str) -> Vec<String> {
    let (service, names) = (spec.canary_service(), own_names(namespace, spec, domain));
    let full = names.last().cloned().unwrap_or_default();
    let covers = |host: &str, name: &str| match host.strip_prefix('*') {
        // It was written for users: whoever may reach the gateway could send the name, and choose the canary.
        Some("") => false,
        Some(suffix) => name.ends_with(suffix),
        // istiod takes a name without a dot for that of a Service of the namespace.
        None => host == name || (!host.contains('.') && name == full && host == service),
    };
    let hosts: Vec<String> = spec.service.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    names.into_iter().filter(|name| hosts.iter().any(|host| covers(host, name))).collect()
}

/// Returns the names of the canary's own Service in a cluster of this domain, the whole one last.
#[must_use]
pub fn own_names(namespace: &str, spec: &CanarySpec, domain: &str) -> Vec<String> {
    let domain = domain.to_ascii_lowercase();
    let domains =
        [String::new(), format!(".{namespace}"), format!(".{namespace}.svc"), format!(".{namespace}.svc.{domain}")];
    domains.iter().map(|domain| format!("{}{domain}", spec.canary_service())).collect()
}

/// Returns the domain that the Canary's hosts say the cluster has, or else the one that almost every cluster has.
pub(super) fn domain_of(spec: &CanarySpec) -> &str {
    let domain = |host: &'_ str| host.find(".svc.").map(|at| at + ".svc.".len());
    let said = spec.service.hosts.iter().find_map(|host| host.get(domain(host)?..));
    said.filter(|domain| !domain.is_empty()).unwrap_or("cluster.local")
}

/// Returns what is wrong with a name as that of a service that gets a `-primary`.
fn name_problem(name: &str) -> Option<String> {
    let limit = limits::SERVICE_NAME;
    if name.len() > limit {
        let length = name.len();
        return Some(format!(
            "has {length} characters as the service's name, and {limit} is the limit, as -primary is added"
        ));
    }
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let fits = bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(inner)
        && bytes.iter().all(|byte| inner(byte) || *byte == b'-');
    (!fits).then(|| format!("{name:?} is not a name of a service: {SERVICE_NAME}"))
}

fn check_hosts(namespace: &str, service: &ServiceSpec, p: &mut Problems) {
    limits::count(p, "spec.service.hosts", "hosts", service.hosts.len(), limits::HOSTS);
    limits::count(p, "spec.service.gateways", "gateways", service.gateways.len(), limits::GATEWAYS);
    let in_mesh = service.is_on_mesh();
    let mut seen = BTreeSet::new();
    for (i, host) in service.hosts.iter().enumerate() {
        let field = format!("spec.service.hosts[{i}]");
        if !is_host(host) {
            p.add(
                field,
                format!("{host:?} is not a host: write shop.example.com, *.example.com or *, without port or path"),
            );
        } else if !seen.insert(host.to_ascii_lowercase()) {
            p.add(field, format!("{host} is given twice; keep one"));
        } else if in_mesh && let Some(whose) = services_of(host, namespace) {
            let what =
                "without gateways, requests of the whole mesh would be taken from there; remove it, or give gateways";
            p.refuse_new(field, format!("{host} is a service of {whose}: {what}"), "it is kept");
        }
    }
}

/// Notes a port of which sidecars see no requests.
fn check_protocol(service: &ServiceSpec, p: &mut Problems) {
    let (said, name) = (service.app_protocol.as_deref(), service.port_name.as_deref().unwrap_or_default());
    if is_opaque(said, name) {
        let (field, remedy) = match said {
            Some(_) => ("spec.service.appProtocol", "give http, http2 or grpc"),
            None => ("spec.service.portName", "give another name, or appProtocol http, http2 or grpc"),
        };
        let text =
            "has Istio pass the bytes on unread, and inside of the mesh only HTTP requests can be split and counted";
        p.refuse_in_new(field, format!("{} {text}: {remedy}, or gateways", said.unwrap_or(name)));
    }
}

fn check_callers(service: &ServiceSpec, p: &mut Problems) {
    limits::count(p, "spec.service.callers", "groups of callers", service.callers.len(), limits::CALLERS);
    let on_mesh = service.is_on_mesh() || service.delegation == Some(true);
    if !service.callers.is_empty() && !on_mesh {
        let text = "are for requests from inside of the mesh, and gateways names no mesh: add mesh to gateways, or remove them";
        p.add("spec.service.callers", text);
    }
    for (i, callers) in service.callers.iter().enumerate() {
        let field = format!("spec.service.callers[{i}]");
        limits::count(p, format!("{field}.labels"), "labels", callers.labels.len(), limits::LABELS);
        for (key, value) in callers.labels.iter().filter(|(key, value)| !is_label(key, value)) {
            let text =
                format!("{key:?}: {value:?} is no label that a pod can have: at most 63 of A-Z, a-z, 0-9, -, _ and .");
            p.add(format!("{field}.labels"), text);
        }
        if let Some(namespace) = callers.namespace.as_deref().filter(|namespace| *namespace != "*")
            && !is_namespace(namespace)
        {
            p.add(
                format!("{field}.namespace"),
                format!("{namespace:?} is not the name of a namespace: give one, or *"),
            );
        }
        if service.callers[..i].contains(callers) {
            p.add(field, "is given twice; keep one");
        }
    }
}

/// Returns the first namespace of which a host names a service by its whole name.
pub(super) fn named_namespace(hosts: &[String]) -> Option<String> {
    hosts.iter().find_map(|host| match host.to_ascii_lowercase().split('.').collect::<Vec<_>>()[..] {
        [_, of, "svc", ..] => Some(of.to_owned()),
        _ => None,
    })
}

/// Returns whose services a host names inside of the mesh, if they are not all of this namespace. Kubernetes calls a service
/// `NAME.NAMESPACE.svc` and the cluster's domain, which is `cluster.local` almost everywhere.
fn services_of(host: &str, namespace: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    match labels[..] {
        [_, of, "svc", ..] if of != namespace => Some(format!("namespace {of}")),
        ["*", "svc", ..] | ["*", "cluster", "local"] | ["*", "local"] => Some("every namespace".into()),
        _ => None,
    }
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host == "*" || (name.len() <= 253 && name.split('.').all(label))
}

fn check_metadata(service: &ServiceSpec, p: &mut Problems) {
    let of = [("apex", &service.apex), ("primary", &service.primary), ("canary", &service.canary)];
    for (whose, extra) in of {
        let Some(ExtraMetadata { labels, annotations }) = extra else { continue };
        for (kind, keys) in [("labels", labels), ("annotations", annotations)] {
            let field = format!("spec.service.{whose}.{kind}");
            limits::count(p, &field, kind, keys.len(), limits::ENTRIES);
            for key in keys.keys().filter(|key| !may_set(key)) {
                let text = "has no effect: it says whose an object is, and that is Weir's to say";
                p.remark(format!("{field}.{key}"), text);
            }
        }
    }
}

/// Notes fields that Flagger has for other meshes: refused where they say how requests come in, without effect elsewhere.
fn check_others(service: &ServiceSpec, p: &mut Problems) {
    if !service.gateway_refs.is_empty() {
        let what = "for the Gateway API, and Weir releases through Istio's gateways";
        match service.gateways.is_empty() {
            true => p.add("spec.service.gatewayRefs", format!("are {what}: give gateways")),
            false => p.remark("spec.service.gatewayRefs", format!("have no effect: they are {what}")),
        }
    }
    if service.mesh_name.is_some() {
        p.add("spec.service.meshName", "is for App Mesh, and Weir releases through Istio: remove it");
    }
    if !service.backends.is_empty() {
        p.add("spec.service.backends", "are for App Mesh, and Weir releases through Istio: remove them");
    }
    let text = "has no effect: it is for the Gateway API; timeout bounds a request, retries.perTryTimeout each try";
    p.remark_if(service.backend_timeout.is_some(), "spec.service.backendTimeout", text);
    let text = "has no effect: it is for the Gateway API, and requests are not copied";
    p.remark_if(!service.mirror.is_empty(), "spec.service.mirror", text);
    let text = "has no effect: it is for the Gateway API; Istio replaces the matched prefix, or else the whole path";
    p.remark_if(
        service.rewrite.as_ref().is_some_and(|rewrite| rewrite.kind.is_some()),
        "spec.service.rewrite.type",
        text,
    );
    let text = "has no effect: Weir leaves all labels and annotations alone that it did not set";
    p.remark_if(service.unmanaged_metadata.is_some(), "spec.service.unmanagedMetadata", text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(service: serde_json::Value) -> Vec<String> {
        let service: ServiceSpec = serde_json::from_value(service).unwrap();
        let mut p = Problems::new();
        check_callers(&service, &mut p);
        p.found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn callers_that_cannot_be_are_named_with_what_to_write() {
        let some = serde_json::json!([{"namespace": "web"}]);
        assert!(problems(serde_json::json!({"callers": some})).is_empty());
        assert!(problems(serde_json::json!({"callers": some, "gateways": ["public", "mesh"]})).is_empty());
        assert!(problems(serde_json::json!({"callers": [{"namespace": "*", "labels": {"app": "a"}}, {}]})).is_empty());
        let rows = [
            (
                serde_json::json!({"callers": some, "gateways": ["public"]}),
                "spec.service.callers: are for requests from inside",
            ),
            (
                serde_json::json!({"callers": [{"namespace": "Web"}]}),
                "spec.service.callers[0].namespace: \"Web\" is not the name",
            ),
            (
                serde_json::json!({"callers": [{"namespace": "web*"}]}),
                "spec.service.callers[0].namespace: \"web*\" is not",
            ),
            (
                serde_json::json!({"callers": [{"namespace": "a"}, {"namespace": "a"}]}),
                "spec.service.callers[1]: is given twice",
            ),
        ];
        for (service, expected) in rows {
            let found = problems(service);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
        }
    }
}
