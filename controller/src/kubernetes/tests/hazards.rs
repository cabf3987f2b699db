//! What of the users' own would not find the primary's pods, and volumes that two revisions cannot share.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment, object, service};

/// A target and its Canary, and nothing that looks after them.
pub(super) fn server() -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    server
}

/// Returns what the condition says.
pub(super) fn told(stage: &Stage) -> String {
    let [_, _, message] = stage.condition("shop", "Hazard");
    message
}

fn selecting(version: &str, kind: &str, spec: Value) -> Value {
    object(version, kind, &format!("{}-of-shop", kind.to_lowercase()), spec)
}

fn policies(labels: &Value) -> Vec<Value> {
    let plain = json!({"selector": {"matchLabels": labels}});
    let workload = json!({"workloadSelector": {"labels": labels}});
    vec![
        selecting("networking.k8s.io/v1", "NetworkPolicy", json!({"podSelector": {"matchLabels": labels}})),
        selecting("policy/v1", "PodDisruptionBudget", plain.clone()),
        selecting("security.istio.io/v1", "AuthorizationPolicy", plain.clone()),
        selecting("security.istio.io/v1", "PeerAuthentication", plain.clone()),
        selecting("security.istio.io/v1", "RequestAuthentication", plain.clone()),
        selecting("networking.istio.io/v1", "Sidecar", workload.clone()),
        selecting("networking.istio.io/v1alpha3", "EnvoyFilter", workload),
        selecting("telemetry.istio.io/v1", "Telemetry", plain.clone()),
        selecting("extensions.istio.io/v1alpha1", "WasmPlugin", plain.clone()),
        selecting("monitoring.coreos.com/v1", "ServiceMonitor", plain.clone()),
        selecting("monitoring.coreos.com/v1", "PodMonitor", plain),
        selecting("cilium.io/v2", "CiliumNetworkPolicy", json!({"endpointSelector": {"matchLabels": labels}})),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_policy_that_would_lose_the_primary_is_named_before_the_first_release() {
    let server = server();
    let all = policies(&json!({"app": "shop"}));
    all.iter().for_each(|policy| server.apply("flux", policy));
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    for policy in &all {
        let named = format!("{} {}", policy["kind"].as_str().unwrap(), policy["metadata"]["name"].as_str().unwrap());
        assert!(message.contains(&named), "{named}: {message}");
    }
    assert!(
        message.contains("matchExpressions: [{key: app, operator: In, values: [shop, shop-primary]}]"),
        "{message}"
    );
    assert!(message.contains("add one like it that selects app: shop-primary"), "{message}");
    assert!(!stage.is("shop", "Stalled") && stage.is("shop", "Ready"));
    assert_eq!(stage.events().into_iter().filter(|(text, _)| text.contains("AuthorizationPolicy ")).count(), 1);
    // What is mended is told no more.
    for policy in &all {
        let kind = policy["kind"].as_str().unwrap().to_lowercase();
        let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
        server.delete(&plural, NAMESPACE, policy["metadata"]["name"].as_str().unwrap());
    }
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(told(&stage), "");
}

#[tokio::test(start_paused = true)]
async fn policies_that_find_both_arms_or_neither_are_no_news() {
    let server = server();
    policies(&json!({"app": "cart"})).iter().for_each(|policy| server.apply("flux", policy));
    let both = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop", "shop-primary"]}]});
    server.apply("flux", &object("networking.k8s.io/v1", "NetworkPolicy", "both", json!({"podSelector": both})));
    server.apply("flux", &object("networking.k8s.io/v1", "NetworkPolicy", "all", json!({"podSelector": {}})));
    server.apply("flux", &object("security.istio.io/v1", "AuthorizationPolicy", "all", json!({"action": "ALLOW"})));
    // Its Service leads to the primary from now on.
    let mut before = service("shop", "shop", json!([{"name": "http", "port": 80, "targetPort": 8080}]));
    before["metadata"]["labels"] = json!({"app": "shop"});
    server.apply("flux", &before);
    let monitor = json!({"selector": {"matchLabels": {"app": "shop"}}});
    server.apply("flux", &object("monitoring.coreos.com/v1", "ServiceMonitor", "shop", monitor));
    let stage = Stage::initialized_of(&server).await;
    assert_eq!(told(&stage), "");
}

#[tokio::test(start_paused = true)]
async fn a_rule_about_the_targets_pods_a_service_of_theirs_and_a_policy_of_the_mesh_are_named() {
    let server = server();
    let from = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "shop"}}}]}]});
    server.apply("flux", &object("networking.k8s.io/v1", "NetworkPolicy", "db", from));
    server.apply("flux", &service("shop-internal", "shop", json!([{"port": 9090}])));
    let mut of_mesh =
        selecting("security.istio.io/v1", "PeerAuthentication", json!({"selector": {"matchLabels": {"app": "shop"}}}));
    of_mesh["metadata"]["namespace"] = "istio-system".into();
    server.apply("admin", &of_mesh);
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    for part in [
        "NetworkPolicy db has a rule for the pods of shop",
        "Service shop-internal leads to the pods of shop",
        "PeerAuthentication istio-system/peerauthentication-of-shop",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_another_namespace_that_lets_the_targets_pods_in_is_named() {
    let server = server();
    let policy = |name: &str, namespace: &str, selector: Option<Value>, pods: &str| {
        let mut peer = json!({"podSelector": {"matchLabels": {"app": pods}}});
        if let Some(selector) = selector {
            peer["namespaceSelector"] = json!({"matchLabels": selector});
        }
        let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [peer]}]});
        let mut policy = object("networking.k8s.io/v1", "NetworkPolicy", name, spec);
        policy["metadata"]["namespace"] = namespace.into();
        server.apply("db", &policy);
    };
    let of_name = |name: &str| Some(json!({"kubernetes.io/metadata.name": name}));
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"team": "web"}}});
    server.apply("admin", &namespace);
    policy("by-name", "db", of_name("shop"), "shop");
    policy("by-team", "db", Some(json!({"team": "web"})), "shop");
    // Of others, or of nobody here.
    policy("of-another", "db", of_name("bank"), "shop");
    policy("of-its-own", "db", None, "shop");
    policy("of-cart", "db", of_name("shop"), "cart");
    policy("here-of-another", NAMESPACE, of_name("bank"), "shop");
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    for named in ["by-name", "by-team"] {
        let part = format!("NetworkPolicy db/{named} has a rule for the pods of shop and not those of shop-primary");
        assert!(message.contains(&part), "{part}: {message}");
    }
    for other in ["of-another", "of-its-own", "of-cart"] {
        assert!(!message.contains(other), "{other}: {message}");
    }
    assert!(message.contains("operator: In, values: [shop, shop-primary]"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_not_served_or_not_to_be_read_are_harmless_and_asked_for_once_in_a_while() {
    let server = server();
    for (plural, code) in [("servicemonitors", 404), ("networkpolicies", 403)] {
        server.refuse_lists(plural, code);
    }
    server.apply("flux", &policies(&json!({"app": "shop"}))[1]);
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    assert!(message.starts_with("PodDisruptionBudget ") && !message.contains(';'), "{message}");
    assert!(server.lists("servicemonitors") <= 1, "{}", server.lists("servicemonitors"));
}

#[tokio::test(start_paused = true)]
async fn kinds_that_cannot_be_listed_are_told_as_not_known_beside_what_is_until_they_can() {
    let server = server();
    server.refuse_lists("sidecars", 500);
    policies(&json!({"app": "shop"})).iter().for_each(|policy| server.apply("flux", policy));
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    let unknown = "not fully known: Sidecar cannot be listed (the API server answers 500)";
    assert!(message.contains("PodDisruptionBudget ") && message.contains(unknown), "{message}");
    assert!(!message.contains("Sidecar sidecar-of-shop"), "{message}");
    let lists = server.lists("networkpolicies");
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(server.lists("networkpolicies") <= lists + 2, "what was listed is not listed again beside it");
    server.list_all();
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert!(told(&stage).contains("Sidecar sidecar-of-shop") && !told(&stage).contains("known"), "{}", told(&stage));
    // What was known before an error counts on, and not for ever.
    server.refuse_lists("sidecars", 500);
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert!(!told(&stage).contains("known"), "{}", told(&stage));
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert!(told(&stage).contains(unknown), "{}", told(&stage));
}

#[tokio::test(start_paused = true)]
async fn canaries_at_rest_list_nothing_and_those_of_one_namespace_share_a_list() {
    let server = ApiServer::default();
    let names: Vec<String> = (0..20).map(|i| format!("shop{i}")).collect();
    for name in &names {
        server.apply("flux", &deployment(name, &[("app", name)], "v1"));
        server.apply("flux", &canary(name, json!({})));
    }
    let stage = Stage::start(&server);
    for name in &names {
        stage.phase(name, "Initialized").await;
    }
    stage.rest().await;
    let lists = server.lists("networkpolicies");
    assert!((1..=4).contains(&lists), "{lists}");
    for _ in 0..10 {
        stage.stores.wake_all();
        stage.rest().await;
    }
    assert_eq!(server.lists("networkpolicies"), lists);
}

fn claim(modes: &[&str]) -> Value {
    object("v1", "PersistentVolumeClaim", "data", json!({"accessModes": modes}))
}

fn with_claim() -> Value {
    let mut target = deployment("shop", &[("app", "shop")], "v1");
    target["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    target
}

#[tokio::test(start_paused = true)]
async fn a_volume_for_a_single_writer_is_refused_before_anything_is_made() {
    for modes in [&["ReadWriteOnce"][..], &["ReadWriteOncePod"], &["ReadWriteOnce", "ReadOnlyMany"]] {
        let server = ApiServer::default();
        server.apply("flux", &claim(modes));
        server.apply("flux", &with_claim());
        server.apply("flux", &canary("shop", json!({})));
        let stage = Stage::start(&server);
        stage.reason("shop", "VolumeShared").await;
        let (_, message) = stage.said("shop");
        assert!(stage.is("shop", "Stalled") && message.contains("PersistentVolumeClaim data"), "{message}");
        assert!(message.contains(modes[0]) && message.contains("weir.dev/shared-volumes"), "{message}");
        assert_eq!(stage.changed().await, [""; 0]);
        // Somebody who knows that both may write says so.
        stage.edit("canaries", "shop", |canary| {
            canary["metadata"]["annotations"] = json!({"weir.dev/shared-volumes": "true"});
        });
        stage.phase("shop", "Initialized").await;
        assert!(!stage.is("shop", "Stalled") && !stage.is("shop", "Hazard"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_for_many_or_one_that_nobody_knows_stops_nothing() {
    for modes in [Some(&["ReadWriteMany"][..]), Some(&["ReadWriteOnce", "ReadOnlyMany"]), Some(&["ReadOnlyMany"]), None]
    {
        let server = ApiServer::default();
        match modes {
            Some(modes) => server.apply("flux", &claim(modes)),
            None => server.refuse_lists("persistentvolumeclaims", 403),
        }
        let mut target = with_claim();
        // Nobody writes to it.
        let reads = modes.is_some_and(|modes| modes.len() == 2);
        target["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = reads.into();
        server.apply("flux", &target);
        server.apply("flux", &canary("shop", json!({})));
        let stage = Stage::initialized_of(&server).await;
        assert!(!stage.is("shop", "Hazard"), "{modes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_worked_with_a_volume_for_a_single_writer_goes_on_and_is_told() {
    let server = ApiServer::default();
    server.apply("flux", &with_claim());
    server.apply("flux", &claim(&["ReadWriteMany"]));
    server.apply("flux", &canary("shop", json!({})));
    let server = Stage::initialized_of(&server).await.kill();
    server.apply("flux", &claim(&["ReadWriteOnce"]));
    let stage = Stage::start(&server);
    stage.rest().await;
    assert!(!stage.is("shop", "Stalled") && told(&stage).contains("PersistentVolumeClaim data"), "{}", told(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_there_yet_or_cannot_be_seen_is_waited_for_and_told_after_a_minute() {
    for (code, reason) in [(None, "VolumeMissing"), (Some(500), "VolumeUnknown")] {
        let server = ApiServer::default();
        if let Some(code) = code {
            server.refuse_lists("persistentvolumeclaims", code);
        }
        server.apply("flux", &with_claim());
        server.apply("flux", &canary("shop", json!({})));
        let stage = Stage::start(&server);
        stage.reason("shop", reason).await;
        assert!(!stage.is("shop", "Stalled"), "it may be on its way: {:?}", stage.said("shop"));
        tokio::time::sleep(Duration::from_secs(65)).await;
        assert!(stage.is("shop", "Stalled"), "{:?}", stage.said("shop"));
        server.list_all();
        server.apply("flux", &claim(&["ReadWriteOnce"]));
        stage.reason("shop", "VolumeShared").await;
        server.apply("flux", &claim(&["ReadWriteMany"]));
        stage.phase("shop", "Initialized").await;
        // Of a Canary that works it is not asked again.
        server.delete("persistentvolumeclaims", NAMESPACE, "data");
        tokio::time::sleep(Duration::from_secs(700)).await;
        assert!(!stage.is("shop", "Stalled"), "{:?}", stage.said("shop"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_of_the_machine_is_named() {
    let server = ApiServer::default();
    let mut target = deployment("shop", &[("app", "shop")], "v1");
    target["spec"]["template"]["spec"]["containers"][0]["ports"] =
        json!([{"containerPort": 8080, "hostPort": 8080, "protocol": "TCP"}]);
    server.apply("flux", &target);
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::initialized_of(&server).await;
    assert!(told(&stage).contains("port 8080 of its machine"), "{}", told(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_disk_of_one_machine_is_refused_as_a_claim_for_a_single_writer_is() {
    let with = |volume: Value| {
        let mut target = deployment("shop", &[("app", "shop")], "v1");
        target["spec"]["template"]["spec"]["volumes"] = json!([volume]);
        target
    };
    for kind in ["iscsi", "gcePersistentDisk", "rbd"] {
        for read_only in [false, true] {
            let server = ApiServer::default();
            server.apply("flux", &with(json!({"name": "data", kind: {"readOnly": read_only}})));
            server.apply("flux", &canary("shop", json!({})));
            let stage = Stage::start(&server);
            match read_only {
                false => stage.reason("shop", "VolumeShared").await,
                true => stage.phase("shop", "Initialized").await,
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_sizes_the_target_alone_is_named_until_something_sizes_the_primary() {
    let of = |version: &str, kind: &str, field: &str, target: &str| {
        let mut spec = json!({});
        spec[field] = json!({"kind": "Deployment", "name": target});
        object(version, kind, &format!("of-{target}"), spec)
    };
    let all = |target: &str| {
        [
            of("autoscaling.k8s.io/v1", "VerticalPodAutoscaler", "targetRef", target),
            of("keda.sh/v1alpha1", "ScaledObject", "scaleTargetRef", target),
            of("autoscaling/v2", "HorizontalPodAutoscaler", "scaleTargetRef", target),
        ]
    };
    let server = server();
    all("shop").iter().chain(&all("cart")).for_each(|it| server.apply("flux", it));
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    for kind in ["VerticalPodAutoscaler", "ScaledObject", "HorizontalPodAutoscaler"] {
        assert!(message.contains(&format!("{kind} of-shop sizes shop and not shop-primary")), "{kind}: {message}");
    }
    assert!(!message.contains("of-cart"), "{message}");
    all("shop-primary").iter().for_each(|it| server.apply("flux", it));
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(told(&stage), "");
}

#[tokio::test(start_paused = true)]
async fn a_job_under_the_targets_label_is_named_and_stops_nothing() {
    let server = server();
    let pod = |name: &str, owner: Value, phase: &str| {
        server.apply(
            "kubelet",
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE,
                "labels": {"app": "shop"}, "ownerReferences": owner}, "spec": {}}),
        );
        server.edit("pods", NAMESPACE, name, |pod| pod["status"] = json!({"phase": phase}));
    };
    let job = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "migrate", "uid": "j"}]);
    pod("migrate-x", job.clone(), "Running");
    pod("old-x", json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "before", "uid": "k"}]), "Succeeded");
    let stage = Stage::initialized_of(&server).await;
    assert!(told(&stage).contains("Job migrate has the label app=shop of shop"), "{}", told(&stage));
    assert!(!stage.is("shop", "Stalled") && !told(&stage).contains("before"), "{}", told(&stage));
    server.edit("pods", NAMESPACE, "migrate-x", |pod| pod["status"]["phase"] = "Succeeded".into());
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(told(&stage), "");
}

#[tokio::test(start_paused = true)]
async fn a_rule_for_the_service_beside_its_gateway_is_named() {
    let server = server();
    let rule = |name: &str, host: &str| {
        let spec = json!({"host": host, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}});
        let mut rule = object("networking.istio.io/v1", "DestinationRule", name, spec);
        rule["metadata"]["namespace"] = "istio-ingress".into();
        rule
    };
    server.apply("admin", &rule("exact", "shop.shop.svc.cluster.local"));
    // It holds for the arms too.
    server.apply("admin", &rule("wide", "*.shop.svc.cluster.local"));
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    assert!(message.contains("DestinationRule istio-ingress/exact is for Service shop"), "{message}");
    assert!(!message.contains("wide"), "{message}");
}
