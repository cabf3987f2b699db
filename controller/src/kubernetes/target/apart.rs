//! What Flagger controls beside the objects that a Canary needs: it would go with Flagger's Canary, so nothing is taken over before it is
//! told.

use kube::api::DynamicObject;
use serde_json::Value;

use crate::kubernetes::render::Names;
use crate::kubernetes::router::all_around;
use crate::kubernetes::stores::Stores;
use crate::kubernetes::target::flagger::{Around, around, controller_of, of_target};

/// Returns what a Canary of Flagger's controls beside the objects that a Canary needs, of the kinds that it makes: nobody takes it over.
#[must_use]
pub(crate) fn beside(stores: &Stores, names: &Names, flaggers: &DynamicObject) -> Vec<String> {
    let namespace = &names.namespace;
    let around = around(stores, names);
    let targets = stores.targets_of(namespace);
    let mut all: Vec<Around> = targets.iter().map(of_target).collect();
    all.extend(Around::all(&stores.scalers, namespace));
    all.extend(Around::all(&stores.services, namespace));
    all.extend(all_around(stores, names));
    let is_of = |it: &&Around| {
        controller_of(&it.metadata).is_some_and(|(_, owner)| flaggers.metadata.uid.as_ref() == Some(&owner))
    };
    let is_needed = |it: &&Around| around.iter().any(|other| other.kind == it.kind && other.name() == it.name());
    let found = all.iter().filter(is_of).filter(|it| !is_needed(it)).map(|it| format!("{} {}", it.kind, it.name()));
    found.chain(scaled_object(&flaggers.data)).collect()
}

/// Returns the ScaledObject that Flagger makes for a primary. Nobody watches these, so it is known from the Canary alone.
fn scaled_object(flaggers: &Value) -> Option<String> {
    let scaler = &flaggers["spec"]["autoscalerRef"];
    let name = scaler["name"].as_str().filter(|_| scaler["kind"] == "ScaledObject")?;
    Some(format!("ScaledObject {name}-primary"))
}

/// Returns why what a Canary of Flagger's controls cannot all be taken over by a Canary of Weir's: the rest would go with it.
#[must_use]
pub(crate) fn apart(flaggers: &Value, names: &Names) -> Option<String> {
    let spec = &flaggers["spec"];
    let (target, scaler) = (&spec["targetRef"], &spec["autoscalerRef"]);
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (name, kind) = (text(&target["name"]).unwrap_or_default(), text(&target["kind"]));
    let ours = names.kind.word();
    if name != names.target || kind.as_deref().is_some_and(|kind| kind != ours) {
        let theirs = kind.unwrap_or_else(|| ours.to_owned());
        return Some(format!(
            "releases {theirs} {name}, and Canary {} {ours} {}: give both the same target",
            names.canary, names.target
        ));
    }
    let apex = text(&spec["service"]["name"]).unwrap_or(name);
    if apex != names.apex {
        return Some(format!(
            "serves under {apex}, and Canary {} under {}: give both the same service.name",
            names.canary, names.apex
        ));
    }
    match (text(&scaler["kind"]).unwrap_or_default(), text(&scaler["name"])) {
        (kind, Some(name)) if kind == "ScaledObject" => Some(format!(
            "controls ScaledObject {name}-primary, which goes with it: take its ownerReferences out, and autoscalerRef out of Flagger's Canary, \
             and KEDA goes on sizing the primary"
        )),
        (kind, Some(name)) if names.scaler.as_ref() != Some(&name) => {
            Some(format!("has {kind} {name} as its autoscalerRef: give Canary {} the same", names.canary))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_flagger_makes_under_other_names_is_named_with_what_to_give() {
        let names = Names { canary: "cart".into(), target: "cart".into(), apex: "cart".into(), ..Names::default() };
        let of = |kind: &str, more: Value| {
            let mut spec = json!({"targetRef": {"kind": kind, "name": "cart"}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            apart(&json!({"spec": spec}), &names)
        };
        let scaler = |kind: &str| json!({"autoscalerRef": {"kind": kind, "name": "cart"}});
        assert_eq!(of("Deployment", json!({"service": {"port": 80}})), None);
        for (kind, more, expected) in [
            (
                "DaemonSet",
                json!({}),
                "releases DaemonSet cart, and Canary cart Deployment cart: give both the same target",
            ),
            (
                "Deployment",
                json!({"service": {"name": "shop"}}),
                "serves under shop, and Canary cart under cart: give both",
            ),
            (
                "Deployment",
                scaler("HorizontalPodAutoscaler"),
                "has HorizontalPodAutoscaler cart as its autoscalerRef: give",
            ),
            ("Deployment", scaler("ScaledObject"), "controls ScaledObject cart-primary, which goes with it: take"),
        ] {
            let told = of(kind, more).unwrap();
            assert!(told.starts_with(expected), "{told}");
        }
    }
}
