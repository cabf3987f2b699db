//! Whether what a pod sends to a Service passes the sidecar of the pod, by the annotations that say what Istio redirects into it.

use std::net::IpAddr;

use crate::kubernetes::api_server::object::REDIRECTION;
use crate::kubernetes::kinds::Pod;

/// Returns the annotation that leads what a pod sends to a Service of this port and these addresses past its sidecar, if one does. The
/// order is that of the rules in the pod's network: the first that speaks of a connection decides.
pub(super) fn bypass(pod: &Pod, port: i64, addresses: &[IpAddr]) -> Option<&'static str> {
    let [mode, ports_out, ranges_out, ports_in, ranges_in] =
        REDIRECTION.map(|(key, usual)| (key, pod.annotation(key).unwrap_or(usual)));
    let items = |list: &str| list.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>();
    let has_port = |list: &str| items(list).iter().any(|item| item == "*" || item.parse::<i64>() == Ok(port));
    let has_address = |list: &str| items(list).iter().any(|range| covers(range, addresses));
    // Where the Service's address is not known, only what names no range at all leaves it out.
    let unknown = addresses.is_empty() && !ranges_in.1.trim().is_empty();
    if mode.1 == "NONE" {
        Some(mode.0)
    } else if has_port(ports_out.1) {
        Some(ports_out.0)
    } else if has_address(ranges_out.1) {
        Some(ranges_out.0)
    } else if has_port(ports_in.1) || has_address(ranges_in.1) || unknown {
        None
    } else {
        Some(ranges_in.0)
    }
}

/// Returns whether a range, `10.0.0.0/8` or `*`, has one of some addresses.
fn covers(range: &str, addresses: &[IpAddr]) -> bool {
    let Some((base, length)) = range.split_once('/') else { return range == "*" };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    let same =
        |one: u128, other: u128, bits: u32| (one ^ other).checked_shr(bits.saturating_sub(length)).unwrap_or(0) == 0;
    length == 0
        || addresses.iter().any(|address| match (base, *address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => same(u32::from(base).into(), u32::from(address).into(), 32),
            (IpAddr::V6(base), IpAddr::V6(address)) => same(base.into(), address.into(), 128),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_a_pod_sends_passes_its_sidecar_as_its_annotations_say() {
        let traffic = |name: &str| format!("traffic.sidecar.istio.io/{name}");
        let bypassed = |annotations: &[(&str, &str)], addresses: &[&str]| {
            let annotations: Value = annotations
                .iter()
                .map(|(key, value)| {
                    let key = if key.contains('/') { (*key).to_owned() } else { traffic(key) };
                    (key, Value::from(*value))
                })
                .collect::<serde_json::Map<_, _>>()
                .into();
            let metadata = json!({"name": "client", "annotations": annotations});
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
            let pod = Pod::new(serde_json::from_value(object).unwrap()).unwrap();
            let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            bypass(&pod, 80, &addresses).map(|key| key.rsplit('/').next().unwrap())
        };
        let usual = [("sidecar.istio.io/interceptionMode", "REDIRECT"), ("includeOutboundIPRanges", "*")];
        let service = &["10.96.0.7"][..];
        for (annotations, addresses, expected) in [
            (&[][..], service, None),
            (&usual[..], service, None),
            (&[("sidecar.istio.io/interceptionMode", "NONE")], service, Some("interceptionMode")),
            (&[("excludeOutboundPorts", "9000, 80")], service, Some("excludeOutboundPorts")),
            (&[("excludeOutboundPorts", "8080")], service, None),
            (&[("includeOutboundIPRanges", "")], service, Some("includeOutboundIPRanges")),
            (&[("includeOutboundIPRanges", "")], &[], Some("includeOutboundIPRanges")),
            (&[("includeOutboundIPRanges", ""), ("includeOutboundPorts", "80")], service, None),
            (&[("includeOutboundIPRanges", "10.96.0.0/12,192.168.0.0/16")], service, None),
            (&[("includeOutboundIPRanges", "10.0.0.0/16")], service, Some("includeOutboundIPRanges")),
            (&[("includeOutboundIPRanges", "10.0.0.0/16")], &[], None),
            (&[("excludeOutboundIPRanges", "10.96.0.7/32")], service, Some("excludeOutboundIPRanges")),
            (
                &[("excludeOutboundIPRanges", "10.0.0.0/8"), ("includeOutboundPorts", "*")],
                service,
                Some("excludeOutboundIPRanges"),
            ),
            (&[("excludeOutboundIPRanges", "0.0.0.0/0")], &[], Some("excludeOutboundIPRanges")),
            (&[("excludeOutboundIPRanges", "fd00::/8")], &["fd00::7"], Some("excludeOutboundIPRanges")),
            (&[("excludeOutboundIPRanges", "fd00::/8")], service, None),
        ] {
            assert_eq!(bypassed(annotations, addresses), expected, "{annotations:?} {addresses:?}");
        }
    }
}
