//! Renders the filter's configuration from what was decided for every Canary of a gateway.
//!
//! Nothing is chosen here but the generation: a gateway takes a configuration only if it is newer than what it runs.

use weir_engine::{Plan, Span, Timestamp, Traffic};
use weir_wire::config::VERSION;
pub use weir_wire::names::direct_route;
use weir_wire::{Canary, Config, Lookup, MatchedSplit, SLOTS, Weight};

use crate::api::{canary_id, canary_token};

/// A gateway that nobody has renewed the configuration of for so long sends nothing to a canary any more: Weir is away, and a
/// canary that goes bad in a way that no guard sees would stay for ever.
const AWAY: Span = Span::seconds(600);

/// How requests find one Canary on a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestMatch {
    /// The Canary's namespace.
    pub namespace: String,
    /// The Canary's name.
    pub name: String,
    /// Hosts of its requests.
    pub hosts: Vec<String>,
    /// Its routes.
    pub routes: RouteNames,
    /// Value of the token header that its routes to the canary match; empty where it is made of the names.
    pub token: String,
    /// Which of the two tells.
    pub lookup: Lookup,
    /// Names of the canary's own Service by which its requests come, where the cluster's domain is known; else the plan's.
    pub direct: Option<Vec<String>>,
    /// What a caller's sidecar calls the canary's own Service, where its own routes are to be counted.
    pub own_service: Option<OwnService>,
    /// When the Canary was made.
    pub since: Timestamp,
}

impl RequestMatch {
    /// Returns how its requests are found in the sidecars of callers: by the route. A service has many names there. The canary's own
    /// Service has routes of its own, which are called as everybody's: they get another name with the filter.
    #[must_use]
    pub fn in_sidecars(&self) -> Self {
        let mut inside = Self { hosts: Vec::new(), lookup: Lookup::Route, ..self.clone() };
        if let Some(OwnService { names, virtual_hosts }) = &self.own_service {
            inside.direct = Some(names.clone());
            inside.routes.direct.clone_from(virtual_hosts);
        }
        inside
    }
}

/// What a sidecar calls a Service of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnService {
    /// Hosts of the requests to it, without port.
    pub names: Vec<String>,
    /// Its virtual hosts, `HOST:PORT`.
    pub virtual_hosts: Vec<String>,
}

/// Names of one Canary's routes, as gateways have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteNames {
    /// Routes to the primary: those that requests come in by.
    pub primary: Vec<String>,
    /// Routes to the canary, which the token leads to.
    pub canary: Vec<String>,
    /// Virtual hosts of the canary's own Service, all of whose routes lead to it.
    pub direct: Vec<String>,
}

/// Returns the generation after `stored`: no smaller than the Unix time in milliseconds, so that a recreated object or a
/// restored backup is newer than what runs.
///
/// It takes the slot after `stored`'s. VMs are counted per slot (`generation % 8`), and taking the slots in turn keeps the
/// counts of the last seven pushes readable while workers move from one to the next.
#[must_use]
pub fn next_generation(stored: u64, now: Timestamp) -> u64 {
    let next = stored.saturating_add(1);
    let base = next.max(now.0);
    base.saturating_add((next % SLOTS + SLOTS - base % SLOTS) % SLOTS)
}

/// Renders one Canary.
#[must_use]
pub fn entry(request_match: &RequestMatch, plan: &Plan, traffic: &Traffic) -> Canary {
    let RequestMatch { namespace, name, hosts, routes, token, lookup, direct, .. } = request_match;
    let direct = direct.as_ref().unwrap_or(&plan.direct);
    let mut routes = routes.clone();
    if traffic.direct && !routes.direct.is_empty() {
        routes.primary.push(direct_route(&canary_id(namespace, name)));
    }
    // A plan that has lost its conditions sends nobody until the step is taken again.
    let matched = MatchedSplit { weight: traffic.weight, conditions: plan.conditions.clone() };
    let matched = Some(matched).filter(|_| traffic.only_matched && traffic.weight > Weight::ZERO);
    Canary {
        id: canary_id(namespace, name),
        name: format!("{namespace}/{name}"),
        hosts: hosts.clone(),
        routes: routes.primary,
        lookup: *lookup,
        token: if token.is_empty() { canary_token(namespace, name, "") } else { token.clone() },
        run: traffic.run.clone(),
        epoch: traffic.epoch,
        weight: if traffic.only_matched { Weight::ZERO } else { traffic.weight },
        conditions: if traffic.matching { plan.conditions.clone() } else { Vec::new() },
        matched,
        direct: if traffic.direct { direct.clone() } else { Vec::new() },
        affinity: plan.affinity.clone(),
        latency_ms: plan.latency_ms.clone(),
        admission: plan.admission,
        fallback: traffic.fallback,
        limits: traffic.limits.clone(),
        lease: traffic.lease,
        seen: traffic.seen.iter().map(|(boot, held)| [*boot, *held]).collect(),
    }
}

