//! Reads a file of YAML documents. A document that cannot be read leaves the others alone.
//!
//! The text is cut at its `---` lines before it is parsed: the parser gives up at the first error, and the cut is exact,
//! because YAML allows `---` at the beginning of a line nowhere else.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_ignored::Path;

use super::canary::CanarySpec;
use super::object::{GROUP, Object, VERSION};
use super::problem::{Place, Problem};
use super::process::ProcessSpec;
use super::providers::{AlertProviderSpec, MetricTemplateSpec};

/// One document, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub object: Known,
    /// What was ignored in it: unknown fields, or all of it.
    pub warnings: Vec<Problem>,
}

/// The kinds that Weir knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// A Canary.
    Canary(Box<Object<CanarySpec>>),
    /// A process for `weir standalone`.
    Process(Object<ProcessSpec>),
    /// A metric that another system answers.
    MetricTemplate(Object<MetricTemplateSpec>),
    /// Somebody who wants to know how rollouts go.
    AlertProvider(Object<AlertProviderSpec>),
    /// Somebody else's object; a warning says so.
    Other,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", expecting = "an object with apiVersion and kind")]
struct Header {
    api_version: String,
    kind: String,
}

/// Reads every document of `text`, in order. `file` is the name for people. Empty documents are left out.
#[must_use]
pub fn read(text: &str, file: &str) -> Vec<Result<Parsed, Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    documents(text)
        .into_iter()
        .filter(|(_, body)| !is_empty(body))
        .enumerate()
        .map(|(i, (line, body))| {
            // The first line that says something, for people who go there.
            let blank = body.lines().take_while(|line| is_comment(line)).count();
            let place = Place { file: file.to_owned(), document: i + 1, line: line + blank };
            parse(&body, line, &place)
        })
        .collect()
}

fn parse(body: &str, line: usize, place: &Place) -> Result<Parsed, Problem> {
    let error = |error| unreadable(&error, line, place);
    let header: Header = serde_yaml_ng::from_str(body).map_err(error)?;
    if header.kind.is_empty() {
        return Err(Problem::new("kind", "is missing: say what this is, for instance `kind: Canary`").at(place));
    }
    let ours = format!("{GROUP}/{VERSION}");
    let mut warnings = Vec::new();
    let object = if header.api_version == ours {
        match header.kind.as_str() {
            "Canary" => Known::Canary(Box::new(typed(body, place, &mut warnings).map_err(error)?)),
            "Process" => Known::Process(typed(body, place, &mut warnings).map_err(error)?),
            "MetricTemplate" => Known::MetricTemplate(typed(body, place, &mut warnings).map_err(error)?),
            "AlertProvider" => Known::AlertProvider(typed(body, place, &mut warnings).map_err(error)?),
            _ => Known::Other,
        }
    } else {
        Known::Other
    };
    if object == Known::Other {
        warnings.push(foreign(&header, &ours).at(place));
    }
    Ok(Parsed { place: place.clone(), object, warnings })
}

fn typed<Spec: DeserializeOwned>(
    body: &str,
    place: &Place,
    warnings: &mut Vec<Problem>,
) -> Result<Object<Spec>, serde_yaml_ng::Error> {
    let deserializer = serde_yaml_ng::Deserializer::from_str(body);
    serde_ignored::deserialize(deserializer, |path| {
        warnings.push(Problem::new(field(&path), "is not known here and is ignored: check its spelling").at(place));
    })
}

/// Says why an object was left alone.
fn foreign(header: &Header, ours: &str) -> Problem {
    let Header { api_version, kind } = header;
    let text = if api_version.is_empty() {
        format!("is missing, so this {kind} is ignored: make it {ours}")
    } else if api_version.starts_with("flagger.app/") {
        format!("{api_version} is Flagger's, so this {kind} is ignored: to release it with Weir, make it {ours}")
    } else if api_version == ours {
        format!(
            "{kind} is not a kind of {ours}, so it is ignored: Canary, Process, MetricTemplate and AlertProvider are"
        )
    } else if api_version.split('/').next() == Some(GROUP) {
        format!("{api_version:?} is not a version that this Weir knows, so this {kind} is ignored: make it {ours}")
    } else {
        format!("{kind} of {api_version} is somebody else's object and is ignored")
    };
    Problem::new(if api_version == ours { "kind" } else { "apiVersion" }, text)
}

/// Cuts a text at its `---` lines; each part with the line that it begins in.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let separator =
            line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        match (separator, parts.last_mut()) {
            // What follows the dashes on their line belongs to the document; the blanks keep its columns true.
            (Some(rest), _) => parts.push((i + 1, format!("   {rest}"))),
            (None, Some((_, body))) => body.push_str(line),
            (None, None) => {}
        }
    }
    parts
}

fn is_empty(body: &str) -> bool {
    body.lines().all(|line| is_comment(line) || line.starts_with('%') || line.trim_end() == "...")
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Says where in the file, and not in the document, the text cannot be read.
fn unreadable(error: &serde_yaml_ng::Error, first: usize, place: &Place) -> Problem {
    let text = error
        .to_string()
        .replace("expected f64", "expected a number")
        .replace("expected i64", "expected a whole number");
    let Some(location) = error.location() else {
        return Problem::new("", text).at(place);
    };
    let text = text.replace(&format!(" at line {} column {}", location.line(), location.column()), "");
    let text = shifted(&text, first - 1);
    let place = Place { line: first + location.line() - 1, ..place.clone() };
    // The parser puts the field's path first: `spec.analysis.interval: invalid type: …`.
    let (field, what) = match text.split_once(": ") {
        Some((path, what)) if !path.contains(' ') => (path.to_owned(), what.to_owned()),
        _ => (String::new(), format!("does not parse: {text}")),
    };
    Problem::new(field, format!("{what} (column {})", location.column())).at(&place)
}

/// Moves the other lines that the parser names (`while parsing … at line 4`) from the document to the file.
fn shifted(text: &str, lines: usize) -> String {
    let mut parts = text.split(" at line ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        let line = number.parse::<usize>().map(|line| line + lines);
        out += &format!(" at line {}{rest}", line.map_or_else(|_| number.to_owned(), |line| line.to_string()));
    }
    out
}

/// Writes the path of an unknown field: `spec.analysis.metrics[0].nme`.
fn field(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field(parent)),
        Path::Map { parent: Path::Root, key } => key.clone(),
        Path::Map { parent, key } => format!("{}.{key}", field(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => field(parent),
    }
}
