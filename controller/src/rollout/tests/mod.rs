//! The engine's promises, one test each.

mod explore;
mod journey;
mod play;
mod strategies;
mod trouble;
mod world;
