//! Looks at Flux and at Canaries all the time: what `kubectl wait`, kstatus and Flux say of them must agree, at every look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use super::super::kubectl::object;
use super::condition;

/// What kstatus makes of an object with a status of its own: what Flux waits by.
fn kstatus(object: &Value) -> &'static str {
    let status = |kind: &str| condition(object, kind).0;
    if !object["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
        "InProgress"
    } else if status("Stalled") == "True" {
        "Failed"
    } else if status("Reconciling") == "True" || ["False", "Unknown"].contains(&status("Ready").as_str()) {
        "InProgress"
    } else {
        "Current"
    }
}

pub(super) struct Watch {
    task: JoinHandle<Vec<String>>,
    ends: Arc<AtomicBool>,
    /// Whether Flux has something to apply, and so may say that it is not done.
    applies: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
}

impl Watch {
    /// Begins to look, at Canaries that are set up and Kustomizations that are applied.
    pub(super) fn begin(canaries: &'static [&'static str], kustomizations: &'static [&'static str]) -> Self {
        let (ends, applies, looks) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::default());
        let (end, apply, looked) = (ends.clone(), applies.clone(), Arc::<AtomicU64>::clone(&looks));
        let task = tokio::spawn(async move {
            let mut wrong = Vec::new();
            while !end.load(Ordering::Relaxed) {
                for name in canaries {
                    wrong.extend(look_at_canary(name));
                }
                for name in kustomizations {
                    let may_apply = apply.load(Ordering::Relaxed);
                    wrong.extend(look_at_kustomization(name, may_apply || apply.load(Ordering::Relaxed)));
                }
                looked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            wrong
        });
        Self { task, ends, applies, looks }
    }

    /// A commit is pushed: until [`Watch::rests`] Flux may be busy, and must not fail.
    pub(super) fn applies(&self) {
        self.applies.store(true, Ordering::Relaxed);
    }

    pub(super) fn rests(&self) {
        self.applies.store(false, Ordering::Relaxed);
    }

    /// Ends; nothing may ever have been otherwise.
    pub(super) async fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        let wrong = self.task.await.unwrap();
        println!("{} looks at Flux and at the Canaries", self.looks.load(Ordering::Relaxed));
        assert!(wrong.is_empty(), "{} of the looks:\n{}", wrong.len(), wrong.join("\n"));
    }
}

fn look_at_canary(name: &str) -> Option<String> {
    let canary = object("prod", "canary", name)?;
    let (ready, message) = condition(&canary, "Ready");
    let is_seen = canary["status"]["observedGeneration"] == canary["metadata"]["generation"];
    let stated = kstatus(&canary);
    let agree = ready == "True" && (stated == "Current" || !is_seen);
    let phase = &canary["status"]["phase"];
    (!agree).then(|| format!("{name} ({phase}): Ready is {ready}, kstatus says {stated}: {message}"))
}

fn look_at_kustomization(name: &str, may_apply: bool) -> Option<String> {
    let kustomization = object("flux-system", "kustomization", name)?;
    let (ready, message) = condition(&kustomization, "Ready");
    // Waiting for what it depends on is said with False.
    let waits = condition(&kustomization, "Reconciling").0 == "True" || message.contains("dependency");
    let fine = ready == "True" || (may_apply && (ready == "Unknown" || waits));
    (!fine).then(|| format!("Kustomization {name}: Ready is {ready}: {message}"))
}

#[test]
fn kstatus_goes_by_the_generation_first() {
    let object = |observed: u32, conditions: &str| -> Value {
        let conditions: Value = serde_saphyr::from_str(conditions).unwrap();
        serde_json::json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": conditions}})
    };
    let stalled = "[{type: Stalled, status: 'True'}, {type: Ready, status: 'False'}]";
    assert_eq!(kstatus(&object(1, stalled)), "InProgress");
    assert_eq!(kstatus(&object(2, stalled)), "Failed");
    assert_eq!(kstatus(&object(2, "[{type: Ready, status: Unknown}]")), "InProgress");
    assert_eq!(kstatus(&object(2, "[{type: Ready, status: 'True'}, {type: Promoted, status: 'False'}]")), "Current");
}
