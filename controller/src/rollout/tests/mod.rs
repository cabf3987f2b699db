//! The engine's promises, one test each.

mod journey;
mod strategies;
mod trouble;
mod world;
