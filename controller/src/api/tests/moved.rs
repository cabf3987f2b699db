//! Manifests of Flagger with only their apiVersion changed: what runs, and what their authors are told.

use super::*;

fn told(remarks: &[Problem]) -> Vec<String> {
    remarks.iter().map(ToString::to_string).collect()
}

fn cluster_canary(service: &str, analysis: &str) -> Object<CanarySpec> {
    let text = format!(
        "apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  \
         targetRef: {{apiVersion: apps/v1, kind: Deployment, name: cart}}\n  service: {service}\n  analysis: {analysis}\n"
    );
    match read(&text, "cart.yaml").remove(0).unwrap() {
        Parsed { object: Known::Canary(canary), warnings, .. } if warnings.is_empty() => *canary,
        other => panic!("{other:?}"),
    }
}

/// What Flagger takes, and what is told of it here: exactly, and only that.
const TAKEN: &[(&str, &str, &[&str])] = &[
    ("{port: 80}", "{stepWeight: 5}", &[]),
    (
        "{port: 80}",
        "{iterations: 5, maxWeight: 50}",
        &["spec.analysis.maxWeight: has no effect with iterations: all traffic, or all that matches, is the canary's"],
    ),
    (
        "{port: 80}",
        "{stepWeights: [20, 60], maxWeight: 50, threshold: 0}",
        &[
            "spec.analysis.maxWeight: has no effect with stepWeights: the last of them is the greatest weight",
            "spec.analysis.threshold: 0 is taken for 1: the first failed check ends the rollout",
        ],
    ),
    (
        "{port: 80}",
        "{stepWeight: 20, mirrorWeight: 100}",
        &["spec.analysis.mirrorWeight: has no effect: requests are not copied to the canary"],
    ),
    (
        "{port: 80, rewrite: {uri: /, type: ReplacePrefixMatch}, backendTimeout: 5s, gateways: [public], \
         gatewayRefs: [{name: a}], mirror: [{backendRef: {name: a}}], unmanagedMetadata: {labels: [a]}}",
        "{stepWeight: 20}",
        &[
            "spec.service.gatewayRefs: have no effect: they are for the Gateway API, and Weir releases through Istio's gateways",
            "spec.service.backendTimeout: has no effect: it is for the Gateway API; timeout bounds a request, \
             retries.perTryTimeout each try",
            "spec.service.mirror: has no effect: it is for the Gateway API, and requests are not copied",
            "spec.service.rewrite.type: has no effect: it is for the Gateway API; Istio replaces the matched prefix, or else the \
             whole path",
            "spec.service.unmanagedMetadata: has no effect: Weir leaves all labels and annotations alone that it did not set",
        ],
    ),
    (
        "{port: 80}",
        "{stepWeight: 20, webhooks: [{name: load-test, url: \"http://t/\", timeout: 15m, muteAlert: true}, \
         {name: load-test, url: \"http://t/\"}, {name: done, type: post-rollout, url: \"http://t/\"}], \
         alerts: [{name: a, severity: \"\", providerRef: {name: slack}}]}",
        &[
            "spec.analysis.webhooks[0].timeout: 15m is more than a webhook may take: 600 s are used",
            "spec.analysis.webhooks[1].name: \"load-test\" is there before: this one is called \"load-test (2)\"",
        ],
    ),
    (
        "{port: 80}",
        "{stepWeight: 20, metrics: [{name: request-duration, threshold: 500, query: up, interval: 1m, \
         templateVariables: {a: b}}, {name: request-duration, thresholdRange: {max: 400}, threshold: 3}, \
         {name: a, templateRef: {name: a}, query: up, thresholdRange: {max: 1}}]}",
        &[
            "spec.analysis.metrics[0].interval: has no effect: the gateway's own counters answer this metric, since the step began",
            "spec.analysis.metrics[0].query: has no effect: the gateway's own counters answer this metric, since the step began",
            "spec.analysis.metrics[0].templateVariables: has no effect: the gateway's own counters answer this metric, since the \
             step began",
            "spec.analysis.metrics[1].threshold: has no effect: thresholdRange holds",
            "spec.analysis.metrics[1].name: request-duration is there before: one check has the tightest of their bounds",
            "spec.analysis.metrics[2].query: has no effect: the template's query is asked",
            "spec.analysis.metrics[0].threshold: is deprecated: use thresholdRange, which says what is least and what is greatest",
        ],
    ),
    (
        "{port: 80, gateways: [public], hosts: [shop.example.com]}",
        "{stepWeight: 20, webhooks: [{name: load, url: \"http://t/\", metadata: {cmd: \"hey -z 1m http://cart-canary.shop:80/\"}}, \
         {name: other, url: \"http://t/\", metadata: {cmd: \"hey http://cart-canary-2.shop/ http://cart.shop\"}}, \
         {name: smoke, type: pre-rollout, url: \"http://t/\", metadata: {cmd: \"curl http://cart-canary/\"}}]}",
        &[
            "spec.analysis.webhooks[0].metadata.cmd: calls cart-canary past the gateway, where no filter sees it: call the gateway's \
             address with the host shop.example.com (hey -host shop.example.com http://GATEWAY/)",
        ],
    ),
    (
        "{port: 80, gateways: [public], hosts: ['*']}",
        "{stepWeight: 20, webhooks: [{name: load, type: rollout, url: \"http://t/\", metadata: {cmd: \"hey http://cart-canary\"}}]}",
        &[
            "spec.analysis.webhooks[0].metadata.cmd: calls cart-canary past the gateway, where no filter sees it: call the gateway's \
             address with the host HOST (hey -host HOST http://GATEWAY/)",
        ],
    ),
    // Blue/green is judged while idle where a gateway sees its load tests; elsewhere its author is told what is missing.
    (
        "{port: 80, gateways: [public], hosts: [shop.example.com]}",
        "{iterations: 5, metrics: [{name: request-success-rate, thresholdRange: {min: 99}}], webhooks: [{name: load, url: \"http://t/\"}]}",
        &[
            "spec.analysis.metrics: built-in metrics are judged from the switch on: no gateway sees a load test of the idle canary; to \
             have it judged, add cart-canary.shop to service.hosts, and let a rollout webhook call the gateway with that host",
        ],
    ),
    (
        "{port: 80, gateways: [public], hosts: [shop.example.com, cart-canary.shop]}",
        "{iterations: 5, metrics: [{name: request-success-rate, thresholdRange: {min: 99}}], webhooks: [{name: load, url: \"http://t/\"}]}",
        &[],
    ),
    // Inside of the mesh nobody knows who sees a load test before one is made; where none is, none is seen.
    (
        "{port: 80}",
        "{iterations: 5, metrics: [{name: request-success-rate, thresholdRange: {min: 99}}], webhooks: [{name: load, url: \"http://t/\"}]}",
        &[],
    ),
    (
        "{port: 80}",
        "{iterations: 5, metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}",
        &[
            "spec.analysis.metrics: built-in metrics are judged from the switch on: nobody calls the idle canary; to have it judged, let a \
             rollout webhook call http://cart-canary.shop from a pod with a sidecar that service.callers names",
        ],
    ),
    // One that is delegated to is in the mesh or not: what others than the sidecars see nobody can help.
    (
        "{port: 80, delegation: true}",
        "{iterations: 5, metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]}",
        &[
            "spec.analysis.metrics: built-in metrics are judged from the switch on: nobody calls the idle canary; to have it judged, let the \
             VirtualService that delegates name the gateway mesh, and a rollout webhook call http://cart-canary.shop from a pod with a \
             sidecar that service.callers names",
        ],
    ),
    (
        "{port: 80, delegation: true}",
        "{stepWeight: 20, webhooks: [{name: load, url: \"http://t/\", metadata: {cmd: \"hey http://cart-canary.shop/\"}}]}",
        &[],
    ),
    // Shapes of published Canaries: gates that are closed again by hooks, an A/B test by a browser, a script for a load generator.
    (
        "{port: 5000, targetPort: 5000, gateways: [public-gateway.default.svc.cluster.local], hosts: [cart.local], \
         trafficPolicy: {tls: {mode: DISABLE}}}",
        "{iterations: 1, threshold: 4, match: [{headers: {user-agent: {regex: '.*Firefox.*'}}}, \
         {headers: {cookie: {regex: '^(.*?;)?(type=insider)(;.*)?$'}}}], webhooks: [{name: promote, type: confirm-promotion, \
         url: \"http://t/gate/check\"}, {name: back, type: rollback, url: \"http://t/rollback/check\"}, {name: close-gate, type: \
         post-rollout, url: \"http://t/gate/close\"}, {name: close-back, type: post-rollout, url: \"http://t/rollback/close\"}]}",
        &[],
    ),
    (
        "{port: 80, portName: http, targetPort: 8080, gateways: [mesh], hosts: [cart.shop.svc.cluster.local], trafficPolicy: \
         {tls: {mode: ISTIO_MUTUAL}}, retries: {attempts: 3, perTryTimeout: 1s, retryOn: 'gateway-error,connect-failure,refused-stream'}}",
        "{stepWeight: 10, maxWeight: 50, threshold: 10000, webhooks: [{name: k6, type: pre-rollout, timeout: 5m, url: \
         \"http://t/launch-test\", metadata: {script: \"import http from 'k6/http';\", upload_to_cloud: 'true', env_vars: '{\"A\": \"b\"}'}}]}",
        &[],
    ),
    (
        "{port: 80, gateways: [bookinfo-gateway.default], hosts: ['*'], match: [{uri: {prefix: /}}], rewrite: {uri: /}, timeout: 5s}",
        "{iterations: 2, match: [{queryParams: {beta: {}}}]}",
        &[],
    ),
    (
        "{port: 80, apex: {labels: {app: a, weir.dev/canary: other}, annotations: {kustomize.toolkit.fluxcd.io/reconcile: \
         disabled, flagger.app/config: x}}}",
        "{stepWeight: 20, sessionAffinity: {cookieName: a, primaryCookieName: b, sameSite: None, partitioned: true}}",
        &[
            "spec.service.apex.labels.weir.dev/canary: has no effect: it says whose an object is, and that is Weir's to say",
            "spec.service.apex.annotations.flagger.app/config: has no effect: it says whose an object is, and that is Weir's to \
             say",
            "spec.service.apex.annotations.kustomize.toolkit.fluxcd.io/reconcile: has no effect: it says whose an object is, and \
             that is Weir's to say",
            "spec.analysis.sessionAffinity.partitioned: needs secure: true: browsers refuse the cookie without it",
            "spec.analysis.sessionAffinity.sameSite: None needs secure: true: browsers refuse the cookie without it",
        ],
    ),
];

