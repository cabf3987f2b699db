//! What stands in the way of a Canary, by rules that are younger than many Canaries: it stops one that has made nothing yet, and is
//! told of one that works.

use std::sync::Arc;
use std::time::Duration;

use crate::api::CanarySpec;
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::render::Names;
use crate::kubernetes::router::{Callers, controlled_apex, hiding, hosts_behind, shared_host, unread_port};
use crate::kubernetes::stores::{Key, Stores};
use crate::kubernetes::target::conflicts::{passing, shared};
use crate::kubernetes::target::hazards::hazards;
use crate::kubernetes::target::left_behind::left_behind;
use crate::kubernetes::target::lossy::lossy_update;
use crate::kubernetes::target::volumes::{Volumes, volumes};

/// Age of what was listed, where a Canary cannot begin because of it, is released, and is at rest.
const FRESH: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(120), Duration::from_secs(300)];

/// What younger rules say of one Canary.
#[derive(Debug, Default)]
pub(super) struct Younger {
    /// Why nothing is made.
    pub(super) fault: Option<Fault>,
    /// Whether there are objects of the Canary under an earlier name.
    pub(super) renamed: bool,
    told: Vec<String>,
    /// Whether something of that is not known yet.
    incomplete: bool,
}

impl Younger {
    /// Takes in what there is of the target; returns whether enough is known of it to make anything.
    pub(super) fn learn(
        &mut self,
        stores: &Arc<Stores>,
        names: &Names,
        spec: &CanarySpec,
        target: &Target,
        canary: &Canary,
    ) -> bool {
        // A primary that is somebody else's is another fault.
        let works = canary.fields.status.last_promoted_spec.is_some()
            || stores.target(names.kind, &names.namespace, &names.primary()).is_some();
        let fresh = if works { FRESH[2] } else { FRESH[0] };
        let volumes = volumes(stores, names, target, canary, fresh);
        self.incomplete = volumes == Volumes::Unknown;
        let volumes = match volumes {
            Volumes::Unknown if !works => return false,
            Volumes::SingleWriter(fault) => Some(fault),
            Volumes::Missing(fault) => Some(fault).filter(|_| !works),
            Volumes::Unknown | Volumes::Shareable => None,
        };
        let of_routes = unread_port(stores, names, spec, target).into_iter().chain(shared_host(stores, names, spec));
        let mut found = shared(stores, names, target).into_iter().chain(volumes).chain(of_routes);
        match works {
            true => self.told.extend(found.map(|(_, problem)| problem)),
            false => self.fault = found.next(),
        }
        self.told.extend(passing(stores, names, target));
        let (behind, renamed) = left_behind(stores, names);
        self.renamed = renamed;
        self.told.extend(behind);
        self.told.extend(hosts_behind(stores, names, spec));
        self.told.extend(controlled_apex(stores, names));
        true
    }

    /// Returns all that is to be known of a Canary that works or is about to; nothing as long as some of it is not known.
    /// `releasing` is nothing where the cluster is not asked at all; `unsplit` are callers that are known to split nothing.
    pub(super) fn hazards(
        self,
        stores: &Arc<Stores>,
        names: &Names,
        target: &Target,
        callers: Option<&Callers>,
        unsplit: &[Key],
        releasing: Option<bool>,
    ) -> Option<Vec<String>> {
        if self.incomplete {
            return None;
        }
        let key: Key = (names.namespace.clone(), names.canary.clone());
        let Some(releasing) = releasing else { return Some(self.told) };
        let fresh = if releasing { FRESH[1] } else { FRESH[2] };
        let hidden = callers.map(|callers| hiding(stores, names, callers, fresh));
        let listed = hazards(stores, names, target, &key, fresh)?;
        let lossy = callers.and_then(|callers| lossy_update(stores, names, target, callers, unsplit));
        let hidden = hidden.unwrap_or_else(|| Some(Vec::new()))?;
        Some(self.told.into_iter().chain(hidden).chain(lossy).chain(listed).collect())
    }
}
