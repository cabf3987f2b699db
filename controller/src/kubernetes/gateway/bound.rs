//! How a Canary's requests reach the filter, as its status says it: the condition `GatewayBound`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::registry::GatewayRegistry;
use super::reports::UNFILTERED;
use super::workload::GatewayWorkload;
use crate::api::{CanarySpec, canary_id};
use crate::kubernetes::api_server::clock::now;
use crate::kubernetes::api_server::object::{AMBIENT, INJECT, MODE};
use crate::kubernetes::kinds::selects;
use crate::kubernetes::kinds::{Pod, Proxy, labels_text};
use crate::kubernetes::render::{FilterNames, Names, Proxies};
use crate::kubernetes::router::{self, Callers};
use weir_engine::Scrape;

use crate::kubernetes::stores::{ALLOWED, CALLERS_LABEL, GATEWAYS_LABEL, Stores};

/// Longest list of pods in a status.
const NAMED: usize = 5;

/// Whether a Canary's requests pass gateways that split them, and what is to be known of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Whether they do.
    pub(crate) bound: bool,
    /// One word.
    pub(crate) reason: &'static str,
    /// In words.
    pub(crate) message: String,
}

impl Bound {
    /// Returns what is so where nothing is to be said.
    #[must_use]
    pub(crate) fn plain() -> Self {
        Self { bound: true, reason: "Bound", message: "requests through its gateways are split".into() }
    }

    /// Returns what is so.
    #[must_use]
    pub(crate) fn of(
        stores: &Stores,
        registry: &GatewayRegistry,
        names: &Names,
        spec: &CanarySpec,
        through: &[Arc<GatewayWorkload>],
        callers: Option<&Callers>,
        scrapes: &[Scrape],
    ) -> Self {
        let outside = registry.outside(stores, names, spec);
        let is_gateway = |workload: &&Arc<GatewayWorkload>| workload.names.proxies == Proxies::Gateways;
        let gateways: Vec<_> = through.iter().filter(is_gateway).collect();
        let has_pod = !outside.is_empty() || gateways.iter().any(|workload| workload.has_pod(stores));
        let sidecars: Vec<_> = through.iter().filter(|workload| !is_gateway(workload)).collect();
        let id = canary_id(&names.namespace, &names.canary);
        let is_of_arms = router::is_of_arms(stores, names);
        let is_own = |pod: &str| {
            let pod = pod.split_once('/').and_then(|(namespace, name)| stores.pods.get(namespace, name));
            pod.is_some_and(|pod| is_of_arms(&pod))
        };
        let (mut silent, mut unfiltered, mut apart) = (Vec::new(), Vec::new(), BTreeSet::new());
        for workload in through {
            let is_caller = workload.names.proxies == Proxies::Sidecars;
            for (pod, why) in workload.silent(stores, now()) {
                if is_caller {
                    apart.insert(pod.clone());
                }
                // Whether the arms' own pods call anybody is nobody's to know.
                if is_caller && is_own(&pod) {
                    continue;
                }
                match is_caller && why == UNFILTERED {
                    true => unfiltered.push(pod),
                    false => silent.push(format!("{pod} ({why})")),
                }
            }
        }
        let unrouted: Vec<String> = sidecars.iter().flat_map(|workload| workload.unrouted(stores, &id)).collect();
        let elsewhere = |callers: &Callers| callers.taking_part.iter().any(|of| of.namespace != names.namespace);
        let narrowed_by = match callers.is_some_and(elsewhere) {
            true => router::narrowed_by(stores, names, spec),
            false => Vec::new(),
        };
        let beside = callers.filter(|_| !unrouted.is_empty());
        let beside = beside.map(|callers| router::routes_beside(stores, names, callers)).unwrap_or_default();
        apart.extend(unrouted.iter().cloned());
        let callers = callers.map(|callers| calling(stores, names, callers, &sidecars, apart));
        let mut found = Vec::new();
        if let Some((reason, message)) = router::unbound(stores, names, spec, has_pod) {
            match &callers {
                Some(callers) if callers.bound => found.push((reason, message)),
                _ => return Self { bound: false, reason, message },
            }
        }
        if let Some((namespace, _)) = outside.first() {
            let pods: Vec<String> = outside.iter().take(NAMED).map(|(of, pod)| format!("{of}/{pod}")).collect();
            let text = format!(
                "its Gateways select {}, which counts for nothing there: an admin who trusts what runs in the namespace says so \
                 with kubectl label namespace {namespace} {GATEWAYS_LABEL}={ALLOWED}",
                pods.join(", ")
            );
            found.push(("PodsElsewhere", text));
        }
        if !silent.is_empty() {
            let text = format!(
                "{} never acknowledged a configuration, or none for a while: no advance waits for it, and only before the canary \
                 or its primary goes is it waited for, ten minutes",
                listed(silent.iter().map(String::as_str))
            );
            found.push(("PodsSilent", text));
        }
        if !unfiltered.is_empty() {
            let text = format!(
                "{} run no filter, so what they send goes to the primary, and nobody waits for them: can they fetch the module from Weir's \
                 port 8080?",
                listed(unfiltered.iter().map(String::as_str))
            );
            found.push(("PodsSilent", text));
        }
        if !narrowed_by.is_empty() {
            let text = format!(
                "callers in other namespaces have no route to it, and send everything to the primary: with {} in spec.service.hosts its routes \
                 hold in namespace {} alone, as nobody knows whose host that is; leave it out, and callers ask for {}.{}",
                listed(narrowed_by.iter().copied()),
                names.namespace,
                names.apex,
                names.namespace
            );
            found.push(("RoutesUnseen", text));
        } else if !unrouted.is_empty() {
            let why = match beside.first() {
                Some(routes) => routes.as_str(),
                None => {
                    "a Sidecar of their namespace, or an exportTo, hides it (istioctl proxy-config route), and what they send goes to the \
                     primary, or nowhere where the mesh lets them call known hosts alone (REGISTRY_ONLY)"
                }
            };
            let text = format!("{} have no route to it: {why}", listed(unrouted.iter().map(String::as_str)));
            found.push(("RoutesUnseen", text));
        }
        if let Some(workload) = gateways.iter().find(|workload| workload.shows_no_route(&id)) {
            let text = format!(
                "the gateways in namespace {} show none of the Canary's routes, so it gets no weight: does a server of the Gateway \
                 admit its hosts, and has istiod taken its routes (istioctl proxy-config route)? Where a proxyStatsMatcher hides \
                 vhost.*.route.* they are seen once requests are counted",
                workload.names.namespace
            );
            found.push(("RoutesUnseen", text));
        }
        if let Some(why) = through.iter().find_map(|workload| workload.everywhere()) {
            found.push(("FilterEverywhere", format!("the filter sees all of the gateway's requests: {why}")));
        }
        let (mut plain, mut bound) = (Self::plain(), !gateways.is_empty() || outside.is_empty());
        if let Some(callers) = callers {
            if !callers.bound && !has_pod {
                return callers;
            }
            bound = true;
            let both = format!("{}; {}", plain.message, callers.message);
            plain.message = if has_pod { both } else { callers.message };
            plain.reason = if callers.bound { callers.reason } else { plain.reason };
        }
        if let Some(waiting) = waiting(scrapes) {
            plain.message += &format!("; {waiting}");
        }
        let Some((reason, _)) = found.first() else { return plain };
        let split = bound.then_some(plain.message);
        let message: Vec<String> = split.into_iter().chain(found.iter().map(|(_, text)| text.clone())).collect();
        Self { bound, reason, message: message.join("; ") }
    }
}