/// Renders a gateway's configuration. `armed_until` is when a gateway process that starts later stops trusting it.
#[must_use]
pub fn config(generation: u64, armed_until: Timestamp, mut canaries: Vec<Canary>) -> Config {
    // The order says nothing; a fixed one keeps an unchanged configuration equal, byte by byte.
    canaries.sort_by(|a, b| a.id.cmp(&b.id));
    let expires_at = (armed_until + AWAY).0 / 1000;
    Config { version: VERSION, generation, armed_until: armed_until.0 / 1000, expires_at, canaries }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CanarySpec, Object, plan};
    use proptest::prelude::*;
    use weir_wire::{Condition, StringMatch};

    fn shop() -> (RequestMatch, Plan) {
        let spec = r#"{"apiVersion": "weir.dev/v1beta1", "kind": "Canary", "metadata": {"name": "cart", "namespace": "shop"},
            "spec": {"targetRef": {"kind": "Process", "name": "cart"}, "analysis": {"stepWeight": 5,
                "match": [{"headers": {"X-Beta": {"exact": "1"}}}], "sessionAffinity": {"cookieName": "arm"}}}}"#;
        let object: Object<CanarySpec> = serde_json::from_str(spec).unwrap();
        let hosts = crate::api::hosts(&object);
        let request_match =
            RequestMatch { namespace: "shop".into(), name: "cart".into(), hosts, ..RequestMatch::default() };
        (request_match, plan(&object).unwrap())
    }

    #[test]
    fn a_canary_is_rendered_whole_and_the_filter_takes_it() {
        let (request_match, plan) = shop();
        let traffic = Traffic {
            run: "6f2c".into(),
            epoch: 9,
            weight: Weight::new(500).unwrap(),
            matching: true,
            lease: 2,
            seen: [(7, 2)].into(),
            ..Traffic::default()
        };
        let expected = Canary {
            id: canary_id("shop", "cart"),
            name: "shop/cart".into(),
            hosts: vec!["cart".into()],
            routes: vec![],
            lookup: Lookup::Host,
            token: canary_token("shop", "cart", ""),
            run: "6f2c".into(),
            epoch: 9,
            weight: Weight::new(500).unwrap(),
            conditions: vec![Condition {
                headers: [("x-beta".into(), StringMatch::Exact("1".into()))].into(),
                ..Condition::default()
            }],
            matched: None,
            direct: vec![],
            affinity: plan.affinity.clone(),
            latency_ms: plan.latency_ms.clone(),
            admission: 10,
            fallback: false,
            limits: vec![],
            lease: 2,
            seen: vec![[7, 2]],
        };
        let rendered = config(17, Timestamp(60_500), vec![entry(&request_match, &plan, &traffic)]);
        let of_config =
            Config { version: 1, generation: 17, armed_until: 60, expires_at: 660, canaries: vec![expected] };
        assert_eq!(rendered, of_config);
        let json = serde_json::to_vec(&rendered).unwrap();
        assert_eq!(Config::parse(&json).unwrap(), rendered);
    }

    #[test]
    fn conditions_hold_only_while_the_step_matches() {
        let (request_match, plan) = shop();
        assert!(entry(&request_match, &plan, &Traffic::default()).conditions.is_empty());
    }

    #[test]
    fn the_canarys_own_name_is_given_away_only_while_a_step_has_load_tests() {
        let (request_match, plan) = shop();
        let plan = Plan { direct: vec!["cart-canary".into()], ..plan };
        let rendered = |direct| entry(&request_match, &plan, &Traffic { direct, ..Traffic::default() });
        assert_eq!(rendered(true).direct, plan.direct);
        let names = vec!["cart-canary.shop.svc.corp.internal".to_owned()];
        let known = RequestMatch { direct: Some(names.clone()), ..request_match.clone() };
        assert_eq!(entry(&known, &plan, &Traffic { direct: true, ..Traffic::default() }).direct, names);
        assert!(!rendered(false).reaches_canary());
    }

    #[test]
    fn a_split_of_matching_requests_says_nothing_to_a_module_that_does_not_know_it() {
        let (request_match, plan) = shop();
        let traffic = Traffic { weight: Weight::FULL, only_matched: true, ..Traffic::default() };
        let rendered = entry(&request_match, &plan, &traffic);
        assert!(rendered.weight == Weight::ZERO && rendered.conditions.is_empty() && rendered.reaches_canary());
        let matched = MatchedSplit { weight: Weight::FULL, conditions: plan.conditions.clone() };
        assert_eq!(rendered.matched, Some(matched));
        let without = Plan { conditions: Vec::new(), ..plan.clone() };
        assert!(!entry(&request_match, &without, &traffic).reaches_canary());
        assert_eq!(entry(&request_match, &plan, &Traffic { weight: Weight::ZERO, ..traffic }).matched, None);
    }

    proptest! {
        #[test]
        fn generations_grow_take_slots_in_turn_and_keep_up_with_the_clock(stored in 0..u64::MAX / 2, now in 0..u64::MAX / 2) {
            let next = next_generation(stored, Timestamp(now));
            prop_assert!(next > stored && next >= now);
            prop_assert_eq!(next % SLOTS, (stored + 1) % SLOTS);
            prop_assert!(next - (stored + 1).max(now) < SLOTS);
        }
    }
}
