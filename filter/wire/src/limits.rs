//! Bounds that both programs keep, so that one Canary's text cannot stop a gateway that serves many.

/// Bytes of a regular expression.
pub const PATTERN: usize = 256;

/// Bytes of a compiled regular expression. `.{1,200}` takes 26 KB, `(?:a*){20000}` would take megabytes, and each of its states
/// may be visited for each byte of a header.
pub const COMPILED: usize = 64 << 10;

/// Returns a pattern that matches whole values only.
#[must_use]
pub fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}
