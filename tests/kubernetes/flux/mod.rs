//! `gitops/` and Weir's chart, applied by the real kustomize-controller and helm-controller of Flux.
//!
//! Each row wants a cluster of its own, without Weir and mostly without Istio (`cluster up bare`), with Flux (`cluster flux`):
//! `tests/tools/flux` gives it one. What Flux's sources lead to is the Git server, the registry and the charts of `tests/cluster/harness/source.py`.

mod chart;
mod inventory;
mod journey;
mod page;
mod revisions;
mod takeover;
mod watch;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::kubectl::{apply, kubectl, object, run, until};
use super::stage::variable;

/// Where everything outside of the cluster is.
const WORLD: &str = "10.200.0.1:7070";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A person's clone of a repository that Flux reads.
struct Fork {
    folder: TempDir,
    name: &'static str,
}

impl Fork {
    fn of(name: &'static str) -> Self {
        let clone = Self { folder: tempfile::tempdir().unwrap(), name };
        clone.shell(&format!("git clone --quiet http://{WORLD}/git/{name}.git . && git config push.default current"));
        clone
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Copies a folder of this repository, `gitops/.` for what is in it.
    fn copy(&self, from: &str, to: &str) {
        self.shell(&format!("mkdir -p {to} && cp -r {}/{from} {to}", root().display()));
    }

    /// Commits everything and pushes it; returns the revision by which Flux knows it.
    fn push(&self, message: &str) -> String {
        self.shell(&format!("git add --all && git commit --quiet -m {message:?} && git push --quiet"));
        self.revision()
    }

    fn revision(&self) -> String {
        format!("main@sha1:{}", self.shell("git rev-parse HEAD").trim())
    }

    /// Runs what a person types, who is in this folder and has `kubectl weir`; returns what the terminal shows.
    fn shell(&self, command: &str) -> String {
        let (said, ok) = self.try_shell(command);
        assert!(ok, "{command}\n{said}");
        said
    }

    fn try_shell(&self, command: &str) -> (String, bool) {
        let programs = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
        let plugins = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(programs.join("weir"), plugins.path().join("kubectl-weir")).unwrap();
        let path = format!("{}:{}", plugins.path().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(self.path()).env("PATH", path).env("COLUMNS", "120");
        shell.env("SLACK_WEBHOOK", "http://chat.chat:8080/hooks/team");
        for (who, name) in [("AUTHOR", "you"), ("COMMITTER", "you")] {
            shell.env(format!("GIT_{who}_NAME"), name).env(format!("GIT_{who}_EMAIL"), "you@example.com");
        }
        let output = shell.output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (text, output.status.success())
    }

    /// Has Flux read this repository as `flux bootstrap` does: a source and, for a path, a Kustomization of it.
    fn read_by_flux(&self, source: &str, path: Option<&str>) {
        let name = self.name;
        apply(&format!(
            r#"
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: {source}, namespace: flux-system}}
spec: {{interval: 1m, url: "http://{WORLD}/git/{name}.git", ref: {{branch: main}}}}
"#
        ));
        if let Some(path) = path {
            apply(&format!(
                r#"
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: {source}, namespace: flux-system}}
spec: {{interval: 10m, path: {path}, prune: true, sourceRef: {{kind: GitRepository, name: {source}}}}}
"#
            ));
        }
    }
}

/// A condition of an object: status and message.
fn condition(object: &Value, kind: &str) -> (String, String) {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"))
}

/// Whether an object has been looked at as it is, and is ready.
fn is_ready(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"] && condition(object, "Ready").0 == "True"
}

/// The Kustomizations of Flux.
fn kustomizations() -> Vec<Value> {
    let list = kubectl(&["-n", "flux-system", "get", "kustomizations.kustomize.toolkit.fluxcd.io", "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// Waits until Flux has applied a revision with everything, and is content.
async fn applied(revision: &str, all: usize) {
    let mut last = String::new();
    let applied = async {
        loop {
            let state = kustomizations();
            let is_done = |it: &Value| is_ready(it) && it["status"]["lastAppliedRevision"] == revision;
            if state.iter().filter(|it| is_done(it)).count() == all {
                return;
            }
            let tell = |it: &Value| format!("{} {:?}", it["metadata"]["name"], condition(it, "Ready"));
            last = state.iter().map(tell).collect::<Vec<_>>().join("\n");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    };
    let patience = std::time::Duration::from_secs(420);
    if tokio::time::timeout(patience, applied).await.is_err() {
        let releases =
            run("kubectl", &["get", "helmreleases,helmcharts,ocirepositories,pods", "-A"], "").unwrap_or_default();
        panic!("Flux has not applied {revision}:\n{last}\n{releases}");
    }
}

/// Packs the chart of this commit, as it stands or otherwise, and pushes it into the registry under a version.
fn push_chart(version: &str, change: impl FnOnce(&Path)) {
    let work = tempfile::tempdir().unwrap();
    let (copy, out) = (work.path().join("weir"), work.path().to_str().unwrap());
    let chart = root().join("manifests/chart");
    run("cp", &["-r", chart.to_str().unwrap(), copy.to_str().unwrap()], "").unwrap();
    change(&copy);
    run("helm", &["package", copy.to_str().unwrap(), "--version", version, "--destination", out], "").unwrap();
    let packed = format!("{out}/weir-{version}.tgz");
    run("helm", &["push", &packed, &format!("oci://{WORLD}/charts"), "--plain-http"], "").unwrap();
}

/// Makes a chart's definition of Canaries an older one: without a field that today's has.
fn without_callers(chart: &Path) {
    let path = chart.join("crds/canaries.yaml");
    let mut definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let service = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/service");
    let service = service.unwrap();
    assert!(service["properties"].as_object_mut().unwrap().remove("callers").is_some(), "{service:#}");
    service.as_object_mut().unwrap().remove("x-kubernetes-validations");
    let spec = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    spec.as_object_mut().unwrap().remove("x-kubernetes-validations");
    std::fs::write(&path, definition.to_string()).unwrap();
}

/// Whether the cluster's definition of Canaries has the field that [`without_callers`] removes.
fn knows_callers() -> bool {
    run("kubectl", &["explain", "canaries.weir.dev.spec.service.callers"], "").is_ok()
}

async fn release_is_ready(namespace: &str, name: &str) -> Value {
    until(&format!("the HelmRelease {name} is ready"), || object(namespace, "helmrelease", name).filter(is_ready)).await
}
