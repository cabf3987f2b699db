//! What the filter asks of the proxy that it runs in. The module in Envoy, the tests and the simulator each bring their own.
//!
//! Every method is one crossing from the VM into the proxy, or two where a value comes back (the proxy asks the VM for memory).
//! The crossings are nearly all that the filter costs, so nothing here is a convenience. No method can fail loudly: a
//! status other than Ok becomes `None`, or nothing.

use crate::headers::Headers;

/// The proxy, for the length of one callback. Values that come back live until the next call.
pub trait Host {
    /// Returns a clock that never goes back, in nanoseconds.
    fn monotonic_ns(&mut self) -> u64;
    /// Returns the Unix time in seconds.
    fn unix_seconds(&mut self) -> u64;
    /// Returns 64 bits that nobody can predict.
    fn random(&mut self) -> u64;

    /// Reads a header of the request of this callback; `name` is in lower case.
    fn request_header(&mut self, name: &str) -> Option<&[u8]>;
    /// Sets a header of the request, which makes the proxy choose the route anew.
    fn set_request_header(&mut self, name: &str, value: &str);
    /// Reads a header of the response; `:status` is among them.
    fn response_header(&mut self, name: &str) -> Option<&[u8]>;
    /// Returns all headers of the response at once: hardly dearer than one of them.
    fn response_headers(&mut self) -> Headers<'_>;
    /// Adds a header to the response.
    fn add_response_header(&mut self, name: &str, value: &str);
    /// Reads a trailer of the response.
    fn response_trailer(&mut self, name: &str) -> Option<&[u8]>;
    /// Reads the beginning of the part of the response's body that this callback is about.
    fn response_body(&mut self, length: usize) -> Option<&[u8]>;
    /// Returns the name of the route that the proxy chose. The dearest call there is.
    fn route_name(&mut self) -> Option<&[u8]>;
    /// Returns where the response came from, in the proxy's words: `via_upstream`, or why it answered by itself.
    fn response_details(&mut self) -> Option<&[u8]>;
    /// Returns the number of the client's connection.
    fn connection(&mut self) -> Option<u64>;
    /// Returns the status of a request under way, which need not be the one of this callback; nothing before its response.
    fn status_of(&mut self, stream: u32) -> Option<u64>;
    /// Returns what the proxy noted about how the stream ended, as the bits of [`crate::outcome::Flags`].
    fn response_flags(&mut self) -> Option<u64>;

    /// Makes a metric known and returns its number; the same name gives the same metric in every VM of the process.
    fn define(&mut self, kind: MetricKind, name: &str) -> Option<u32>;
    /// Adds to a counter.
    fn increment(&mut self, metric: u32, by: u64);
    /// Sets a gauge.
    fn record(&mut self, metric: u32, value: u64);

    /// Reads a cell that all VMs of the process share, with the version of its value.
    fn shared(&mut self, key: &str) -> Option<(&[u8], u32)>;
    /// Writes a shared cell if it still is as expected; returns whether it was.
    fn share(&mut self, key: &str, value: &[u8], expected: Expected) -> bool;

    /// Asks for [`crate::Filter::tick`] to be called again and again.
    fn set_tick(&mut self, milliseconds: u32);
    /// Writes one line to the proxy's log.
    fn log(&mut self, level: Level, line: &str);
}

/// Which of the proxy's metric types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Is set.
    Gauge,
}

/// What a shared cell must be for a write to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nobody has written it.
    Absent,
    /// Nobody has written it since this version was read.
    Version(u32),
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A person may want to know.
    Info,
    /// A person should look.
    Warn,
    /// A person must act.
    Error,
}
