//! The subcommands of `weir`, one file each: arguments in, text or JSON out.

pub mod client;
pub mod cluster;
pub mod controller;
pub mod crds;
pub mod describe;
pub mod evidence;
pub mod get;
pub mod simulate;
pub mod standalone;
pub mod terminal;
pub mod uninstall;
pub mod verb;
