//! Starts everything, and ends it in order.

use std::sync::Arc;

use axum::body::Bytes;
use kube::Client;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tracing::info;

use crate::http_server;
use crate::kubernetes::api_server::hash_key::HashKey;
use crate::kubernetes::api_server::lease::Candidate;
use crate::kubernetes::api_server::location;
use crate::kubernetes::client::from_status;
use crate::kubernetes::gateway::GatewayRegistry;
use crate::kubernetes::kinds::canary::Canary;
use crate::kubernetes::kinds::istio;
use crate::kubernetes::page::Shared;
use crate::kubernetes::reconcile::supervise::{reconciler_of, supervise};
use crate::kubernetes::render::Module;
use crate::kubernetes::serve::{self, Served, path};
use crate::kubernetes::settings::Settings;
use crate::kubernetes::stores::Stores;
use crate::page::Hosts;
use crate::signals::End;
use crate::status_store::StatusStore;

/// What stands in the module's address for its path, where the module is served from here.
pub const SERVED: &str = "{path}";

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The module's file cannot be read.
    #[error("read the module {}", path.display())]
    Module {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The cluster's address or credentials cannot be found.
    #[error("find the cluster")]
    Cluster(#[source] Box<kube::Error>),
    /// The address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("receive signals")]
    Signals(#[source] std::io::Error),
    /// The lease went to another replica, which acts from now on.
    #[error("the lease was lost")]
    LeaseLost,
}

/// Runs the controller until it is told to end.
///
/// # Errors
/// When it cannot start, or when it must stop because another replica leads.
pub async fn run(mut settings: Settings) -> Result<(), RunError> {
    let module = module(&mut settings)?;
    let client = Client::try_default().await.map_err(|source| RunError::Cluster(Box::new(source)))?;
    let [public, probes, details] = [settings.listen, settings.probes, settings.details].map(TcpListener::bind);
    let (public, probes, details) = (
        public.await.map_err(|source| RunError::Listen { address: settings.listen, source })?,
        probes.await.map_err(|source| RunError::Listen { address: settings.probes, source })?,
        details.await.map_err(|source| RunError::Listen { address: settings.details, source })?,
    );
    let mut end = End::listen().map_err(RunError::Signals)?;
    let (statuses, _calls) = StatusStore::new();
    statuses.set_health("caches", Some("still filling".into()));
    // Dropped when this ends: whoever is being answered then asks the next one.
    let mut servers = tokio::task::JoinSet::new();
    for (listener, router) in [
        (public, serve::public(statuses.clone(), module)),
        (probes, serve::probes(statuses.clone())),
        (details, serve::details(statuses.clone())),
    ] {
        servers.spawn(http_server::serve(listener, router, std::future::pending()));
    }
    if let Some(address) = settings.page {
        let listener = TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
        let shared = Arc::new(Shared::new(client.clone(), statuses.clone()));
        servers.spawn(crate::page::serve(listener, shared, Hosts::Any, std::future::pending()));
    }
    let stores = Stores::new(client.clone(), settings);
    let registry = Arc::new(GatewayRegistry::default());
    let acting = async {
        istio::discover(&client).await;
        stores.start_watches(&registry);
        act(stores.clone(), registry.clone(), statuses).await
    };
    let ended = tokio::select! {
        () = end.asked() => Ok(()),
        error = acting => Err(error),
    };
    // Nothing acts any longer when the next one may begin to.
    registry.stop();
    drop(servers);
    if stores.settings.leader_election {
        Candidate::new(client, &stores.settings.namespace, &stores.settings.identity).resign().await;
    }
    // Another replica leads by now, and knows nothing of these.
    stores.alerts.finish().await;
    info!("ended");
    ended
}

/// Waits for the caches and the lease, then looks after everything for as long as the lease is held.
pub(super) async fn act(stores: Arc<Stores>, registry: Arc<GatewayRegistry>, statuses: Arc<StatusStore>) -> RunError {
    stores.wait_until_synced().await;
    statuses.set_health("caches", None);
    info!("caches filled");
    let settings = &stores.settings;
    let mut candidate = Candidate::new(stores.api.client.clone(), &settings.namespace, &settings.identity);
    if settings.leader_election {
        candidate.elected().await;
        info!(identity = settings.identity, "leading");
    }
    let known = stores.canaries.all();
    inherit(&known, &statuses);
    if settings.config_tracking
        && let Some(key) = HashKey::load(stores.api.client.clone(), &settings.namespace).await
    {
        let _ = stores.hash_key.set(key);
    }
    registry.refresh(&stores);
    registry.scraped_once().await;
    // Dropped with this future, and with it every reconciler.
    let mut tasks = tokio::task::JoinSet::new();
    let (client, rules) = (stores.api.client.clone(), stores.settings.address_rules.clone());
    tasks.spawn(async move { location::follow(client, &rules).await });
    tasks.spawn(registry.clone().run(stores.clone()));
    tasks.spawn(supervise(stores.clone(), known, reconciler_of(stores.clone(), registry, statuses)));
    if !settings.leader_election {
        std::future::pending::<()>().await;
    }
    candidate.lost().await;
    RunError::LeaseLost
}

/// Shows the Canaries as the replica before left them: of many it takes some time to look at each, and none of them is gone meanwhile.
pub(super) fn inherit(known: &[Arc<Canary>], statuses: &StatusStore) {
    known.iter().for_each(|canary| statuses.inherit(from_status::detail(canary, Vec::new())));
    statuses.set_acting();
}

/// Reads the module that is served from here, and makes its address.
fn module(settings: &mut Settings) -> Result<Option<Served>, RunError> {
    let Some(file) = settings.module_file.clone() else { return Ok(None) };
    let bytes = std::fs::read(&file).map_err(|source| RunError::Module { path: file, source })?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if let Module::Own { uri, sha256 } = &mut settings.module {
        *uri = uri.replace(SERVED, &path(&digest));
        sha256.clone_from(&digest);
    }
    info!(sha256 = digest, bytes = bytes.len(), "serving the module");
    Ok(Some(Served { sha256: digest, bytes: Bytes::from(bytes) }))
}
