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
/// Modes in which a volume is for the pods of one machine, or for one pod.
const FOR_ONE: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];
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
    /// It cannot be told, or one of them does not exist: that may pass by itself.
    Missing(Fault),
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
    let claimed = |volume: &Value| {
        let name = volume.pointer("/persistentVolumeClaim/claimName")?.as_str()?.to_owned();
        Some((name, is_only_read(&template, volume)))
    };
    let mounted: Vec<(String, bool)> = mounted.iter().filter_map(claimed).collect();
    let key: Key = (names.namespace.clone(), names.canary.clone());
    let waking = stores.clone();
    let claims = stores.api.lists.of(&stores.api.client, &names.namespace, &CLAIMS, fresh, move || waking.wake(&key));
    let Some(claims) = claims else { return Volumes::Unknown };
    if let Some(why) = claims.problem() {
        let problem = format!("whether two revisions may have the volumes of {} is not known, as {why}", names.target);
        return Volumes::Missing(("VolumeUnknown", problem));
    }
    let single = claims
        .items
        .iter()
        .find(|claim| mounted.iter().any(|(name, only_read)| **name == *claim.name && !is_for_many(claim, *only_read)));
    if let Some(claim) = single {
        let modes = claim.spec["accessModes"].as_array().cloned().unwrap_or_default();
        let modes: Vec<&str> = modes.iter().filter_map(Value::as_str).collect();
        let what = format!("PersistentVolumeClaim {}", claim.name);
        return Volumes::SingleWriter(("VolumeShared", problem(names, &what, &modes.join(", "))));
    }
    // Without the right to look, or beyond what is looked at, one that is not seen may be there.
    let all_seen = claims.withheld.is_empty() && !claims.cut;
    let is_there = |name: &str| claims.items.iter().any(|claim| *claim.name == *name);
    match mounted.iter().find(|(name, _)| all_seen && !is_there(name)) {
        Some((name, _)) => {
            let (kind, target, namespace) = (names.kind.word(), &names.target, &names.namespace);
            let problem = format!(
                "{kind} {target} mounts PersistentVolumeClaim {name}, which does not exist in namespace {namespace}: create it"
            );
            Volumes::Missing(("VolumeMissing", problem))
        }
        None => Volumes::Shareable,
    }
}

fn problem(names: &Names, what: &str, kind: &str) -> String {
    format!(
        "the pods of {} mount {what}, which is {kind}: those of the primary and of the canary would write to it both, or not start; \
         use a claim that is ReadWriteMany, or one that is ReadOnlyMany with readOnly: true of the volume, or accept it by the annotation {SHARED}: \"true\" of the Canary",
        names.target
    )
}

/// Returns whether both revisions may have a claim. One that says no mode is not one that anybody could mount. One that is for a writer or
/// for many readers is written to by whoever mounts it, unless he says that he only reads.
fn is_for_many(claim: &Listed, only_read: bool) -> bool {
    let modes = claim.spec["accessModes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |mode: &str| modes.iter().any(|known| known == mode);
    let for_one = FOR_ONE.into_iter().any(has);
    modes.is_empty() || has("ReadWriteMany") || has("ReadOnlyMany") && (only_read || !for_one)
}

/// Returns whether no container of a pod writes to a volume.
fn is_only_read(template: &Value, volume: &Value) -> bool {
    let containers = ["containers", "initContainers"].into_iter().filter_map(|list| template["spec"][list].as_array());
    let mounts = containers.flatten().filter_map(|container| container["volumeMounts"].as_array()).flatten();
    let mut mounts = mounts.filter(|mount| mount["name"] == volume["name"]).peekable();
    let only_read = volume["persistentVolumeClaim"]["readOnly"] == true;
    only_read || mounts.peek().is_some() && mounts.all(|mount| mount["readOnly"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_for_both_revisions_where_nobody_or_everybody_may_write() {
        let (rwo, rwop, rwx, rox) = ("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany");
        // Modes, and whether it is for both where it is written to, and where it is only read.
        let rows: [(&[&str], bool, bool); 8] = [
            (&[], true, true),
            (&[rwx], true, true),
            (&[rwo, rwx], true, true),
            (&[rox], true, true),
            (&[rwo, rox], false, true),
            (&[rox, rwop], false, true),
            (&[rwo], false, false),
            (&[rwop], false, false),
        ];
        for (modes, written, only_read) in rows {
            let spec = json!({"accessModes": modes});
            let claim = Listed { kind: "PersistentVolumeClaim", namespace: "shop".into(), name: "data".into(), spec };
            assert_eq!((is_for_many(&claim, false), is_for_many(&claim, true)), (written, only_read), "{modes:?}");
        }
    }

    #[test]
    fn a_volume_is_only_read_where_it_says_so_or_all_its_mounts_do() {
        let mount = |name: &str, only_read: bool| json!({"volumeMounts": [{"name": name, "readOnly": only_read}]});
        let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data"}});
        let with = |spec: Value| is_only_read(&json!({"spec": spec}), &volume);
        assert!(!with(json!({"containers": [{}]})));
        assert!(with(json!({"containers": [mount("data", true), mount("other", false)]})));
        assert!(!with(json!({"containers": [mount("data", true)], "initContainers": [mount("data", false)]})));
        let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": true}});
        assert!(is_only_read(&json!({"spec": {"containers": [mount("data", false)]}}), &volume));
    }
}
