//! A controller with rights in some namespaces only.

use serde_json::{Value, json};

use super::server::ApiServer;
use super::stage::{Stage, canary, deployment};
use super::tenants::{gateway, serving};

fn of(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = namespace.into();
    object
}

#[tokio::test(start_paused = true)]
async fn rights_in_some_namespaces_suffice_for_the_canaries_there() {
    let server = ApiServer::default();
    server.allow(&["shop", "cart"]);
    server.apply("flux", &gateway(json!({"istio": "ingressgateway"}), &["*"]));
    for namespace in ["shop", "cart", "bank"] {
        let service = json!({"gateways": ["istio-ingress/public"], "hosts": [format!("{namespace}.example.com")]});
        server.apply("flux", &of(namespace, deployment("shop", &[("app", "shop")], "v1")));
        server.apply("flux", &of(namespace, canary("shop", service)));
    }
    let stage = Stage::start(&server);
    stage.phase("shop", "Initialized").await;
    stage.rest().await;
    let phase = |namespace: &str| server.get("canaries", namespace, "shop").unwrap()["status"]["phase"].clone();
    assert_eq!(
        [phase("shop"), phase("cart"), phase("bank")],
        [json!("Initialized"), json!("Initialized"), Value::Null]
    );
    // It hears of what changes in any of them, and of gateways.
    serving(&server, "istio-ingress", "edge");
    server.apply("flux", &of("cart", deployment("shop", &[("app", "shop")], "v2")));
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(phase("cart"), "Progressing");
    let filters = server.all("envoyfilters");
    assert_eq!(filters.len(), 2);
    // Nobody knows whose routes there are elsewhere, so the host tells nothing.
    let configuration = "/spec/configPatches/0/patch/value/typed_config/config/configuration/value";
    let text = filters.iter().find_map(|filter| filter.pointer(configuration)?.as_str()).unwrap();
    assert!(text.contains("\"lookup\":\"route\"") && text.contains("cart/shop"), "{text}");
}
