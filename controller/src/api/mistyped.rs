//! Every value of a document that its type cannot take: a reader stops at the first, so each that was told is filled with something that
//! the reader takes, and the document is read again.

use serde_json::{Value, json};
use serde_path_to_error::{Path, Segment};

use super::problem::Problem;

/// More of them say nothing more.
const MOST: usize = 100;

/// A step from a value to one in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

/// What was filled, and what was told of it.
#[derive(Debug, Default)]
pub(super) struct Filled {
    told: Vec<Problem>,
    places: Vec<Vec<Step>>,
    /// What was tried in the last of the places.
    tried: usize,
}

impl Filled {
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Returns what was told, in the order of its lines.
    pub(super) fn told(mut self) -> Vec<Problem> {
        self.told.sort_by_key(|problem| problem.place.line);
        self.told
    }

    /// Fills the place of an error; returns whether it is worth to read again. What is within an earlier filling is not told.
    pub(super) fn fill(&mut self, value: &mut Value, path: &Path, error: &str, told: impl FnOnce() -> Problem) -> bool {
        let fillers = [json!(""), json!(1), json!({}), json!([]), json!(false)];
        let mut place: Option<Vec<Step>> = path.iter().map(step).collect();
        // A field that is missing is told of what it is missing in.
        let missing = error.strip_prefix("missing field `").and_then(|rest| Some(rest.split_once('`')?.0));
        if let (Some(field), Some(place)) = (missing, &mut place) {
            place.push(Step::Key(field.to_owned()));
        }
        let again = place.is_some() && self.places.last() == place.as_ref();
        self.tried = if again { self.tried + 1 } else { 0 };
        let is_known = place.as_ref().is_some_and(|place| self.places.iter().any(|known| place.starts_with(known)));
        if !is_known {
            self.told.push(told());
        }
        let Some(filler) = fillers.get(self.tried).filter(|_| self.places.len() < MOST) else { return false };
        let Some(place) = place.filter(|place| !place.is_empty()) else { return false };
        if !put(value, &place, filler) {
            return false;
        }
        if !again {
            self.places.push(place);
        }
        true
    }
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Seq { index } => Some(Step::Item(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

fn put(value: &mut Value, place: &[Step], filler: &Value) -> bool {
    let Some((last, within)) = place.split_last() else { return false };
    let parent = within.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Item(index) => value.get_mut(*index),
    });
    match (parent, last) {
        (Some(Value::Object(fields)), Step::Key(key)) => {
            fields.insert(key.clone(), filler.clone());
            true
        }
        (Some(Value::Array(items)), Step::Item(index)) => items.get_mut(*index).is_some_and(|item| {
            item.clone_from(filler);
            true
        }),
        _ => false,
    }
}
