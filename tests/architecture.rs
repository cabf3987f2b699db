//! Rules of the sources that the compiler does not know: what may not know what, and how files look.
//!
//! The files are read as text. That is cruder than a lint, and a person who wants to get around it can; it is here
//! for the one who did not think of the rule.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines that a file may have, and the files that may have more, each with the reason.
const LONGEST: usize = 400;
const LONGER: [(&str, &str); 0] = [];

/// All that the engine may link: nothing that waits, does I/O, tells the time or draws a number.
const PURE: [&str; 2] = ["serde", "weir-wire"];
/// Modules of `std` that Cargo cannot keep from the engine.
const IMPURE_STD: [&str; 7] = ["fs", "net", "process", "env", "thread", "io", "time"];

/// The floors of `controller/src/kubernetes` in reading order: what stands on one line does not know what stands below.
const FLOORS: [&[&str]; 9] = [
    &["api_server"],
    &["kinds"],
    &["render", "settings"],
    &["stores"],
    &["configs"],
    &["executor"],
    &["gateway", "router", "target"],
    &["reconcile"],
    &["client", "page", "run", "serve", "uninstall"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file of the repository below `folder`, as paths from the root; without what is built or installed.
fn files(folder: &str) -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if [".git", "target", ".tools", ".demo"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { found.push(name) }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The code of a file: without comments, and without its tests, which stand last.
fn code(path: &str) -> String {
    let text = read(path);
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The modules of `std` that a piece of code names, also in a group: `std::{fs, time::Duration}`.
fn std_modules(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, rest) in code.match_indices("std::").map(|(at, it)| (at, &code[at + it.len()..])) {
        match rest.strip_prefix('{').and_then(|group| group.split_once(';')) {
            Some((group, _)) => found.extend(group.split(',').filter_map(|item| words(item).next()).map(str::to_owned)),
            None => found.extend(words(rest).next().map(str::to_owned)),
        }
    }
    found
}

/// Files that only tests see: `mod x;` behind `#[cfg(test)]`.
fn is_test_file(path: &str) -> bool {
    let stem = Path::new(path).file_stem().unwrap().to_str().unwrap();
    let folder = Path::new(path).parent().unwrap();
    let parents = [folder.join("mod.rs"), folder.with_extension("rs"), folder.join("lib.rs")];
    path.contains("/tests/")
        || stem == "tests"
        || parents.iter().filter_map(|parent| fs::read_to_string(root().join(parent)).ok()).any(|text| {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            lines.windows(2).any(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with(&format!("mod {stem};")))
        })
}

/// What a package links outside of its tests, by its manifest.
fn dependencies(folder: &str) -> Vec<String> {
    let manifest = read(&format!("{folder}/Cargo.toml"));
    let section = manifest.split("\n[").find_map(|section| section.strip_prefix("dependencies]\n")).unwrap_or_default();
    let names = section.lines().filter(|line| line.starts_with(char::is_alphabetic));
    names.filter_map(|line| line.split([' ', '.']).next()).map(str::to_owned).collect()
}

#[test]
fn the_engine_does_no_io_and_reads_no_clock() {
    let mut linked = dependencies("engine");
    linked.sort();
    assert_eq!(linked, PURE, "the engine is pure, its callers bring what it needs");
    let mut wrong = Vec::new();
    for path in files("engine/src").iter().filter(|path| !is_test_file(path)) {
        let modules = std_modules(&code(path));
        wrong.extend(
            IMPURE_STD.iter().filter(|name| modules.contains(**name)).map(|name| format!("{path}: std::{name}")),
        );
    }
    assert!(wrong.is_empty(), "the engine is pure, its callers bring what it needs:\n{}", wrong.join("\n"));
}

#[test]
fn the_control_loop_does_not_link_the_filter() {
    let linked = dependencies("controller");
    assert!(!linked.is_empty() && !linked.iter().any(|name| name == "weir-filter"), "{linked:?}");
}

#[test]
fn floors_of_the_kubernetes_folder_know_only_those_below() {
    let place = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut upward = BTreeSet::new();
    for path in files("controller/src/kubernetes").iter().filter(|path| !is_test_file(path)) {
        let inner = path.strip_prefix("controller/src/kubernetes/").unwrap();
        let own = inner.split('/').next().unwrap().trim_end_matches(".rs");
        let Some(floor) = place(own) else {
            assert!(["mod"].contains(&own), "{path} stands on no floor: add it to FLOORS");
            continue;
        };
        let code = code(path);
        for named in code.split("kubernetes::").skip(1).filter_map(|rest| words(rest).next()) {
            if place(named).is_some_and(|other| other > floor) {
                upward.insert(format!("{path} knows {named}"));
            }
        }
    }
    assert!(upward.is_empty(), "a floor knows one above it: {upward:#?}");
}

/// Words that the controller once had for things that have a standard term. One word per thing: they stay away.
const RETIRED: [(&str, &str); 37] = [
    ("Keeper", "Reconciler"),
    ("World", "Stores"),
    ("Kept", "Cached"),
    ("Hands", "Executor"),
    ("Claims", "HostIndex"),
    ("Placement", "RequestMatch"),
    ("Fleet", "GatewayRegistry"),
    ("shut_out", "excluded"),
    ("survey", "refresh"),
    ("carry_out", "execute"),
    ("Board", "StatusStore"),
    ("Answers", "CheckRunner"),
    ("Machine", "Supervisor"),
    ("Proof", "RunEvidence"),
    ("Ledger", "CounterHistory"),
    ("View", "Projection"),
    ("WHOLE", "KEEP_RAW"),
    ("canary_is_home", "canary_is_fallback"),
    ("halted", "last_failed_check"),
    ("take_in", "ingest"),
    ("is_news", "is_changed"),
    ("twin", "primary_hpa"),
    ("untold", "event"),
    ("Look", "Observer"),
    ("sweep", "prune, remove"),
    ("curious", "due"),
    ("dismiss", "remove"),
    ("Wish", "ScrapeRequest"),
    ("Tenure", "Ownership"),
    ("stranger", "owned_by_other"),
    ("occupied", "apex_conflict"),
    ("gist", "without_figures"),
    ("Silence", "Timeout"),
    ("Impossible", "Precondition"),
    ("population", "canaries_changed"),
    ("SETTLED", "ENDPOINT_GRACE"),
    ("LAG", "CACHE_LAG"),
];

#[test]
fn retired_words_stay_retired() {
    let mut wrong = Vec::new();
    let product = ["engine/src", "controller/src", "lab/src", "cli/src"].into_iter().flat_map(files);
    for path in product.filter(|path| path.ends_with(".rs") && !is_test_file(path)) {
        // Stored fields keep their names; `#[serde(rename)]` says which.
        let code: String =
            code(&path).split_inclusive('\n').filter(|line| !line.trim_start().starts_with("#[serde(")).collect();
        let named: BTreeSet<&str> = words(&code).collect();
        let retired = RETIRED.iter().filter(|(word, _)| named.contains(word));
        wrong.extend(retired.map(|(word, term)| format!("{path} says {word}: the term is {term}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn groups_of_std_imports_are_read() {
    let found = std_modules("use std::{fs, time::Duration};\nlet x = std::process::id();");
    assert_eq!(found, ["fs", "time", "process"].map(str::to_owned).into());
}

#[test]
fn only_one_file_of_the_filter_is_unsafe() {
    let unsafe_files: Vec<String> =
        files("filter/src").into_iter().filter(|path| words(&code(path)).any(|word| word == "unsafe")).collect();
    assert_eq!(unsafe_files, ["filter/src/envoy.rs"], "host calls sit in one file, so that their risks do");
}

#[test]
fn every_source_file_belongs_to_a_target() {
    let rust: BTreeSet<String> = files(".").into_iter().filter(|path| path.ends_with(".rs")).collect();
    let mut open: Vec<String> = rust.iter().filter(|path| is_target(path)).cloned().collect();
    let mut reached: BTreeSet<String> = open.iter().cloned().collect();
    while let Some(path) = open.pop() {
        for module in modules(&path).into_iter().filter(|module| rust.contains(module)) {
            if reached.insert(module.clone()) {
                open.push(module);
            }
        }
    }
    let orphans: Vec<_> = rust.difference(&reached).collect();
    assert!(orphans.is_empty(), "no target compiles {orphans:?}");
}

/// Whether cargo compiles the file as the root of a target: by its place, or because a manifest names it.
fn is_target(path: &str) -> bool {
    let place = Path::new(path);
    let folder = place.parent().and_then(Path::file_name).unwrap_or_default().to_str().unwrap();
    let package = |levels: usize| place.ancestors().nth(levels).unwrap().join("Cargo.toml");
    let by_place = match place.file_name().unwrap().to_str().unwrap() {
        "lib.rs" | "main.rs" => folder == "src" && root().join(package(2)).exists(),
        "build.rs" => root().join(package(1)).exists(),
        _ => ["tests", "benches", "examples", "bin"].contains(&folder),
    };
    by_place
        || place.ancestors().skip(1).filter(|folder| root().join(folder).join("Cargo.toml").exists()).any(|folder| {
            let named = place.strip_prefix(folder).unwrap().to_str().unwrap();
            fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap().contains(&format!("path = \"{named}\""))
        })
}

/// The files that `mod x;` in a file may mean.
fn modules(path: &str) -> Vec<String> {
    let place = Path::new(path);
    let stem = place.file_stem().unwrap();
    let folder = place.parent().unwrap();
    let owns_folder = stem == "mod" || is_target(path);
    let below = if owns_folder { folder.to_owned() } else { folder.join(stem) };
    let mut found = Vec::new();
    let text = read(path);
    let mut named_path = None;
    for line in text.lines().map(str::trim) {
        if let Some(other) = line.strip_prefix("#[path = \"").and_then(|rest| rest.split('"').next()) {
            named_path = Some(other.to_owned());
        }
        let Some(name) = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod ")).map(|(_, name)| name) else {
            continue;
        };
        let candidates = match named_path.take() {
            Some(other) => vec![folder.join(other)],
            None => vec![below.join(name).with_extension("rs"), below.join(name).join("mod.rs")],
        };
        found.extend(candidates.into_iter().map(|path| path.to_str().unwrap().to_owned()));
    }
    found
}

#[test]
fn files_are_short_or_have_a_reason() {
    let long: Vec<String> = files(".")
        .into_iter()
        .filter(|path| path.ends_with(".rs") || is_script(path))
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, path)| *lines > LONGEST && !LONGER.iter().any(|(allowed, _)| allowed == path))
        .map(|(lines, path)| format!("{path} has {lines} lines"))
        .collect();
    let stale: Vec<_> = LONGER.iter().filter(|(path, _)| !root().join(path).exists()).collect();
    assert!(stale.is_empty(), "exceptions for files that do not exist: {stale:?}");
    assert!(long.is_empty(), "over {LONGEST} lines; cut it, or list it with a reason:\n{}", long.join("\n"));
}

fn is_script(path: &str) -> bool {
    fs::read(root().join(path)).unwrap().starts_with(b"#!")
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<String> = files(".")
        .into_iter()
        .filter(|path| path.ends_with(".rs") && !read(path).trim_start().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no `//!` comment at the top of {silent:?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["unimplemented", "!"], ["todo", "!"]].map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for path in files(".").into_iter().filter(|path| path.ends_with(".rs") || is_script(path)) {
        let text = read(&path);
        wrong.extend(marks.iter().filter(|mark| text.contains(*mark)).map(|mark| format!("{path}: {mark}")));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn no_file_names_a_registry_or_a_path_of_one_machine() {
    // Mirrors and proxies differ between machines: package managers are set up by whoever owns the machine.
    let hosts = [
        ["static.", "crates.io"],
        ["index.", "crates.io"],
        ["py", "pi.org"],
        ["python", "hosted.org"],
        ["proxy.", "golang.org"],
        ["static.", "rust-lang.org"],
        ["deb.", "debian.org"],
        ["registry.", "npmjs.org"],
        ["/wo", "rk/"],
        ["/ho", "me/"],
        ["/ro", "ot/"],
    ]
    .map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for path in files(".") {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            wrong.extend(hosts.iter().filter(|it| line.contains(*it)).map(|it| format!("{path}:{}: {it}", number + 1)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A line that is broken without a `\` leaves the next one's indentation in what people read.
#[test]
fn no_sentence_for_people_has_a_gap() {
    let engine_and_controller = files("controller/src").into_iter().chain(files("engine/src"));
    // Tables of a terminal have columns.
    let sentences = |path: &String| path.ends_with(".rs") && !is_test_file(path) && !path.contains("/view/");
    let mut gaps = Vec::new();
    for path in engine_and_controller.filter(sentences) {
        for (number, line) in code(&path).lines().enumerate().filter(|(_, line)| line.contains('"')) {
            let begin = line.find('"').unwrap_or_default();
            let end = line.rfind('"').unwrap_or_default();
            let inside = line.get(begin..end).unwrap_or_default();
            if inside.split("    ").count() > 1 {
                gaps.push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert!(gaps.is_empty(), "sentences with gaps: {gaps:?}");
}
