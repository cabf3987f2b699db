//! The subcommands of `weir`, one file each: arguments in, text or JSON out.

pub mod evidence;
