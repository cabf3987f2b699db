//! Turns Flagger's objects into Weir's: one word of each changes, and what changes its meaning is told.
//!
//! The text is edited and not written anew, so that order, comments and everybody else's objects stay as they are.

mod take_over;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::differences::differences;
use super::fields::Fields;
use super::object::{GROUP, VERSION};
use super::plan::reading;
use super::problem::{Problem, with_refused, without_refused};
use super::read::{Known, Parsed, items, parts, read, value};
use super::unready::is_encrypted;
pub use take_over::taking_over;

/// Flagger's objects as they are written.
const FLAGGER: &str = "flagger.app/v1beta1";
/// The same as some programs write JSON.
const ESCAPED: &str = "flagger.app\\/v1beta1";
/// The group of Flagger's objects.
const FLAGGERS_GROUP: &str = "flagger.app";
/// The kinds that both have.
const KINDS: [&str; 3] = ["Canary", "MetricTemplate", "AlertProvider"];

/// A text with Weir's objects in place of Flagger's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Migration {
    /// The text. A document that cannot be read is in it as it was.
    pub text: String,
    /// How many objects were changed.
    pub changed: usize,
    /// What cannot be read, and what Weir refuses.
    pub problems: Vec<Problem>,
    /// What has another meaning than Flagger gives it, or none.
    pub remarks: Vec<Problem>,
}

/// Returns a text with Weir's objects in place of Flagger's. `file` is the name for people.
#[must_use]
pub fn migrate(text: &str, file: &str) -> Migration {
    migrate_for(text, file, |_| Vec::new())
}

/// As [`migrate`], for somebody who refuses more than a plan does: what is refused of each object is a problem of it.
#[must_use]
pub fn migrate_for(text: &str, file: &str, refused: impl Fn(&Parsed) -> Vec<Problem>) -> Migration {
    let mut migration = Migration::default();
    for part in parts(text) {
        let (part, changed) = changed(part.text, &part.body);
        migration.text += &part;
        migration.changed += changed;
    }
    for document in read(&migration.text, file) {
        match document {
            Ok(parsed) => {
                let refused = refused(&parsed);
                migration.check(parsed, &refused);
            }
            Err(problem) => migration.problems.push(problem),
        }
    }
    migration
}

/// Where a document names the version of an object, and of the items of a list.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Versions {
    #[serde(rename = "apiVersion")]
    api_version: Option<Spanned<Value>>,
    kind: Value,
    items: Vec<Self>,
}

impl Versions {
    /// Returns where in the text the versions of Flagger's objects begin.
    fn of_flagger(&self) -> Vec<usize> {
        let own = self.api_version.as_ref().filter(|version| is_flaggers(&version.value, &self.kind));
        let offset = own.and_then(|version| version.defined.span().byte_offset());
        let own = offset.and_then(|offset| usize::try_from(offset).ok());
        own.into_iter().chain(self.items.iter().flat_map(Self::of_flagger)).collect()
    }
}

/// Returns whether an object of this version and kind becomes Weir's.
fn is_flaggers(version: &Value, kind: &Value) -> bool {
    version == FLAGGER && KINDS.iter().any(|known| kind == known)
}

/// Returns how many objects of Flagger's a document has.
fn of_flagger(document: &Value) -> usize {
    let own = is_flaggers(&document["apiVersion"], &document["kind"]);
    items(document).map_or(usize::from(own), |items| items.iter().map(of_flagger).sum())
}

/// Returns a document with Weir's objects in place of Flagger's, and how many.
fn changed(text: &str, body: &str) -> (String, usize) {
    let written = value(body).unwrap_or_default();
    let count = of_flagger(&written);
    if count == 0 || is_encrypted(&written) {
        return (text.to_owned(), 0);
    }
    let versions: Versions = serde_saphyr::from_str(body).unwrap_or_default();
    // A byte order mark is before the body. One anchor may be the version of several objects.
    let before = text.len() - body.len();
    let places: BTreeSet<usize> = versions.of_flagger().into_iter().map(|at| at + before).collect();
    let count = if places.is_empty() { 0 } else { count };
    let mut changed = text.to_owned();
    for at in places.into_iter().rev() {
        // The value begins here: with an anchor, a tag or a quote at most.
        let rest = changed.get(at..).unwrap_or_default();
        let written = [FLAGGER, ESCAPED].into_iter().filter_map(|text| Some((rest.find(text)?, text.len()))).min();
        if let Some((found, length)) = written {
            changed.replace_range(at + found..at + found + length, &format!("{GROUP}/{VERSION}"));
        }
    }
    (changed, count)
}

impl Migration {
    fn check(&mut self, parsed: Parsed, refused: &[Problem]) {
        let differences = differences(&parsed);
        let Parsed { object, warnings, meant, fields, .. } = parsed.placed();
        let at = |problem: Problem| fields.at(problem);
        if object == Known::Other {
            // What is Flagger's still, or nearly Weir's: nobody would look after it.
            if meant {
                self.problems.extend(warnings);
            } else {
                self.remarks.extend(leftovers(&fields).into_iter().map(at));
            }
            return;
        }
        let (mut problems, mut remarks) = (Vec::new(), warnings);
        if fields.has("status") && !refused.iter().any(|it| it.field.starts_with("status")) {
            remarks.push(Problem::new("status", "is Flagger's: leave it out, or the API server refuses its fields"));
        }
        match object {
            Known::Canary(canary) => {
                let read = reading(&canary.metadata.namespace, &canary.metadata.name, &canary.spec);
                problems.extend(read.plan.err().into_iter().flatten());
                remarks.extend(read.remarks.into_iter().chain(read.deprecated));
            }
            Known::MetricTemplate(template) => remarks.extend(template.spec.remarks()),
            Known::AlertProvider(_) | Known::Process(_) | Known::Secret(_) | Known::Other => {}
        }
        remarks.extend(differences);
        self.problems.extend(with_refused(problems, refused).into_iter().map(at));
        self.remarks.extend(without_refused(remarks, refused).into_iter().map(at));
    }
}

/// Returns the word by which a text means Flagger's objects.
fn names_flagger(text: &str) -> Option<&str> {
    if text == FLAGGERS_GROUP {
        return Some(text);
    }
    text.match_indices(&format!("{FLAGGERS_GROUP}/")).find_map(|(at, _)| {
        let (before, rest) = text.split_at(at);
        // In the middle of an address, or behind a longer name, it is another word.
        let is_part = before.ends_with(|c: char| c.is_alphanumeric() || "./-_".contains(c));
        let end = rest.find(|c: char| !c.is_alphanumeric() && !"./".contains(c)).unwrap_or(rest.len());
        rest.get(..end).filter(|_| !is_part)
    })
}

/// Returns where somebody else's object still means Flagger's: a patch's target, a health check, a role.
fn leftovers(fields: &Fields) -> Vec<Problem> {
    // What the API server or kubectl wrote, and nobody applies.
    let written = |path: &str| {
        let told = ["last-applied-configuration", "metadata.managedFields", "metadata.ownerReferences"];
        told.iter().any(|part| path.contains(part))
    };
    let told = fields.texts().into_iter().filter(|(path, _)| !written(path)).filter_map(|(path, text)| {
        let word = names_flagger(text)?;
        let text =
            format!("still names Flagger ({word}): it stays as it is; where Weir's objects are meant, write {GROUP}");
        Some(Problem::new(path, text))
    });
    told.collect()
}

#[cfg(test)]
mod tests;
