//! One pass over one Canary: observe, have the engine decide, carry out, tell.

mod act;
mod canary_writes;
mod context;
pub(crate) mod events;
mod former;
mod fresh;
mod grace;
mod hazards;
mod leaving;
pub(crate) mod observe;
mod reading;
pub(crate) mod reconciler;
mod retry;
pub(crate) mod status;
mod subject;
pub(crate) mod supervise;
mod take_over;
mod templates;
