//! `weir crds`: writes the definitions of Weir's kinds.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use weir_controller::kubernetes::crd::{definitions, yaml};

/// Write the definitions of Weir's kinds.
#[derive(Args)]
pub(crate) struct CrdsArgs {
    /// Folder to write them to, one file each; to standard output without it.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn run(args: CrdsArgs) -> Result<()> {
    for (name, definition) in definitions() {
        let text = yaml(&definition);
        match &args.folder {
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
                let path = folder.join(name);
                std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            }
            None => println!("---\n{text}"),
        }
    }
    Ok(())
}
