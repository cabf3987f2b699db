//! What is released: the templates of its revisions, and its autoscaler.

pub(crate) mod conflicts;
pub(crate) mod revision;
pub(crate) mod scaler;
