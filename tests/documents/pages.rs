//! The pages for users: whatever they show can be pasted, and whatever they point at is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use weir_controller::api::{Known, plan, process};

use crate::markdown::{anchors, blocks, documents, links, read, root, section, spans};

#[test]
fn the_readme_has_at_most_150_lines() {
    assert!(read("README.md").lines().count() <= 150);
}

#[test]
fn every_page_is_in_the_index() {
    let index: BTreeSet<String> =
        links(&read("docs/README.md")).iter().map(|link| link.split('#').next().unwrap().to_owned()).collect();
    let pages = documents().into_iter().filter_map(|path| Some(path.strip_prefix("docs/")?.to_owned()));
    let missing: Vec<String> = pages.filter(|page| page != "README.md" && !index.contains(page)).collect();
    assert!(missing.is_empty(), "docs/README.md does not lead to {missing:?}");
}

#[test]
fn links_lead_to_something() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        let folder = Path::new(&document).parent().unwrap();
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(&document) } else { root().join(folder).join(path) };
            let found = match heading {
                "" => target.exists(),
                _ => fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(heading)),
            };
            if !found {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A block whose marker is a file's path shows that file.
#[test]
fn quoted_examples_are_the_files() {
    let mut quoted = 0;
    for document in documents() {
        for block in blocks(&document).into_iter().filter(|block| block.marker.starts_with("manifests/")) {
            quoted += 1;
            let file = read(&block.marker);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                let updated = read(&document).replacen(&block.body, &file, 1);
                fs::write(root().join(&document), updated).unwrap();
            } else {
                assert_eq!(block.body, file, "{}: make generate puts {} there", block.at, block.marker);
            }
        }
    }
    assert!(quoted >= 4, "{quoted}");
}

/// Reads objects as users write them; returns how many of Weir's kinds there are.
fn check_objects(text: &str, at: &str) -> usize {
    let mut count = 0;
    for parsed in weir_controller::api::read(text, at) {
        let parsed = parsed.unwrap_or_else(|problem| panic!("{at}: {problem:?}"));
        if matches!(parsed.object, Known::Other) {
            // What a Canary needs beside it: a namespace, a Gateway, a Deployment.
            continue;
        }
        count += 1;
        assert_eq!(parsed.warnings, [], "{at}");
        match parsed.object {
            Known::Canary(canary) => drop(plan(&canary).unwrap_or_else(|problems| panic!("{at}: {problems:?}"))),
            Known::Process(spec) => drop(process(&spec).unwrap_or_else(|problems| panic!("{at}: {problems:?}"))),
            Known::MetricTemplate(_) | Known::AlertProvider(_) | Known::Secret(_) | Known::Other => {}
        }
    }
    count
}

#[test]
fn examples_are_valid_and_say_nothing_unknown() {
    for entry in fs::read_dir(root().join("manifests/examples")).unwrap() {
        let path = entry.unwrap().path();
        check_objects(&fs::read_to_string(&path).unwrap(), &path.display().to_string());
    }
}

/// A part of a Canary, `spec:` and what is talked about, made whole.
fn whole(fragment: &str) -> String {
    let body = fragment.strip_prefix("spec:\n").unwrap();
    let mut spec = body.to_owned();
    let mut add = |section: &str, field: &str, unless: &[&str]| {
        if unless.iter().any(|word| spec.contains(&format!("\n    {word}:"))) {
            return;
        }
        let at = format!("  {section}:\n");
        if !spec.contains(&at) {
            spec += &at;
        }
        spec = spec.replacen(&at, &format!("{at}    {field}\n"), 1);
    };
    add("service", "port: 80", &["port"]);
    add("analysis", "stepWeight: 10", &["stepWeight", "stepWeights", "iterations"]);
    let target = if body.contains("  targetRef:") { "" } else { "  targetRef: {kind: Deployment, name: shop}\n" };
    format!("apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata: {{name: shop}}\nspec:\n{target}{spec}")
}

#[test]
fn yaml_on_the_pages_is_valid_and_says_nothing_unknown() {
    let mut objects = 0;
    for document in documents() {
        for block in blocks(&document).into_iter().filter(|block| block.language == "yaml") {
            let first = block.body.lines().next().unwrap_or_default();
            if first.starts_with("# values of the chart") {
                let unknown: Vec<String> = keys(&block.body).difference(&keys(&values())).cloned().collect();
                assert!(unknown.is_empty(), "{}: the chart has no value {unknown:?}", block.at);
            } else if first == "spec:" {
                objects += check_objects(&whole(&block.body), &block.at);
            } else if !first.starts_with("# part of ") {
                // Somebody else's configuration says so in its first line.
                objects += check_objects(&block.body, &block.at);
            }
        }
    }
    assert!(objects >= 8, "{objects}");
}

fn values() -> String {
    read("manifests/chart/values.yaml")
}