#[test]
fn what_flagger_takes_is_accepted_and_what_has_no_effect_is_said_by_name() {
    for (service, analysis, expected) in TAKEN {
        let canary = cluster_canary(service, analysis);
        assert!(plan(&canary).is_ok(), "{:?}", plan(&canary));
        assert_eq!(told(&remarks(&canary)), *expected);
    }
}

#[test]
fn fields_outside_of_service_and_analysis_are_remarked_too() {
    let mut canary = cluster_canary("{port: 80}", "{stepWeight: 20}");
    canary.spec.target_ref.api_version = Some("extensions/v1beta1".into());
    canary.spec.metrics_server = Some("http://prometheus".into());
    canary.spec.autoscaler_ref = Some(AutoscalerRef {
        api_version: Some("autoscaling/v2beta2".into()),
        kind: "HorizontalPodAutoscaler".into(),
        name: "cart".into(),
        primary_scaler_queries: [("a".into(), "b".into())].into(),
        ..AutoscalerRef::default()
    });
    let expected = [
        "spec.targetRef.apiVersion: extensions/v1beta1 has no effect: apps/v1 is used",
        "spec.autoscalerRef.apiVersion: autoscaling/v2beta2 has no effect: autoscaling/v2 is used",
        "spec.autoscalerRef.primaryScalerQueries: has no effect: it is for a ScaledObject, which is not supported",
        "spec.metricsServer: has no effect: no metric has a query of its own",
    ];
    assert_eq!(told(&remarks(&canary)), expected);
    assert!(plan(&canary).is_ok());
}

