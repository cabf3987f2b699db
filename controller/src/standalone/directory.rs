//! Reads the folder of YAML files, again whenever one of them changes.
//!
//! Looked at by the clock: a look costs one `stat` per file and works on every file system, where notifications do not.
//! People's editors empty a file before they write it, and remove it before they put the new one in its place. So a change
//! counts when two looks in a row saw the same, and an object is gone only when it was missing for a while, from a folder in
//! which everything could be read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use weir_engine::{Span, Timestamp};

use super::program::{Source, folder_of};
use crate::alerts::Provider;
use crate::api::{self, AlertProviderSpec, CanarySpec, Known, MetricTemplateSpec, Object, Secret};
use crate::checks::Template;

/// Time between two looks.
pub(crate) const LOOK: Span = Span(250);
/// An object that is missing for so long is deleted.
const DELETED_AFTER: Span = Span::seconds(2);

/// What the folder holds. Objects are by `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Catalog {
    /// The Canaries.
    pub(crate) canaries: BTreeMap<String, Object<CanarySpec>>,
    /// The processes.
    pub(crate) processes: BTreeMap<String, Source>,
    /// Metrics that other systems answer.
    pub(crate) templates: BTreeMap<String, Object<MetricTemplateSpec>>,
    /// Who is told how rollouts go.
    pub(crate) alert_providers: BTreeMap<String, Object<AlertProviderSpec>>,
    /// What they keep to themselves.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// What can't be read or used, for people. Objects that are in it under their old form are not in the maps.
    pub(crate) problems: Vec<String>,
    /// What is read but ignored.
    pub(crate) warnings: Vec<String>,
    /// Whether everything could be read: only then does a missing object mean anything.
    pub(crate) complete: bool,
}

impl Catalog {
    /// Returns what is known of a MetricTemplate.
    pub(crate) fn template(&self, namespace: &str, name: &str) -> Template {
        let template = self.templates.get(&format!("{namespace}/{name}"));
        template.map_or(Template::Missing, |template| Template::Found(template.spec.clone()))
    }

    /// Returns what is known of an AlertProvider. All namespaces of a folder are one person's.
    pub(crate) fn alert_provider(&self, namespace: &str, name: &str) -> Provider {
        let provider = self.alert_providers.get(&format!("{namespace}/{name}"));
        provider.map_or(Provider::Missing, |provider| Provider::Found(provider.spec.clone()))
    }
}

/// What tells one content of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

/// The watched folder.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    looked: Option<Timestamp>,
    stamps: Option<BTreeMap<PathBuf, Stamp>>,
    settled: bool,
    missing: BTreeMap<String, Timestamp>,
}

impl Directory {
    /// Returns a folder that was not looked at yet.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, looked: None, stamps: None, settled: false, missing: BTreeMap::new() }
    }

    /// Looks at the folder if it is time; returns what it holds if that changed. At the first look everything is new.
    pub(crate) fn look(&mut self, now: Timestamp) -> Option<Catalog> {
        if self.looked.is_some_and(|looked| now.since(looked) < LOOK) {
            return None;
        }
        let first = self.looked.is_none();
        self.looked = Some(now);
        let stamps = match stamps(&self.path) {
            Ok(stamps) => Some(stamps),
            Err(error) => {
                let problem = format!("{}: {error}; everything stays as it is", self.path.display());
                let gone = self.stamps.take().is_some() || first;
                return gone.then(|| Catalog { problems: vec![problem], ..Catalog::default() });
            }
        };
        if stamps != self.stamps {
            self.stamps = stamps;
            self.settled = false;
            if !first {
                return None;
            }
        }
        if self.settled {
            return None;
        }
        self.settled = true;
        Some(read_all(self.stamps.iter().flat_map(BTreeMap::keys)))
    }

    /// Returns whether an object that `catalog` lacks has been missing long enough to be deleted. To be asked at every look.
    pub(crate) fn is_deleted(&mut self, catalog: &Catalog, name: &str, now: Timestamp) -> bool {
        if !catalog.complete || catalog.canaries.contains_key(name) {
            self.missing.remove(name);
            return false;
        }
        let since = *self.missing.entry(name.to_owned()).or_insert(now);
        now.since(since) >= DELETED_AFTER
    }
}

fn stamps(folder: &Path) -> io::Result<BTreeMap<PathBuf, Stamp>> {
    let mut stamps = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // A file that vanished since is not there.
        if yaml
            && !hidden
            && let Ok(meta) = fs::metadata(&path)
            && meta.is_file()
        {
            let changed = (meta.ctime(), meta.ctime_nsec());
            stamps.insert(path, Stamp { inode: meta.ino(), length: meta.len(), changed });
        }
    }
    Ok(stamps)
}

fn read_all<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Catalog {
    let mut catalog = Catalog { complete: true, ..Catalog::default() };
    for file in files {
        match fs::read_to_string(file) {
            Ok(text) => read_one(&text, file, &mut catalog),
            Err(error) => {
                catalog.complete = false;
                catalog.problems.push(format!("{}: {error}", file.display()));
            }
        }
    }
    catalog
}

