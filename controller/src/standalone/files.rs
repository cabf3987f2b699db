//! Replaces files so that a reader, or a power cut, sees the old content or the new and nothing between.
//!
//! Temporary file beside the target, `fsync`, rename, `fsync` of the folder. Envoy watches its files for exactly this rename.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Whether a replaced file must survive a power cut, or only a crash of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On the disk when the call returns.
    Disk,
    /// Whole for every reader, on the disk some seconds later. For what is written anew at every start anyway.
    Readers,
}

/// Replaces `path` by `content`.
///
/// # Errors
/// The old file is untouched then, and no temporary file is left.
pub(crate) fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let temporary = sibling(path, ".new");
    let written = write_out(&temporary, content, durability).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What did not fit on the disk must not go on filling it.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    if durability == Durability::Disk
        && let Some(folder) = path.parent()
    {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Replaces `path` by `content` unless that is what it holds; returns whether it was written.
///
/// # Errors
/// As [`replace`].
pub(crate) fn replace_if_changed(path: &Path, content: &[u8]) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    replace(path, content, Durability::Readers).map(|()| true)
}

/// Returns the path with `suffix` appended to its file name.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn write_out(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    if durability == Durability::Disk {
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, b"old", Durability::Disk).unwrap();
        // The temporary file cannot be made: its name is a folder.
        fs::create_dir(sibling(&path, ".new")).unwrap();
        replace(&path, b"new", Durability::Disk).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn equal_content_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eds.json");
        assert!(replace_if_changed(&path, b"a").unwrap());
        assert!(!replace_if_changed(&path, b"a").unwrap());
        assert!(replace_if_changed(&path, b"b").unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
