//! What people see of a Canary where the replica that acts cannot be asked: made of the status and the events that it wrote.

use k8s_openapi::api::core::v1::Event as ApiEvent;
use kube::api::ListParams;
use kube::{Api, Client};
use weir_engine::{CheckResult, Observation, Reason, Severity, Timestamp};

use crate::api::plan_of;
use crate::kubernetes::kinds::canary::Canary;
use crate::kubernetes::reconcile::events::REASON;
use crate::kubernetes::reconcile::status::stored_state;
use crate::view::why::advice;
use crate::view::{CanaryDetail, CanaryView, EventView, Particulars, Replies};

/// What is said of a workload that nobody here has looked at.
const NOT_SEEN: &str = "not looked at";

/// Returns what a Canary's status tells of it.
pub(crate) fn view(canary: &Canary) -> CanaryView {
    let (namespace, name, status) = (canary.namespace(), canary.name(), &canary.fields.status);
    let state = stored_state(status).unwrap_or_default();
    let plan = canary.fields.spec.as_ref().ok().and_then(|spec| plan_of(namespace, name, spec).ok());
    let (seen, reason) = (Observation::default(), Reason::UpToDate);
    let mut view = match plan {
        Some(plan) => CanaryView::of(namespace, name, &plan, &state, &seen, &reason),
        None => CanaryView {
            namespace: namespace.into(),
            name: name.into(),
            phase: state.phase,
            since: state.since,
            weight: state.traffic.weight.percent(),
            ..CanaryView::default()
        },
    };
    view.reason = status.reason.clone().unwrap_or_default();
    view.message = status.message.clone().unwrap_or_default();
    let gateways = status.gateways.clone().unwrap_or_default();
    view.applied.of = usize::try_from(gateways.serving).unwrap_or_default();
    view.applied.gateways = usize::try_from(gateways.acknowledged).unwrap_or_default();
    view.stalled = status.conditions.iter().any(|condition| condition.kind == "Stalled" && condition.status == "True");
    // What the target declares was not looked at: a new revision may wait.
    view.waiting = !view.is_rolling_out() && ["Suspended", "Paused"].contains(&view.reason.as_str());
    view.primary.revision.clone_from(&status.last_promoted_spec);
    view.canary.revision.clone_from(&status.last_applied_spec);
    view.primary.readiness = NOT_SEEN.into();
    view.canary.readiness = NOT_SEEN.into();
    view.in_cluster = true;
    view
}

/// Returns a Canary and what happened to it, as its status tells.
pub(crate) fn detail(canary: &Canary, events: Vec<EventView>) -> CanaryDetail {
    let (namespace, name, status) = (canary.namespace(), canary.name(), &canary.fields.status);
    let state = stored_state(status).unwrap_or_default();
    let plan = canary.fields.spec.as_ref().ok().and_then(|spec| plan_of(namespace, name, spec).ok());
    let said = status.webhooks.iter().map(|webhook| {
        let result = match webhook.result.as_str() {
            "Passed" => CheckResult::Passed,
            _ => CheckResult::Failed(webhook.message.clone()),
        };
        (webhook.name.clone(), (webhook.kind.clone(), result))
    });
    let replies = Replies { webhooks: said.collect(), ..Replies::default() };
    let particulars = plan.map(|plan| Particulars::of(&plan, &state, &Observation::default(), &replies));
    let view = view(canary);
    let particulars = Particulars { advice: advice(&view), ..particulars.unwrap_or_default() };
    CanaryDetail { view, particulars, from_status: true, history: None, last: None, events }
}

/// Returns what happened to a Canary, as far as its events may be read and are still there.
pub(super) async fn events(client: &Client, namespace: &str, name: &str) -> Vec<EventView> {
    let api: Api<ApiEvent> = Api::namespaced(client.clone(), namespace);
    let fields = format!("involvedObject.kind=Canary,involvedObject.name={name}");
    let Ok(found) = api.list(&ListParams::default().fields(&fields)).await else { return Vec::new() };
    let mut events: Vec<EventView> = found.items.into_iter().map(event).collect();
    events.sort_by_key(|event| event.at);
    events
}

fn event(event: ApiEvent) -> EventView {
    let at = event.last_timestamp.map_or(0, |time| time.0.as_millisecond());
    let reason = event.metadata.annotations.and_then(|mut annotations| annotations.remove(REASON));
    EventView {
        at: Timestamp(u64::try_from(at).unwrap_or_default()),
        severity: if event.type_.as_deref() == Some("Warning") { Severity::Warning } else { Severity::Info },
        reason: reason.or(event.reason).unwrap_or_default(),
        text: event.message.unwrap_or_default(),
    }
}
