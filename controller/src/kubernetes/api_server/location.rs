//! Where the API server is, so that it is not called for a user who names its address.

use std::net::IpAddr;
use std::time::Duration;

use hyper::Request;
use kube::Client;
use serde_json::Value;

use crate::http_client::AddressRules;
use crate::telemetry::Chain;

/// How often it is looked up. Machines of a control plane are replaced one by one, in minutes.
const PERIOD: Duration = Duration::from_secs(300);
/// The machines behind the Service of the API server, which has the same name in every cluster.
const MACHINES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
/// The Service's address, which the kubelet gives every container.
const SERVICE: &str = "KUBERNETES_SERVICE_HOST";

/// Keeps the rules up to date. Never returns.
pub(crate) async fn follow(client: Client, rules: &AddressRules) {
    let service = std::env::var(SERVICE).ok().and_then(|host| host.parse().ok());
    let service: Vec<(IpAddr, Option<u16>)> = service.map(|address| (address, None)).into_iter().collect();
    rules.set_api_server(service.clone());
    loop {
        match machines(&client).await {
            Ok(machines) => rules.set_api_server([service.clone(), machines].concat()),
            Err(error) => tracing::debug!(error = %Chain(&error), "machines of the API server not looked up"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Returns the addresses behind the Service. A machine has other ports that may well be called: NodePorts.
async fn machines(client: &Client) -> kube::Result<Vec<(IpAddr, Option<u16>)>> {
    let request = Request::get(MACHINES).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let slices: Value = client.request(request).await?;
    let list = |of: &Value, key: &str| of[key].as_array().cloned().unwrap_or_default();
    let mut machines = Vec::new();
    for slice in list(&slices, "items") {
        let ports: Vec<u16> =
            list(&slice, "ports").iter().filter_map(|port| u16::try_from(port["port"].as_u64()?).ok()).collect();
        let addresses = list(&slice, "endpoints").into_iter().flat_map(|endpoint| list(&endpoint, "addresses"));
        for address in addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok()) {
            machines.extend(ports.iter().map(|port| (address, Some(*port))));
        }
    }
    Ok(machines)
}
