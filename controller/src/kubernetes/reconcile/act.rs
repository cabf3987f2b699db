//! Carries out one action: renders the object, compares it with the live one, and writes it where they differ.

use serde_json::{Value, json};
use tracing::warn;
use weir_engine::{Replicas, Revision};

use crate::kubernetes::api_server::MANAGER;
use crate::kubernetes::api_server::apply::ActError;
use crate::kubernetes::api_server::cover::covers;
use crate::kubernetes::configs::ensure;
use crate::kubernetes::executor::{Executor, comparable, foreign_target, standing};
use crate::kubernetes::kinds::Target;
use crate::kubernetes::render::{self, ArmLabels, Configs, Role, STARTED_WITH};
use crate::kubernetes::router::SPEECH;
use crate::kubernetes::target::revision::load;

/// The field manager of the mark on a target's pods. With Weir's own the next apply, which sends `replicas` alone, would remove
/// the mark.
const RESTART_MANAGER: &str = "weir-configs";

impl Executor<'_> {
    /// Makes the primary run a revision, with its services.
    ///
    /// # Errors
    /// When the API refuses a write, or nothing is known of the revision.
    pub(crate) async fn primary(
        &self,
        revision: &Revision,
        replicas: Replicas,
        follow_autoscaler: bool,
    ) -> Result<(), ActError> {
        let (stores, names) = (self.stores, self.names);
        let target = self.target.zip(self.resolved);
        let (snapshot, resolved) = load(stores, names, target, revision).ok_or_else(|| {
            ActError::Precondition(format!("the pod template of revision {revision} is not known any more"))
        })?;
        let live = stores.target(names.kind, &names.namespace, &names.primary());
        foreign_target(live.as_ref(), names).map_or(Ok(()), |problem| Err(ActError::Precondition(problem)))?;
        let labels = self.labels(&snapshot["template"], live.as_ref())?;
        let runs = live.as_ref().and_then(render::revision_of) == Some(&revision.0);
        match ensure(stores, names, &resolved).await {
            // A copy that somebody deleted, of what has changed since: pods that run have read it.
            Err(error) if runs => warn!(%error, "the primary's pods cannot be started again"),
            other => other?,
        }
        let copied = if resolved.copied { resolved.configs } else { Configs::new() };
        let replicas = match replicas {
            Replicas::Exactly(replicas) => Some(i64::from(replicas)),
            Replicas::Declared | Replicas::Keep => None,
        };
        let standing = standing(stores, names);
        // An autoscaler begins with as many pods as serve.
        let replicas = standing.as_ref().filter(|_| live.is_none()).and_then(Target::replicas).or(replicas);
        self.arms(&labels, &snapshot["template"], &revision.0, standing.as_ref().or(live.as_ref())).await?;
        if standing.is_some() && live.is_none() && self.target.is_none() {
            // How its pods are told from the target's is known once that is there.
            return Ok(());
        }
        let mut wanted = render::primary(names, &labels, &revision.0, &snapshot, &copied, replicas);
        let running = live.as_ref().filter(|_| runs);
        let keeps_pods = running.is_some_and(|live| render::keep_pods(&mut wanted, &live.json(), live.owners()));
        // Also where nothing but the size is to change hands.
        let is_so = |live: &Target| {
            let settled = live.owners().is_some_and(|owners| owners.are_settled(&wanted));
            settled && covers(&live.json(), &comparable(&wanted))
        };
        if let Some(live) = live.filter(|live| replicas.is_none() && !is_so(live)) {
            self.release_replicas(&live).await?;
        }
        self.ensure_target(&wanted, keeps_pods).await?;
        self.primary_hpa(&labels, follow_autoscaler).await
    }

    /// Makes the services and policies of both arms, where the primary is to run a revision of this template.
    async fn arms(
        &self,
        labels: &ArmLabels,
        template: &Value,
        revision: &str,
        primary: Option<&Target>,
    ) -> Result<(), ActError> {
        let (names, spec) = (self.names, self.spec);
        let wanted = self.speech(template);
        let (speech, note) = self.speech_of(revision, template, primary, &wanted);
        let ports = render::ports(spec, template, &speech.main_port());
        let mut service = render::service(names, spec, Role::Primary, &labels.primary, &ports);
        if let Some(note) = note {
            service["metadata"]["annotations"][SPEECH] = note.into();
        }
        self.export(&mut service);
        self.ensure_service(&service).await?;
        if let (Some(selector), Some(of_target)) = (&labels.canary, self.target) {
            // The canary's pods are the target's of today.
            let ports = render::ports(spec, &of_target.template(), &wanted.main_port());
            let mut service = render::service(names, spec, Role::Canary, selector, &ports);
            self.export(&mut service);
            self.ensure_service(&service).await?;
        }
        self.make_policies(&speech).await
    }

    /// Gives the canary its size, and its pods the mark of what they are to read.
    ///
    /// # Errors
    /// When the API refuses the write.
    pub(crate) async fn canary(&self, replicas: Replicas, mark: Option<&str>) -> Result<(), ActError> {
        let Some(target) = self.target else { return Ok(()) };
        if let Some(mark) = mark {
            self.restart(target, mark).await?;
        }
        let Replicas::Exactly(replicas) = replicas else { return Ok(()) };
        if target.progress().wanted == i64::from(replicas) {
            return Ok(());
        }
        let (kind, metadata) = (self.names.kind, json!({"name": target.name(), "namespace": target.namespace()}));
        self.apply_target(MANAGER, &kind.object(metadata, kind.size(i64::from(replicas)))).await
    }

    /// Has the target's pods replaced, since what they read has changed.
    async fn restart(&self, target: &Target, mark: &str) -> Result<(), ActError> {
        let metadata = json!({"name": target.name(), "namespace": target.namespace()});
        let spec = json!({"template": {"metadata": {"annotations": {STARTED_WITH: mark}}}});
        self.apply_target(RESTART_MANAGER, &self.names.kind.object(metadata, spec)).await
    }
}
