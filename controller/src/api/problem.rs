//! What is wrong with an object, for the person who wrote it: where, what, and what to do.

use std::fmt;
use std::ops::RangeInclusive;

use super::limits;

/// Something that a user should change.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file and document, where the object came from one.
    pub place: Place,
    /// The field's path, `spec.analysis.stepWeights[2]`; empty where the whole document is meant.
    pub field: String,
    /// What is wrong and what to do.
    pub text: String,
}

/// A place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's path; empty if the object did not come from a file.
    pub file: String,
    /// Which document of the file, from 1.
    pub document: usize,
    /// The line in the file, from 1.
    pub line: usize,
}

impl Problem {
    /// Returns a problem of one field.
    pub fn new(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: Place::default(), field: field.into(), text: text.into() }
    }

    /// Says where the object stands.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Self {
        self.place.clone_from(place);
        self
    }
}

/// Returns problems together with what the API server refuses, where they do not say the same of a field already.
#[must_use]
pub fn with_refused(mut problems: Vec<Problem>, refused: &[Problem]) -> Vec<Problem> {
    let told = |it: &&Problem| {
        problems.iter().any(|problem| is_within(&it.field, &problem.field) || is_within(&problem.field, &it.field))
    };
    let more: Vec<Problem> = refused.iter().filter(|it| !told(it)).cloned().collect();
    problems.extend(more);
    problems
}

/// Returns notes without those that are no notes any more where the API server refuses the same.
#[must_use]
pub fn without_refused(mut notes: Vec<Problem>, refused: &[Problem]) -> Vec<Problem> {
    notes.retain(|note| {
        let is_kept = note.text.ends_with(limits::KEPT);
        !refused.iter().any(|it| it.field == note.field || is_kept && is_within(&it.field, &note.field))
    });
    notes
}

/// Returns whether a field is another one, or a part of it.
fn is_within(field: &str, whole: &str) -> bool {
    field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || !whole.is_empty() && rest.starts_with(['.', '[']))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.file.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}, line {}", self.file, self.document, self.line)
    }
}

/// Gathers problems and remarks under a field's path while a spec is read.
#[derive(Default)]
pub(super) struct Problems {
    /// What must be changed before the object can work.
    pub(super) found: Vec<Problem>,
    /// What is accepted and has no effect, or less than it says.
    pub(super) remarks: Vec<Problem>,
    /// What works and should be written otherwise.
    pub(super) deprecated: Vec<Problem>,
    /// By which rules the spec is read.
    pub(super) rules: Rules,
}

/// By which rules a spec is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// Today's.
    #[default]
    Today,
    /// Those with limits, for a Canary that worked by them: what is refused since then is said, and nothing is refused for it.
    Stored,
    /// Those from before a user's text had limits, for a Canary that worked by them: what could harm others has no effect, and
    /// nothing is refused for it.
    Former,
}

impl Problems {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Notes what is refused since there are limits, and goes on in a Canary that worked before.
    pub(super) fn refuse_new(&mut self, field: impl Into<String>, text: impl Into<String>, instead: &str) {
        match self.rules {
            Rules::Today | Rules::Stored => self.add(field, text),
            Rules::Former => self.remark(field, format!("{}; {instead} until the spec changes", text.into())),
        }
    }

    /// Notes what is refused in a spec that is new, and said of one that worked before it was refused.
    pub(super) fn refuse_in_new(&mut self, field: impl Into<String>, text: impl Into<String>) {
        match self.rules {
            Rules::Today => self.add(field, text),
            Rules::Stored | Rules::Former => self.remark(field, text),
        }
    }

    /// Notes what is accepted and has no effect, or less than it says.
    pub(super) fn remark(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.remarks.push(Problem::new(field, text));
    }

    /// Notes a remark where the field is there.
    pub(super) fn remark_if(&mut self, there: bool, field: &str, text: &str) {
        if there {
            self.remark(field, text);
        }
    }

    pub(super) fn deprecate(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.deprecated.push(Problem::new(field, text));
    }

    pub(super) fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.found.push(Problem::new(field, text));
    }

    /// Returns the value, or notes the problem with it.
    pub(super) fn keep<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|text| self.add(field, text)).ok()
    }

    /// Returns a whole number, or the default when it is absent or out of range (which is noted).
    pub(super) fn whole(&mut self, field: &str, value: Option<i64>, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = value else { return default };
        match u64::try_from(value).ok().filter(|value| range.contains(value)) {
            Some(value) => value,
            None => {
                let (min, max) = range.into_inner();
                self.add(field, format!("{value} is out of range: give a whole number from {min} to {max}"));
                default
            }
        }
    }

    /// Returns a number, or the default when it is absent or out of range (which is noted).
    pub(super) fn number(&mut self, field: &str, value: Option<f64>, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(value) = value else { return default };
        if range.contains(&value) {
            return value;
        }
        let (min, max) = range.into_inner();
        self.add(field, format!("{value} is out of range: give a number from {min} to {max}"));
        default
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.found.is_empty() { Ok(value) } else { Err(self.found) }
    }
}
