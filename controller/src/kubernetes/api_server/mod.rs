//! The plumbing of the API server: caches that follow watches, writes, events, the lease. Knows no kind of object by name.

pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod cover;
pub(crate) mod events;
pub(crate) mod lease;
