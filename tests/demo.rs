//! `make demo` ends as it should, and the README shows what it prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BEGIN: &str = "<!-- transcript of make demo -->\n```\n";
const END: &str = "```\n<!-- end of transcript -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The folder of the binaries that were built with this test.
fn built() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

fn envoy() -> PathBuf {
    std::env::var_os("ENVOY").map_or_else(|| root().join(".tools/envoy"), PathBuf::from)
}

fn play() -> String {
    let binaries = built();
    let output = Command::new(binaries.join("weir-demo"))
        .arg("play")
        .args(["--weir".into(), binaries.join("weir")])
        .args(["--filter".into(), root().join("target/weir-filter.wasm")])
        .args(["--envoy".into(), envoy()])
        .stdin(Stdio::null())
        .output()
        .expect("run `cargo build --workspace --bins` first");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// What stays the same from one demonstration to the next: every line's words, without its numbers. The reason of the bad
/// release may be any judge's: the guard's, or the evidence's.
fn shape(transcript: &str) -> Vec<String> {
    let lines = transcript.lines().filter(|line| !line.contains("held: "));
    let mut past_good = false;
    lines
        .map(|line| {
            past_good |= line.starts_with("A bad release");
            let line = if past_good && line.contains("why:") { "why" } else { line };
            let words = line.replace("1 request,", "1 requests,");
            let words = words.split_whitespace().map(|word| {
                if word.starts_with(|c: char| c.is_ascii_digit()) { "#".into() } else { address_free(word) }
            });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

fn address_free(word: &str) -> String {
    word.rsplit_once(':').filter(|(head, _)| head.starts_with("http")).map_or(word, |(head, _)| head).to_owned()
}

#[test]
fn the_readme_shows_what_the_demonstration_prints() {
    let played = play();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has a place for it");
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(root().join("README.md"), format!("{before}{BEGIN}{played}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(shape(shown), shape(&played), "UPDATE_GOLDEN=1 and this test put it there");
}

#[test]
fn shapes_have_no_numbers_and_no_ports() {
    let lines = "   3.2 s  v1 on http://127.0.0.1:42757/\n   5 s  held: x\nA bad release\n why: 3 of 6";
    assert_eq!(shape(lines), ["# s v1 on http://127.0.0.1", "A bad release", "why"]);
}
