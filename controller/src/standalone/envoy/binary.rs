//! Finds Envoy and asks it for its version.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version whose behaviour was tested.
const TESTED: Version = Version { major: 1, minor: 40 };

/// The oldest version that may work: filters built for the ABI before it clear the route cache by themselves, and header
/// mutation before the route is chosen works as used here.
const OLDEST: Version = Version { major: 1, minor: 33 };

/// An Envoy that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    /// The program.
    pub(crate) path: PathBuf,
    /// What to tell the user about it.
    pub(crate) warning: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

/// No Envoy, or one that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// Nowhere.
    #[error(
        "no envoy found in {looked}; install Envoy {TESTED} (`make tools` in a checkout downloads it), or name one with --envoy or ENVOY"
    )]
    Missing {
        /// The places.
        looked: String,
    },
    /// The one that was named does not run.
    #[error("{} does not run; name another Envoy with --envoy or ENVOY", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It runs, but is no Envoy.
    #[error("{} says {said:?} to --version, which is not Envoy's form; name another one with --envoy or ENVOY", path.display())]
    Strange {
        /// The program.
        path: PathBuf,
        /// Its answer.
        said: String,
    },
    /// Too old.
    #[error("{} is Envoy {version}, Weir needs {OLDEST} or later (tested with {TESTED}); name another one with --envoy or ENVOY", path.display())]
    Old {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

impl Binary {
    /// Finds the Envoy that was named, or else the first in `PATH` and the checkout's `.tools`.
    ///
    /// # Errors
    /// When there is none, or it is too old.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, BinaryError> {
        let path = match named {
            Some(named) => locate(named),
            None => {
                let found = on_path(Path::new("envoy")).chain(tools()).find(|place| place.is_file());
                absolute(&found.ok_or_else(|| BinaryError::Missing { looked: "PATH and .tools".into() })?)
            }
        };
        let output = Command::new(&path).arg("--version").output();
        let output = output.map_err(|source| BinaryError::Run { path: path.clone(), source })?;
        // A program that the system can't load says why where errors go.
        let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        Self::judge(path, String::from_utf8_lossy(&said).trim())
    }

    fn judge(path: PathBuf, said: &str) -> Result<Self, BinaryError> {
        let Some(version) = Version::parse(said) else {
            return Err(BinaryError::Strange { path, said: said.chars().take(200).collect() });
        };
        if version < OLDEST {
            return Err(BinaryError::Old { path, version: version.to_string() });
        }
        let warning = (version != TESTED)
            .then(|| format!("{} is Envoy {version}; Weir is tested with Envoy {TESTED} only", path.display()));
        Ok(Self { path, warning })
    }
}

/// Returns where the Envoy is that was named: a file, seen from here, or a word to look up in `PATH` as a shell would.
fn locate(named: &Path) -> PathBuf {
    let is_word = named.components().count() == 1 && !named.is_file();
    let found = on_path(named).find(|place| is_word && place.is_file());
    absolute(&found.unwrap_or_else(|| named.to_owned()))
}

/// Returns a name that means the same from every folder: Envoy is started in another one than this program.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns where a program may be.
fn on_path(name: &Path) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>().into_iter()
}

/// Returns where an Envoy may be in the checkout that this program or the user stands in.
fn tools() -> impl Iterator<Item = PathBuf> {
    let ancestors = |at: PathBuf| at.ancestors().map(Path::to_owned).collect::<Vec<_>>();
    let folders = env::current_dir().into_iter().chain(env::current_exe()).flat_map(ancestors);
    folders.map(|folder| folder.join(".tools/envoy"))
}

impl Version {
    /// Reads `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
    fn parse(said: &str) -> Option<Self> {
        let numbers = said.split_once("version: ")?.1.split('/').nth(1)?;
        let mut numbers = numbers.split(['.', '-']).map(str::parse);
        Some(Self { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(said: &str) -> Result<Binary, BinaryError> {
        Binary::judge(PathBuf::from("/bin/envoy"), said)
    }

    #[test]
    fn the_tested_version_is_taken_without_a_word() {
        let said = "/bin/envoy  version: 3f2c/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(judge(said).unwrap(), Binary { path: "/bin/envoy".into(), warning: None });
    }

    #[test]
    fn another_version_is_named_in_a_warning_and_an_old_one_refused() {
        let newer = judge("envoy  version: 3f2c/1.41.0-dev/Clean/RELEASE/BoringSSL").unwrap();
        assert!(newer.warning.unwrap().contains("Envoy 1.41"));
        assert!(matches!(judge("envoy  version: 3f2c/1.22.1/Clean/RELEASE/BoringSSL"), Err(BinaryError::Old { .. })));
    }

    #[test]
    fn what_is_no_envoy_is_refused_with_its_own_words() {
        let error = judge("GNU bash, version 5").unwrap_err();
        assert!(error.to_string().contains("GNU bash"), "{error}");
        let missing = Binary::find(Some(Path::new("/no/envoy"))).unwrap_err();
        assert!(missing.to_string().contains("/no/envoy"));
        let strange = Binary::find(Some(Path::new("false"))).unwrap_err();
        assert!(matches!(&strange, BinaryError::Strange { path, .. } if path.is_absolute()), "{strange}");
    }

    #[test]
    fn a_relative_name_means_the_same_from_every_folder() {
        let here = env::current_dir().unwrap();
        assert_eq!(locate(Path::new("src/lib.rs")), here.join("src/lib.rs"));
        assert_eq!(locate(Path::new("Cargo.toml")), here.join("Cargo.toml"));
        let missing = Binary::find(Some(Path::new("no/envoy"))).unwrap_err().to_string();
        assert!(missing.contains(&here.join("no/envoy").display().to_string()), "{missing}");
        assert!(locate(Path::new("sh")).is_file(), "a word is looked up in PATH");
    }
}
