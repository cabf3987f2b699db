//! How the pods of each revision are spoken to: at which port, by which protocol, and by a connection that is opened how.
//!
//! A revision that speaks gRPC or TLS comes with a spec that says so. What runs was promoted with what its Service and policy say, and is spoken to
//! so until the next promotion, though the spec says otherwise by then; a spec that changes alone holds for what runs too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::origin::spec_before;
use crate::api::CanarySpec;
use crate::api::service::protocol;
use crate::kubernetes::executor::{Executor, any_endpoint};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::render::{self, MainPort, Names};
use crate::kubernetes::stores::Stores;

/// Annotation of the primary's Service: how the pods of each revision that may run are spoken to, where the spec says otherwise.
pub(in crate::kubernetes) const SPEECH: &str = "weir.dev/speech";
/// The same by a Weir that noted the pods' ports alone.
const PORTS: &str = "weir.dev/ports";

/// How the pods of one revision are spoken to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kubernetes) struct Speech {
    /// The pods' port.
    target_port: Value,
    /// The name of the Service's port: where there is no application protocol, Istio takes it from there.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_protocol: Option<String>,
    /// What of the connections' policy says how they are opened.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(super) opening: Value,
}

impl Speech {
    /// Returns the Service's own port.
    pub(in crate::kubernetes) fn main_port(&self) -> MainPort {
        let Self { target_port, name, app_protocol, .. } = self.clone();
        MainPort { name, target: target_port, protocol: app_protocol }
    }

    /// Returns whether pods that are spoken to so answer to the other one too.
    fn is_like(&self, other: &Self) -> bool {
        let of = |speech: &Self| protocol(speech.app_protocol.as_deref(), &speech.name);
        self.target_port == other.target_port && of(self) == of(other) && self.opening == other.opening
    }
}

/// What is noted of a revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Noted {
    Whole(Speech),
    /// By a Weir that noted nothing else.
    Port(Value),
}

impl Noted {
    fn target_port(&self) -> &Value {
        match self {
            Self::Whole(speech) => &speech.target_port,
            Self::Port(port) => port,
        }
    }
}

/// Returns the own port of the Service that users call, as the spec and what is there say.
pub(super) fn main_port(stores: &Stores, names: &Names, spec: &CanarySpec, template: &Value) -> MainPort {
    let live = stores.services.get(&names.namespace, &names.apex);
    let ports = |spec: &Value| spec["ports"].as_array().cloned().unwrap_or_default();
    let before = live.as_ref().map(|live| ports(&spec_before(live, names))).unwrap_or_default();
    let live = live.map(|live| ports(&live.body()["spec"])).unwrap_or_default();
    render::main_port(spec, template, &live, &before)
}

