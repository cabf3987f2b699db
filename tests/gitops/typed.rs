//! What people and GitHub type in `gitops/`: the workflow that proposes a version of Istio, and the upgrade by revision. The seds are GNU's.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{root, texts};

/// Runs a shell in a folder; returns whether it ended well, and what it said.
fn shell(folder: &Path, command: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let mut shell = Command::new("bash");
    shell.args(["-e", "-c", command]).current_dir(folder).envs(environment.iter().copied());
    shell.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        shell.env(format!("GIT_{role}_NAME"), "you").env(format!("GIT_{role}_EMAIL"), "you@example.com");
    }
    let output = shell.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

fn run(folder: &Path, command: &str) -> String {
    let (ok, said) = shell(folder, command, &[]);
    assert!(ok, "{command}\n{said}");
    said
}

/// A repository of somebody's that has all of `gitops/`.
fn repository(folder: &Path) {
    let copy = format!(
        "cp -r {}/. . && git init --quiet -b main && git add --all && git commit --quiet -m all",
        root().display()
    );
    run(folder, &copy);
}

/// GitHub, as far as the workflow sees it: a repository, its pull requests (a file each, of branch and state) and a `gh` that knows them.
struct GitHub(TempDir);

const GH: &str = r#"#!/usr/bin/env bash
set -euo pipefail
option() { while [[ $1 != "$wanted" ]]; do shift; done; echo "$2"; }
case "$1 $2" in
"release view") echo 1.27.9 ;;
"pr list")
    wanted=--head; head=$(option "$@"); wanted=--state; state=$(option "$@")
    for pull in "$GITHUB/pulls"/*; do
        [[ -e $pull ]] || continue
        read -r of is <"$pull"
        [[ $of != "$head" || ($state != all && $state != "$is") ]] || basename "$pull"
    done ;;
"pr create")
    wanted=--head; head=$(option "$@")
    [[ -e $GITHUB/allowed ]] || { echo "GitHub Actions is not permitted to create or approve pull requests" >&2; exit 1; }
    git ls-remote --exit-code origin "refs/heads/$head" >/dev/null
    echo "$head open" >"$GITHUB/pulls/$(find "$GITHUB/pulls" -type f | wc -l)" ;;
"workflow run") wanted=--ref; echo "$3 $(option "$@")" >>"$GITHUB/started" ;;
*) echo "gh $*?" >&2; exit 1 ;;
esac
"#;

impl GitHub {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let it = Self(tempfile::tempdir().unwrap());
        for folder in ["first", "pulls", "bin"] {
            fs::create_dir(it.0.path().join(folder)).unwrap();
        }
        repository(&it.0.path().join("first"));
        run(it.0.path(), "git clone --quiet --bare first origin.git");
        let gh = it.0.path().join("bin/gh");
        fs::write(&gh, GH).unwrap();
        fs::set_permissions(&gh, fs::Permissions::from_mode(0o755)).unwrap();
        it
    }

    /// A run of the workflow, from its checkout on.
    fn runs(&self) -> (bool, String) {
        let work = tempfile::tempdir_in(self.0.path()).unwrap();
        run(work.path(), "git clone --quiet --depth 1 file://$(dirname $PWD)/origin.git .");
        let text = fs::read_to_string(root().join(".github/workflows/update-istio.yaml")).unwrap();
        let workflow: Value = serde_saphyr::from_str(&text).unwrap();
        let job = &workflow["jobs"]["propose"];
        let path = format!("{}:{}", self.0.path().join("bin").display(), std::env::var("PATH").unwrap());
        let output = work.path().join(".git/outputs");
        let (github, output) = (self.0.path().to_str().unwrap(), output.to_str().unwrap());
        let file = job["env"]["FILE"].as_str().unwrap();
        let mut environment =
            vec![("GITHUB", github), ("PATH", &path), ("GITHUB_OUTPUT", output), ("FILE", file), ("BASE", "main")];
        let commands = texts(&job["steps"], |step| step.get("run").unwrap_or(&Value::Null));
        let (ok, said) = shell(work.path(), &commands[0], &environment);
        assert!(ok, "{said}");
        let outputs = fs::read_to_string(output).unwrap();
        let output = |name: &str| outputs.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
        environment.extend([("NEWEST", output("newest")), ("CURRENT", output("current"))]);
        assert_ne!(output("newest"), output("current"));
        shell(work.path(), &commands[1], &environment)
    }

    fn pulls(&self) -> Vec<String> {
        let all = fs::read_dir(self.0.path().join("pulls")).unwrap();
        all.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap().trim().to_owned()).collect()
    }

    fn started(&self) -> String {
        fs::read_to_string(self.0.path().join("started")).unwrap_or_default()
    }
}

#[test]
fn a_version_of_istio_is_proposed_once_and_the_workflow_fails_until_it_may() {
    let github = GitHub::new();
    for _ in 0..2 {
        let (ok, said) = github.runs();
        assert!(!ok && said.contains("not permitted"), "{said}");
        assert_eq!((github.pulls().len(), github.started()), (0, String::new()));
    }
    fs::write(github.0.path().join("allowed"), "").unwrap();
    let (ok, said) = github.runs();
    assert!(ok, "{said}");
    assert_eq!(github.pulls(), ["update-istio-1.27.9 open"]);
    // Nobody else starts it on what a workflow pushes.
    assert_eq!(github.started(), "e2e.yaml update-istio-1.27.9\n");
    let proposed = run(
        &github.0.path().join("origin.git"),
        "git diff main update-istio-1.27.9 && git show update-istio-1.27.9:clusters/production/istio/istio-version.yaml",
    );
    assert!(proposed.ends_with("\n  version: 1.27.9\n"), "{proposed}");
    assert_eq!(proposed.matches("\n+ ").count(), 1, "{proposed}");
    // Proposed is proposed, whatever people made of it.
    for state in ["open", "closed", "merged"] {
        fs::write(github.0.path().join("pulls/0"), format!("update-istio-1.27.9 {state}\n")).unwrap();
        let (ok, said) = github.runs();
        assert!(ok && said.contains("is proposed already"), "{state}: {said}");
        assert_eq!((github.pulls().len(), github.started().lines().count()), (1, 1), "{state}");
    }
}

/// The commands of a section of the page that change files, as a person types them.
fn commands_of(heading: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join("README.md")).unwrap();
    let section = page.split(heading).nth(1).unwrap().split("\n## ").next().unwrap().replace("\\\n", " ");
    let typed = section.lines().filter_map(|line| line.strip_prefix("$ ")).filter(|line| !line.starts_with("kubectl"));
    typed.map(|line| line.replace(" && git push --quiet", "")).collect()
}

fn of_file(folder: &Path, path: &str) -> (String, Value) {
    let text = fs::read_to_string(folder.join(path)).unwrap();
    let documents =
        serde_saphyr::from_multiple::<Value>(&text).unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
    (text, documents.into_iter().next().unwrap())
}

#[test]
fn the_upgrade_by_revision_leaves_both_ways_open_and_can_be_typed_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    repository(folder);
    let files = ["istio/system/base.yaml", "istio/system/istiod.yaml", "istio/gateway/release.yaml"];
    for (former, version, revision) in [("1.27.1", "1.27.2", "1-27-2"), ("1.27.2", "1.27.3", "1-27-3")] {
        for command in commands_of("### By revision") {
            let next = command.replace("1.27.2", "VERSION").replace("1-27-2", "REVISION").replace("1.27.1", former);
            run(folder, &next.replace("VERSION", version).replace("REVISION", revision));
        }
        assert_eq!(run(folder, "git status --porcelain"), "");
        let listed = of_file(folder, "istio/system/kustomization.yaml").1;
        assert_eq!(
            listed["resources"],
            serde_json::json!(["namespace.yaml", "repository.yaml", "base.yaml", "istiod.yaml"])
        );
        let (text, known) = of_file(folder, "clusters/production/istio/istio-version.yaml");
        assert_eq!(known["data"]["version"], version);
        assert!(text.contains("the update workflow changes it"), "{text}");
        let [base, istiod, gateway] = files.map(|path| {
            let (text, release) = of_file(folder, path);
            assert_eq!(release["spec"]["chart"]["spec"]["version"], "${version}", "{path}");
            assert!(!text.contains(version) && text.matches("evision: ").count() == 1, "{path}: {text}");
            // Flux learns the version by its name before a file asks for it by that.
            let before = run(folder, &format!("git show HEAD~1:{path}"));
            assert!(before.contains(&format!("version: {version}\n")), "{path}: {before}");
            release
        });
        assert_eq!(base["spec"]["values"]["defaultRevision"], revision);
        assert_eq!(
            (&istiod["spec"]["values"]["revision"], &gateway["spec"]["values"]["revision"]),
            (&revision.into(), &revision.into())
        );
        let name = format!("istiod-{revision}");
        assert_eq!((&istiod["metadata"]["name"], &istiod["spec"]["releaseName"]), (&name.clone().into(), &name.into()));
        assert_eq!(
            (&istiod["spec"]["values"]["autoscaleMin"], &gateway["spec"]["values"]["autoscaling"]["minReplicas"]),
            (&2.into(), &2.into())
        );
        for path in ["apps/namespace.yaml", "istio/gateway/namespace.yaml"] {
            let labels = &of_file(folder, path).1["metadata"]["labels"];
            assert_eq!(*labels, serde_json::json!({"istio.io/rev": revision}), "{path}");
        }
    }
}
