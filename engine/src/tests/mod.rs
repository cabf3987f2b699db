//! The engine's promises, one test each.

mod defects;
mod explore;
mod journey;
mod play;
mod properties;
mod strategies;
mod trouble;
mod world;
