//! Has Flagger's Canaries ask to be taken over: the annotation is written into the text, wherever it fits the way it is written.

use std::ops::Range;

use serde::Deserialize;
use serde_json::{Value, json};
use serde_saphyr::Spanned;

use super::{FLAGGER, is_encrypted, is_flaggers, parts, value};

/// The annotation by which a Canary asks for it, and its value.
const ANNOTATION: [&str; 2] = ["weir.dev/take-over", "flagger"];

/// Where a document has the annotations of an object, and of the items of a list.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Written {
    #[serde(rename = "apiVersion")]
    api_version: Value,
    kind: Value,
    metadata: Option<Spanned<Metadata>>,
    items: Vec<Self>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    annotations: Option<Spanned<Value>>,
}

/// Returns a text in which each Canary of Flagger's has the annotation. A document in which it finds no place stays as it was: whoever reads
/// the text sees that it is not there.
#[must_use]
pub fn taking_over(text: &str) -> String {
    parts(text)
        .into_iter()
        .map(|part| annotated(part.text, &part.body).unwrap_or_else(|| part.text.to_owned()))
        .collect()
}

fn annotated(text: &str, body: &str) -> Option<String> {
    let mut wanted = value(body).ok().filter(|written| !is_encrypted(written))?;
    annotate(&mut wanted);
    let written: Written = serde_saphyr::from_str(body).ok()?;
    let mut places = Vec::new();
    written.places(&mut places);
    places.sort_unstable();
    let mut new = body.to_owned();
    for (at, inside) in places.into_iter().rev() {
        match empty(body, at).filter(|_| !inside) {
            Some(place) => new.replace_range(place, &format!(" {{\"{}\": \"{}\"}}", ANNOTATION[0], ANNOTATION[1])),
            None => {
                let (at, line) = line(body, at, inside)?;
                new.insert_str(at, &line);
            }
        }
    }
    // Somebody writes YAML in a way that is not known here: then nothing is better than something else.
    let same = value(&new).is_ok_and(|new| new == wanted);
    // The body is the text, with blanks for what is before it.
    let before = text.get(..text.len() - body.len())?;
    let dashes = if text.get(before.len()..)?.starts_with("---") { "---" } else { "" };
    same.then(|| format!("{before}{dashes}{}", new.get(dashes.len()..).unwrap_or_default()))
}

/// Gives each Canary of Flagger's the annotation.
fn annotate(object: &mut Value) {
    if is_flaggers(&object["apiVersion"], &object["kind"]) && object["kind"] == "Canary" {
        let [name, value] = ANNOTATION;
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let annotations = metadata.map(|metadata| metadata.entry("annotations").or_insert_with(|| json!({})));
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.insert(name.to_owned(), json!(value));
        }
    }
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(annotate);
    }
}

impl Written {
    /// Gathers where in the text the metadata of Flagger's Canaries begin, or their annotations where there are some (true).
    fn places(&self, found: &mut Vec<(usize, bool)>) {
        let begin = |at: Option<u64>| at.and_then(|at| usize::try_from(at).ok());
        if self.api_version == FLAGGER
            && self.kind == "Canary"
            && let Some(metadata) = &self.metadata
        {
            let inner = metadata.value.annotations.as_ref();
            let has = inner.is_some_and(|inner| inner.value.get(ANNOTATION[0]).is_some());
            let at = match inner {
                Some(inner) => begin(inner.defined.span().byte_offset()),
                None => begin(metadata.defined.span().byte_offset()),
            };
            found.extend(at.filter(|_| !has).map(|at| (at, inner.is_some())));
        }
        self.items.iter().for_each(|item| item.places(found));
    }
}

/// Returns where the value of annotations stands that are given without one, in metadata that begin at a place. Where that is another
/// object's, the text that is made of it is not the one that is wanted.
fn empty(body: &str, at: usize) -> Option<Range<usize>> {
    let rest = body.get(at..)?;
    let key = rest.find("annotations")? + "annotations".len();
    let after = rest.get(key..)?.strip_prefix('"').unwrap_or(rest.get(key..)?);
    let value = after.strip_prefix(':')?;
    let trimmed = value.trim_start_matches(' ');
    let word = ["null", "~"].into_iter().find(|word| trimmed.starts_with(word)).unwrap_or_default();
    let ended = trimmed.get(word.len()..)?.trim_start_matches(' ');
    let is_empty = ended.is_empty() || ended.starts_with(['\n', '\r', ',', '}', '#']);
    let begin = at + rest.len() - value.len();
    is_empty.then(|| begin..begin + (value.len() - trimmed.len()) + word.len())
}

