//! Envoy: finding it, telling it what to do, asking what it does.

pub(crate) mod admin;
pub(crate) mod binary;
pub(crate) mod config;
pub(crate) mod server;
