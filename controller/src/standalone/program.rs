//! What a revision runs: kept by revision, so that what was analysed is what is promoted, whatever the file says by then.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weir_engine::Revision;

use crate::api::{self, Object, Problem, Process, ProcessSpec};

/// What a revision runs, as it is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The `Process` as it was in its file.
    pub(crate) object: Object<ProcessSpec>,
    /// The file's folder.
    pub(crate) folder: PathBuf,
}

/// What a revision runs, ready to be started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    /// Which revision it is.
    pub(crate) revision: Revision,
    /// The validated `Process`.
    pub(crate) process: Process,
    /// Where it comes from.
    pub(crate) source: Source,
}

impl Source {
    /// Checks it.
    ///
    /// # Errors
    /// Every problem of the object.
    pub(crate) fn program(self) -> Result<Program, Vec<Problem>> {
        let process = api::process(&self.object)?;
        Ok(Program { revision: api::revision(&self.object.spec), process, source: self })
    }
}

impl Program {
    /// Returns the folder to start it in.
    pub(crate) fn working_folder(&self) -> PathBuf {
        match &self.process.working_dir {
            Some(folder) => self.source.folder.join(folder),
            None => self.source.folder.clone(),
        }
    }
}

/// Returns the folder of a file, absolute.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}
