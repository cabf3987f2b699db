//! Gives everything back before Weir goes: the Canaries are deleted, and waited for.
//!
//! The controller, which still runs, does what there is to do for each; and when a gateway's last Canary is gone it takes the
//! filter out of it.

use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::info;

use crate::api::TargetKind;
use crate::kubernetes::api_server::MANAGER;
use crate::kubernetes::api_server::object::resource;
use crate::kubernetes::kinds::EnvoyFilterView;
use crate::kubernetes::kinds::canary::CanaryView;

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Deletes every Canary, of these namespaces where there are some, and returns when none is left and no proxy has the filter: there,
/// and in the namespaces of gateways and callers. A `controller`, namespace and name of its Deployment, is started for this where it was
/// scaled to zero.
///
/// # Errors
/// When the API refuses to list, to delete or to start.
pub async fn uninstall(
    client: Client,
    controller: Option<(&str, &str)>,
    watched: &[String],
    proxies: &[String],
) -> kube::Result<()> {
    let of = |resource: ApiResource, namespaces: &[String]| -> Vec<Api<DynamicObject>> {
        match watched.is_empty() {
            true => vec![Api::all_with(client.clone(), &resource)],
            false => namespaces.iter().map(|of| Api::namespaced_with(client.clone(), of, &resource)).collect(),
        }
    };
    let canaries = of(resource::<CanaryView>(), watched);
    let filters = of(resource::<EnvoyFilterView>(), &[watched, proxies].concat());
    let own = ListParams::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let mut asked = Vec::new();
    let mut to_start = controller;
    loop {
        let left = list(&canaries, &ListParams::default()).await?;
        for canary in &left {
            if canary.metadata.deletion_timestamp.is_some() || asked.contains(&canary.metadata.uid) {
                continue;
            }
            let (namespace, name) = (canary.namespace().unwrap_or_default(), canary.name_any());
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource::<CanaryView>());
            api.delete(&name, &DeleteParams::default()).await?;
            info!(namespace, canary = name, "deleted");
            asked.push(canary.metadata.uid.clone());
        }
        let filters = list(&filters, &own).await?;
        if left.is_empty() && filters.is_empty() {
            info!("nothing is left");
            return Ok(());
        }
        if let Some((namespace, name)) = to_start.take() {
            start(&client, namespace, name).await?;
        }
        info!(canaries = left.len(), filters = filters.len(), "waiting");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Gives a Deployment a replica where it was told to have none.
async fn start(client: &Client, namespace: &str, name: &str) -> kube::Result<()> {
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &TargetKind::OWN.resource());
    let scale = api.get_subresource("scale", name).await?;
    // The API server leaves a zero out.
    if scale.data.pointer("/spec/replicas").and_then(serde_json::Value::as_u64).unwrap_or(0) > 0 {
        return Ok(());
    }
    let one = Patch::Merge(json!({"spec": {"replicas": 1}}));
    api.patch_subresource("scale", name, &PatchParams::default(), &one).await?;
    info!(namespace, controller = name, "started: it was scaled to zero, and nobody else gives the traffic back");
    Ok(())
}

async fn list(apis: &[Api<DynamicObject>], parameters: &ListParams) -> kube::Result<Vec<DynamicObject>> {
    let mut all = Vec::new();
    for api in apis {
        all.extend(api.list(parameters).await?.items);
    }
    Ok(all)
}
