//! Which addresses are not called for a user. In a cluster the controller stands where its users do not: their webhooks and
//! metrics would reach, with its place in the network, what their own pods may not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use parking_lot::RwLock;

/// Where clouds tell a machine who it is, outside of the link-local range: Alibaba, Azure, Oracle; AWS, Google.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Which addresses are not called.
#[derive(Debug, Default)]
pub struct AddressRules {
    allowed: Vec<IpNet>,
    /// Addresses of the API server; without a port all of them.
    api_server: RwLock<Vec<(IpAddr, Option<u16>)>>,
}

/// An address that is not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is {what} ({address}), which Weir does not call in a cluster: name another address, or have it added to \
     calls.allowedAddresses of Weir's chart"
)]
pub(crate) struct ForbiddenAddress {
    host: String,
    address: IpAddr,
    what: &'static str,
}

impl AddressRules {
    /// Returns the rules of a cluster, with what its administrator allows all the same.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed, api_server: RwLock::default() }
    }

    /// Says where the API server is.
    pub(crate) fn set_api_server(&self, addresses: Vec<(IpAddr, Option<u16>)>) {
        *self.api_server.write() = addresses;
    }

    /// Refuses an address that is not called; `host` is what stands in its place in the user's text.
    pub(super) fn check(&self, host: &str, address: SocketAddr) -> Result<(), ForbiddenAddress> {
        let written = address.ip();
        let meant = embedded(written).unwrap_or(written);
        let is = |ip: IpAddr| ip == written || ip == meant;
        if self.allowed.iter().any(|net| net.contains(&written) || net.contains(&meant)) {
            return Ok(());
        }
        let api_server =
            self.api_server.read().iter().any(|&(ip, port)| is(ip) && port.is_none_or(|port| port == address.port()));
        let what = match (kind(written).or_else(|| kind(meant)), api_server) {
            (Some(what), _) => what,
            (None, true) => "the API server",
            (None, false) => return Ok(()),
        };
        Err(ForbiddenAddress { host: host.to_owned(), address: written, what })
    }
}

/// Reads a network (`10.0.0.0/8`), or an address for itself.
///
/// # Errors
/// When it is neither.
pub fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text:?} is neither an address nor a network like 10.0.0.0/8"))
}

/// Returns what an address is that is never called.
fn kind(ip: IpAddr) -> Option<&'static str> {
    let unspecified = match ip {
        // Linux takes 0.0.0.0 for loopback, and nothing else of this network exists.
        IpAddr::V4(ip) => ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let many = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    let kinds = [
        (unspecified, "no host's address"),
        (ip.is_loopback(), "a loopback address"),
        (link_local, "a link-local address"),
        (METADATA.contains(&ip), "a cloud's metadata service"),
        (many, "an address of many hosts"),
    ];
    kinds.into_iter().find_map(|(is, what)| is.then_some(what))
}

/// Returns the IPv4 address that an IPv6 address stands for: mapped, compatible, through NAT64, or through 6to4.
fn embedded(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    let segments = ip.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(IpAddr::from([a, b, c, d]))
    };
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rules: &AddressRules, address: &str, port: u16) -> Option<&'static str> {
        rules.check("host", SocketAddr::new(address.parse().unwrap(), port)).err().map(|forbidden| forbidden.what)
    }

    #[test]
    fn an_address_of_the_controllers_own_machine_is_not_called_in_any_notation() {
        let rules = AddressRules::default();
        for (address, what) in [
            ("127.0.0.1", "a loopback address"),
            ("127.255.3.4", "a loopback address"),
            ("::1", "a loopback address"),
            ("::ffff:127.0.0.1", "a loopback address"),
            ("::127.0.0.1", "a loopback address"),
            ("64:ff9b::7f00:1", "a loopback address"),
            ("2002:7f00:1::", "a loopback address"),
            ("0.0.0.0", "no host's address"),
            ("::", "no host's address"),
            ("::ffff:0.0.0.0", "no host's address"),
            ("169.254.169.254", "a link-local address"),
            ("::ffff:169.254.169.254", "a link-local address"),
            ("64:ff9b::a9fe:a9fe", "a link-local address"),
            ("fe80::1", "a link-local address"),
            ("febf::1", "a link-local address"),
            ("fd00:ec2::254", "a cloud's metadata service"),
            ("100.100.100.200", "a cloud's metadata service"),
            ("224.0.0.1", "an address of many hosts"),
            ("255.255.255.255", "an address of many hosts"),
            ("ff02::1", "an address of many hosts"),
        ] {
            assert_eq!(refused(&rules, address, 80), Some(what), "{address}");
        }
        for address in
            ["10.1.2.3", "192.168.0.1", "100.64.0.1", "fd00::1", "2001:db8::1", "1.1.1.1", "64:ff9b::101:101"]
        {
            assert_eq!(refused(&rules, address, 80), None, "{address}");
        }
    }

    #[test]
    fn the_api_server_is_not_called_at_its_service_nor_at_its_ports() {
        let rules = AddressRules::default();
        let (service, node) = ("10.96.0.1".parse().unwrap(), "192.168.7.2".parse().unwrap());
        rules.set_api_server(vec![(service, None), (node, Some(6443))]);
        assert_eq!(refused(&rules, "10.96.0.1", 80), Some("the API server"));
        assert_eq!(refused(&rules, "::ffff:10.96.0.1", 443), Some("the API server"));
        assert_eq!(refused(&rules, "192.168.7.2", 6443), Some("the API server"));
        // A NodePort of the same machine.
        assert_eq!(refused(&rules, "192.168.7.2", 30080), None);
    }

    #[test]
    fn an_administrator_may_allow_what_is_not_called() {
        let rules = AddressRules::new(["169.254.20.0/24", "::1"].map(|text| network(text).unwrap()).into());
        assert!(network("169.254/16").unwrap_err().contains("169.254/16"));
        assert_eq!(refused(&rules, "169.254.20.10", 80), None);
        assert_eq!(refused(&rules, "::ffff:169.254.20.10", 80), None);
        assert_eq!(refused(&rules, "::1", 80), None);
        assert_eq!(refused(&rules, "169.254.169.254", 80), Some("a link-local address"));
        let refused = rules.check("metadata.evil", "169.254.169.254:80".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(
            refused,
            "metadata.evil is a link-local address (169.254.169.254), which Weir does not call in a cluster: name another \
             address, or have it added to calls.allowedAddresses of Weir's chart"
        );
    }
}
