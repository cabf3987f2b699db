//! The evidence by simulation, from the command line, and in the documentation.
#![cfg(test)]

mod command;
mod detection;
mod docs;
mod false_rollbacks;
mod stream;
