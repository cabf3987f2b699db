//! A proxy in memory, for tests and for the controller's simulator: it runs the filter's real code on made-up requests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::hashing::mix;
use crate::headers::{self, Headers};
use crate::host::{Expected, Host, Level, MetricKind};

/// What all VMs of one simulated process share.
#[derive(Debug, Default)]
struct Process {
    cells: BTreeMap<String, (Vec<u8>, u32)>,
    version: u32,
    names: Vec<String>,
    values: Vec<u64>,
    increments: Vec<(u32, u64)>,
    records: Vec<(u32, u64)>,
}

/// What else happens in the process just before this VM's host calls, for tests of what runs at the same time: gets the
/// number of the call.
#[derive(Clone, Default)]
pub struct Meanwhile(Option<Rc<dyn Fn(u64)>>);

impl Meanwhile {
    /// Returns what does this before each host call.
    pub fn new(before: impl Fn(u64) + 'static) -> Self {
        Self(Some(Rc::new(before)))
    }
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Meanwhile").field(&self.0.is_some()).finish()
    }
}

/// One VM's view of a simulated proxy. The public fields are what the next callback will see.
#[derive(Clone, Debug, Default)]
pub struct SimulatedHost {
    process: Rc<RefCell<Process>>,
    value: Vec<u8>,
    /// The monotonic clock.
    pub now_ns: u64,
    /// The wall clock.
    pub unix_seconds: u64,
    /// Where the next random number comes from.
    pub seed: u64,
    /// Headers of the request, `:authority` and `:path` among them.
    pub request: Vec<(String, String)>,
    /// Headers of the response; none if none came.
    pub response: Vec<(String, String)>,
    /// Trailers of the response.
    pub trailers: Vec<(String, String)>,
    /// The current piece of the response's body.
    pub body: Vec<u8>,
    /// How the stream ended, in the bits of [`crate::outcome::Flags`].
    pub flags: u64,
    /// Where the response came from; empty if the proxy does not say.
    pub details: String,
    /// The client's connection.
    pub connection: u64,
    /// Status of the requests under way that have one.
    pub statuses: BTreeMap<u32, u64>,
    /// The route that was chosen.
    pub route: String,
    /// The tick that was asked for.
    pub tick_ms: u32,
    /// The lines of the log.
    pub log: Vec<String>,
    /// The metrics that this VM has made known, as often as it did.
    pub defined: Vec<String>,
    /// Metrics are refused while this is set.
    pub refuse_metrics: bool,
    /// Host calls that requests made, to keep an eye on.
    pub calls: u64,
    /// What other VMs do while this one calls.
    pub meanwhile: Meanwhile,
}

impl SimulatedHost {
    /// Returns another VM of the same process.
    #[must_use]
    pub fn another_vm(&self) -> Self {
        Self {
            process: Rc::clone(&self.process),
            now_ns: self.now_ns,
            unix_seconds: self.unix_seconds,
            seed: mix(self.seed ^ 0x5eed),
            ..Self::default()
        }
    }

    /// Returns all metrics of the process by name.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        let process = self.process.borrow();
        process.names.iter().cloned().zip(process.values.iter().copied()).collect()
    }

    /// Returns the increments of counters, in their order.
    #[must_use]
    pub fn increments(&self) -> Vec<(String, u64)> {
        let process = self.process.borrow();
        let name = |metric: u32| process.names.get(metric as usize).cloned().unwrap_or_default();
        process.increments.iter().map(|(metric, by)| (name(*metric), *by)).collect()
    }

    /// Returns what gauges were set to, in that order.
    #[must_use]
    pub fn records(&self) -> Vec<(String, u64)> {
        let process = self.process.borrow();
        let name = |metric: u32| process.names.get(metric as usize).cloned().unwrap_or_default();
        process.records.iter().map(|(metric, value)| (name(*metric), *value)).collect()
    }

    fn call(&mut self) {
        self.calls += 1;
        if let Meanwhile(Some(before)) = &self.meanwhile {
            before(self.calls);
        }
    }

    fn keep<'a>(value: &'a mut Vec<u8>, headers: &[(String, String)], name: &str) -> Option<&'a [u8]> {
        let (_, found) = headers.iter().find(|(other, _)| other == name)?;
        value.clear();
        value.extend_from_slice(found.as_bytes());
        Some(value)
    }
}

