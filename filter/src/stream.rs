//! The requests under way in one VM.

use weir_wire::names::{Arm, Cohort};

use crate::hashing::Map;
use crate::outcome::Body;

/// One request, from the choice of its arm to its end.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Place of its canary in the filter's list.
    pub canary: usize,
    /// Which of the runs that this VM has seen.
    pub run: u32,
    /// The epoch that it was assigned in.
    pub epoch: u64,
    /// The arm that it was given.
    pub arm: Arm,
    /// Why.
    pub cohort: Cohort,
    /// When, by the proxy's monotonic clock.
    pub began_ns: u64,
    /// The number that its client is to be given.
    pub cookie: Option<u64>,
    /// What has passed of its response.
    pub body: Body,
    /// It was counted before its end, when its upgrade was accepted.
    pub is_counted: bool,
    /// The request did not end with its headers.
    pub has_body: bool,
}

impl Stream {
    /// Returns whether its client chose the arm. That no condition is met is nobody's choice.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        matches!(self.cohort, Cohort::Sticky | Cohort::Direct)
            || (self.cohort, self.arm) == (Cohort::Match, Arm::Canary)
    }
}

/// The requests under way, by the proxy's number for each. Grows to the greatest number of them and stays.
#[derive(Debug, Default)]
pub struct Streams(Map<u32, Stream>);

impl Streams {
    /// Adds a request.
    pub fn insert(&mut self, number: u32, stream: Stream) {
        self.0.insert(number, stream);
    }

    /// Finds a request.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Stream> {
        self.0.get_mut(&number)
    }

    /// Returns whether no request is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a request out.
    pub fn remove(&mut self, number: u32) -> Option<Stream> {
        self.0.remove(&number)
    }
}
