//! The filter as Envoy knows it: proxy-wasm contexts that hand every callback to [`Filter`], and a [`Host`] made of the
//! crate's host calls.
//!
//! There is one filter per VM, whichever root context a configuration came with: an update makes a new root context in the
//! same VM, and requests of the old one must be counted on.
//!
//! This file owns two risks. The crate panics on a status that it does not expect, and a panic costs the VM (`fail_open` then
//! sends every request to the primary); each call below says why Envoy cannot answer with one. And the crate lacks the
//! monotonic clock, the host's randomness and a way to read a map of headers without two allocations for each of them, which
//! are three `unsafe` imports here.
#![allow(unsafe_code, reason = "three imports that the crate proxy-wasm lacks, and its `main!`")]

use std::cell::RefCell;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, Bytes, LogLevel, MapType, MetricType};

use crate::filter::Filter;
use crate::headers::Headers;
use crate::host::{Expected, Host, Level, MetricKind};

/// Matches no version that Envoy has given out (it counts up from 1), so a write with it succeeds only where nothing is.
const NO_VERSION: u32 = u32::MAX;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Plugin));
    proxy_wasm::set_http_context(|number, _| Box::new(Request(number)));
}}

thread_local! {
    static FILTER: RefCell<Filter> = RefCell::new(Filter::new());
}

/// Calls the filter. Envoy calls no export from within a host call but the allocator; if a proxy did, the inner call would
/// find nothing to do instead of a panic.
fn with<R>(idle: R, call: impl FnOnce(&mut Filter, &mut Envoy) -> R) -> R {
    FILTER.with(|filter| match filter.try_borrow_mut() {
        Ok(mut filter) => call(&mut filter, &mut Envoy::default()),
        Err(_) => idle,
    })
}

/// The root context: configurations and the timer.
struct Plugin;

impl Context for Plugin {}

impl RootContext for Plugin {
    /// Takes a configuration; `false` refuses it.
    fn on_configure(&mut self, size: usize) -> bool {
        // Envoy has the buffer for the length of this callback; an empty one is `Ok` without a value.
        let json = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok().flatten().unwrap_or_default();
        with(true, |filter, host| filter.configure(host, &json).is_ok())
    }

    fn on_tick(&mut self) {
        with((), |filter, host| filter.tick(host));
    }
}

/// One request, by Envoy's number for it.
struct Request(u32);

impl Context for Request {}

impl HttpContext for Request {
    /// Chooses the arm.
    fn on_http_request_headers(&mut self, _headers: usize, end: bool) -> Action {
        with((), |filter, host| {
            if filter.request(host, self.0).is_some() && !end {
                filter.goes_on(host, self.0);
            }
        });
        Action::Continue
    }

    /// Gives a client its cookie.
    fn on_http_response_headers(&mut self, _headers: usize, _end: bool) -> Action {
        with((), |filter, host| filter.response(host, self.0));
        Action::Continue
    }

    /// Sees the response's end.
    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        // Fits: a piece of a body is never 4 GiB, the VM's whole memory.
        with((), |filter, host| filter.response_body(host, self.0, size as u32, end));
        Action::Continue
    }

    /// Counts the request.
    fn on_log(&mut self) {
        with((), |filter, host| filter.ended(host, self.0));
    }
}

// === Host ===

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: MapType, pairs: *mut *mut u8, size: *mut usize) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    fn random_get(bytes: *mut u8, size: usize) -> u32;
}

/// WASI's number for the monotonic clock.
const MONOTONIC: u32 = 1;

/// Envoy, as it stands behind the host calls, for the length of one callback.
#[derive(Default)]
struct Envoy {
    /// The value that the last call returned.
    value: Bytes,
}

impl Envoy {
    fn keep(&mut self, value: Option<Bytes>) -> Option<&[u8]> {
        self.value = value?;
        Some(&self.value)
    }

    /// Reads a header. A map that a callback does not have is `NotFound` in the log phase and `BadArgument`, which panics,
    /// before it: so headers of the response and trailers are read in the log phase only.
    fn header(&mut self, map: MapType, name: &str) -> Option<&[u8]> {
        self.keep(hostcalls::get_map_value_bytes(map, name).ok().flatten())
    }

    /// Reads all headers of a map, as Envoy serializes them.
    fn headers(&mut self, map: MapType) -> Headers<'_> {
        let (mut pairs, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: both point to places that live through the call.
        let status = unsafe { proxy_get_header_map_pairs(map, &raw mut pairs, &raw mut size) };
        self.value = if status != 0 || pairs.is_null() {
            Bytes::new()
        } else {
            // SAFETY: Envoy has written `size` bytes to a block that it got from the crate's `malloc`, which makes a block of
            // exactly that capacity and gives it away.
            unsafe { Bytes::from_raw_parts(pairs, size, size) }
        };
        Headers::new(&self.value)
    }

