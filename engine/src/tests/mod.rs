//! The engine's promises, one test each.

mod bounds;
mod defects;
mod explore;
mod filter;
mod inherited;
mod journey;
mod leases;
mod load_tests;
mod matched;
mod observing;
mod play;
mod primary_away;
mod properties;
mod said;
mod silent;
mod strategies;
mod trouble;
mod witness;
mod world;
