//! Keeps requests away from a canary that has no endpoint at the moment.
//!
//! The gateway is the first to know: with no healthy endpoint it answers 503 itself. The controller learns the same from the
//! EndpointSlices and takes 0.2 to 1 s until the weight is 0 everywhere. Whatever was chosen for the canary until then would
//! be a failure that a user sees, and a handful of them the guard's verdict on a revision that may only be starting anew. So
//! the first one opens the breaker in every worker, for long enough that the weight is 0 by then.

use crate::host::Host;
use crate::shared;

/// How long the breaker is open. Then one request tries again: the endpoints may be back, and the weight with them.
const OPEN_NS: u64 = 1_000_000_000;

/// The shared cell that says until when nothing is chosen for a canary.
#[derive(Debug)]
pub struct NoEndpointBreaker(Box<str>);

impl NoEndpointBreaker {
    /// Returns the breaker of the canary with this id.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(format!("absent/{id}").into())
    }

    /// Records that a request found no endpoint.
    pub fn record<H: Host>(&self, host: &mut H, now_ns: u64) {
        let until = now_ns.saturating_add(OPEN_NS);
        shared::update(host, &self.0, |old: Option<[u8; 8]>| {
            (old.map_or(0, u64::from_le_bytes) < until).then(|| until.to_le_bytes())
        });
    }

    /// Returns whether nothing is to be chosen for the canary.
    pub fn is_open<H: Host>(&self, host: &mut H, now_ns: u64) -> bool {
        shared::read(host, &self.0).map(u64::from_le_bytes).is_some_and(|until| now_ns < until)
    }
}
