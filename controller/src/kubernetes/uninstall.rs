//! Gives everything back before Weir goes: the Canaries are deleted, and waited for.
//!
//! The controller, which still runs, does what there is to do for each; and when a gateway's last Canary is gone it takes the
//! filter out of it.

use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use tracing::info;

use crate::kubernetes::api_server::MANAGER;
use crate::kubernetes::api_server::object::resource;
use crate::kubernetes::kinds::EnvoyFilterView;
use crate::kubernetes::kinds::canary::CanaryView;

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Deletes every Canary, and returns when none is left and no gateway has the filter.
///
/// # Errors
/// When the API refuses to list or delete.
pub async fn uninstall(client: Client) -> kube::Result<()> {
    let all = |resource: &ApiResource| Api::<DynamicObject>::all_with(client.clone(), resource);
    let canaries = all(&resource::<CanaryView>());
    let filters = all(&resource::<EnvoyFilterView>());
    let own = ListParams::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let mut asked = Vec::new();
    loop {
        let left = canaries.list(&ListParams::default()).await?.items;
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
        let filters = filters.list(&own).await?.items;
        if left.is_empty() && filters.is_empty() {
            info!("nothing is left");
            return Ok(());
        }
        info!(canaries = left.len(), filters = filters.len(), "waiting");
        tokio::time::sleep(PAUSE).await;
    }
}