impl Executor<'_> {
    /// Returns how the spec says that pods of a template are spoken to.
    pub(in crate::kubernetes) fn speech(&self, template: &Value) -> Speech {
        let MainPort { name, target, protocol } = main_port(self.stores, self.names, self.spec, template);
        Speech { target_port: target, name, app_protocol: protocol, opening: self.opening() }
    }

    /// Returns how the `primary`'s pods are spoken to, where the spec says `wanted`.
    pub(in crate::kubernetes) fn spoken(&self, primary: &Target, wanted: &Speech) -> Speech {
        let target_port = self.served(primary, &wanted.target_port);
        let running = render::revision_of(primary);
        if !self.is_fresh && running.is_some_and(|running| self.declares(running)) {
            return Speech { target_port, ..wanted.clone() };
        }
        let noted = running.and_then(|running| match self.noted().remove(running) {
            Some(Noted::Whole(speech)) => Some(speech),
            Some(Noted::Port(_)) | None => None,
        });
        let kept = noted.or_else(|| self.live_speech(wanted)).unwrap_or_else(|| wanted.clone());
        Speech { target_port, ..kept }
    }

    /// Returns how the pods of a revision are spoken to that the primary runs or is to run, where the spec says `wanted`; and a note of how
    /// all revisions that may run are, where that is not all the same: a promotion may be undone.
    pub(in crate::kubernetes) fn speech_of(
        &self,
        revision: &str,
        template: &Value,
        primary: Option<&Target>,
        wanted: &Speech,
    ) -> (Speech, Option<String>) {
        let mut noted = self.noted();
        let running = primary.and_then(render::revision_of);
        let mut speech = match (primary.filter(|_| running == Some(revision)), noted.get(revision)) {
            (Some(primary), _) => self.spoken(primary, wanted),
            (None, Some(Noted::Whole(speech))) if !self.declares(revision) => speech.clone(),
            (None, _) => wanted.clone(),
        };
        if let Some(noted) = noted.get(revision).filter(|_| !render::declares(template, &wanted.target_port)) {
            speech.target_port.clone_from(noted.target_port());
        }
        if let Some((running, live)) = running.filter(|running| *running != revision).zip(self.live_speech(wanted)) {
            noted.entry(running.to_owned()).or_insert(Noted::Whole(live));
        }
        let serves = any_endpoint(self.stores, &self.names.namespace, &self.names.primary_service());
        let is_done = serves && running == Some(revision) && primary.is_some_and(|it| it.progress().is_settled());
        if is_done {
            noted.clear();
        }
        noted.insert(revision.to_owned(), Noted::Whole(speech.clone()));
        let differs = |noted: &Noted| match noted {
            Noted::Whole(speech) => speech != wanted,
            Noted::Port(port) => *port != wanted.target_port,
        };
        let note = noted.values().any(differs).then(|| json!(noted).to_string());
        (speech, note)
    }

    /// Returns whether the target's pods are spoken to otherwise than the primary's. While an update replaces these, their Service
    /// can lead to those of one revision only.
    pub(in crate::kubernetes) fn update_changes_speech(&self) -> bool {
        let live = self.stores.target(self.names.kind, &self.names.namespace, &self.names.primary());
        let Some((target, live)) = self.target.zip(live) else { return false };
        let wanted = self.speech(&target.template());
        !self.spoken(&live, &wanted).is_like(&wanted)
    }

    /// Returns whether a revision is what the target declares.
    fn declares(&self, revision: &str) -> bool {
        self.resolved.is_some_and(|resolved| resolved.revision.0 == revision)
    }

    /// Returns the port that the pods of the `primary`'s revision serve. What runs was promoted with the port that its service has,
    /// and a port that the spec says since is the next revision's, unless the pods declare it too.
    fn served(&self, primary: &Target, wanted: &Value) -> Value {
        let template = primary.template();
        if render::declares(&template, wanted) {
            return wanted.clone();
        }
        if let Some(noted) = render::revision_of(primary).and_then(|revision| self.noted().remove(revision)) {
            return noted.target_port().clone();
        }
        let serves = any_endpoint(self.stores, &self.names.namespace, &self.names.primary_service());
        let port = self.live_port().filter(|_| serves).and_then(|port| port.get("targetPort").cloned());
        port.unwrap_or_else(|| wanted.clone())
    }

    /// Returns how the primary's Service and policy have its pods spoken to; what they do not tell is as `wanted`.
    fn live_speech(&self, wanted: &Speech) -> Option<Speech> {
        let port = self.live_port()?;
        Some(Speech {
            target_port: port.get("targetPort")?.clone(),
            name: port["name"].as_str().unwrap_or(&wanted.name).to_owned(),
            app_protocol: port["appProtocol"].as_str().map(str::to_owned),
            opening: self.live_opening().unwrap_or_else(|| wanted.opening.clone()),
        })
    }

    /// Returns the own port of the primary's Service, where nobody else has a hand in it.
    fn live_port(&self) -> Option<Value> {
        let live = self.stores.services.get(&self.names.namespace, &self.names.primary_service())?;
        live.owners().filter(|owners| !owners.others_wrote("ports"))?;
        let ports = live.body()["spec"]["ports"].take();
        let number = self.spec.service.port.unwrap_or_default().into();
        let mut ports = ports.as_array()?.iter();
        ports.clone().find(|port| render::is_of(port, &number)).or_else(|| ports.next()).cloned()
    }

    /// Returns how the pods of revisions are spoken to that the spec does not speak of.
    fn noted(&self) -> BTreeMap<String, Noted> {
        let live = self.stores.services.get(&self.names.namespace, &self.names.primary_service());
        let noted = live.as_deref().and_then(|live| live.annotation(SPEECH).or_else(|| live.annotation(PORTS)));
        noted.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}
