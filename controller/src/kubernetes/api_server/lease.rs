//! One of several replicas acts: the one that holds the lease.
//!
//! A leader that cannot renew it stops well before another replica may take it. What it wrote before may still arrive late. A
//! Canary's status, which holds the engine's state, and the gateways' configuration carry the resource version that the decision
//! saw: the API server refuses them once the new leader has written. Other late writes are applied: each says all of what must
//! be so, and the next pass of the new leader says it again.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::kubernetes::api_server::apply::{ActError, is_status, with_timeout};
use crate::telemetry::Chain;

/// The lease's name.
const NAME: &str = "weir-leader";
/// A lease that was not renewed for so long may be taken.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(2);
/// Longest time for one: an API server that is slow for everybody must not cost the lead, and one that is gone must leave time
/// for another try.
const RENEW_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the replica that acts, if one does.
///
/// # Errors
/// When the API refuses or does not answer.
pub(crate) async fn holder(client: Client, namespace: &str) -> Result<Option<String>, ActError> {
    let api = Api::<Lease>::namespaced(client, namespace);
    let lease = with_timeout("get", "Lease", NAME, api.get_opt(NAME)).await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
}

/// A candidate for leadership.
pub(crate) struct Candidate {
    api: Api<Lease>,
    identity: String,
    /// The lease as it was last seen, and when that version of it was first seen here: clocks of machines differ.
    seen: Option<(Option<String>, Instant)>,
    /// The lease as it was last written here.
    own: Option<Lease>,
}

impl Candidate {
    /// Returns a candidate for the lease in a namespace.
    #[must_use]
    pub(crate) fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), identity: identity.to_owned(), seen: None, own: None }
    }

    /// Waits until this candidate leads.
    pub(crate) async fn elected(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %Chain(&error), "lease not read"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews the lease; returns when it is lost.
    pub(crate) async fn lost(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < DEADLINE {
            tokio::time::sleep(RETRY).await;
            match tokio::time::timeout(RENEW_TIMEOUT, self.renew()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(error = %Chain(&error), "lease not renewed"),
                Err(_) => tracing::warn!("lease not renewed in time"),
            }
        }
    }

    /// Lets go of the lease, so that another one need not wait.
    pub(crate) async fn resign(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(NAME).await else { return };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
        if holder == Some(&self.identity) {
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
            }
            let _ = self.api.replace(NAME, &PostParams::default(), &lease).await;
        }
    }

    /// Renews the lease that was last written here, by one request; where somebody else wrote it, looks first.
    async fn renew(&mut self) -> kube::Result<bool> {
        match self.own.take() {
            Some(mut lease) => {
                lease.spec = Some(self.spec(lease.spec.take()));
                let renewed = self.api.replace(NAME, &PostParams::default(), &lease).await;
                if self.written(renewed)? { Ok(true) } else { self.attempt().await }
            }
            None => self.attempt().await,
        }
    }

    /// Takes or renews the lease; returns whether it is ours.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(NAME).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            let created = self.api.create(&PostParams::default(), &lease).await;
            return self.written(created);
        };
        let version = lease.metadata.resource_version.clone();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((version, since));
        let holder =
            lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty());
        let free = holder.is_none() || since.elapsed() >= DURATION;
        if holder.as_ref() != Some(&self.identity) && !free {
            return Ok(false);
        }
        lease.spec = Some(self.spec(lease.spec.take()));
        let replaced = self.api.replace(NAME, &PostParams::default(), &lease).await;
        self.written(replaced)
    }

    /// A conflict means that somebody else was quicker, which is no error.
    fn written(&mut self, result: kube::Result<Lease>) -> kube::Result<bool> {
        match result {
            Ok(lease) => {
                self.own = Some(lease);
                Ok(true)
            }
            Err(error) if is_status(&error, 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, old: Option<LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(jiff::Timestamp::now()));
        let ours = old.as_ref().is_some_and(|old| old.holder_identity.as_ref() == Some(&self.identity));
        let old = old.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if ours { old.acquire_time } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(old.lease_transitions.unwrap_or_default() + i32::from(!ours)),
            ..LeaseSpec::default()
        }
    }
}