impl Host for SimulatedHost {
    fn monotonic_ns(&mut self) -> u64 {
        self.call();
        self.now_ns
    }
    fn unix_seconds(&mut self) -> u64 {
        self.unix_seconds
    }
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(1);
        mix(mix(self.seed))
    }
    fn request_header(&mut self, name: &str) -> Option<&[u8]> {
        self.calls += 1;
        Self::keep(&mut self.value, &self.request, name)
    }
    fn set_request_header(&mut self, name: &str, value: &str) {
        self.calls += 1;
        self.request.retain(|(other, _)| other != name);
        self.request.push((name.to_owned(), value.to_owned()));
    }
    fn response_header(&mut self, name: &str) -> Option<&[u8]> {
        self.calls += 1;
        Self::keep(&mut self.value, &self.response, name)
    }
    fn response_headers(&mut self) -> Headers<'_> {
        self.calls += 1;
        self.value = headers::serialize(self.response.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Headers::new(&self.value)
    }
    fn add_response_header(&mut self, name: &str, value: &str) {
        self.calls += 1;
        self.response.push((name.to_owned(), value.to_owned()));
    }
    fn response_trailer(&mut self, name: &str) -> Option<&[u8]> {
        self.calls += 1;
        Self::keep(&mut self.value, &self.trailers, name)
    }
    fn response_body(&mut self, length: usize) -> Option<&[u8]> {
        self.calls += 1;
        self.body.get(..length.min(self.body.len()))
    }
    fn route_name(&mut self) -> Option<&[u8]> {
        self.calls += 1;
        Some(self.route.as_bytes())
    }
    fn response_details(&mut self) -> Option<&[u8]> {
        self.calls += 1;
        (!self.details.is_empty()).then_some(self.details.as_bytes())
    }
    fn connection(&mut self) -> Option<u64> {
        self.calls += 1;
        Some(self.connection)
    }
    fn status_of(&mut self, stream: u32) -> Option<u64> {
        self.calls += 1;
        self.statuses.get(&stream).copied()
    }
    fn response_flags(&mut self) -> Option<u64> {
        self.calls += 1;
        Some(self.flags)
    }
    fn define(&mut self, _kind: MetricKind, name: &str) -> Option<u32> {
        if self.refuse_metrics {
            return None;
        }
        self.defined.push(name.to_owned());
        let mut process = self.process.borrow_mut();
        if let Some(known) = process.names.iter().position(|other| other == name) {
            return u32::try_from(known).ok();
        }
        process.names.push(name.to_owned());
        process.values.push(0);
        u32::try_from(process.names.len() - 1).ok()
    }
    fn increment(&mut self, metric: u32, by: u64) {
        let mut process = self.process.borrow_mut();
        if let Some(value) = process.values.get_mut(metric as usize) {
            *value += by;
        }
        process.increments.push((metric, by));
    }
    fn record(&mut self, metric: u32, value: u64) {
        self.call();
        let mut process = self.process.borrow_mut();
        if let Some(gauge) = process.values.get_mut(metric as usize) {
            *gauge = value;
        }
        process.records.push((metric, value));
    }
    fn shared(&mut self, key: &str) -> Option<(&[u8], u32)> {
        self.call();
        let process = self.process.borrow();
        let (bytes, version) = process.cells.get(key)?;
        self.value.clear();
        self.value.extend_from_slice(bytes);
        Some((&self.value, *version))
    }
    fn share(&mut self, key: &str, value: &[u8], expected: Expected) -> bool {
        self.call();
        let mut process = self.process.borrow_mut();
        let expected = match expected {
            Expected::Absent => None,
            Expected::Version(version) => Some(version),
        };
        if process.cells.get(key).map(|(_, version)| *version) != expected {
            return false;
        }
        process.version += 1;
        let version = process.version;
        process.cells.insert(key.to_owned(), (value.to_vec(), version));
        true
    }
    fn set_tick(&mut self, milliseconds: u32) {
        self.tick_ms = milliseconds;
    }
    fn log(&mut self, _level: Level, line: &str) {
        self.log.push(line.to_owned());
    }
}
