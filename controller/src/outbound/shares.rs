//! Each namespace's share of the calls under way.
//!
//! A server that hangs keeps a call for as long as its timeout allows, so a total alone would let one namespace use up everybody's.
//! A namespace waits for its own calls first. Beyond the few that are its own in any case, its calls also count in a total, which
//! bounds the controller's memory; when that is used up, by however many namespaces, each still has its few.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls of a namespace that never wait for another namespace's.
const OWN: usize = 2;
/// Further calls of a namespace: two Canaries with all their webhooks and metrics.
const MORE: usize = 30;
/// Further calls of all namespaces. A call needs some 100 KiB: with TLS, and an answer of the longest kind.
const TOTAL: usize = 256;

/// The calls under way.
#[derive(Debug)]
pub(super) struct Shares {
    namespaces: Mutex<HashMap<String, Arc<Share>>>,
    total: Arc<Semaphore>,
}

#[derive(Debug)]
struct Share {
    own: Arc<Semaphore>,
    more: Arc<Semaphore>,
}

/// A place among the calls under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _share: Arc<Share>,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Default for Shares {
    fn default() -> Self {
        Self { namespaces: Mutex::default(), total: Arc::new(Semaphore::new(TOTAL)) }
    }
}

impl Shares {
    /// Waits for a place.
    pub(super) async fn take(&self, namespace: &str) -> Place {
        let share = self.share(namespace);
        let further = async {
            // In this order: who waits for his namespace's turn keeps no place of the total.
            let more = permit(&share.more).await;
            (more, Some(permit(&self.total).await))
        };
        let permits = tokio::select! {
            biased;
            own = permit(&share.own) => (own, None),
            further = further => further,
        };
        Place { _share: share, _permits: permits }
    }

    fn share(&self, namespace: &str) -> Arc<Share> {
        let mut namespaces = self.namespaces.lock();
        if let Some(share) = namespaces.get(namespace) {
            return share.clone();
        }
        // Namespaces come and go. What only this map holds has no call.
        namespaces.retain(|_, share| Arc::strong_count(share) > 1);
        let share = Share { own: Arc::new(Semaphore::new(OWN)), more: Arc::new(Semaphore::new(MORE)) };
        namespaces.entry(namespace.to_owned()).or_insert(Arc::new(share)).clone()
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.unwrap_or_else(|_| unreachable!("nothing closes it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn try_take(shares: &Shares, namespace: &str) -> Option<Place> {
        shares.take(namespace).now_or_never()
    }

    #[test]
    fn a_namespace_with_many_calls_waits_for_its_own() {
        let shares = Shares::default();
        let mut places: Vec<Place> = (0..OWN + MORE).map(|_| try_take(&shares, "evil").unwrap()).collect();
        assert!(try_take(&shares, "evil").is_none());
        places.pop();
        assert!(try_take(&shares, "evil").is_some());
    }

    #[test]
    fn many_namespaces_together_leave_each_other_one_its_own_calls() {
        let shares = Shares::default();
        let tenants: Vec<String> = (0..20).map(|n| format!("evil-{n}")).collect();
        let places: Vec<Place> = tenants
            .iter()
            .flat_map(|tenant| std::iter::from_fn(|| try_take(&shares, tenant)).collect::<Vec<_>>())
            .collect();
        assert_eq!(places.len(), TOTAL + 20 * OWN);
        let own: Vec<Place> = std::iter::from_fn(|| try_take(&shares, "shop")).collect();
        assert_eq!(own.len(), OWN);
    }

    #[test]
    fn a_namespace_without_calls_is_forgotten() {
        let shares = Shares::default();
        let kept = try_take(&shares, "shop");
        drop(try_take(&shares, "store"));
        drop(try_take(&shares, "market"));
        let known: Vec<String> = shares.namespaces.lock().keys().cloned().collect();
        assert!(kept.is_some() && !known.contains(&"store".to_owned()), "{known:?}");
    }
}
