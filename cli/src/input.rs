//! Files that a command is given: several, or standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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

/// How a command ends that goes on with the other files where one cannot be read.
#[derive(Default)]
pub(crate) struct Exit {
    is_unread: bool,
}

impl Exit {
    /// Returns what a file says; where it cannot be read, that is told.
    pub(crate) fn read(&mut self, file: &Path) -> Option<String> {
        text(file)
            .inspect_err(|error| {
                self.is_unread = true;
                eprintln!("weir: {error:#}");
            })
            .ok()
    }

    /// Returns the status with which the command ends, after so many errors in what could be read.
    pub(crate) fn code(&self, errors: usize) -> ExitCode {
        ExitCode::from(if self.is_unread { 2 } else { u8::from(errors > 0) })
    }
}
