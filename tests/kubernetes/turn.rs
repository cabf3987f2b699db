//! Whose turn it is on the cluster.

use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore, SemaphorePermit};

/// Many tests that each keep to their namespace, or one that takes parts of the cluster away.
static CLUSTER: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);

/// Tests with sidecars that run side by side. Every sidecar compiles the module when its release begins: six such tests kept two cores
/// busy for so long that clients gave up after 10 s, and took no less time than three by three.
static SIDECARS: Semaphore = Semaphore::const_new(3);

/// A test's turn on the cluster.
pub(crate) enum Turn {
    Beside { _others: OwnedRwLockReadGuard<()>, _sidecars: Option<SemaphorePermit<'static>> },
    Alone { _cluster: OwnedRwLockWriteGuard<()> },
}

impl Turn {
    pub(crate) async fn beside() -> Self {
        Self::Beside { _others: CLUSTER.clone().read_owned().await, _sidecars: None }
    }

    /// As [`Turn::beside`], for one with sidecars.
    pub(crate) async fn with_sidecars() -> Self {
        // First, so that who waits for it holds up nobody who wants to be alone.
        let sidecars = SIDECARS.acquire().await.expect("nobody closes it");
        Self::Beside { _others: CLUSTER.clone().read_owned().await, _sidecars: Some(sidecars) }
    }

    pub(crate) async fn alone() -> Self {
        Self::Alone { _cluster: CLUSTER.clone().write_owned().await }
    }
}
