//! What a release is made of: the workflow, and the manifest of the plugin for krew.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{read, root};

/// The platforms for which the workflow builds archives.
fn built() -> BTreeSet<String> {
    let workflow: Value = serde_saphyr::from_str(&read(".github/workflows/release.yaml")).unwrap();
    let rows = workflow["jobs"]["archive"]["strategy"]["matrix"]["include"].as_array().unwrap();
    rows.iter().map(|row| row["platform"].as_str().unwrap().to_owned()).collect()
}

fn render(folder: &Path) -> Result<Value, String> {
    let output =
        Command::new(root().join(".github/krew/render")).args(["1.2.3".as_ref(), folder.as_os_str()]).output().unwrap();
    if output.status.success() {
        Ok(serde_saphyr::from_str(std::str::from_utf8(&output.stdout).unwrap()).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn krews_manifest_has_every_archive_of_the_plugin_with_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let archive = |platform: &str| folder.path().join(format!("kubectl-weir_1.2.3_{platform}.tar.gz"));
    for platform in built() {
        std::fs::write(archive(&platform), &platform).unwrap();
    }
    let manifest = render(folder.path()).unwrap();
    assert_eq!((&manifest["kind"], &manifest["spec"]["version"]), (&"Plugin".into(), &"v1.2.3".into()));
    // As krew has it: a sentence of at most 50 characters.
    let short = manifest["spec"]["shortDescription"].as_str().unwrap();
    assert!(short.len() <= 50 && !short.ends_with('.'), "{short}");
    let mut found = BTreeSet::new();
    for platform in manifest["spec"]["platforms"].as_array().unwrap() {
        let labels = &platform["selector"]["matchLabels"];
        let name = format!("{}_{}", labels["os"].as_str().unwrap(), labels["arch"].as_str().unwrap());
        let uri = platform["uri"].as_str().unwrap();
        assert!(uri.ends_with(&format!("/v1.2.3/kubectl-weir_1.2.3_{name}.tar.gz")), "{uri}");
        let sum: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(platform["sha256"], sum.as_str(), "{name}");
        let suffix = if name.starts_with("windows_") { ".exe" } else { "" };
        assert_eq!(platform["bin"], format!("kubectl-weir{suffix}"));
        found.insert(name);
    }
    let every = ["linux", "darwin", "windows"].map(|os| ["amd64", "arm64"].map(|arch| format!("{os}_{arch}")));
    assert_eq!(found, BTreeSet::from_iter(every.concat()));
    assert_eq!(found, built());
    std::fs::remove_file(archive("linux_arm64")).unwrap();
    assert!(render(folder.path()).unwrap_err().contains("linux_arm64"));
}

#[test]
fn a_release_is_for_both_processors_signed_and_with_its_contents_and_origin() {
    let workflow: Value = serde_saphyr::from_str(&read(".github/workflows/release.yaml")).unwrap();
    let jobs = &workflow["jobs"];
    let rows = jobs["image"]["strategy"]["matrix"]["include"].as_array().unwrap();
    let platforms: BTreeSet<&str> = rows.iter().map(|row| row["platform"].as_str().unwrap()).collect();
    assert_eq!(platforms, BTreeSet::from(["amd64", "arm64"]));
    let steps = |job: &str| jobs[job]["steps"].as_array().unwrap().clone();
    let build = steps("image").into_iter().find(|step| step["id"] == "build").unwrap();
    assert_eq!((&build["with"]["sbom"], &build["with"]["provenance"]), (&true.into(), &"mode=max".into()));
    let command = |id: &str| {
        let step = steps("publish").into_iter().find(|step| step["id"] == id).unwrap();
        step["run"].as_str().unwrap().to_owned()
    };
    // By artifact: what signs it, and what says where it comes from.
    let provenances: Vec<Value> = ["publish", "archive"]
        .iter()
        .flat_map(|job| {
            assert_eq!(jobs[job]["permissions"]["attestations"], "write", "{job}");
            steps(job)
        })
        .filter(|it| it["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/attest-build-provenance@")))
        .map(|it| it["with"].clone())
        .collect();
    for (id, subject, signed) in
        [("image", "${{ env.IMAGE }}", "$IMAGE@$digest"), ("chart", "${{ env.CHARTS }}/weir", "$CHARTS/weir@$digest")]
    {
        let run = command(id);
        let signature = run.lines().find(|line| line.trim().starts_with("cosign sign --yes")).unwrap();
        assert!(signature.ends_with(&format!("\"{signed}\"")), "{id}: {signature}");
        assert!(run.contains("echo \"digest=$digest\" >> \"$GITHUB_OUTPUT\""), "{id}");
        let digest = format!("${{{{ steps.{id}.outputs.digest }}}}");
        let of = json!({"subject-name": subject, "subject-digest": digest, "push-to-registry": true});
        assert!(provenances.contains(&of), "{id}: {provenances:?}");
    }
    assert!(provenances.contains(&json!({"subject-path": "*.tar.gz"})), "{provenances:?}");
    // The image's bill of materials is buildx's, that of the chart is attached to it, and archives have theirs beside them.
    let chart = command("chart");
    let made =
        chart.find(".github/chart/sbom \"weir-$VERSION.tgz\" \"$VERSION\" \"$IMAGE\" \"$DIGEST\" > chart.spdx.json");
    let attached =
        chart.find("cosign attest --yes --type spdxjson --predicate chart.spdx.json \"$CHARTS/weir@$digest\"");
    assert!(made.is_some() && made < attached, "{chart}");
    assert!(
        steps("archive")
            .iter()
            .any(|it| it["uses"].as_str().is_some_and(|uses| uses.starts_with("anchore/sbom-action@")))
    );
}

#[cfg(unix)]
#[test]
fn the_charts_bill_of_materials_names_its_archive_and_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("weir-1.2.3.tgz");
    std::fs::write(&archive, "chart").unwrap();
    let digest = format!("sha256:{}", "a".repeat(64));
    let output = Command::new(root().join(".github/chart/sbom"))
        .args([archive.to_str().unwrap(), "1.2.3", "registry.test/weir", &digest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bill: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sum: String = Sha256::digest("chart").iter().map(|byte| format!("{byte:02x}")).collect();
    let packages = bill["packages"].as_array().unwrap();
    let said = |at: usize| {
        let package = &packages[at];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        [text(&package["name"]), text(&package["versionInfo"]), text(&package["checksums"][0]["checksumValue"])]
    };
    assert_eq!(said(0), ["weir-1.2.3.tgz".to_owned(), "1.2.3".to_owned(), sum]);
    assert_eq!(said(1), ["registry.test/weir".to_owned(), "1.2.3".to_owned(), "a".repeat(64)]);
    // What SPDX 2.3 asks of a document and of a package.
    for field in ["spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo", "relationships"]
    {
        assert!(!bill[field].is_null(), "{field}");
    }
    for field in ["SPDXID", "name", "downloadLocation"] {
        assert!(packages.iter().all(|package| package[field].is_string()), "{field}");
    }
}

/// CONTRIBUTING.md, "Releasing", typed: then a tag of this commit makes a release.
#[cfg(target_os = "linux")]
#[test]
fn a_tag_makes_a_release_after_what_contributing_says_was_typed() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["CHANGELOG.md", "Cargo.toml", "manifests/chart/Chart.yaml", "manifests/chart/values.yaml"] {
        std::fs::create_dir_all(folder.path().join(file).parent().unwrap()).unwrap();
        std::fs::copy(root().join(file), folder.path().join(file)).unwrap();
    }
    let version = read("manifests/chart/Chart.yaml");
    let version = version.lines().find_map(|line| line.strip_prefix("version: ")).unwrap();
    let page = read("CONTRIBUTING.md");
    let section = page.split("\n## Releasing\n").nth(1).unwrap();
    let typed = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().trim();
    let values: Value = serde_saphyr::from_str(&read("manifests/chart/values.yaml")).unwrap();
    let shell = |command: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-e", "-c", command]).current_dir(folder.path()).env("VERSION", version);
        shell.env("GITHUB_REF_NAME", format!("v{version}")).env("GITHUB_OUTPUT", folder.path().join("output"));
        shell.env("IMAGE", values["image"]["repository"].as_str().unwrap()).status().unwrap().success()
    };
    let [check] = &commands(".github/workflows/release.yaml", "version")[..] else { panic!("one command checks") };
    let is_released = read("CHANGELOG.md").contains(&format!("\n## [{version}]"));
    assert_eq!(shell(check), is_released, "a tag of a commit without a section of its version is refused");
    if !is_released {
        assert!(shell(typed), "{typed}");
    }
    assert!(shell(check));
    assert_eq!(std::fs::read_to_string(folder.path().join("output")).unwrap().trim(), format!("version={version}"));
    // What is new since goes above it, and the notes are what was unreleased.
    let release = commands(".github/workflows/release.yaml", "release");
    let notes = release[0].lines().find(|line| line.starts_with("awk ")).unwrap();
    assert!(shell(notes));
    let notes = std::fs::read_to_string(folder.path().join("notes.md")).unwrap();
    assert!(notes.contains("\n### Added\n") && notes.lines().count() > 10, "{notes}");
    let changelog = std::fs::read_to_string(folder.path().join("CHANGELOG.md")).unwrap();
    let section = |head: &str| changelog.find(&format!("\n## [{head}]"));
    assert!(section("Unreleased").is_some() && section("Unreleased") < section(version));
}