#[test]
fn a_field_of_another_mesh_is_refused_by_name_with_what_helps() {
    let mut canary =
        cluster_canary("{port: 80, gatewayRefs: [{name: a}], meshName: a, backends: [b]}", "{stepWeight: 20}");
    let reference = Some(service::Free::default());
    (canary.spec.ingress_ref, canary.spec.route_ref, canary.spec.upstream_ref) =
        (reference.clone(), reference.clone(), reference);
    canary.spec.provider = Some("gatewayapi:v1".into());
    let remedy = "and Weir releases through Istio: remove it, and give service.gateways and service.hosts";
    let expected = [
        "spec.service.gatewayRefs: are for the Gateway API, and Weir releases through Istio's gateways: give gateways".into(),
        "spec.service.meshName: is for App Mesh, and Weir releases through Istio: remove it".into(),
        "spec.service.backends: are for App Mesh, and Weir releases through Istio: remove them".into(),
        format!("spec.ingressRef: is for NGINX and Skipper, {remedy}"),
        format!("spec.routeRef: is for APISIX, {remedy}"),
        format!("spec.upstreamRef: is for Gloo, {remedy}"),
        "spec.provider: gatewayapi:v1 is not supported: only istio is; remove the field, and give service.gateways and \
         service.hosts"
            .into(),
    ];
    assert_eq!(told(&plan(&canary).unwrap_err()), expected);
}

