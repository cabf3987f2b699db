//! What a demonstration and the end-to-end tests need beside Weir: a service that can be made ill, and steady traffic.
//!
//! ```text
//!  load ──requests at a fixed rate──> Envoy + filter ──> serve (revision v1)
//!                                                   └──> serve (revision v2)
//! ```

mod fresh;
mod grpc;
pub mod load;
pub mod play;
pub mod record;
pub mod serve;
pub mod tally;
