//! `kubectl weir`, of whom the API server allows less than everything.

use serde_json::json;

use super::server::ApiServer;
use super::stage::{NAMESPACE, Stage, canary, deployment};
use crate::kubernetes::client::Cluster;

#[tokio::test(start_paused = true)]
async fn who_may_not_forward_a_port_is_shown_the_canaries_own_status_and_told_so() {
    let server = ApiServer::default();
    server.apply("flux", &deployment("shop", &[("app", "shop")], "v1"));
    server.apply("flux", &canary("shop", json!({})));
    let stage = Stage::start_as(&server, "weir-0", true);
    stage.phase("shop", "Initialized").await;
    let weir = Cluster::of(server.client(), "weir-system");
    let list = weir.list(None).await.unwrap();
    let why = list.partial.unwrap();
    assert!(why.contains("pod weir-0 of namespace weir-system") && why.contains("pods/portforward"), "{why}");
    let [shop] = &list.value.items[..] else { panic!("{:?}", list.value) };
    let status = stage.status("shop");
    assert_eq!((shop.namespace.as_str(), shop.name.as_str()), (NAMESPACE, "shop"));
    assert_eq!((shop.phase.to_string(), &*shop.reason), ("Initialized".into(), status["reason"].as_str().unwrap()));
    assert_eq!(shop.primary.revision.as_deref(), status["lastPromotedSpec"].as_str());
    let detail = weir.detail(NAMESPACE, "shop").await.unwrap();
    assert!(detail.partial.is_some() && detail.value.view == *shop);
    assert!(detail.value.events.iter().any(|event| event.reason == "Initialized"), "{:?}", detail.value.events);
    let unknown = weir.detail(NAMESPACE, "card").await.unwrap_err().to_string();
    assert_eq!(unknown, "no Canary shop/card is known here");
}

#[tokio::test(start_paused = true)]
async fn where_no_weir_acts_the_plugin_says_so_and_shows_what_there_is() {
    let stage = Stage::initialized().await;
    let list = Cluster::of(stage.server.client(), "nobody-there").list(Some(NAMESPACE)).await.unwrap();
    assert!(list.partial.unwrap().contains("no Weir acts in namespace nobody-there"));
    assert_eq!(list.value.items.len(), 1);
}
