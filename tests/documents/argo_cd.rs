//! The health of a Canary as Argo CD shows it: the page's own script, over statuses as Weir writes them.

use mlua::{Lua, LuaSerdeExt as _};
use serde_json::{Value, json};

use crate::markdown::blocks;

/// Returns what the script makes of a Canary.
fn health(canary: &Value) -> (String, String) {
    let blocks = blocks("docs/argo-cd.md");
    let block = blocks.iter().find(|block| block.marker == "argo cd's health of a Canary").unwrap();
    let object: Value = serde_saphyr::from_str(&block.body).unwrap();
    let script = object["data"]["resource.customizations.health.weir.dev_Canary"].as_str().unwrap();
    let lua = Lua::new();
    // A field that is null is absent, as in what Argo CD hands over.
    let options = mlua::SerializeOptions::new().serialize_none_to_null(false).serialize_unit_to_null(false);
    lua.globals().set("obj", lua.to_value_with(canary, options).unwrap()).unwrap();
    let health: mlua::Table = lua.load(script).eval().unwrap();
    (health.get("status").unwrap(), health.get("message").unwrap())
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

/// Returns a Canary in a phase, for a reason, with these conditions.
fn canary(phase: &str, reason: &str, conditions: &[Value]) -> Value {
    json!({"metadata": {"generation": 3}, "status": {
        "observedGeneration": 3, "phase": phase, "reason": reason, "message": "12 of 20 requests", "conditions": conditions}})
}

#[test]
fn argo_cd_shows_a_release_as_it_stands() {
    let ready = condition("Ready", "True", "Accepted", "");
    let promoted = |status: &str| condition("Promoted", status, "Word", "revision 1a2b was taken back: 2 of 2 failed");
    let rows = [
        ("Initialized", "UpToDate", vec![ready.clone(), promoted("True")], "Healthy"),
        ("Succeeded", "Promoted", vec![ready.clone(), promoted("True")], "Healthy"),
        ("Progressing", "Analysing", vec![ready.clone(), promoted("Unknown")], "Progressing"),
        ("Progressing", "WaitingForGate", vec![ready.clone(), promoted("Unknown")], "Suspended"),
        ("Progressing", "Observing", vec![ready.clone(), promoted("Unknown")], "Suspended"),
        ("Progressing", "Paused", vec![ready.clone(), promoted("Unknown")], "Suspended"),
        ("Failed", "GuardTripped", vec![ready.clone(), promoted("False")], "Degraded"),
        ("Initializing", "TargetMissing", vec![condition("Ready", "Unknown", "TargetMissing", "")], "Progressing"),
        ("Initialized", "NameTaken", vec![condition("Stalled", "True", "NameTaken", "Service shop is …")], "Degraded"),
    ];
    for (phase, reason, conditions, expected) in rows {
        assert_eq!(health(&canary(phase, reason, &conditions)).0, expected, "{phase} {reason}");
    }
    let (_, said) = health(&canary("Failed", "GuardTripped", &[ready.clone(), promoted("False")]));
    assert_eq!(said, "revision 1a2b was taken back: 2 of 2 failed");
}

#[test]
fn argo_cd_waits_for_what_weir_has_not_seen_yet() {
    let mut edited = canary("Succeeded", "Promoted", &[condition("Ready", "True", "Accepted", "")]);
    edited["metadata"]["generation"] = json!(4);
    assert_eq!(health(&edited).0, "Progressing");
    assert_eq!(health(&json!({"metadata": {"generation": 1}})).0, "Progressing");
}
