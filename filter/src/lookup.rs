//! Finds the canary that a request belongs to, by its host or by the name of its route.
//!
//! Hosts are what clients send: in any case, with or without a port. More specific entries win as in Envoy's own virtual
//! hosts: the exact name, then the longest `*.suffix`, then `*`.

use std::collections::BTreeMap;

use weir_wire::{Config, Lookup};

use crate::hashing::Map;

/// Longest host that is looked up; DNS names end at 253 characters.
const MAX_HOST: usize = 255;

/// Where a host leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the canary with this place in the configuration.
    Canary(usize),
    /// To whatever canary the route's name says.
    ByRoute,
}

/// Hosts and route names of one configuration.
#[derive(Debug, Default)]
pub struct Index {
    exact: Map<Box<[u8]>, Target>,
    suffixes: Map<Box<[u8]>, Target>,
    any: Option<Target>,
    /// By its name, whose a route is, and whether it is the one of the canary's own Service.
    routes: Map<Box<[u8]>, (usize, bool)>,
    /// Names of the canary's own Service, by the canary's place. Few canaries have any, and none has many.
    direct: BTreeMap<usize, Box<[Box<[u8]>]>>,
}

impl Index {
    /// Returns the index of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut index = Self::default();
        // Owners after the others, so that a host that one canary owns is never looked up by route.
        for lookup in [Lookup::Route, Lookup::Host] {
            for (place, canary) in config.canaries.iter().enumerate().filter(|(_, canary)| canary.lookup == lookup) {
                let target = match lookup {
                    Lookup::Host => Target::Canary(place),
                    Lookup::Route => Target::ByRoute,
                };
                for host in &canary.hosts {
                    index.add(host, target);
                }
                if !canary.direct.is_empty() {
                    index.direct.insert(place, canary.direct.iter().map(|name| name.as_bytes().into()).collect());
                }
                if lookup == Lookup::Route {
                    if canary.hosts.is_empty() {
                        index.any.get_or_insert(target);
                    }
                    let own = weir_wire::names::direct_route(&canary.id);
                    for route in &canary.routes {
                        index.routes.insert(route.as_bytes().into(), (place, *route == own));
                    }
                }
            }
        }
        index
    }

    fn add(&mut self, host: &str, target: Target) {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            _ if host == "*" => self.any = Some(target),
            Some(suffix) => {
                self.suffixes.insert(suffix.as_bytes().into(), target);
            }
            None => {
                self.exact.insert(without_port(host.as_bytes()).into(), target);
            }
        }
    }

    /// Returns the only target there is if no host needs to be read for it.
    #[must_use]
    pub fn whatever_the_host(&self) -> Option<Target> {
        self.any.filter(|_| self.exact.is_empty() && self.suffixes.is_empty())
    }

    /// Finds a host as it stands in `:authority`.
    #[must_use]
    pub fn host(&self, authority: &[u8]) -> Option<Target> {
        let host = without_port(authority);
        let mut lower = [0; MAX_HOST];
        let Some(lower) = lower.get_mut(..host.len()) else { return self.any };
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        let lower = &*lower;
        if let Some(target) = self.exact.get(lower) {
            return Some(*target);
        }
        if !self.suffixes.is_empty() {
            let dots = lower.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
            for dot in dots.filter(|dot| *dot > 0) {
                if let Some(target) = lower.get(dot + 1..).and_then(|suffix| self.suffixes.get(suffix)) {
                    return Some(*target);
                }
            }
        }
        self.any
    }

    /// Returns whether a canary's own Service has names that its requests may come by.
    #[must_use]
    pub fn has_direct(&self, place: usize) -> bool {
        self.direct.contains_key(&place)
    }

    /// Returns whether one of a canary's requests, by its `:authority`, calls the canary's own Service.
    #[must_use]
    pub fn is_direct(&self, place: usize, authority: &[u8]) -> bool {
        let host = without_port(authority);
        self.direct.get(&place).is_some_and(|names| names.iter().any(|name| name.eq_ignore_ascii_case(host)))
    }

    /// Finds a route by its name; returns also whether it is the one that leads to the canary's own Service, by whichever of the
    /// names that this has in the mesh a request comes.
    #[must_use]
    pub fn route(&self, name: &[u8]) -> Option<(usize, bool)> {
        self.routes.get(name).copied()
    }
}

/// Cuts a port off. The colons of an IPv6 literal are inside brackets.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) => match authority.split_at(colon) {
            (host, [_, port @ ..]) if !port.is_empty() && port.iter().all(u8::is_ascii_digit) && is_host(host) => host,
            _ => authority,
        },
        None => authority,
    }
}