/// The paths of a YAML file's fields, `a.b`; of lists and of what stands in braces only the name.
fn keys(yaml: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    for line in yaml.lines().filter(|line| !line.trim_start().starts_with(['#', '-'])) {
        let indent = line.len() - line.trim_start().len();
        let Some((key, _)) = line.trim_start().split_once(':') else { continue };
        open.retain(|(outer, _)| *outer < indent);
        open.push((indent, key.to_owned()));
        found.insert(open.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join("."));
    }
    found
}

/// The commands of a block of a shell, continued lines joined.
fn commands(body: &str, language: &str) -> Vec<String> {
    let joined = body.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    match language {
        "console" => lines.filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect(),
        _ => lines.map(str::to_owned).collect(),
    }
}

/// Commands in a sentence count too: `weir why shop`.
fn all_commands() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for document in documents().iter().filter(|document| *document != "CHANGELOG.md") {
        for block in blocks(document).iter().filter(|block| ["", "console", "sh"].contains(&block.language.as_str())) {
            found.extend(commands(&block.body, &block.language).into_iter().map(|line| (block.at.clone(), line)));
        }
        found.extend(spans(&read(document)).into_iter().map(|span| (document.clone(), span)));
    }
    found
}

#[test]
fn commands_of_weir_exist_with_their_options() {
    let reference = read("docs/command-line.md");
    let mut checked = 0;
    for (at, line) in all_commands() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let rest = match words[..] {
            ["kubectl", "weir", ref rest @ ..] => rest,
            [program, ref rest @ ..] if program == "weir" || program.ends_with("/weir") => rest,
            _ => continue,
        };
        let Some(command) = rest.first().filter(|word| word.chars().all(|c| c.is_ascii_lowercase())) else { continue };
        let heading = format!("## weir {command}");
        assert!(reference.contains(&format!("\n{heading}\n")), "{at}: {line}: no command {command}");
        let help = section(&reference, &heading);
        for option in rest.iter().filter(|word| word.starts_with('-') && word.len() > 1) {
            let option = option.split('=').next().unwrap().trim_end_matches([',', '.']);
            let known = help.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == option);
            assert!(known || option == "--help", "{at}: {line}: weir {command} has no option {option}");
        }
        checked += 1;
    }
    assert!(checked >= 15, "{checked}");
}

#[test]
fn files_targets_and_values_in_commands_exist() {
    let makefile = read("Makefile");
    let values = keys(&values());
    for (at, line) in all_commands() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["make", target, ..] = words[..] {
            assert!(makefile.contains(&format!("\n{target}:")), "{at}: no target {target}");
        }
        for pair in words.windows(2) {
            let is_ours = || pair[1].starts_with("manifests") || pair[1].starts_with("docs/");
            if ["-f", "-k", "install", "weir"].contains(&pair[0]) && is_ours() {
                assert!(root().join(pair[1]).exists(), "{at}: no file {}", pair[1]);
            }
            if ["--set", "--set-string"].contains(&pair[0]) && words[0] == "helm" && line.contains("manifests/chart") {
                let value = pair[1].split('=').next().unwrap();
                assert!(values.contains(value), "{at}: the chart has no value {value}");
            }
        }
    }
}

#[test]
fn published_names_are_those_of_the_release() {
    let after = |text: &str, before: &str| {
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no {before}"));
        rest.split(['\n', '}']).next().unwrap().to_owned()
    };
    let release = read("gitops/weir/release.yaml");
    let (chart, image) = (after(&release, "url: "), after(&release, "image: {repository: "));
    let home = after(&read(".github/krew/weir.yaml"), "homepage: ");
    let version = after(&read("manifests/chart/Chart.yaml"), "\nversion: ");
    let krew = format!("--manifest-url={home}/releases/latest/download/krew.yaml");
    let identity = format!("'^{home}/.github/workflows/release.yaml@refs/tags/v'");
    let archive = format!("{home}/releases/download/v{version}/weir_{version}_linux_amd64.tar.gz");
    assert!(read("README.md").contains(&archive), "README.md lacks {archive}");
    for page in ["README.md", "docs/getting-started.md"] {
        let text = read(page);
        let chart = format!("helm upgrade --install weir {chart} ");
        let (releases, signed) = (format!("]({home}/releases)"), format!("cosign verify {image}:{version} "));
        for part in [&chart, &krew, &releases, &signed, &identity] {
            assert!(text.contains(part), "{page} lacks {part}");
        }
    }
    // What the workflow publishes under these names.
    let workflow = read(".github/workflows/release.yaml");
    let owner = image.split('/').nth(1).unwrap();
    assert!(home.ends_with(&format!("/{owner}/weir")) && chart == format!("oci://ghcr.io/{owner}/charts/weir"));
    for part in [
        "IMAGE: ghcr.io/${{ github.repository }}",
        "CHARTS: ghcr.io/${{ github.repository_owner }}/charts",
        "mv krew.yaml assets",
    ] {
        assert!(workflow.contains(part), "the workflow lacks {part}");
    }
}