/// Returns the commands of a job's steps, in order.
fn commands(workflow: &str, job: &str) -> Vec<String> {
    let workflow: Value = serde_saphyr::from_str(&read(workflow)).unwrap();
    let steps = workflow["jobs"][job]["steps"].as_array().unwrap().clone();
    steps.iter().filter_map(|step| step["run"].as_str().map(str::to_owned)).collect()
}

#[test]
fn the_filter_is_built_after_its_target_was_installed() {
    for (workflow, job) in [(".github/workflows/release.yaml", "archive"), (".github/workflows/ci.yaml", "programs")] {
        let commands = commands(workflow, job);
        let place = |what: &str| commands.iter().position(|command| command.contains(what));
        let (target, built) = (place("rustup target add wasm32-unknown-unknown"), place("filter/build"));
        assert!(target.is_some() && target < built, "{workflow}, {job}: {commands:?}");
    }
}

#[cfg(unix)]
#[test]
fn the_filter_is_built_where_no_program_of_gnu_is() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    for path in [&bin, &folder.path().join("filter")] {
        std::fs::create_dir_all(path).unwrap();
    }
    std::fs::copy(root().join("filter/build"), folder.path().join("filter/build")).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for name in ["bash", "dirname", "mkdir", "tail", "cmp", "cp", "mv", "wc", "tr"] {
        let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.exists()).unwrap();
        symlink(found, bin.join(name)).unwrap();
    }
    let library = "$PWD/sysroot/lib/rustlib/wasm32-unknown-unknown/lib";
    let module = "target/wasm/wasm32-unknown-unknown/wasm";
    for (name, does) in [
        ("rustc", "echo \"$PWD/sysroot\"".to_owned()),
        ("rustup", format!("[ \"$*\" = 'target add wasm32-unknown-unknown' ] && mkdir -p \"{library}\"")),
        ("cargo", format!("mkdir -p {module} && printf 12345 > {module}/weir_filter.wasm")),
        ("stat", "exit 1".to_owned()),
    ] {
        std::fs::write(bin.join(name), format!("#!{}\n{does}\n", bin.join("bash").display())).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let built = Command::new(bin.join("bash"))
        .arg(folder.path().join("filter/build"))
        .env_clear()
        .env("PATH", &bin)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!(String::from_utf8_lossy(&built.stdout), "target/weir-filter.wasm 5 bytes\n");
}

#[test]
fn what_workflows_run_of_others_is_pinned_by_commit() {
    let mut pinned = 0;
    for folder in [".github/workflows", "gitops/.github/workflows"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for line in text.lines().filter(|line| line.trim_start_matches(['-', ' ']).starts_with("uses: ")) {
                let (_, rest) = line.split_once('@').unwrap();
                let (commit, release) = rest.split_once(" # ").unwrap_or_else(|| panic!("{line}: of which release?"));
                assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
                assert!(release.starts_with('v'), "{line}");
                pinned += 1;
            }
        }
    }
    assert!(pinned >= 20, "{pinned}");
}
