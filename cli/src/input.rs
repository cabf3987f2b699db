//! Files that a command is given: several, or standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

/// Which files.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Files {
    /// File with objects, or directory of such files; - is standard input. May be given several times
    #[arg(short, long, value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
}

impl Files {
    /// Returns what each file says, with its name for people: of a directory those that `kubectl apply -f` takes of it.
    pub(crate) fn read(&self, exit: &mut Exit) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for given in &self.filename {
            for file in exit.told(files(given)).unwrap_or_default() {
                texts.extend(exit.told(text(&file)).map(|text| (shown(&file), text)));
            }
        }
        texts
    }
}

/// Returns a file, or those of a directory in their order.
fn files(given: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !given.is_dir() {
        return Ok(vec![given.to_owned()]);
    }
    let entries = std::fs::read_dir(given).with_context(|| format!("read {}", given.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_taken = |path: &PathBuf| {
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        ["yaml", "yml", "json"].contains(&end) && path.is_file()
    };
    let mut files: Vec<PathBuf> = paths.filter(is_taken).collect();
    files.sort();
    anyhow::ensure!(!files.is_empty(), "{} has no file that ends in .yaml, .yml or .json", given.display());
    Ok(files)
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
    /// Returns what was read; where it cannot be read, that is told.
    fn told<T>(&mut self, read: anyhow::Result<T>) -> Option<T> {
        read.inspect_err(|error| {
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