/// An address without brackets has more than one colon; what follows its last one is no port.
fn is_host(host: &[u8]) -> bool {
    !host.is_empty() && (host.ends_with(b"]") || !host.contains(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_wire::Canary;

    fn index(canaries: &[(&[&str], &[&str])]) -> Index {
        let canaries = canaries.iter().map(|(hosts, routes)| Canary {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            routes: routes.iter().map(ToString::to_string).collect(),
            lookup: if routes.is_empty() { Lookup::Host } else { Lookup::Route },
            ..Canary::default()
        });
        Index::new(&Config { canaries: canaries.collect(), ..Config::default() })
    }

    #[test]
    fn finds_hosts_in_any_case_with_and_without_port() {
        let index = index(&[(&["shop.example.com"], &[]), (&["[::1]"], &[]), (&["10.0.0.1"], &[])]);
        for (host, place) in [
            ("shop.example.com", Some(0)),
            ("Shop.Example.COM:8443", Some(0)),
            ("shop.example.com:", None),
            ("shop.example.com:8x", None),
            ("other.example.com", None),
            ("[::1]", Some(1)),
            ("[::1]:80", Some(1)),
            ("10.0.0.1:15021", Some(2)),
            ("", None),
            (":80", None),
        ] {
            assert_eq!(index.host(host.as_bytes()), place.map(Target::Canary), "{host}");
        }
        assert_eq!(index.host(&[b'a'; 4_000]), None);
        assert_eq!(index.host(&[0xff, 0xfe, b':', b'1']), None);
    }

    #[test]
    fn the_more_specific_host_wins() {
        let index = index(&[
            (&["*"], &[]),
            (&["*.example.com"], &[]),
            (&["*.shop.example.com"], &[]),
            (&["a.shop.example.com"], &[]),
        ]);
        for (host, place) in [
            ("a.shop.example.com", 3),
            ("b.shop.example.com:80", 2),
            ("c.b.shop.example.com", 2),
            ("shop.example.com", 1),
            ("example.com", 0),
            (".example.com", 0),
            ("elsewhere", 0),
        ] {
            assert_eq!(index.host(host.as_bytes()), Some(Target::Canary(place)), "{host}");
        }
    }

    #[test]
    fn routes_are_read_only_for_their_hosts() {
        let gated = index(&[(&["shop.example.com"], &["shop/cart"]), (&["own.example.com"], &[])]);
        assert_eq!(gated.host(b"shop.example.com"), Some(Target::ByRoute));
        assert_eq!(gated.host(b"own.example.com"), Some(Target::Canary(1)));
        assert_eq!(gated.host(b"other.example.com"), None);
        assert_eq!(gated.route(b"shop/cart"), Some((0, false)));
        assert_eq!(gated.route(b"shop"), None);

        let open = index(&[(&[], &["shop/cart"]), (&["own.example.com"], &[])]);
        assert_eq!(open.host(b"anything"), Some(Target::ByRoute));
        assert_eq!(open.host(b"own.example.com"), Some(Target::Canary(1)));
    }

    #[test]
    fn the_canarys_own_name_is_known_among_its_own_requests_in_any_case_and_with_a_port() {
        let canary = |host: &str, direct: &[&str]| Canary {
            hosts: vec![host.into()],
            direct: direct.iter().map(ToString::to_string).collect(),
            ..Canary::default()
        };
        let canaries = vec![canary("*", &["cart-canary", "cart-canary.shop"]), canary("other.example.com", &[])];
        let index = Index::new(&Config { canaries, ..Config::default() });
        for (place, authority, direct) in [
            (0, "cart-canary.shop", true),
            (0, "Cart-Canary:9898", true),
            (0, "cart-canary.shop.svc", false),
            (0, "cart.shop", false),
            (1, "cart-canary.shop", false),
        ] {
            assert_eq!(index.is_direct(place, authority.as_bytes()), direct, "{place} {authority}");
        }
        assert!(index.has_direct(0) && !index.has_direct(1));
    }

    #[test]
    fn the_host_is_not_needed_when_one_answer_fits_all() {
        assert_eq!(index(&[(&["*"], &[])]).whatever_the_host(), Some(Target::Canary(0)));
        assert_eq!(index(&[(&[], &["r"])]).whatever_the_host(), Some(Target::ByRoute));
        assert_eq!(index(&[(&["*"], &[]), (&["a"], &[])]).whatever_the_host(), None);
    }
}
