//! Where the fields of a document stand in its file: what is told of one leads to its line.
//!
//! Values, which say what is wrong, do not know where they stood, so the document is read once more, for its lines alone.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::problem::{Place, Problem};

/// Where an object stands, and each of its fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    place: Place,
    /// The line of the file that the document's first line is.
    first: usize,
    root: Node,
}

/// A value of a document.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// The line of its key, or of the value where it has none, from 1 in its document; 0 where that is not known.
    pub(super) line: usize,
    content: Content,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Content {
    /// A number, say, which nobody asks for.
    #[default]
    Other,
    Text(String),
    Fields(Vec<(String, Node)>),
    Items(Vec<Node>),
}

static UNKNOWN: Node = Node { line: 0, content: Content::Other };

impl Fields {
    pub(super) fn new(place: Place, first: usize, root: Node) -> Self {
        Self { place, first, root }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Says where a problem's field stands. One that is not there is looked for where it belongs.
    #[must_use]
    pub fn at(&self, problem: Problem) -> Problem {
        let known = Some(problem.field.as_str()).filter(|field| !field.is_empty());
        let line = known.map(|field| self.root.line_of(field)).filter(|line| *line > 0);
        let line = line.map_or(self.place.line, |line| self.first + line - 1);
        problem.at(&Place { line, ..self.place.clone() })
    }

    /// Returns whether the object has a field.
    pub(super) fn has(&self, field: &str) -> bool {
        self.root.field(field).is_some()
    }

    /// Returns the texts in the object, each with its field's path.
    pub(super) fn texts(&self) -> Vec<(String, &str)> {
        let mut found = Vec::new();
        self.root.texts(String::new(), &mut found);
        found
    }
}

impl Node {
    /// Returns the lines of a document; nothing is known of one that cannot be read.
    pub(super) fn of(body: &str) -> Self {
        serde_saphyr::from_str(body).unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<&Self> {
        let Content::Fields(fields) = &self.content else { return None };
        fields.iter().find_map(|(key, node)| (key == name).then_some(node))
    }

    /// Returns an item of the list under `items`.
    pub(super) fn item(&self, i: usize) -> &Self {
        match self.field("items").map(|items| &items.content) {
            Some(Content::Items(items)) => items.get(i).unwrap_or(&UNKNOWN),
            _ => &UNKNOWN,
        }
    }

    /// Returns the line of a field, `spec.analysis.metrics[0].name`, or of as much of its path as there is.
    fn line_of(&self, path: &str) -> usize {
        let path = path.strip_prefix('.').unwrap_or(path);
        let inner = match &self.content {
            Content::Items(items) => path.strip_prefix('[').and_then(|rest| {
                let (index, rest) = rest.split_once(']')?;
                Some(items.get(index.parse::<usize>().ok()?)?.line_of(rest))
            }),
            // A key may hold dots itself: the longest that fits is meant.
            Content::Fields(fields) => fields
                .iter()
                .filter_map(|(key, node)| {
                    let rest = path.strip_prefix(key.as_str())?;
                    (rest.is_empty() || rest.starts_with(['.', '['])).then_some((key.len(), node, rest))
                })
                .max_by_key(|(length, ..)| *length)
                .map(|(_, node, rest)| node.line_of(rest)),
            Content::Other | Content::Text(_) => None,
        };
        inner.filter(|line| *line > 0).unwrap_or(self.line)
    }

    fn texts<'a>(&'a self, path: String, found: &mut Vec<(String, &'a str)>) {
        match &self.content {
            Content::Other => {}
            Content::Text(text) => found.push((path, text)),
            Content::Items(items) => {
                items.iter().enumerate().for_each(|(i, node)| node.texts(format!("{path}[{i}]"), found));
            }
            Content::Fields(fields) => {
                let dot = if path.is_empty() { "" } else { "." };
                fields.iter().for_each(|(key, node)| node.texts(format!("{path}{dot}{key}"), found));
            }
        }
    }
}

fn line(spanned: &Spanned<impl Sized>) -> usize {
    usize::try_from(spanned.referenced.line()).unwrap_or_default()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { line: line(&content), content: content.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Content::Items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Spanned<Value>>()? {
            let node: Node = map.next_value()?;
            // People look for the key; the value may begin in the next line.
            let line = Some(line(&key)).filter(|line| *line > 0).unwrap_or(node.line);
            let name = key.value.as_str().map_or_else(|| key.value.to_string(), str::to_owned);
            fields.push((name, Node { line, ..node }));
        }
        Ok(Content::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_the_line_of_its_key_however_it_is_written() {
        let body = "a:\n  b: {c: 1,\n    d: [x,\n      y]}\n  e.f/g: |\n    text\n  e: ~\n2: z\nlist:\n- k: 1\n  l:\n    - m\n-\n  k: 2\n";
        let root = Node::of(body);
        for (path, line) in [
            ("a", 1),
            ("a.b.c", 2),
            ("a.b.d", 3),
            ("a.b.d[1]", 4),
            ("a.e.f/g", 5),
            ("a.e", 7),
            ("2", 8),
            ("list[0].k", 10),
            ("list[0].l[0]", 12),
            ("list[1].k", 14),
            // What is not there belongs where the rest of its path is.
            ("a.b.x.y", 2),
            ("list[7].k", 9),
            ("x", 1),
        ] {
            assert_eq!(root.line_of(path), line, "{path}");
        }
        let fields = Fields { root, ..Fields::default() };
        let texts = fields.texts();
        assert_eq!(texts[0], ("a.b.d[0]".to_owned(), "x"));
        assert!(texts.contains(&("a.e.f/g".to_owned(), "text\n")), "{texts:?}");
    }
}
