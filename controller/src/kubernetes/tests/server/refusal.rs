//! Why a request was not carried out, as the API server says it.

use serde_json::{Value, json};

use super::store::Key;

/// Why a request was not carried out.
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn missing(key: &Key) -> Self {
        Self { code: 404, reason: "NotFound", message: format!("{} {:?} not found", key.0, key.2) }
    }

    pub(super) fn conflict(message: &str) -> Self {
        Self { code: 409, reason: "Conflict", message: message.into() }
    }

    pub(super) fn invalid(kind: &str, name: &str, problem: &str) -> Self {
        Self { code: 422, reason: "Invalid", message: format!("{kind} {name:?} is invalid: {problem}") }
    }

    pub(super) fn body(&self) -> Value {
        let Self { code, reason, message } = self;
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
    }
}
