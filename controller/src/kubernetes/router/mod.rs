//! How requests reach the arms: the Service and the VirtualService that users call.

pub(crate) mod apex;
pub(crate) mod policy;
