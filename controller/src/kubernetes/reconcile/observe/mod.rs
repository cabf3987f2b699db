//! What one decision looks at, from the caches alone.

mod workload;

use std::sync::Arc;

use crate::api::CanarySpec;
use crate::kubernetes::configs::{TrackedRevision, missing_copy};
use crate::kubernetes::executor::{any_endpoint, standing};
use crate::kubernetes::gateway::GatewayWorkload;
use crate::kubernetes::kinds::Target;
use crate::kubernetes::kinds::canary::TakenOver;
use crate::kubernetes::render::{Names, STARTED_WITH, inherited_revision, revision_of, started_with, template_of};
use crate::kubernetes::router::is_of_arms;
use crate::kubernetes::stores::Stores;
use crate::kubernetes::target::scaler::{autoscaler, is_sized};

use weir_engine::{
    Gateway, Inherited, Observation, Readiness, Revision, Sizer, Span, State, Timestamp, VerbRequest, Workload as Arm,
};
pub(crate) use workload::Endpoints;

/// Annotation by which a person asks for something: the verb, a space, and anything that differs from the last request's.
pub(crate) const VERB: &str = "weir.dev/verb";
/// Time from a primary's first ready endpoint to the first routes that lead to it: istiod needs that long to send the endpoint to
/// Envoy.
const ENDPOINT_GRACE: Span = Span::seconds(1);

/// What is remembered between two passes, and not worth storing.
#[derive(Debug, Default)]
pub(crate) struct SeenEndpoints {
    primary: Endpoints,
    canary: Endpoints,
}

/// Observes one Canary.
pub(crate) struct Observer<'a> {
    /// The cluster.
    pub(crate) stores: &'a Stores,
    /// The objects' names.
    pub(crate) names: &'a Names,
    /// What the user wants.
    pub(crate) spec: &'a CanarySpec,
    /// The canary's id in metrics.
    pub(crate) id: &'a str,
    /// The target, if it exists.
    pub(crate) target: Option<&'a Target>,
    /// What it declares, or why that cannot be told.
    pub(crate) resolved: Result<&'a TrackedRevision, &'a str>,
    /// Why what the canary's pods read could not be copied, if it could not.
    pub(crate) uncopied: Option<&'a str>,
    /// The gateways that requests come through.
    pub(crate) gateways: &'a [Arc<GatewayWorkload>],
    /// Those that requests came through a moment ago, and may still split them.
    pub(crate) leaving: &'a [Arc<GatewayWorkload>],
    /// Whether they are sidecars of callers alone.
    pub(crate) only_callers: bool,
    /// What the engine remembers.
    pub(crate) state: &'a State,
    /// What was taken over from another controller, if something was.
    pub(crate) taken_over: Option<&'a TakenOver>,
    /// The time of the observation.
    pub(crate) now: Timestamp,
}

