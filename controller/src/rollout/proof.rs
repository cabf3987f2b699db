//! The evidence of one run.
use serde::{Deserialize, Serialize};
/// The evidence of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proof {}
