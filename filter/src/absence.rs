//! Keeps requests away from a canary that nobody serves at the moment.
//!
//! The gateway is the first to know: with no healthy endpoint it answers 503 itself. The controller learns the same from the
//! EndpointSlices and takes 0.2 to 1 s until the weight is 0 everywhere. Whatever was chosen for the canary until then would
//! be a failure that a user sees, and a handful of them the guard's verdict on a revision that may only be starting anew. So
//! the first one ends the choice in every worker, for long enough that the weight is 0 by then.

use crate::host::Host;
use crate::shared;

/// How long nothing is chosen for the canary. Then one request tries again: the endpoints may be back, and the weight with them.
const PAUSE_NS: u64 = 1_000_000_000;

/// The shared cell that says until when a canary is taken to be absent.
#[derive(Debug)]
pub struct Absence(Box<str>);

impl Absence {
    /// Returns the cell of the canary with this id.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(format!("absent/{id}").into())
    }

    /// Notes that a request found nobody.
    pub fn note<H: Host>(&self, host: &mut H) {
        let until = host.monotonic_ns().saturating_add(PAUSE_NS);
        shared::update(host, &self.0, |old: Option<[u8; 8]>| {
            (old.map_or(0, u64::from_le_bytes) < until).then(|| until.to_le_bytes())
        });
    }

    /// Returns whether nobody is taken to be there.
    pub fn lasts<H: Host>(&self, host: &mut H) -> bool {
        match shared::read(host, &self.0).map(u64::from_le_bytes) {
            Some(until) => host.monotonic_ns() < until,
            None => false,
        }
    }
}
