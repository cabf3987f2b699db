//! Where a Service leads, and the addresses that somebody gives a Service himself.
//!
//! The watch follows the slices of Weir's own services only. Those of others are asked for: when a Canary goes, and as long as a Service
//! without a selector is to be adopted.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::Api;
use kube::api::{DynamicObject, ListParams};

use super::origin::{Origin, origin};
use crate::kubernetes::api_server::apply::{ActError, with_timeout};
use crate::kubernetes::api_server::object::resource;
use crate::kubernetes::kinds::EndpointSliceView;
use crate::kubernetes::kinds::canary::Fault;
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::Stores;

/// Returns where a Service leads, asked for now.
pub(super) async fn endpoints(stores: &Stores, namespace: &str, service: &str) -> Result<Vec<Endpoint>, ActError> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(stores.api.client.clone(), namespace, &resource::<EndpointSliceView>());
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = with_timeout("list", "EndpointSlices of", service, api.list(&of_service)).await?;
    let slices = slices.items.into_iter().filter_map(|slice| slice.try_parse::<EndpointSlice>().ok());
    Ok(slices.flat_map(|slice| slice.endpoints).collect())
}

/// Returns why a Service is not adopted that has no selector and leads somewhere: with a selector Kubernetes would replace the addresses
/// that somebody gives it, which nobody could give back. One that leads nowhere loses nothing.
///
/// # Errors
/// When the API refuses to list its addresses.
pub(crate) async fn own_endpoints(stores: &Stores, names: &Names) -> Result<Option<Fault>, ActError> {
    let (namespace, apex) = (&names.namespace, &names.apex);
    let service = stores.services.get(namespace, apex);
    let Some(service) = service.filter(|it| matches!(origin(Some(it), names), Origin::Foreign)) else {
        return Ok(None);
    };
    if !service.fields.spec.selector.is_empty() {
        return Ok(None);
    }
    let leads = endpoints(stores, namespace, apex).await?.iter().any(|endpoint| !endpoint.addresses.is_empty());
    Ok(leads.then(|| {
        let problem = format!(
            "Service {apex} has no selector, and the addresses that somebody gives it would be replaced by those of {}: give the Canary \
             another service.name, or let the Service select the pods of {}",
            names.primary(),
            names.target
        );
        ("RoutesElsewhere", problem)
    }))
}
