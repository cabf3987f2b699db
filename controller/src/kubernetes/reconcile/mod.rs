//! One pass over one Canary: observe, have the engine decide, carry out, tell.

mod act;
mod events;
pub(crate) mod observe;
mod reading;
pub(crate) mod reconciler;
mod retry;
mod status;
pub(crate) mod supervise;
mod telling;
mod templates;
