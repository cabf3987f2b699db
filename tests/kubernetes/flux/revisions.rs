//! `gitops/README.md`, "By revision": istiod is replaced by one of another revision, while releases are under way.

use serde_json::Value;

use super::super::kubectl::{kubectl, until};
use super::journey::{ALL, Users, begun, phase};
use super::page::Page;
use super::watch::Watch;
use super::{Fork, applied};

const SECTION: &str = "### By revision";

/// Pushes a version of the backend, and waits until Weir releases it.
async fn releases(clone: &Fork, tag: &str) {
    clone.shell(&format!("sed -i 's/newTag: .*/newTag: {tag}/' apps/backend/kustomization.yaml"));
    clone.push(&format!("backend {tag}"));
    until("the backend is released", || (phase("backend") == "Progressing").then_some(())).await;
}

fn is_promoted() {
    kubectl(&["-n", "prod", "wait", "canary/backend", "--for=condition=promoted", "--timeout=10m"]);
    assert_eq!(phase("backend"), "Succeeded");
}

/// Pods of a namespace that are not on their way out, with the revision that gave them their proxy, and the image of that.
fn proxies(namespace: &str) -> Vec<(String, String, String)> {
    let pods = kubectl(&["-n", namespace, "get", "pods", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let all = pods["items"].as_array().unwrap().iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let of = |pod: &Value| {
        let containers =
            ["containers", "initContainers"].map(|field| pod["spec"][field].as_array().cloned().unwrap_or_default());
        let proxy = containers.concat().into_iter().find(|it| it["name"] == "istio-proxy").unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&pod["metadata"]["name"]), text(&pod["metadata"]["annotations"]["istio.io/rev"]), text(&proxy["image"]))
    };
    all.map(of).collect()
}

/// What helm-controller was told to install of Istio, and how often it did.
fn helm_releases() -> Vec<(String, Value, Value)> {
    let list = kubectl(&["get", "helmreleases", "-A", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let is_istios = |it: &&Value| it["metadata"]["namespace"].as_str().unwrap().starts_with("istio-");
    let of = |it: &Value| {
        let name = it["metadata"]["name"].as_str().unwrap().to_owned();
        (name, it["spec"].clone(), it["status"]["history"][0]["version"].clone())
    };
    list["items"].as_array().unwrap().iter().filter(is_istios).map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn istiod_is_replaced_by_revision_during_a_release_and_users_notice_nothing() {
    let page = Page::read("gitops/README.md");
    let clone = begun().await;
    let watch = Watch::begin(&["backend", "frontend"], &["apps", "weir", "monitoring"]);
    watch.applies();
    let users = Users::come(1);
    releases(&clone, "6.7.1").await;
    page.play_block(SECTION, 0, &clone);
    page.play_block(SECTION, 1, &clone);
    applied(&clone.revision(), ALL).await;
    is_promoted();
    users.notice_nothing("two revisions of istiod").await;
    until("every pod belongs to the new revision", || {
        let all = [proxies("prod"), proxies("istio-ingress")].concat();
        let is_new =
            |(_, revision, image): &(String, String, String)| revision == "1-27-2" && image.ends_with(":1.27.2");
        all.iter().all(is_new).then_some(())
    })
    .await;

    let users = Users::come(2);
    page.play_block(SECTION, 2, &clone);
    // Applied before the files ask for the version again: Flux would give them the older one.
    applied(&clone.revision(), ALL).await;
    let installed = helm_releases();
    page.play_block(SECTION, 3, &clone);
    applied(&clone.revision(), ALL).await;
    assert_eq!(helm_releases(), installed, "the version is the same under its name");
    releases(&clone, "6.7.0").await;
    is_promoted();
    applied(&clone.revision(), ALL).await;
    watch.rests();
    users.notice_nothing("without the older istiod").await;
    watch.end().await;
}
