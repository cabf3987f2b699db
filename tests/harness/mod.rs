//! What the tests stand on: a real Envoy with the real module, services behind it, and clients in front of it.

#![allow(dead_code, unreachable_pub, reason = "a module of several test files, each of which uses a part of it")]

pub mod client;
pub mod config;
pub mod envoy;
pub mod metrics;
pub mod services;