#[test]
fn a_built_in_name_with_a_template_is_two_checks() {
    let metrics = "metrics: [{name: request-success-rate, thresholdRange: {min: 99}, interval: 1m, templateRef: {name: rate}}, \
                   {name: request-duration, thresholdRange: {max: 0.5}, templateRef: {name: p99}}, \
                   {name: request-duration, thresholdRange: {max: 500}}]";
    let canary = canary_with(&format!("stepWeight: 5\n{metrics}"));
    let plan = plan(&canary).unwrap();
    let checks: Vec<_> = plan.checks.iter().map(|check| (check.name.as_str(), check.source, check.bounds)).collect();
    let min = |min| Bounds { min: Some(min), max: None };
    let max = |max| Bounds { min: None, max: Some(max) };
    assert_eq!(
        checks,
        [
            ("request-success-rate", Source::SuccessRate, min(99.0)),
            ("request-success-rate of rate", Source::Template, min(99.0)),
            ("request-duration of p99", Source::Template, max(0.5)),
            ("request-duration", Source::Duration, max(500.0)),
        ]
    );
    assert_eq!(
        told(&remarks(&canary)),
        [
            "spec.analysis.metrics[1].thresholdRange: does not suit the gateway's own counters: the template's value alone is judged"
        ]
    );
    let names: Vec<String> = asked(&canary.spec.analysis.metrics).into_iter().map(|(_, name)| name).collect();
    assert_eq!(
        names,
        ["request-success-rate of rate", "request-duration of p99"],
        "answers come under the checks' names"
    );
}

#[test]
fn load_tests_are_seen_by_the_names_of_the_canarys_service_that_its_hosts_cover() {
    let analysis = "{iterations: 2, webhooks: [{name: load, url: \"http://t/\"}]}";
    let full = "cart-canary.shop.svc.cluster.local";
    for (hosts, names) in [
        ("['*']", &[][..]),
        ("['*.shop']", &["cart-canary.shop"]),
        ("['*', '*.local']", &[full]),
        ("[shop.example.com, Cart-Canary.shop]", &["cart-canary.shop"]),
        ("[cart-canary]", &["cart-canary", full]),
        ("[cart-canary.shop.svc.Corp.internal]", &["cart-canary.shop.svc.corp.internal"]),
        ("[shop.example.com, cart-canary.other]", &[]),
    ] {
        let service = format!("{{port: 80, gateways: [public], hosts: {hosts}}}");
        let found = plan(&cluster_canary(&service, analysis)).unwrap();
        assert_eq!(found.direct, names, "{hosts}");
        assert!(found.steps.iter().all(|step| step.direct != names.is_empty()), "{hosts}");
        assert_eq!(found.canary_service, "cart-canary.shop");
        let quiet = plan(&cluster_canary(&service, "{iterations: 2}")).unwrap();
        assert_eq!((quiet.direct.len(), quiet.steps), (0, Step::blue_green(2)), "without a load test nothing changes");
    }
    let named =
        plan(&cluster_canary("{port: 80, name: front, gateways: [public], hosts: [front-canary]}", analysis)).unwrap();
    assert_eq!(named.direct[0], "front-canary");
}

#[test]
fn where_sidecars_may_call_a_load_test_is_counted_in_every_step_whoever_makes_it() {
    let webhook = |kind: &str| format!(", webhooks: [{{name: load, type: {kind}, url: \"http://t/\"}}]");
    let strategies =
        ["iterations: 2", "stepWeights: [5, 50]", "iterations: 2, match: [{headers: {x: {exact: insider}}}]"];
    for service in
        ["{port: 80}", "{port: 80, delegation: true}", "{port: 80, gateways: [public, mesh], hosts: [a.example.com]}"]
    {
        for strategy in strategies {
            for more in [String::new(), webhook("pre-rollout"), webhook("rollout")] {
                let found = plan(&cluster_canary(service, &format!("{{{strategy}{more}}}"))).unwrap();
                let names = &found.direct;
                assert!(
                    names.iter().any(|name| name == "cart-canary.shop.svc.cluster.local"),
                    "{service} {strategy}{more}: {names:?}"
                );
                let as_ever = |step: &Step| step.direct && step.judged == step.has_users();
                assert!(found.steps.iter().all(as_ever), "{service} {strategy}{more}: {:?}", found.steps);
            }
        }
    }
}

#[test]
fn a_query_parameter_without_a_test_must_only_be_there() {
    let plan = plan_with("iterations: 1\nmatch: [{queryParams: {beta: {}}}]");
    assert_eq!(plan.conditions[0].query_params["beta"], weir_wire::StringMatch::Prefix(String::new()));
}

#[test]
fn names_that_are_given_twice_are_told_apart() {
    let webhooks = |names: &[&str]| {
        let webhook = |name: &&str| analysis::WebhookSpec { name: (*name).into(), ..Default::default() };
        webhook_names(&names.iter().map(webhook).collect::<Vec<_>>())
    };
    assert_eq!(webhooks(&["a", "a (2)", "a", "a"]), ["a", "a (2)", "a (3)", "a (4)"]);
    let analysis = "stepWeight: 5\nwebhooks: [{name: a, url: \"http://x/1\"}, {name: a, url: \"http://x/2\"}]";
    let names: Vec<String> = plan_with(analysis).webhooks.into_iter().map(|webhook| webhook.name).collect();
    assert_eq!(names, ["a", "a (2)"]);
}