/// Returns what is written where, before the first key of a mapping that begins at a place. `inside` is of the annotations.
fn line(body: &str, at: usize, inside: bool) -> Option<(usize, String)> {
    let (before, rest) = body.split_at_checked(at)?;
    let [name, value] = ANNOTATION;
    if let Some(first) = rest.strip_prefix('{') {
        // JSON is YAML of this kind, and has quotes and no comma at an end.
        let pair = format!("\"{name}\": \"{value}\"");
        let text = if inside { pair } else { format!("\"annotations\": {{{pair}}}") };
        let comma = if first.trim_start().starts_with('}') { "" } else { ", " };
        return Some((at + 1, text + comma));
    }
    let indent = " ".repeat(before.len() - before.rfind('\n').map_or(0, |end| end + 1));
    let text = if inside { format!("{name}: {value}") } else { format!("annotations: {{{name}: {value}}}") };
    let end = if rest.contains("\r\n") { "\r\n" } else { "\n" };
    Some((at, format!("{text}{end}{indent}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_of_flagger_alone_ask_however_they_are_written() {
        let head = "apiVersion: flagger.app/v1beta1\nkind: Canary\n";
        for (before, after) in [
            (
                "metadata:\n  name: shop\nspec: {}\n",
                "metadata:\n  annotations: {weir.dev/take-over: flagger}\n  name: shop\nspec: {}\n",
            ),
            (
                "metadata:\n  # ours\n  name: shop\n  annotations:\n    team: a\n",
                "metadata:\n  # ours\n  name: shop\n  annotations:\n    weir.dev/take-over: flagger\n    team: a\n",
            ),
            (
                "metadata: {name: shop}\n",
                "metadata: {\"annotations\": {\"weir.dev/take-over\": \"flagger\"}, name: shop}\n",
            ),
            (
                "metadata:\n  name: shop\n  annotations:\nspec: {}\n",
                "metadata:\n  name: shop\n  annotations: {\"weir.dev/take-over\": \"flagger\"}\nspec: {}\n",
            ),
            (
                "metadata:\n  annotations: ~ # none\n  name: shop\n",
                "metadata:\n  annotations: {\"weir.dev/take-over\": \"flagger\"} # none\n  name: shop\n",
            ),
            (
                "metadata: {name: shop, annotations: null}\n",
                "metadata: {name: shop, annotations: {\"weir.dev/take-over\": \"flagger\"}}\n",
            ),
            (
                "metadata:\n  annotations: {}\n  name: shop\n",
                "metadata:\n  annotations: {\"weir.dev/take-over\": \"flagger\"}\n  name: shop\n",
            ),
        ] {
            assert_eq!(taking_over(&format!("{head}{before}")), format!("{head}{after}"));
        }
        let dos = format!("{head}metadata:\n  name: a\n").replace('\n', "\r\n");
        let with = dos.replace("  name", "  annotations: {weir.dev/take-over: flagger}\r\n  name");
        assert_eq!(taking_over(&dos), with);
        let json = r#"{"kind":"Canary","apiVersion":"flagger.app/v1beta1","metadata":{"annotations":{"a":"b"},"name":"shop"}}"#;
        let with = json.replace(r#"{"a""#, r#"{"weir.dev/take-over": "flagger", "a""#);
        assert_eq!(taking_over(json), with);
        let list = format!(
            "--- # a list\nkind: List\nitems:\n- {}  metadata:\n    name: a\n- {{kind: Pod, metadata: {{name: b}}}}\n",
            head.replace("\nkind", "\n  kind")
        );
        let with = list.replace("    name: a", "    annotations: {weir.dev/take-over: flagger}\n    name: a");
        assert_eq!(taking_over(&list), with);
        for same in [
            "apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata:\n  name: a\n",
            "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata:\n  annotations: {weir.dev/take-over: flagger}\n",
            "apiVersion: flagger.app/v1beta1\nkind: AlertProvider\nmetadata:\n  name: a\n",
            "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata:\n  name: a\nsops: {mac: 'ENC[a]'}\n",
            // No place that is safe.
            "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name\n",
        ] {
            assert_eq!(taking_over(same), same);
        }
    }
}
