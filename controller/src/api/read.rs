//! Reads a file of YAML documents. A document that cannot be read leaves the others alone.
//!
//! The text is cut at its `---` lines before it is parsed: the parser gives up at the first error, and the cut is exact,
//! because YAML allows `---` and `...` at the beginning of a line nowhere else. A list, as `kubectl get -o yaml` writes one, is its items.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;
use serde_path_to_error::Track;

use super::canary::CanarySpec;
use super::fields::{Fields, Node};
use super::mistyped::Filled;
use super::object::{GROUP, Object, VERSION};
use super::problem::{Place, Problem};
use super::process::ProcessSpec;
use super::providers::{AlertProviderSpec, MetricTemplateSpec};
use super::secret::Secret;
use super::serving::named_namespace;
use super::unready::{is_encrypted, is_template, template, unreadable};

/// The kinds of Weir's group.
const KINDS: [&str; 4] = ["Canary", "Process", "MetricTemplate", "AlertProvider"];

/// One document, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub object: Known,
    /// What was ignored in it: unknown fields, or all of it.
    pub warnings: Vec<Problem>,
    /// Whether somebody else's object was probably meant for Weir: by its group or its kind, or as Flagger's.
    pub meant: bool,
    /// Where its fields stand.
    pub fields: Fields,
    /// An object of Weir's kinds as it is written, with the fields that are not known here. Nothing of anybody else's.
    pub written: Value,
}

impl Parsed {
    /// Returns the namespace that the object gives. What gives none gets one elsewhere: by Kustomize, Flux, or `kubectl -n`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.written["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty())
    }

    /// Gives a Canary that names no namespace the one whose services its hosts name: where else should it go?
    #[must_use]
    pub fn placed(mut self) -> Self {
        let is_open = self.namespace().is_none();
        if let Known::Canary(canary) = &mut self.object
            && let Some(namespace) = named_namespace(&canary.spec.service.hosts).filter(|_| is_open)
        {
            canary.metadata.namespace = namespace;
        }
        self
    }

    /// Returns an object of Weir's kinds as the API server reads it: a field without a value is not there.
    pub(crate) fn value(&self) -> Value {
        let mut value = self.written.clone();
        drop_nulls(&mut value);
        value
    }
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
    /// Somebody who is told how rollouts go.
    AlertProvider(Object<AlertProviderSpec>),
    /// What an AlertProvider keeps to itself.
    Secret(Secret),
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
    parts(text)
        .into_iter()
        .filter(|part| !is_empty(&part.body))
        .enumerate()
        .flat_map(|(i, Part { line, body, .. })| {
            // The first line that says something, for people who go there.
            let blank = body.lines().take_while(|line| is_comment(line)).count();
            let place = Place { file: file.to_owned(), document: i + 1, line: line + blank };
            parse(&body, line, &place)
        })
        .collect()
}

/// What the API server writes into an object, and no person: nothing to tell of an object that was read from there.
const WRITTEN_BY_SERVER: [&str; 6] = [
    "status",
    "metadata.creationTimestamp",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.ownerReferences",
    "metadata.selfLink",
];
/// What of that makes the API server refuse the object as a new one.
const OF_ONE_OBJECT: [&str; 2] = ["metadata.resourceVersion", "metadata.uid"];

fn parse(body: &str, line: usize, place: &Place) -> Vec<Result<Parsed, Problem>> {
    let written: Value = match serde_saphyr::from_str(body) {
        Ok(written) => written,
        Err(_) if is_template(body, true) => return vec![Err(template(place))],
        Err(error) => return vec![Err(unreadable(&error, line, place))],
    };
    let group = written["apiVersion"].as_str().and_then(|version| version.split('/').next());
    if matches!(group, Some(GROUP | "flagger.app")) && is_template(body, false) {
        return vec![Err(template(place))];
    }
    let root = Node::of(body);
    let all = |read: Result<Parsed, Vec<Problem>>| {
        read.map_or_else(|problems| problems.into_iter().map(Err).collect(), |parsed| vec![Ok(parsed)])
    };
    if items(&written).is_none() {
        let fields = Fields::new(place.clone(), line, root);
        return all(parsed(Document { written, body: Some(body), line, fields }));
    }
    let mut found = Vec::new();
    objects(&written, &root, &mut found);
    let item = |(item, node): (&Value, &Node)| {
        let begin = if node.line > 0 { line + node.line - 1 } else { place.line };
        let fields = Fields::new(Place { line: begin, ..place.clone() }, line, node.clone());
        parsed(Document { written: item.clone(), body: None, line: begin, fields })
    };
    found.into_iter().map(item).flat_map(all).collect()
}

