//! How much of a user's text Weir takes. One controller and one gateway serve every tenant of a cluster, so no text is without a
//! bound.
//!
//! The schema refuses at `kubectl apply` what is above a limit. An object that was stored before there were limits must go on
//! working after an upgrade: the plan remarks on what is above a limit, and refuses only what is above [`STORED`] times as much.
//! What can stop a gateway (a regular expression) has no such second limit. A Canary that worked before there were limits
//! ([`Rules::Former`](super::problem::Rules)) is refused for none of them until its spec changes: an expression that is too large
//! matches nothing there.

use super::problem::Problems;

/// Above so many times a limit, an object that an older schema let in is refused too.
pub(crate) const STORED: usize = 4;

/// Bytes of a whole spec as JSON: some twenty times what a long one has. Every Canary's is in the controller's memory.
pub(crate) const SPEC: usize = 64 << 10;
/// Bytes of a Canary's name, which is the value of a label.
pub(crate) const LABEL: usize = 63;
/// Bytes of a service's name, and of the label by which the target's pods are found: 63 is the limit of both, and `-primary` has 8.
pub(crate) const SERVICE_NAME: usize = 55;
/// Bytes of the name of an object or of something in the spec.
pub(super) const NAME: usize = 253;
/// Bytes of a host's name: DNS's limit, with a `*.` in front.
pub(super) const HOST: usize = 255;
/// Hosts of a Canary. All of them stand in the gateway's configuration, together with those of every other rollout.
pub(super) const HOSTS: usize = 64;
/// Gateways of a Canary.
pub(super) const GATEWAYS: usize = 16;
/// Groups of callers of a Canary.
pub(super) const CALLERS: usize = 16;
/// Labels of a group of callers.
pub(super) const LABELS: usize = 8;
/// Istio's HTTPMatchRequests of a Canary; each is part of two routes.
pub(super) const ROUTES: usize = 32;
/// Conditions of an A/B test. Each of them may be tried on every request.
pub(super) const CONDITIONS: usize = 16;
/// Terms of one condition.
pub(super) const TERMS: usize = 8;
/// Bytes of a text that a header, cookie or query parameter is compared with.
pub(super) const TEXT: usize = 1024;
/// Bytes of a regular expression.
pub(super) const PATTERN: usize = weir_wire::limits::PATTERN;
/// Bytes of a text of Istio's that is passed on: Envoy refuses twice as much.
pub(super) const PASSED_ON: usize = 8 << 10;
/// Bytes of a regular expression of Envoy's, compiled here: Istio has Envoy refuse programs of more than 32,768 instructions, of some 16 bytes each.
pub(super) const COMPILED_BY_ENVOY: usize = 256 << 10;
/// Entries of a table in which Envoy finds an endpoint by a hash: as many as its Maglev has by default.
pub(super) const HASH_TABLE: u64 = 65_537;
/// Steps of a list of weights, as many as iterations.
pub(super) const STEPS: usize = 1000;
/// Metrics of a Canary; each one of a template is a query at the end of every interval.
pub(super) const METRICS: usize = 16;
/// Webhooks of a Canary; all of one type are called at once.
pub(super) const WEBHOOKS: usize = 16;
/// Alerts of a Canary.
pub(super) const ALERTS: usize = 16;
/// Entries of a map of texts.
pub(super) const ENTRIES: usize = 64;
/// Bytes of an address.
pub(super) const ADDRESS: usize = 2048;
/// Bytes of a duration.
pub(super) const DURATION: usize = 32;
/// Bytes of a query to a metrics server.
pub(super) const QUERY: usize = 8192;
/// Bytes of a cookie's name or path.
pub(super) const COOKIE: usize = 256;
/// Bytes of all attributes of a cookie, which stand in the gateway's configuration.
pub(super) const ATTRIBUTES: usize = 512;

/// How a remark ends on what the API server takes in no new object.
pub(super) const KEPT: &str = " for new objects: this one is kept as it is";

/// Notes that there is too much of something: as a remark, or as a problem where no stored object can have so much by accident.
pub(super) fn count(p: &mut Problems, field: impl Into<String>, what: &str, found: usize, limit: usize) {
    let text = format!("has {found} {what}, and {limit} is the limit");
    if found > limit * STORED {
        p.refuse_new(field, text + ": remove some", "all are kept");
    } else if found > limit {
        p.remark(field, text + KEPT);
    }
}

/// Returns what is wrong with the size of a spec, where so many bytes are the limit.
pub(crate) fn size_problem(bytes: usize, limit: usize) -> Option<String> {
    (bytes > limit).then(|| format!("has {bytes} bytes, and {limit} is the limit: shorten it"))
}
