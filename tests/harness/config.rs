//! Configurations as the controller writes them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use weir_wire::{Canary, Config, Lookup, Weight};

/// The id of the canary that most tests have.
pub const ID: &str = "a3f09c11d2e4b877";
/// The token that the routes of the test's Envoy know.
pub const TOKEN: &str = "7d0b5a2c91";

static GENERATION: AtomicU64 = AtomicU64::new(1);

/// Returns the Unix time in seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Returns a number that is greater than those before, and that no earlier process had.
pub fn next_generation() -> u64 {
    now() * 1_000 + GENERATION.fetch_add(1, Ordering::Relaxed)
}

/// Returns a canary of the test's services at a weight in 1/10,000, in its first epoch.
pub fn canary(parts: u32) -> Canary {
    Canary {
        id: ID.into(),
        name: "shop/cart".into(),
        hosts: vec!["shop.example.com".into(), "grpc.example.com".into()],
        lookup: Lookup::Host,
        token: TOKEN.into(),
        run: "r1".into(),
        epoch: 1,
        weight: Weight::new(parts).unwrap(),
        latency_ms: vec![100, 1_000],
        admission: 0,
        ..Canary::default()
    }
}

/// Returns a configuration of these canaries, newer than all before.
pub fn config(canaries: Vec<Canary>) -> Config {
    Config {
        version: weir_wire::config::VERSION,
        generation: next_generation(),
        armed_until: now() + 3_600,
        expires_at: 0,
        canaries,
    }
}