/// Returns the items of a list of objects: a `List`, or one of a kind.
pub(super) fn items(value: &Value) -> Option<&Vec<Value>> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    value["items"].as_array().filter(|_| is_list)
}

/// Gathers the objects of a list, and of the lists in it.
fn objects<'a>(value: &'a Value, node: &'a Node, found: &mut Vec<(&'a Value, &'a Node)>) {
    match items(value) {
        Some(items) => items.iter().enumerate().for_each(|(i, item)| objects(item, node.item(i), found)),
        None => found.push((value, node)),
    }
}

fn parsed(document: Document<'_>) -> Result<Parsed, Vec<Problem>> {
    let fields = &document.fields;
    let mut warnings = Vec::new();
    let header: Header = document.read(&mut Vec::new())?;
    if header.kind.is_empty() {
        let text = "is missing: say what this is, for instance `kind: Canary`";
        return Err(vec![fields.at(Problem::new("kind", text))]);
    }
    let ours = format!("{GROUP}/{VERSION}");
    let is_closed = is_encrypted(&document.written);
    let object = if is_closed && header.kind != "Secret" {
        Known::Other
    } else if header.api_version == ours {
        match header.kind.as_str() {
            "Canary" => Known::Canary(Box::new(document.read(&mut warnings)?)),
            "Process" => Known::Process(document.read(&mut warnings)?),
            "MetricTemplate" => Known::MetricTemplate(document.read(&mut warnings)?),
            "AlertProvider" => Known::AlertProvider(document.read(&mut warnings)?),
            _ => Known::Other,
        }
    } else if (header.api_version.as_str(), header.kind.as_str()) == ("v1", "Secret") {
        // Others put more into a Secret than is read here.
        Known::Secret(document.read(&mut Vec::new())?)
    } else {
        Known::Other
    };
    let is_foreign = object == Known::Other;
    let meant = is_foreign && is_meant(&header);
    if meant && is_closed {
        let text = "is how SOPS encrypts, with a checksum of all of it: decrypt it, migrate it, and encrypt it again";
        warnings.push(fields.at(Problem::new("sops", text)));
    } else if is_foreign {
        warnings.push(fields.at(foreign(&header, &ours)));
    }
    let own = !matches!(object, Known::Other | Known::Secret(_));
    let Document { written, fields, .. } = document;
    let written = if own { written } else { Value::Null };
    Ok(Parsed { place: fields.place().clone(), object, warnings, meant, fields, written })
}