    fn integer(&mut self, path: [&str; 2]) -> Option<u64> {
        self.property(path).and_then(|bits| bits.try_into().ok()).map(u64::from_le_bytes)
    }

    /// Reads a property. One that is absent, or of a type without bytes, is an error that the crate returns.
    fn property(&mut self, path: [&str; 2]) -> Option<&[u8]> {
        self.keep(hostcalls::get_property(path.to_vec()).ok().flatten())
    }
}

impl Host for Envoy {
    fn monotonic_ns(&mut self) -> u64 {
        let mut time = 0;
        // SAFETY: `time` lives through the call.
        unsafe { clock_time_get(MONOTONIC, 1, &raw mut time) };
        time
    }

    fn unix_seconds(&mut self) -> u64 {
        let now = hostcalls::get_current_time().ok();
        now.and_then(|now| now.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |time| time.as_secs())
    }

    fn random(&mut self) -> u64 {
        let mut bytes = [0; 8];
        // SAFETY: Envoy writes as many bytes as it is told that there are.
        unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
        u64::from_le_bytes(bytes)
    }

    fn request_header(&mut self, name: &str) -> Option<&[u8]> {
        self.header(MapType::HttpRequestHeaders, name)
    }

    /// In the phase of the request's headers only, where Envoy has them and answers `Ok`.
    fn set_request_header(&mut self, name: &str, value: &str) {
        let _ = hostcalls::set_map_value(MapType::HttpRequestHeaders, name, Some(value));
    }

    fn response_header(&mut self, name: &str) -> Option<&[u8]> {
        self.header(MapType::HttpResponseHeaders, name)
    }

    fn response_headers(&mut self) -> Headers<'_> {
        self.headers(MapType::HttpResponseHeaders)
    }

    /// In the phase of the response's headers only, where Envoy has them and answers `Ok`.
    fn add_response_header(&mut self, name: &str, value: &str) {
        let _ = hostcalls::add_map_value(MapType::HttpResponseHeaders, name, value);
    }

    fn response_trailer(&mut self, name: &str) -> Option<&[u8]> {
        self.header(MapType::HttpResponseTrailers, name)
    }

    /// In the phase of the response's body only, where Envoy has it.
    fn response_body(&mut self, length: usize) -> Option<&[u8]> {
        let bytes = hostcalls::get_buffer(BufferType::HttpResponseBody, 0, length).ok().flatten();
        self.keep(bytes)
    }

    fn route_name(&mut self) -> Option<&[u8]> {
        self.property(["xds", "route_name"])
    }

    fn response_flags(&mut self) -> Option<u64> {
        self.integer(["response", "flags"])
    }

    fn response_details(&mut self) -> Option<&[u8]> {
        self.property(["response", "code_details"])
    }

    fn connection(&mut self) -> Option<u64> {
        self.integer(["connection", "id"])
    }

    /// Envoy knows every request that has not been logged yet, so it answers `Ok` to the change of the context; the callback
    /// that this one is about is the timer's, which needs no context of its own afterwards.
    fn status_of(&mut self, stream: u32) -> Option<u64> {
        hostcalls::set_effective_context(stream).ok()?;
        self.integer(["response", "code"])
    }

    /// Envoy answers `Ok` to every name that is not defined with another type.
    fn define(&mut self, kind: MetricKind, name: &str) -> Option<u32> {
        let kind = match kind {
            MetricKind::Counter => MetricType::Counter,
            MetricKind::Gauge => MetricType::Gauge,
        };
        hostcalls::define_metric(kind, name).ok()
    }

    /// Envoy answers `Ok` for a number that it gave out and an increment above 0.
    fn increment(&mut self, metric: u32, by: u64) {
        if by > 0 {
            let _ = hostcalls::increment_metric(metric, i64::try_from(by).unwrap_or(i64::MAX));
        }
    }

    fn record(&mut self, metric: u32, value: u64) {
        let _ = hostcalls::record_metric(metric, value);
    }

    fn shared(&mut self, key: &str) -> Option<(&[u8], u32)> {
        let (value, version) = hostcalls::get_shared_data(key).ok()?;
        // A cell that is there and empty has a version and no value.
        let version = version?;
        self.value = value.unwrap_or_default();
        Some((&self.value, version))
    }

    fn share(&mut self, key: &str, value: &[u8], expected: Expected) -> bool {
        let version = match expected {
            Expected::Absent => NO_VERSION,
            Expected::Version(version) => version,
        };
        hostcalls::set_shared_data(key, Some(value), Some(version)).is_ok()
    }

    fn set_tick(&mut self, milliseconds: u32) {
        let _ = hostcalls::set_tick_period(Duration::from_millis(milliseconds.into()));
    }

    fn log(&mut self, level: Level, line: &str) {
        let level = match level {
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        let _ = hostcalls::log(level, line);
    }
}
