//! Volumes of the target that one pod, or the pods of one machine, may write: the primary's pods and the canary's would mount the
//! same one.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::kubernetes::api_server::lists::{Listable, Listed};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::{Canary, Fault};
use crate::kubernetes::render::Names;
use crate::kubernetes::stores::{Key, Stores};

const CLAIMS: [Listable; 1] =
    [Listable { group: "", version: "v1", kind: "PersistentVolumeClaim", plural: "persistentvolumeclaims" }];
/// Modes in which pods of several machines have a volume.
const FOR_MANY: [&str; 2] = ["ReadWriteMany", "ReadOnlyMany"];
/// Volumes of a pod that are disks of one machine at a time.
const ATTACHED: [&str; 9] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cinder",
    "fc",
    "gcePersistentDisk",
    "iscsi",
    "photonPersistentDisk",
    "rbd",
    "vsphereVolume",
];
/// Annotation of a Canary whose revisions may have one volume.
const SHARED: &str = "weir.dev/shared-volumes";

/// What is known of the target's volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Volumes {
    /// Nothing yet.
    Unknown,
    /// Both revisions may have them.
    Shareable,
    /// One of them is for a single writer.
    SingleWriter(Fault),
}

/// Returns what is known of the volumes that the target's pods mount.
pub(crate) fn volumes(
    stores: &Arc<Stores>,
    names: &Names,
    target: &Target,
    canary: &Canary,
    fresh: Duration,
) -> Volumes {
    if canary.annotation(SHARED) == Some("true") {
        return Volumes::Shareable;
    }
    let attached = ATTACHED.iter().any(|kind| target.mentions(kind));
    if !attached && !target.mentions("persistentVolumeClaim") {
        return Volumes::Shareable;
    }
    let template = target.template();
    let mounted = template["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    for volume in mounted.iter().filter(|_| attached) {
        let disk = ATTACHED.iter().find(|kind| volume[**kind].is_object() && volume[**kind]["readOnly"] != true);
        if let Some(kind) = disk {
            let name = volume["name"].as_str().unwrap_or_default();
            return Volumes::SingleWriter(("VolumeShared", problem(names, &format!("volume {name}"), kind)));
        }
    }
    if !target.mentions("persistentVolumeClaim") {
        return Volumes::Shareable;
    }
    let mounted: Vec<&str> =
        mounted.iter().filter_map(|volume| volume.pointer("/persistentVolumeClaim/claimName")?.as_str()).collect();
    let key: Key = (names.namespace.clone(), names.canary.clone());
    let waking = stores.clone();
    let claims = stores.api.lists.of(&stores.api.client, &names.namespace, &CLAIMS, fresh, move || waking.wake(&key));
    let Some(claims) = claims else { return Volumes::Unknown };
    let single = claims.iter().find(|claim| mounted.contains(&&*claim.name) && !is_for_many(claim));
    single.map_or(Volumes::Shareable, |claim| {
        let modes = claim.spec["accessModes"].as_array().cloned().unwrap_or_default();
        let modes: Vec<&str> = modes.iter().filter_map(Value::as_str).collect();
        let what = format!("PersistentVolumeClaim {}", claim.name);
        Volumes::SingleWriter(("VolumeShared", problem(names, &what, &modes.join(", "))))
    })
}

fn problem(names: &Names, what: &str, kind: &str) -> String {
    format!(
        "the pods of {} mount {what}, which is {kind}: those of the primary and of the canary would write to it both, or not start; \
         use a claim that is ReadWriteMany, or accept it by the annotation {SHARED}: \"true\" of the Canary",
        names.target
    )
}

/// A claim that says no mode is not one that anybody could mount.
fn is_for_many(claim: &Listed) -> bool {
    let modes = claim.spec["accessModes"].as_array().map(Vec::as_slice).unwrap_or_default();
    modes.is_empty() || modes.iter().filter_map(Value::as_str).any(|mode| FOR_MANY.contains(&mode))
}
