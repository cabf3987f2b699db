//! The plumbing of the API server: caches that follow watches, writes, the lease. Knows no kind of object by name.

pub(crate) mod apply;
pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod cover;
pub(crate) mod hash_key;
pub(crate) mod lease;
pub(crate) mod lists;
pub(crate) mod location;
pub(crate) mod object;
pub(crate) mod owners;
pub(crate) mod secrets;
mod sizers;
pub(crate) mod written;

use std::sync::Arc;

use kube::Client;
use tokio::sync::Semaphore;

use lists::Lists;

/// The field manager of everything that Weir writes, and the value of `app.kubernetes.io/managed-by`. Flux undoes what
/// managers whose name begins with `kubectl` wrote.
pub(crate) const MANAGER: &str = "weir";
/// Label of everything that Weir manages.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Objects that are written at a time. An API server that is asked for hundreds of writes at once answers none of them in time,
/// and everybody tries again; so many keep a large one busy.
const WRITES: usize = 16;
/// Passes at a time over Canaries of which nothing is under way: each holds all that it read while it waits to write. So many have
/// enough to write.
const PASSES: usize = 4 * WRITES;

/// The way to the API server.
pub(crate) struct ApiServer {
    /// What calls go through.
    pub(crate) client: Client,
    /// Permits to write an object that can wait.
    pub(crate) write_permits: Semaphore,
    /// Permits to look at a Canary that can wait.
    pub(crate) pass_permits: Semaphore,
    /// Objects that are not watched.
    pub(crate) lists: Arc<Lists>,
}

impl ApiServer {
    /// Returns the way through a client.
    #[must_use]
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            write_permits: Semaphore::new(WRITES),
            pass_permits: Semaphore::new(PASSES),
            lists: Lists::new(),
        }
    }
}
