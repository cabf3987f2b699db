//! From `spec.service` of a Canary to Envoy's routes on this supervisor.

use std::collections::BTreeMap;

use super::envoy::admin::hosts;
use super::envoy::config::{self, Files, Retries, Route, cluster_name};
use super::files::replace_if_changed;
use super::release::CanaryRuntime;
use crate::api::{self, CanarySpec, EndedCookies, Object, canary_id, canary_token, parse_duration};

/// Envoy's conditions for a request that is tried again, where the user names none: Istio's.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// Returns how requests of a Canary are routed. Durations that don't parse were refused before.
pub(crate) fn route(canary: &Object<CanarySpec>) -> Route {
    let (namespace, name) = (&canary.metadata.namespace, &canary.metadata.name);
    let service = &canary.spec.service;
    let duration = |text: &Option<String>| text.as_deref().and_then(|text| parse_duration(text).ok());
    let retries = service.retries.as_ref().map(|retries| Retries {
        attempts: u32::try_from(retries.attempts.unwrap_or(2)).unwrap_or_default(),
        on: retries.retry_on.clone().unwrap_or_else(|| RETRY_ON.into()),
        per_try: duration(&retries.per_try_timeout),
    });
    let protocol = service.app_protocol.as_deref().unwrap_or_default().to_ascii_lowercase();
    Route {
        name: canary.to_string(),
        id: canary_id(namespace, name),
        hosts: api::hosts(canary),
        token: canary_token(namespace, name, ""),
        timeout: duration(&service.timeout),
        retries,
        http2: ["grpc", "http2", "h2c", "kubernetes.io/h2c"].contains(&protocol.as_str()),
        ended: EndedCookies::of(&canary.spec.analysis),
        filtered: false,
    }
}

/// Returns what is asked of the routes and not done here, by field.
pub(crate) fn unused(canary: &Object<CanarySpec>) -> Vec<String> {
    let service = &canary.spec.service;
    let fields = [
        ("match", !service.r#match.is_empty()),
        ("rewrite", service.rewrite.is_some()),
        ("headers", service.headers.is_some()),
        ("corsPolicy", service.cors_policy.is_some()),
        ("trafficPolicy", service.traffic_policy.is_some()),
    ];
    let used = fields.into_iter().filter(|(_, used)| *used);
    used.map(|(field, _)| format!("{canary}: spec.service.{field}: changes nothing with weir standalone")).collect()
}

/// Writes the endpoints of every arm that changed.
pub(crate) fn write_endpoints(files: &Files, releases: &mut BTreeMap<String, CanaryRuntime>) -> std::io::Result<()> {
    for (name, release) in releases {
        let id = release.id.clone();
        for arm in release.arms() {
            let content = config::endpoints(name, arm.name, &arm.endpoints()).to_string();
            replace_if_changed(&files.endpoints(&id, arm.name), content.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes the clusters of all Canaries.
pub(crate) fn write_clusters(files: &Files, releases: &BTreeMap<String, CanaryRuntime>) -> std::io::Result<bool> {
    let routes: Vec<Route> = releases.values().map(CanaryRuntime::route).collect();
    replace_if_changed(&files.clusters, config::clusters(files, &routes).to_string().as_bytes())
}

/// Writes the routes of those Canaries that have any, and whose clusters Envoy knows: a route to a cluster that comes a moment
/// later would answer 503 until then.
/// On those that `filtered` names by their id the filter is on.
pub(crate) fn write_routes(
    files: &Files,
    releases: &BTreeMap<String, CanaryRuntime>,
    filtered: impl Fn(&str) -> bool,
) -> std::io::Result<bool> {
    let routed = releases.values().filter(|release| release.routed && release.clustered);
    let switched = |release: &CanaryRuntime| Route { filtered: filtered(&release.id), ..release.route() };
    let routes: Vec<Route> = routed.map(switched).collect();
    replace_if_changed(&files.routes, config::routes(&routes).to_string().as_bytes())
}

/// Takes in what Envoy says of its clusters.
pub(crate) fn observe(clusters: &str, releases: &mut BTreeMap<String, CanaryRuntime>, now: weir_engine::Timestamp) {
    for (name, release) in releases {
        let mut known = true;
        for arm in release.arms() {
            let hosts = hosts(clusters, &cluster_name(name, arm.name));
            known &= hosts.is_some();
            arm.observe_routes(hosts, now);
        }
        release.clustered = known;
    }
}
