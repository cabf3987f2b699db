//! Releases on one machine: processes, an Envoy, and the same engine and filter as in a cluster.
//!
//! ```text
//!  folder of YAML ─ directory ─> accept ─> release ─┬─ engine ─┬─> arm, replica ── processes
//!  Envoy ─ gateway (scrape) ────────────────────────┘          ├─> gateway ─────── filter's configuration (file)
//!                                                              └─> routing ─────── clusters, endpoints, routes (files)
//! ```
//!
//! Envoy and the processes outlive this program. What it knows stands in the state folder, what it told Envoy in Envoy's own
//! files; so it may be killed at any moment, and its next start goes on where it stood, without a dropped request.

mod accept;
mod arm;
mod clock;
mod directory;
mod envoy;
mod files;
mod gateway;
mod leave;
mod open;
mod port;
mod probe;
mod process;
mod program;
mod release;
mod replica;
mod routing;
mod secrets;
mod store;
mod supervisor;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::alerts::AlertSettings;

pub use envoy::binary::BinaryError;
pub use open::run;
pub use store::StoreError;

/// What a user can choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of YAML files.
    pub folder: PathBuf,
    /// Where requests come in.
    pub listen: SocketAddr,
    /// Where the API, the metrics and the health are served.
    pub http: SocketAddr,
    /// The state folder; `.weir` in `folder` by default.
    pub state: Option<PathBuf>,
    /// The filter's module; looked for by default.
    pub module: Option<PathBuf>,
    /// Envoy; looked for by default.
    pub envoy: Option<PathBuf>,
    /// Who is told every event of the Canaries that have no `event` webhook of their own.
    pub event_webhook: Option<String>,
    /// How alerts are sent.
    pub alerts: AlertSettings,
    /// Envoy's worker threads; as many as the machine has processors by default.
    pub concurrency: Option<u32>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder to read.
    #[error("read the folder {}; name a folder of YAML files with --dir", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is remembered can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No Envoy.
    #[error(transparent)]
    Envoy(#[from] BinaryError),
    /// No module.
    #[error("no filter module at {looked}; `make wasm` in a checkout builds it, --wasm names another one")]
    Module {
        /// Where it was looked for.
        looked: String,
    },
    /// The module can't be kept.
    #[error("copy the filter module {} to {}", from.display(), to.display())]
    CopyModule {
        /// The module.
        from: PathBuf,
        /// Where Envoy would read it.
        to: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else listens there.
    #[error("{what} can't listen on {address}; stop what does, or choose another address with {option}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The option that changes it.
        option: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals can't be waited for.
    #[error("wait for signals")]
    Signals(#[source] std::io::Error),
}
