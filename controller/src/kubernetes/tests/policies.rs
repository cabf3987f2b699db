//! What of the users' own would find the primary's pods and not the target's, or holds for pods of every namespace.

use serde_json::{Value, json};

use super::hazards::{server, told};
use super::stage::{NAMESPACE, Stage, deployment, object};

fn not_in(values: Value) -> Value {
    json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": values}]})
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_leaves_out_the_targets_pods_and_so_finds_the_primarys_is_named_before_they_serve() {
    let server = server();
    let policy = |name: &str, selector: Value| {
        object("networking.k8s.io/v1", "NetworkPolicy", name, json!({"podSelector": selector}))
    };
    server.apply("flux", &policy("closed", not_in(json!(["shop"]))));
    let cilium = json!({"endpointSelector": not_in(json!(["shop"]))});
    server.apply("flux", &object("cilium.io/v2", "CiliumNetworkPolicy", "closed-too", cilium));
    let peers = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"podSelector": not_in(json!(["shop"]))}]}]});
    server.apply("flux", &object("networking.k8s.io/v1", "NetworkPolicy", "db", peers));
    // What leaves out both, and what means the primary.
    server.apply("flux", &policy("both", not_in(json!(["shop", "shop-primary"]))));
    server.apply("flux", &policy("others", not_in(json!(["cart"]))));
    server.apply("flux", &policy("meant", json!({"matchLabels": {"app": "shop-primary"}})));
    let stage = Stage::start(&server);
    stage.phase("shop", "Initializing").await;
    stage.phase("shop", "Initialized").await;
    let message = told(&stage);
    for part in [
        "NetworkPolicy closed selects the pods of shop-primary, which serve, and not those of shop",
        "CiliumNetworkPolicy closed-too selects the pods of shop-primary",
        "NetworkPolicy db has a rule for the pods of shop-primary, which serve, and not those of shop",
        "operator: NotIn, values: [shop, shop-primary]",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!["both", "others", "meant"].iter().any(|name| message.contains(&format!("Policy {name}"))), "{message}");
}

#[tokio::test(start_paused = true)]
async fn what_holds_for_pods_of_the_mesh_or_of_the_whole_cluster_by_the_targets_label_is_named() {
    let server = server();
    let labels = json!({"app": "shop"});
    let by_match = json!({"matchLabels": labels});
    let of_shop = |mut labels: Value| {
        labels["k8s:io.kubernetes.pod.namespace"] = NAMESPACE.into();
        json!({"matchLabels": labels})
    };
    let put = |version: &str, kind: &str, namespace: &str, spec: Value| {
        let mut policy = object(version, kind, "x", spec);
        policy["metadata"]["namespace"] = namespace.into();
        server.apply("flux", &policy);
    };
    put("networking.istio.io/v1", "ServiceEntry", NAMESPACE, json!({"workloadSelector": {"labels": labels}}));
    put("networking.istio.io/v1beta1", "ProxyConfig", NAMESPACE, json!({"selector": by_match}));
    let clusterwide = json!({"endpointSelector": of_shop(json!({"k8s:app": "shop"}))});
    put("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "", clusterwide);
    let egress = json!({"selectors": [{"podSelector": of_shop(json!({"app": "shop"}))}]});
    put("cilium.io/v2", "CiliumEgressGatewayPolicy", "", egress);
    let let_in = json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [of_shop(json!({"app": "shop"}))]}]});
    put("cilium.io/v2", "CiliumNetworkPolicy", "db", let_in);
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    for kind in ["ServiceEntry", "ProxyConfig", "CiliumClusterwideNetworkPolicy", "CiliumEgressGatewayPolicy"] {
        assert!(message.contains(&format!("{kind} x selects the pods of shop")), "{kind}: {message}");
    }
    assert!(message.contains("CiliumNetworkPolicy db/x has a rule for the pods of shop"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_whose_pods_must_stand_beside_the_targets_is_named() {
    let server = server();
    let beside = |name: &str, namespaces: Value, values: Value| {
        let mut other = deployment(name, &[("app", name)], "v1");
        let selector = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": values}]});
        let term =
            json!({"labelSelector": selector, "namespaces": namespaces, "topologyKey": "kubernetes.io/hostname"});
        other["spec"]["template"]["spec"]["affinity"] =
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        server.apply("flux", &other);
    };
    beside("cache", json!([]), json!(["shop"]));
    beside("both", json!([]), json!(["shop", "shop-primary"]));
    beside("elsewhere", json!(["bank"]), json!(["shop"]));
    let stage = Stage::initialized_of(&server).await;
    let message = told(&stage);
    assert!(message.contains("the pods of Deployment cache must stand beside those of shop"), "{message}");
    assert!(!message.contains("both must") && !message.contains("elsewhere"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn pods_of_an_owner_of_whatever_kind_are_another_workload_and_those_that_end_are_not() {
    for (kind, hash, refused) in [
        ("ReplicationController", None, true),
        ("CloneSet", None, true),
        ("ReplicaSet", Some("rollouts-pod-template-hash"), true),
        ("ReplicaSet", None, true),
        ("ReplicaSet", Some("pod-template-hash"), false),
        ("TaskRun", None, false),
    ] {
        let server = server();
        let mut labels = json!({"app": "shop"});
        if let Some(hash) = hash {
            labels[hash] = "0".into();
        }
        let owner = json!([{"apiVersion": "v1", "kind": kind, "name": "other", "uid": "o", "controller": true}]);
        let metadata = json!({"name": "other-0", "namespace": NAMESPACE, "labels": labels, "ownerReferences": owner});
        server.apply("kubelet", &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}));
        server.edit("pods", NAMESPACE, "other-0", |pod| pod["status"] = json!({"phase": "Running"}));
        let stage = Stage::start(&server);
        match refused {
            true => {
                stage.reason("shop", "SelectorShared").await;
                let (_, message) = stage.said("shop");
                assert!(message.contains(&format!("would reach {kind} other too")), "{message}");
            }
            false => stage.phase("shop", "Initialized").await,
        }
    }
}
