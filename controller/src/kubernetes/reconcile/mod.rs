//! One pass over one Canary: observe, have the engine decide, carry out, tell.

pub(crate) mod act;
pub(crate) mod keeper;
pub(crate) mod observe;
pub(crate) mod status;
