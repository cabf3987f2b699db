//! Keeps a client on one arm by a cookie, true to the weight.
//!
//! The cookie holds a random number and nothing about arms. Mixed with the run it is the client's place among 10,000, and
//! places below the weight belong to the canary: as the weight rises clients move one way, and every run draws anew.

use weir_wire::names::Arm;
use weir_wire::{Affinity, Weight};

use crate::draw;
use crate::hashing::mix;
use crate::host::Host;

/// What the request's cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Came back with a number that we gave out, in the cookie of this arm. Where both arms have one cookie, that is the canary's.
    Returning(u64, Arm),
    /// Came without one, or with one that is none of ours.
    New,
}

/// Reads the client's number.
pub fn client<H: Host>(host: &mut H, affinity: &Affinity) -> Client {
    let Some(header) = host.request_header("cookie") else { return Client::New };
    let told = |name: &str, arm| cookie(header, name.as_bytes()).and_then(number).map(|it| Client::Returning(it, arm));
    let of_primary = || affinity.primary_cookie.as_ref().and_then(|name| told(name, Arm::Primary));
    told(&affinity.cookie, Arm::Canary).or_else(of_primary).unwrap_or(Client::New)
}

/// Returns whether a request brings a cookie that a route would end, whatever is in it.
pub fn brings_cookie<H: Host>(host: &mut H, affinity: &Affinity) -> bool {
    let Some(primary_cookie) = &affinity.primary_cookie else { return false };
    let names = [&affinity.cookie, primary_cookie];
    host.request_header("cookie").is_some_and(|header| names.iter().any(|it| cookie(header, it.as_bytes()).is_some()))
}

/// Returns whether a client's place in a run belongs to the canary.
#[must_use]
pub fn falls_within(client: u64, run: u64, weight: Weight) -> bool {
    draw::falls_within(mix(client ^ run), weight)
}

/// Returns the `set-cookie` header that gives a client of an arm its number.
#[must_use]
pub fn set_cookie(affinity: &Affinity, arm: Arm, client: u64) -> String {
    let of_primary = affinity.primary_cookie.as_ref().filter(|_| arm == Arm::Primary);
    format!("{}={client:016x}{}", of_primary.unwrap_or(&affinity.cookie), affinity.attributes)
}

/// Finds a cookie in a `cookie` header.
#[must_use]
pub fn cookie<'a>(header: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    header.split(|byte| *byte == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        pair.strip_prefix(name)?.strip_prefix(b"=")
    })
}

fn number(value: &[u8]) -> Option<u64> {
    if value.len() != 16 || !value.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedHost;

    fn affinity() -> Affinity {
        Affinity { cookie: "weir".into(), attributes: "; Path=/".into(), primary_cookie: None }
    }

    #[test]
    fn a_client_that_returns_the_cookie_has_the_same_number() {
        let set = set_cookie(&affinity(), Arm::Primary, 0x1f);
        assert_eq!(set, "weir=000000000000001f; Path=/");
        let mut host = SimulatedHost::default();
        for (header, expected) in [
            ("a=b; weir=000000000000001f", Client::Returning(0x1f, Arm::Canary)),
            ("weir=000000000000001F;c=d", Client::Returning(0x1f, Arm::Canary)),
            ("weir=1f", Client::New),
            ("weir=+00000000000001f", Client::New),
            ("xweir=000000000000001f", Client::New),
            ("", Client::New),
        ] {
            host.request = vec![("cookie".into(), header.into())];
            assert_eq!(client(&mut host, &affinity()), expected, "{header}");
        }
    }

    #[test]
    fn each_arm_has_its_cookie_where_the_primary_has_one_of_its_own() {
        let both = Affinity { primary_cookie: Some("home".into()), ..affinity() };
        assert_eq!(set_cookie(&both, Arm::Primary, 1), "home=0000000000000001; Path=/");
        assert_eq!(set_cookie(&both, Arm::Canary, 1), "weir=0000000000000001; Path=/");
        let mut host = SimulatedHost::default();
        for (header, expected, brings) in [
            ("home=0000000000000001", Client::Returning(1, Arm::Primary), true),
            ("home=0000000000000001; weir=0000000000000002", Client::Returning(2, Arm::Canary), true),
            ("home=x; weir=ended", Client::New, true),
            ("a=b", Client::New, false),
        ] {
            host.request = vec![("cookie".into(), header.into())];
            assert_eq!(client(&mut host, &both), expected, "{header}");
            assert_eq!(brings_cookie(&mut host, &both), brings, "{header}");
            assert!(!brings_cookie(&mut host, &affinity()), "no route ends the one cookie: {header}");
        }
    }

    #[test]
    fn clients_move_one_way_as_the_weight_rises() {
        let weights = [0, 100, 500, 2_000, 5_000, 10_000].map(|parts| Weight::new(parts).unwrap());
        for client in 0..2_000 {
            let arms = weights.map(|weight| falls_within(mix(client), 42, weight));
            assert!(arms.is_sorted(), "{client}");
        }
    }

    #[test]
    fn places_are_true_to_the_weight_and_drawn_anew_in_every_run() {
        let weight = Weight::new(1_000).unwrap();
        let chosen = |run: u64| (0..100_000).filter(move |client| falls_within(mix(*client), run, weight));
        let (first, second) = (chosen(1).count() as f64, chosen(2).count() as f64);
        let sigma = (100_000.0 * 0.1 * 0.9_f64).sqrt();
        assert!((first - 10_000.0).abs() < 3.0 * sigma && (second - 10_000.0).abs() < 3.0 * sigma);
        let both = chosen(1).filter(|client| falls_within(mix(*client), 2, weight)).count() as f64;
        assert!((both - 1_000.0).abs() < 3.0 * 1_000_f64.sqrt(), "{both}");
    }
}
