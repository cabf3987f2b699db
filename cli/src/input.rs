//! Files that a command is given: several, or standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Which files.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Files {
    /// File with objects; - is standard input. May be given several times
    #[arg(short, long, value_name = "FILE", required = true)]
    pub(crate) filename: Vec<PathBuf>,
}

/// Returns a file's name for people.
#[must_use]
pub(crate) fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
}

/// Returns what a file says.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn text(file: &Path) -> anyhow::Result<String> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.with_context(|| format!("read {}", shown(file)))
}
