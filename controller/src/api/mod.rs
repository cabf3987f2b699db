//! Objects as users write them, and the way from there to values that can work.
//!
//! ```text
//! text ─ read ─> Object<CanarySpec> ─ plan ─> weir_engine::Plan        every problem at once, by field path
//!                Object<ProcessSpec> ─ process ─> Process
//! ```
//!
//! The `*Spec` types are raw: whatever parses. They are also the source of the Kubernetes schema, so their doc comments are
//! what `kubectl explain` prints and are written for the user. Validation happens once, here: whoever renders objects from a spec
//! takes it as it is, and asks nothing of it any more.

mod affinity;
pub mod analysis;
mod canary;
mod checks;
mod clash;
mod differences;
mod duration;
mod fields;
mod identity;
mod kinds;
pub(crate) mod limits;
mod migrate;
mod mistyped;
mod object;
mod passed_on;
mod plan;
mod problem;
mod process;
mod providers;
mod read;
mod regex_size;
pub(crate) mod rules;
mod secret;
pub mod service;
mod serving;
mod strategy;
mod traffic_policy;
mod unready;

pub(crate) use affinity::EndedCookies;
pub use analysis::AnalysisSpec;
pub use canary::{AutoscalerRef, CanarySpec, ScalerReplicas, TargetRef, hosts};
pub use checks::DEFAULT_LATENCY_MS;
pub(crate) use checks::{asked, timeout, webhook_names, webhook_word};
pub use clash::{Clash, shared_hosts, shared_targets};
pub use differences::differences;
pub use duration::parse_duration;
pub use fields::Fields;
pub use identity::{canary_id, canary_token, revision};
pub(crate) use kinds::{AutoscalerKind, PROCESS, RouterKind, TargetKind};
pub use migrate::{Migration, migrate, migrate_for, taking_over};
pub(crate) use object::{DEFAULT_NAMESPACE, is_label, is_namespace, name_problem};
pub use object::{GROUP, Metadata, Object, VERSION};
pub use plan::{Reading, plan, plan_of, reading, reading_by, remarks};
pub use problem::{Place, Problem, Rules, with_refused, without_refused};
pub use process::{HttpGet, Probe, ProbeSpec, Process, ProcessSpec, ProcessVariable, Target, process};
pub use providers::{AlertProviderSpec, MetricProvider, MetricTemplateSpec, ObjectRef, SecretRef};
pub use read::{Known, Parsed, read};
pub(crate) use rules::{may_set, words};
pub use secret::Secret;
pub use service::ServiceSpec;
pub use serving::{direct_names, own_names};

#[cfg(test)]
mod tests;