impl Observer<'_> {
    /// Returns what is seen. Answers of other programs, verbs and deletion are added by who knows them.
    #[must_use]
    pub(crate) fn observe(&self, endpoints: &mut SeenEndpoints) -> Observation {
        let Self { stores, names, .. } = self;
        // A target that is gone, or lacks what it needs, has no new revision.
        let known = || self.known().cloned().unwrap_or_default();
        let seen = self.resolved.map_or_else(|_| known(), |resolved| resolved.revision.clone());
        let primary = stores.target(names.kind, &names.namespace, &names.primary());
        let runs = primary.as_ref().and_then(revision_of).map(|revision| Revision(revision.into()));
        let analysis = &self.spec.analysis;
        let autoscaler = autoscaler(stores, names);
        // What an autoscaler sizes has its number, whatever stands in a manifest.
        let declared = self.target.and_then(Target::declared_replicas);
        let declared = declared.filter(|_| autoscaler.minimum.is_none() && !is_sized(stores, names, &names.target));
        let mut observation = Observation {
            primary: self.arm(
                primary.as_ref(),
                runs,
                &names.primary_service(),
                analysis.primary_ready_threshold,
                &mut endpoints.primary,
            ),
            canary: self.canary(&seen, analysis.canary_ready_threshold, &mut endpoints.canary),
            target: seen,
            only_callers: self.only_callers,
            autoscaler,
            update_stops_primary: self
                .target
                .zip(primary.as_ref())
                .is_some_and(|(target, primary)| target.update_stops(pods(primary.replicas()))),
            declared_replicas: declared.filter(|_| !autoscaler.sizes_primary),
            sized_by: match declared {
                Some(_) => Sizer::User,
                None if self.target.is_some_and(Target::sized_by_weir) => Sizer::Weir,
                None => Sizer::Cluster,
            },
            target_is_deleted: self.target.is_some_and(Target::deleted),
            ..Observation::default()
        };
        if primary.is_none() {
            // What is made in place of another one is made of its size.
            observation.primary.replicas = standing(stores, names).map(|standing| pods(standing.replicas()));
        }
        observation.inherited = primary.as_ref().and_then(inherited_revision).map(|revision| Inherited {
            revision: Revision(revision.into()),
            failed: self.taken_over.is_some_and(|it| it.failed),
        });
        if self.state.promoted.is_none() {
            self.hold_until_routable(&mut observation.primary);
        }
        let here = self.gateways.iter().map(|workload| workload.seen(stores, self.id));
        let seen = here.chain(self.leaving.iter().map(|workload| workload.seen_leaving(stores, self.id)));
        for (gateways, scrapes) in seen {
            observation.gateways.extend(gateways);
            observation.scrapes.extend(scrapes);
        }
        self.leave_out_silent_arms(&mut observation);
        observation
    }

    /// The pods of both arms are called; whether they call too is nobody's to know, and one of them that says nothing holds nobody.
    fn leave_out_silent_arms(&self, observation: &mut Observation) {
        let is_silent = |gateway: &Gateway| gateway.caller && gateway.silent;
        if !observation.gateways.iter().any(is_silent) {
            return;
        }
        let is_of_arms = is_of_arms(self.stores, self.names);
        observation.gateways.retain(|gateway| {
            let pod = || gateway.name.split_once('/').and_then(|(of, name)| self.stores.pods.get(of, name));
            !(is_silent(gateway) && pod().is_some_and(|pod| is_of_arms(&pod)))
        });
    }

    fn known(&self) -> Option<&Revision> {
        let state = self.state;
        state.run.as_ref().map(|run| &run.revision).or(state.applied.as_ref()).or(state.installed.as_ref())
    }

    /// Only pods that were started with what is analysed count as the canary's, and only where its copies exist.
    fn canary(&self, seen: &Revision, threshold: Option<i64>, endpoints: &mut Endpoints) -> Arm {
        let (stores, names) = (self.stores, self.names);
        let mut arm = self.arm(self.target, Some(seen.clone()), &names.canary_service(), threshold, endpoints);
        let Some(target) = self.target else { return arm };
        match self.resolved {
            Ok(resolved) if resolved.copied && stores.settings.config_tracking => {
                if !started_with(target.pod_annotation(STARTED_WITH), &resolved.configs) {
                    arm.revision = None;
                }
                if arm.readiness == Readiness::Ready
                    && let Some(missing) = missing_copy(stores, names, resolved)
                {
                    let why = self.uncopied.map_or_else(|| format!("{missing} to be copied"), str::to_owned);
                    arm.readiness = Readiness::Unready(why);
                }
            }
            Ok(_) => {}
            Err(why) => {
                let kept =
                    self.known().and_then(|known| stores.revisions.get(&names.namespace, &names.snapshot(&known.0)));
                if kept.is_none_or(|kept| kept.data()["template"] != template_of(&target.spec())) {
                    // Whatever runs is no longer what was analysed, and what it is cannot be told.
                    arm = Arm { revision: None, readiness: Readiness::Unready(why.into()), available: false, ..arm };
                }
            }
        }
        arm
    }

    fn arm(
        &self,
        workload: Option<&Target>,
        revision: Option<Revision>,
        service: &str,
        threshold: Option<i64>,
        endpoints: &mut Endpoints,
    ) -> Arm {
        let available = any_endpoint(self.stores, &self.names.namespace, service);
        endpoints.record(available, self.now);
        let readiness = match workload {
            Some(workload) => workload::readiness(self.stores, workload, threshold.unwrap_or(100), available),
            None => Readiness::Absent,
        };
        Arm {
            revision: revision.filter(|_| workload.is_some()),
            readiness,
            available,
            routable_since: endpoints.since,
            replicas: workload.map(|workload| pods(workload.replicas())),
        }
    }

    /// Takes the primary for unready until istiod has sent its endpoints to Envoy: the first routes to it come next.
    fn hold_until_routable(&self, primary: &mut Arm) {
        let routable = primary.routable_since.is_some_and(|since| self.now.since(since) >= ENDPOINT_GRACE);
        if primary.readiness == Readiness::Ready && !routable {
            primary.readiness = Readiness::Unready("waiting for its endpoints to become known".into());
        }
    }
}

/// Returns a number of pods as the API means it: 1 where none is given.
fn pods(replicas: Option<i64>) -> u32 {
    replicas.map_or(1, |replicas| u32::try_from(replicas).unwrap_or_default())
}

/// Reads the annotation by which a person asks for something.
#[must_use]
pub(crate) fn verb(annotation: Option<&str>) -> Option<VerbRequest> {
    let text = annotation?.trim();
    let word = text.split_whitespace().next()?;
    let verb = word.parse().ok()?;
    Some(VerbRequest { verb, id: text.to_owned() })
}
