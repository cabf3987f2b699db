//! What was written of a Canary's objects last, so that a pass that has nothing new to say compares nothing.
//!
//! The API server may store another form of what it is sent (a quantity of `1000m` is 1, an unknown field is dropped). So what
//! was written is compared with what is wanted, and not only what is live.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::object::Projection;

/// Time between two removals of others' additions from one object: an operator may put them back each time.
const CLEAN_INTERVAL: Duration = Duration::from_secs(10);
/// As [`CLEAN_INTERVAL`], of a workload: each time its pods are replaced.
const CLEAN_INTERVAL_OF_PODS: Duration = Duration::from_secs(600);

/// Kind and name of an object.
type Key = (&'static str, Box<str>);

/// What was written last.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// A hash of what was wanted, and the resource version that says it.
    said: Mutex<BTreeMap<Key, (u64, Box<str>)>>,
    /// When something was last taken out.
    cleaned: Mutex<BTreeMap<Key, Instant>>,
}

impl Written {
    /// Returns whether the object with this version is known to be what is wanted.
    pub(crate) fn says(&self, kind: &'static str, name: &str, wanted: &Value, version: Option<&str>) -> bool {
        let said = self.said.lock();
        let known = said.get(&(kind, name.into()));
        known.is_some_and(|(hash, at)| *hash == hash_of(wanted) && version == Some(at))
    }

    /// Takes note that the object with this version is what is wanted.
    pub(crate) fn record(&self, kind: &'static str, name: &str, wanted: &Value, version: Option<&str>) {
        let mut said = self.said.lock();
        said.insert((kind, name.into()), (hash_of(wanted), version.unwrap_or_default().into()));
    }

    /// Returns whether somebody else's additions may be taken out of an object now.
    pub(crate) fn may_clean<V: Projection>(&self, name: &str) -> bool {
        let least = if V::HAS_PODS { CLEAN_INTERVAL_OF_PODS } else { CLEAN_INTERVAL };
        self.cleaned.lock().get(&(V::KIND, name.into())).is_none_or(|at| at.elapsed() >= least)
    }

    /// Takes note that they were taken out.
    pub(crate) fn record_cleaned<V: Projection>(&self, name: &str) {
        self.cleaned.lock().insert((V::KIND, name.into()), Instant::now());
    }
}

fn hash_of(wanted: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    wanted.to_string().hash(&mut hasher);
    hasher.finish()
}