/// Reads the text as the API server does: `'5'` is a text and no number, and a field without a value is not there.
pub(super) fn value(body: &str) -> Result<Value, serde_saphyr::Error> {
    let mut value = serde_saphyr::from_str(body)?;
    drop_nulls(&mut value);
    Ok(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A document that is YAML.
struct Document<'a> {
    /// As it is written: a field without a value is in it.
    written: Value,
    /// The text, where it is no item of another one.
    body: Option<&'a str>,
    line: usize,
    fields: Fields,
}

impl Document<'_> {
    /// Returns the document as a type, and adds a warning for each field that the type does not know.
    ///
    /// # Errors
    /// Every field with a value that its type cannot take.
    fn read<T: DeserializeOwned>(&self, warnings: &mut Vec<Problem>) -> Result<T, Vec<Problem>> {
        let mut value = self.written.clone();
        drop_nulls(&mut value);
        let mut filled = Filled::default();
        loop {
            let mut ignored = Vec::new();
            let mut track = Track::new();
            let typed = serde_path_to_error::Deserializer::new(value.clone(), &mut track);
            let read = serde_ignored::deserialize(typed, |path| ignored.push(field(&path)));
            let error: serde_json::Error = match read {
                Ok(read) if filled.is_empty() => {
                    warnings.extend(ignored.iter().filter_map(|field| self.unknown(field)));
                    return Ok(read);
                }
                Ok(_) => return Err(filled.told()),
                Err(error) => error,
            };
            // What is wrong with a filler is nobody's fault.
            let path = track.path();
            let told = || self.mistyped::<T>(&error, &path.to_string());
            if !filled.fill(&mut value, &path, &error.to_string(), told) {
                return Err(filled.told());
            }
        }
    }

    /// Says that a field is not known, where somebody has written it.
    fn unknown(&self, field: &str) -> Option<Problem> {
        if WRITTEN_BY_SERVER.contains(&field) {
            return None;
        }
        let text = match field {
            it if OF_ONE_OBJECT.contains(&it) => {
                "is of the object that this was read from: leave it out, or the API server refuses a new one"
            }
            "metadata.finalizers" => "belongs to whoever removes it: leave it out, or the object can never be deleted",
            _ => "is not known here and is ignored: check its spelling",
        };
        Some(self.fields.at(Problem::new(field, text)))
    }

    /// Says which field has a value that its type cannot take, and where it stands.
    fn mistyped<T: DeserializeOwned>(&self, error: &serde_json::Error, path: &str) -> Problem {
        let text = error
            .to_string()
            .replace("expected f64", "expected a number")
            .replace("expected i64", "expected a whole number");
        if text.contains("missing field `analysis`") && !self.written["spec"]["canaryAnalysis"].is_null() {
            let text = "is what Flagger calls analysis today: call it analysis";
            return self.fields.at(Problem::new("spec.canaryAnalysis", text));
        }
        let (field, text) = if path == "." { ("", format!("does not parse: {text}")) } else { (path, text) };
        let Some((line, column)) = self.location::<T>(path) else {
            return self.fields.at(Problem::new(field, text));
        };
        let place = Place { line: self.line + line - 1, ..self.fields.place().clone() };
        Problem::new(field, format!("{text} (column {column})")).at(&place)
    }

    /// Returns the line and the column where reading the text as a type fails, if it fails at this path: values, which say
    /// what is wrong, do not know where they stood.
    fn location<T: DeserializeOwned>(&self, path: &str) -> Option<(usize, usize)> {
        let mut track = Track::new();
        let read = serde_saphyr::with_deserializer_from_str(self.body?, |text| {
            T::deserialize(serde_path_to_error::Deserializer::new(text, &mut track))
        });
        let location = read.err()?.location().filter(|_| track.path().to_string() == path)?;
        Some((usize::try_from(location.line()).ok()?, usize::try_from(location.column()).ok()?))
    }
}

/// Returns whether somebody's object was probably meant for Weir, or is to become Weir's.
fn is_meant(header: &Header) -> bool {
    match header.api_version.split('/').next() {
        Some("") => KINDS.contains(&header.kind.as_str()),
        group => group == Some(GROUP) || group == Some("flagger.app"),
    }
}

/// Says why an object was left alone.
fn foreign(header: &Header, ours: &str) -> Problem {
    let Header { api_version, kind } = header;
    let text = if api_version.is_empty() {
        format!("is missing, so this {kind} is ignored: make it {ours}")
    } else if api_version.starts_with("flagger.app/v1alpha") {
        format!(
            "{api_version} is served by no Flagger any more, so this {kind} is ignored: make it {ours}, call canaryAnalysis analysis, and give \
             each metric a thresholdRange"
        )
    } else if api_version.starts_with("flagger.app/") {
        format!("{api_version} is Flagger's, so this {kind} is ignored: `weir migrate` turns it into Weir's, {ours}")
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

/// A document of a text.
pub(super) struct Part<'a> {
    /// The line that it begins in.
    pub(super) line: usize,
    /// As it stands, with the `---` before it.
    pub(super) text: &'a str,
    /// To be parsed: without the `---`, and with blanks in its place, which keep its columns true.
    pub(super) body: String,
}

/// Cuts a text at its `---` lines, and after its `...` lines. What follows the dashes on their line belongs to the document.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut begins = vec![(1, 0)];
    let mut at = 0;
    let mut ended = false;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if at > 0 && (ended || is_separator(line)) {
            begins.push((i + 1, at));
        }
        ended = is_end(line);
        at += line.len();
    }
    let ends = begins.iter().skip(1).map(|(_, at)| *at).chain([text.len()]);
    let part = |((line, from), to): (&(usize, usize), usize)| {
        let text = text.get(*from..to).unwrap_or_default();
        let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
        let body = if is_separator(bare) { format!("   {}", &bare[3..]) } else { bare.to_owned() };
        Part { line: *line, text, body }
    };
    begins.iter().zip(ends).map(part).collect()
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Returns whether a line ends a document.
fn is_end(line: &str) -> bool {
    line.strip_prefix("...").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn is_empty(body: &str) -> bool {
    body.lines().all(|line| is_comment(line) || line.starts_with('%') || is_end(line))
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
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