fn read_one(text: &str, file: &Path, catalog: &mut Catalog) {
    for document in api::read(text, &file.display().to_string()) {
        let parsed = match document {
            Ok(parsed) => parsed,
            Err(problem) => {
                catalog.complete = false;
                catalog.problems.push(format!("{problem}; the last good version stays in force"));
                continue;
            }
        };
        catalog.warnings.extend(parsed.warnings.iter().map(ToString::to_string));
        let twice = match parsed.object {
            Known::Canary(object) => {
                let warnings = api::remarks(&object).into_iter().map(|remark| parsed.fields.at(remark).to_string());
                catalog.warnings.extend(warnings);
                insert(&mut catalog.canaries, object.to_string(), *object)
            }
            Known::Process(object) => {
                let source = Source { folder: folder_of(file), object };
                insert(&mut catalog.processes, source.object.to_string(), source)
            }
            Known::MetricTemplate(object) => insert(&mut catalog.templates, object.to_string(), object),
            Known::AlertProvider(object) => insert(&mut catalog.alert_providers, object.to_string(), object),
            Known::Secret(secret) => {
                let name = format!("{}/{}", secret.metadata.namespace, secret.metadata.name);
                insert(&mut catalog.secrets, name, secret)
            }
            Known::Other => None,
        };
        if let Some(name) = twice {
            catalog
                .problems
                .push(format!("{}: {name} is defined twice; this one is ignored, remove one", parsed.place));
        }
    }
}

/// Keeps the first of two; returns the name of the other.
fn insert<T>(map: &mut BTreeMap<String, T>, name: String, object: T) -> Option<String> {
    if map.contains_key(&name) {
        return Some(name);
    }
    map.insert(name, object);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata: {name: shop}\nspec: {targetRef: {kind: Process, \
                          name: shop}, analysis: {interval: 1s, stepWeight: 10}}\n";
    const PROCESS: &str =
        "apiVersion: weir.dev/v1beta1\nkind: Process\nmetadata: {name: shop}\nspec: {command: [serve]}\n";

    fn ms(n: u64) -> Timestamp {
        Timestamp(1_000_000 + n)
    }

    #[test]
    fn a_change_counts_when_two_looks_saw_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.yaml");
        fs::write(&file, format!("{CANARY}---\n{PROCESS}")).unwrap();
        let mut directory = Directory::at(folder.path().to_owned());
        let catalog = directory.look(ms(0)).unwrap();
        assert!(catalog.canaries.contains_key("default/shop") && catalog.processes.contains_key("default/shop"));
        assert_eq!(catalog.problems, Vec::<String>::new());
        assert_eq!(directory.look(ms(250)), None);
        // An editor empties the file, then writes it.
        fs::write(&file, "").unwrap();
        assert_eq!(directory.look(ms(500)), None);
        fs::write(&file, CANARY).unwrap();
        assert_eq!(directory.look(ms(750)), None);
        let catalog = directory.look(ms(1000)).unwrap();
        assert!(catalog.canaries.contains_key("default/shop") && catalog.processes.is_empty());
        assert_eq!(directory.look(ms(1250)), None);
    }

    #[test]
    fn an_object_is_deleted_only_when_it_is_missing_for_a_while_and_everything_can_be_read() {
        let mut directory = Directory::at("unused".into());
        let broken = Catalog::default();
        let whole = Catalog { complete: true, ..Catalog::default() };
        assert!(!directory.is_deleted(&whole, "default/shop", ms(0)));
        assert!(!directory.is_deleted(&broken, "default/shop", ms(5000)));
        assert!(!directory.is_deleted(&whole, "default/shop", ms(6000)));
        assert!(directory.is_deleted(&whole, "default/shop", ms(8000)));
    }

    #[test]
    fn a_document_that_does_not_parse_is_named_and_leaves_the_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), format!("{CANARY}---\nkind: [\n")).unwrap();
        fs::write(folder.path().join("b.yml"), PROCESS).unwrap();
        let _ = fs::write(folder.path().join(".hidden.yaml"), "kind: [");
        let catalog = Directory::at(folder.path().to_owned()).look(ms(0)).unwrap();
        assert!(catalog.canaries.contains_key("default/shop") && !catalog.complete);
        assert!(catalog.problems.len() == 1 && catalog.problems[0].contains("a.yaml"), "{:?}", catalog.problems);
    }

    #[test]
    fn an_unknown_field_is_a_warning_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("shop.yaml"), CANARY.replace("interval", "intervall: 1s, interval")).unwrap();
        let catalog = Directory::at(folder.path().to_owned()).look(ms(0)).unwrap();
        assert!(catalog.warnings.len() == 1 && catalog.warnings[0].contains("intervall"), "{:?}", catalog.warnings);
        assert!(catalog.complete && catalog.canaries.len() == 1);
    }
}
