//! Hashes of Secrets, and what becomes of those from before they had a key.

use serde_json::{Value, json};

use super::server::{Answer, ApiServer};
use super::stage::{NAMESPACE, Stage, canary, deployment};

const KEY: &str = "weir-hash-key";

fn secret(pin: &str) -> Value {
    let metadata = json!({"name": "keys", "namespace": NAMESPACE});
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": {"pin": pin}})
}

/// A Deployment that reads a Secret, with its Canary.
fn objects() -> ApiServer {
    let server = ApiServer::default();
    server.apply("flux", &secret("MTIzNA=="));
    let mut target = deployment("shop", &[("app", "shop")], "v1");
    target["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "keys"}}]);
    server.apply("flux", &target);
    server.apply("flux", &canary("shop", json!({})));
    server
}

fn hash(stage: &Stage) -> String {
    stage.status("shop")["trackedConfigs"]["secret/keys"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_hash_of_a_secret_is_another_one_in_every_cluster_and_the_same_after_a_restart() {
    let stage = Stage::initialized_of(&objects()).await;
    let elsewhere = Stage::initialized_of(&objects()).await;
    let first = hash(&stage);
    assert_ne!(first, hash(&elsewhere));
    assert_ne!(stage.status("shop")["lastAppliedSpec"], elsewhere.status("shop")["lastAppliedSpec"]);
    let key = stage.server.get("secrets", "weir-system", KEY).unwrap();
    assert_eq!((&key["immutable"], key["data"]["key"].as_str().map(str::len)), (&json!(true), Some(44)));
    let again = Stage::start(&stage.kill());
    assert_eq!(again.written().await, [""; 0]);
    assert_eq!(hash(&again), first);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_starts_no_release_for_the_hashes_of_secrets_without_a_key() {
    let server = objects();
    server.script(|write| (write.name == KEY).then_some(Answer::Refused(403, "Forbidden", "no right")));
    let stage = Stage::initialized_of(&server).await;
    let (former, revision) = (hash(&stage), stage.status("shop")["lastPromotedSpec"].clone());
    server.behave();
    let stage = Stage::start(&stage.kill());
    assert_eq!(stage.written().await, [""; 0], "no pod, no copy, no status");
    assert!(server.get("secrets", "weir-system", KEY).is_some());
    assert_eq!((hash(&stage), &stage.status("shop")["lastAppliedSpec"]), (former.clone(), &revision));
    // The same content applied once more is no release either.
    server.apply("flux", &secret("MTIzNA=="));
    stage.rest().await;
    assert_eq!(stage.status("shop")["phase"], "Initialized");
    // From the next release on the hash has the key.
    server.apply("flux", &secret("NDMyMQ=="));
    stage.phase("shop", "Progressing").await;
    assert_ne!(hash(&stage), former);
    assert_ne!(stage.status("shop")["lastAppliedSpec"], revision);
    // Back to what was promoted: that is known by its former name still.
    server.apply("flux", &secret("MTIzNA=="));
    stage.rest().await;
    assert_eq!((hash(&stage), &stage.status("shop")["lastAppliedSpec"]), (former, &revision));
}
