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
            Some(named) => named.to_owned(),
            None => {
                let places = places();
                let found = places.iter().find(|place| place.is_file()).cloned();
                found.ok_or_else(|| BinaryError::Missing { looked: "PATH and .tools".into() })?
            }
        };
        let output = Command::new(&path).arg("--version").output();
        let output = output.map_err(|source| BinaryError::Run { path: path.clone(), source })?;
        Self::judge(path, String::from_utf8_lossy(&output.stdout).trim())
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

/// Returns where an Envoy may be: `PATH`, then `.tools` of the checkout that this program or the user stands in.
fn places() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("envoy"));
    let here = env::current_dir().into_iter();
    let program = env::current_exe().into_iter();
    let ancestors = here.chain(program).flat_map(|at| at.ancestors().map(Path::to_owned).collect::<Vec<_>>());
    on_path.chain(ancestors.map(|folder| folder.join(".tools/envoy"))).collect()
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
    }
}
