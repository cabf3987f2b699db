//! A page of the documents, played: its commands as they stand there, and what it says that a terminal shows.
//!
//! A block `console` is a terminal: lines with `$ ` are typed, the lines below are what is shown, and `...` stands for more of it.
//! What differs from run to run (ages, times, commits, suffixes of pods, numbers of requests) counts for nothing.

use super::{Fork, root};

/// A command and what the page says that it shows.
#[derive(Debug, PartialEq)]
struct Typed {
    command: String,
    shown: Vec<String>,
}

pub(super) struct Page(String);

impl Page {
    pub(super) fn read(path: &str) -> Self {
        Self(std::fs::read_to_string(root().join(path)).unwrap())
    }

    /// Plays one block of a section, counted from 0.
    pub(super) fn play_block(&self, heading: &str, number: usize, clone: &Fork) {
        let block = self.section(heading).split("```console\n").nth(number + 1).unwrap().split("```\n").next().unwrap();
        play(heading, typed(&format!("```console\n{block}```\n")), clone);
    }

    /// Plays a section in a clone.
    pub(super) fn play(&self, heading: &str, clone: &Fork) {
        play(heading, typed(self.section(heading)), clone);
    }

    fn section(&self, heading: &str) -> &str {
        let begin = self.0.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("the page has no {heading}"));
        let rest = &self.0[begin + 1..];
        rest[1..].find("\n## ").map_or(rest, |end| &rest[..=end])
    }
}

fn play(heading: &str, typed: Vec<Typed>, clone: &Fork) {
    assert!(!typed.is_empty(), "there is nothing to type under {heading}");
    for it in typed {
        println!("$ {}", it.command);
        let (said, ok) = clone.try_shell(&it.command);
        println!("{said}");
        let wrong = difference(&it.shown, &said);
        // `kubectl weir why` ends with the state that it tells.
        let ended = ok || !it.shown.is_empty();
        assert!(ended && wrong.is_none(), "{heading}: $ {}\n{}\n{said}", it.command, wrong.unwrap_or_default());
    }
}

fn typed(section: &str) -> Vec<Typed> {
    let mut found: Vec<Typed> = Vec::new();
    let mut inside = false;
    let mut goes_on = false;
    for line in section.lines() {
        match (line, inside) {
            ("```console", false) => inside = true,
            ("```", true) => (inside, goes_on) = (false, false),
            (_, true) if goes_on => {
                let last = found.last_mut().unwrap();
                last.command = format!("{}\n{line}", last.command);
                goes_on = line.ends_with('\\');
            }
            (line, true) if line.starts_with("$ ") => {
                found.push(Typed { command: line[2..].to_owned(), shown: Vec::new() });
                goes_on = line.ends_with('\\');
            }
            (line, true) => {
                found.last_mut().expect("a block of a terminal begins with what is typed").shown.push(line.to_owned())
            }
            _ => {}
        }
    }
    found
}

/// Says what is not as the page has it.
fn difference(page: &[String], said: &str) -> Option<String> {
    let lines =
        |text: Vec<&str>| -> Vec<String> { text.into_iter().map(settled).filter(|line| !line.is_empty()).collect() };
    let (page, said) = (lines(page.iter().map(String::as_str).collect()), lines(said.lines().collect()));
    let mut rest = said.iter();
    let mut gap = false;
    for wanted in page {
        if wanted == "..." {
            gap = true;
            continue;
        }
        match if gap { rest.find(|line| **line == wanted) } else { rest.next() } {
            Some(line) if *line == wanted => gap = false,
            other => return Some(format!("the page shows   {wanted}\nthe terminal has {other:?}")),
        }
    }
    match rest.next() {
        Some(more) if !gap => Some(format!("the page does not show {more}")),
        _ => None,
    }
}

/// A line without what differs from run to run.
fn settled(line: &str) -> String {
    let counts = line.contains("request") || line.contains("latenc");
    let words = line.split_whitespace().map(word);
    let words = words.map(|it| if counts { it.replace(|c: char| c.is_ascii_digit(), "#") } else { it });
    let mut kept: Vec<String> = Vec::new();
    for word in words {
        // `12s (x3 over 40s)` is an age too; so are two of them.
        if word == "AGE" && kept.last().is_some_and(|last| last == "AGE") || word.starts_with("(x") || word == "over" {
            continue;
        }
        kept.push(word);
    }
    // A number of several digits is as good as one of one: 1,304 as 7.
    let mut settled = kept.join(" ");
    for several in ["##", "#,#"] {
        while settled.contains(several) {
            settled = settled.replace(several, "#");
        }
    }
    settled
}

fn word(word: &str) -> String {
    let bare = word.trim_end_matches([')', ',', '.', ':', ']']);
    let tail = &word[bare.len()..];
    let is = |all: &str| !bare.is_empty() && bare.chars().all(|c| all.contains(c));
    let digits = bare.chars().any(|c| c.is_ascii_digit());
    if digits && is("0123456789.msh") && bare.ends_with(['m', 's', 'h']) {
        return format!("AGE{}", tail.trim_end_matches(')'));
    }
    if digits && is("0123456789:Z") && bare.matches(':').count() == 2 {
        return format!("TIME{tail}");
    }
    if let Some((branch, _)) = bare.split_once("@sha1:") {
        return format!("{branch}@COMMIT{tail}");
    }
    if digits && bare.len() >= 7 && is("0123456789abcdef") {
        return format!("COMMIT{tail}");
    }
    // backend-primary-6d4f5d9c7b-x2x9z
    let suffix = |part: &&str| part.len() >= 5 && part.chars().any(|c| c.is_ascii_digit()) && !part.contains('.');
    let parts: Vec<&str> = bare.split('-').collect();
    if parts.len() > 1 && parts.iter().any(suffix) {
        let named: Vec<&str> = parts.into_iter().take_while(|part| !suffix(part)).collect();
        return format!("{}-POD{tail}", named.join("-"));
    }
    word.to_owned()
}

#[test]
fn what_is_typed_and_what_is_shown_are_told_apart() {
    let section = "## A\n\ntext\n\n```console\n$ one \\\n    two\nshown\n$ three\n```\n\n```yaml\n$ not typed\n```\n";
    let line = |text: &str| text.to_owned();
    let found = typed(section);
    assert_eq!(found[0], Typed { command: line("one \\\n    two"), shown: vec![line("shown")] });
    assert_eq!(found[1..], [Typed { command: line("three"), shown: vec![] }]);
}

#[test]
fn only_what_differs_from_run_to_run_may_differ() {
    let page = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let shown = page(&["NAME  AGE", "apps  2m13s  True  Applied revision: main@sha1:0a1b2c"]);
    assert_eq!(difference(&shown, "NAME AGE\napps 12s True Applied revision: main@sha1:ffff00\n"), None);
    assert!(difference(&shown, "NAME AGE\napps 12s False Applied revision: main@sha1:ffff00\n").is_some());
    assert!(difference(&page(&["weight 5"]), "weight 10").is_some());
    assert_eq!(difference(&page(&["9 of 80 requests"]), "11 of 1,234 requests"), None);
    assert_eq!(difference(&page(&["a", "...", "d"]), "a\nb\nc\nd"), None);
    assert!(difference(&page(&["a", "d"]), "a\nb\nc\nd").is_some());
    assert!(difference(&page(&["a", "...", "d"]), "a\nb\nc\nd\ne").is_some());
}