/// Returns the first few names, and how many more there are.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// Returns which processes wait under their lease, and for what.
fn waiting(scrapes: &[Scrape]) -> Option<String> {
    let waiting: Vec<&Scrape> = scrapes.iter().filter(|scrape| scrape.held > 0).collect();
    let failures = waiting.iter().fold(0u64, |sum, scrape| sum.saturating_add(scrape.held));
    let names = listed(waiting.iter().map(|scrape| scrape.gateway.as_str()));
    (failures > 0)
        .then(|| format!("{names}: all to the primary there, until Weir has seen {failures} failed canary requests"))
}

/// Returns whether a pod's requests are routed by ztunnel: it is enrolled, or is to be by its own label or its namespace's.
fn is_ambient(stores: &Stores, pod: &Pod) -> bool {
    let mode = || stores.namespaces.get("", pod.namespace())?.label(MODE).map(str::to_owned);
    let asked = pod.label(MODE).map(str::to_owned).or_else(mode);
    pod.annotation(AMBIENT) == Some("enabled") || asked.as_deref() == Some("ambient")
}

/// Returns which pods have a sidecar that their requests do not pass, and what leads them past it.
fn past(bypassing: &[(String, &'static str)]) -> String {
    let keys: BTreeSet<&str> = bypassing.iter().map(|(_, key)| *key).collect();
    format!(
        "requests of {} pods there go past their sidecar ({}), and all of them to the primary: their annotation {} does it",
        bypassing.len(),
        listed(bypassing.iter().map(|(pod, _)| pod.as_str())),
        keys.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// Returns why pods have no sidecar, and what gives them one where that can be.
fn remedy(without: &[Arc<Pod>]) -> String {
    let count = |is_so: &dyn Fn(&Pod) -> bool| without.iter().filter(|pod| is_so(pod)).count();
    let on_host = |pod: &Pod| pod.fields.proxy == Proxy::HostNetwork;
    let refuses = |pod: &Pod| [pod.label(INJECT), pod.annotation(INJECT)].contains(&Some("false"));
    let (on_host, refusing) = (count(&on_host), count(&|pod| !on_host(pod) && refuses(pod)));
    let mut said = String::new();
    if on_host > 0 {
        said += &format!("; {on_host} of them can have none, with their machine's network (hostNetwork)");
    }
    if refusing > 0 {
        said += &format!("; {refusing} of them want none ({INJECT}: \"false\")");
    }
    if on_host + refusing < without.len() {
        said += ". A namespace with the label istio-injection=enabled, or istio.io/rev and istiod's revision, gives one to every pod that \
                 is started from then on";
    }
    said
}

/// Returns what is so of those that call a Canary from inside of the mesh. `apart` are those that are known to split nothing.
fn calling(
    stores: &Stores,
    names: &Names,
    callers: &Callers,
    sidecars: &[&Arc<GatewayWorkload>],
    mut apart: BTreeSet<String>,
) -> Bound {
    let (mut without, mut bypassing) = (Vec::new(), Vec::new());
    for (pod, key) in router::callers_without_sidecar(stores, names, callers) {
        match key {
            Some(key) => bypassing.push((format!("{}/{}", pod.namespace(), pod.name()), key)),
            None => without.push(pod),
        }
    }
    apart.extend(bypassing.iter().map(|(pod, _)| pod.clone()));
    let found: usize = sidecars.iter().map(|workload| workload.pods(stores).len()).sum();
    let namespaces: BTreeSet<&str> = callers.taking_part.iter().map(|of| of.namespace.as_str()).collect();
    let listed = listed(namespaces.into_iter());
    let bound = found > 0;
    let mut said = Vec::new();
    match found.saturating_sub(apart.len()) {
        0 if bound => said.push(format!("no request of the {found} callers with a sidecar in {listed} is split")),
        0 => {}
        taking_part => said.push(format!("requests of {taking_part} callers with a sidecar in {listed} are split")),
    }
    if !bypassing.is_empty() {
        said.push(past(&bypassing));
    }
    if !without.is_empty() {
        let pods: Vec<String> = without.iter().map(|pod| format!("{}/{}", pod.namespace(), pod.name())).collect();
        said.push(format!(
            "{} pods there have no sidecar ({}): what they send goes to the primary, all of it{}",
            pods.len(),
            self::listed(pods.iter().map(String::as_str)),
            remedy(&without)
        ));
    }
    let nobody = |of: &&FilterNames| {
        let selects = |pod: &Arc<Pod>| selects(&of.selector, pod.metadata.labels.as_ref());
        !of.selector.is_empty() && !stores.pods.of(&of.namespace).iter().any(selects)
    };
    for of in callers.taking_part.iter().filter(nobody).take(NAMED) {
        said.push(format!(
            "the labels {} of spec.service.callers find no pod in {}",
            labels_text(&of.selector),
            of.namespace
        ));
    }
    let ambient = without.iter().filter(|pod| is_ambient(stores, pod)).count();
    if ambient > 0 {
        said.push(format!(
            "{ambient} of them are in ambient mode, where ztunnel routes and has no place for the filter"
        ));
    }
    if !callers.missing.is_empty() {
        let missing = self::listed(callers.missing.iter().map(String::as_str));
        let place = if callers.by_default { "the chart's defaultCallers" } else { "spec.service.callers" };
        said.push(format!("{place} names {missing}, and there is no such namespace"));
    }
    let mut reason = if bound { "Bound" } else { "NoCaller" };
    for namespace in callers.refused_namespaces().into_iter().take(NAMED) {
        reason = if bound { "CallersElsewhere" } else { reason };
        said.push(match *namespace == *stores.settings.root_namespace {
            false if stores.settings.is_restricted() => format!(
                "callers in {namespace} send everything to the primary: Weir has no rights there, and an admin gives it some by the \
                 chart's callerNamespaces"
            ),
            true => format!("nothing in {namespace} can be a caller: what is written there holds in the whole mesh"),
            false => format!(
                "callers in {namespace} send everything to the primary: an admin lets their sidecars have the filter with kubectl label \
                 namespace {namespace} {CALLERS_LABEL}={ALLOWED}"
            ),
        });
    }
    if !bound {
        let instead = if callers.alone { ", or name a gateway in spec.service.gateways" } else { "" };
        let place = if listed.is_empty() { "any namespace of spec.service.callers".to_owned() } else { listed };
        said.insert(
            0,
            format!(
                "no pod with a sidecar runs in {place}, so no request from inside of the mesh passes the filter: give the callers one, \
                 name their namespaces in spec.service.callers{instead}"
            ),
        );
    }
    Bound { bound, reason, message: said.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_under_a_lease_is_named_with_what_for() {
        let scrape = |gateway: &str, held| Scrape { gateway: gateway.into(), held, ..Scrape::default() };
        assert_eq!(waiting(&[scrape("web/a", 0)]), None);
        let said = waiting(&[scrape("web/a", 0), scrape("web/b", 1), scrape("web/c", 2)]).unwrap();
        assert_eq!(said, "web/b, web/c: all to the primary there, until Weir has seen 3 failed canary requests");
        let many: Vec<Scrape> = (0..9).map(|number| scrape(&format!("web/{number}"), 1)).collect();
        assert!(waiting(&many).unwrap().starts_with("web/0, web/1, web/2, web/3, web/4 and 4 more: "));
    }
}
