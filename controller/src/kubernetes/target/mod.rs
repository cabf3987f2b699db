//! What is released: the templates of its revisions, its autoscaler, and what stands in the way of releasing it.

mod affinity;
pub(crate) mod apart;
pub(crate) mod conflicts;
pub(crate) mod flagger;
pub(crate) mod hazards;
pub(crate) mod left_behind;
pub(crate) mod lossy;
pub(crate) mod revision;
pub(crate) mod scaler;
mod selector;
pub(crate) mod volumes;
