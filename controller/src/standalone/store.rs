//! What must survive Weir's death: one file for each thing remembered, always whole, with the generation before beside it.
//!
//! A write goes to a new file first, so a full disk leaves the old one in force. The file that it replaces stays as `.bak`: if
//! something else than Weir cut or garbled the newest one, the next start goes on from the one before, and says so.

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::files::{self, Durability};

/// Something remembered in one file.
#[derive(Debug)]
pub(crate) struct Store<T> {
    path: PathBuf,
    written: Option<Vec<u8>>,
    kind: PhantomData<fn() -> T>,
}

/// What was found in a file.
#[derive(Debug, PartialEq)]
pub(crate) enum Found<T> {
    /// There is no file yet.
    Nothing,
    /// The newest.
    Newest(T),
    /// The one before, since the newest can't be read; with what is wrong with it.
    Older(T, String),
}

/// What is remembered can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither the file nor its backup holds what it should.
    #[error(
        "{} can't be read ({newest}) and neither can its backup ({backup}); put a good copy back, or remove both to begin anew",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        newest: String,
        /// What is wrong with its backup.
        backup: String,
    },
    /// The disk is full, or not ours to write.
    #[error("write {}; the file before stays in force", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value of ours has no JSON form.
    #[error("write {} as JSON", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another Weir works on the same folder.
    #[error("{} is locked: another weir standalone uses this state folder; stop it, or give this one another --state", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The folder can't be made or locked.
    #[error("open the state folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// Returns the store in a file, which need not exist.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, written: None, kind: PhantomData }
    }

    /// Reads what is remembered.
    ///
    /// # Errors
    /// When there is a file and neither it nor its backup can be read.
    pub(crate) fn load(&mut self) -> Result<Found<T>, StoreError> {
        let newest = read(&self.path);
        let backup = || read(&files::sibling(&self.path, ".bak"));
        let (newest, backup) = match newest {
            Ok(Some(value)) => return Ok(Found::Newest(value)),
            Ok(None) => match backup() {
                Ok(None) => return Ok(Found::Nothing),
                // A power cut between the two renames of `save`: nothing is lost, the backup is what was in force.
                backup => ("it is missing".to_owned(), backup),
            },
            Err(newest) => (newest, backup()),
        };
        match backup {
            Ok(Some(value)) => Ok(Found::Older(value, format!("{}: {newest}", self.path.display()))),
            Ok(None) => Err(self.unreadable(newest, "it is missing".into())),
            Err(backup) => Err(self.unreadable(newest, backup)),
        }
    }

    /// Remembers a value, durably; a value that is remembered already costs nothing.
    ///
    /// # Errors
    /// What was remembered before stays.
    pub(crate) fn save(&mut self, value: &T) -> Result<(), StoreError> {
        let encode = |source| StoreError::Encode { path: self.path.clone(), source };
        let mut content = serde_json::to_vec_pretty(value).map_err(encode)?;
        content.push(b'\n');
        if self.written.as_ref() == Some(&content) {
            return Ok(());
        }
        let write = |source| StoreError::Write { path: self.path.clone(), source };
        let next = files::sibling(&self.path, ".next");
        files::replace(&next, &content, Durability::Disk).map_err(write)?;
        // Only a file that was whole when it was last seen may become the backup.
        if self.written.is_some() || matches!(read::<T>(&self.path), Ok(Some(_))) {
            fs::rename(&self.path, files::sibling(&self.path, ".bak")).map_err(write)?;
        }
        fs::rename(&next, &self.path).map_err(write)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(write)?;
        }
        self.written = Some(content);
        Ok(())
    }

    /// Forgets it for good.
    pub(crate) fn remove(&mut self) -> Result<(), StoreError> {
        self.written = None;
        for path in [files::sibling(&self.path, ".bak"), self.path.clone()] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Write { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn unreadable(&self, newest: String, backup: String) -> StoreError {
        StoreError::Unreadable { path: self.path.clone(), newest, backup }
    }
}

/// Makes the state folder and takes it for this program alone, for as long as the file is held.
///
/// # Errors
/// When it can't be made, or another Weir has it.
pub(crate) fn lock(folder: &Path) -> Result<File, StoreError> {
    let error = |source| StoreError::Folder { path: folder.to_owned(), source };
    // What processes print and were told may be nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(error)?;
    let path = folder.join("lock");
    let file = File::create(&path).map_err(error)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked { path }),
        Err(errno) => Err(error(errno.into())),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content).map(Some).map_err(|problem| problem.to_string()),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(problem.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &Path) -> Store<Vec<u32>> {
        Store::at(folder.join("state.json"))
    }

    #[test]
    fn what_was_saved_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(store(folder.path()).load().unwrap(), Found::Nothing);
        store(folder.path()).save(&vec![1, 2]).unwrap();
        assert_eq!(store(folder.path()).load().unwrap(), Found::Newest(vec![1, 2]));
    }

    #[test]
    fn a_file_cut_at_any_byte_falls_back_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = store(folder.path());
        first.save(&vec![1]).unwrap();
        first.save(&vec![1, 2, 3]).unwrap();
        let path = folder.path().join("state.json");
        let whole = fs::read(&path).unwrap();
        // All but the line's end at the file's end, without which it is still whole.
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(store(folder.path()).load().unwrap(), Found::Older(value, _) if value == [1]), "{length}");
        }
        // The broken file does not become the backup.
        store(folder.path()).save(&vec![4]).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(store(folder.path()).load().unwrap(), Found::Older(value, _) if value == [1]));
    }

    #[test]
    fn without_a_readable_file_it_says_what_to_do_and_begins_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("state.json"), "[1, 2").unwrap();
        let error = store(folder.path()).load().unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("put a good copy back"), "{error}");
    }

    #[test]
    fn a_write_that_fails_keeps_what_was_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = store(folder.path());
        store.save(&vec![1]).unwrap();
        fs::create_dir(folder.path().join("state.json.next.new")).unwrap();
        store.save(&vec![2]).unwrap_err();
        assert_eq!(store.load().unwrap(), Found::Newest(vec![1]));
        fs::remove_dir(folder.path().join("state.json.next.new")).unwrap();
        store.save(&vec![2]).unwrap();
        assert_eq!(store.load().unwrap(), Found::Newest(vec![2]));
    }

    #[test]
    fn a_second_weir_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        assert!(matches!(lock(folder.path()), Err(StoreError::Locked { .. })));
        drop(held);
        lock(folder.path()).unwrap();
    }
}
