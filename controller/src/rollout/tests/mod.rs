//! The engine's promises, one test each.

mod journey;
mod world;
