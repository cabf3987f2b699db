//! The proxy-wasm ABI, version 0.2.1: the functions that Envoy calls, and a [`Host`] made of those that it offers.
//!
//! Written by hand because the SDK's dispatcher makes the proxy call into the VM for every context that is created, done and
//! deleted, and keeps an object for each; its host calls panic on a status that they do not expect. Here an export exists
//! only if it has work to do (an empty one costs a crossing too), and every status other than Ok becomes `None`.
//!
//! There is one filter per VM, whichever root context a configuration came with: an update makes a new root context in the
//! same VM, and requests of the old one must be counted on.
#![allow(unsafe_code, reason = "the ABI is made of raw pointers; every use says why it holds")]

use std::cell::{RefCell, UnsafeCell};

use crate::filter::Filter;
use crate::host::{Expected, Host, Level, MetricKind};

/// Status and flag values of the ABI.
const OK: u32 = 0;
const CONTINUE: u32 = 0;
const REQUEST_HEADERS: u32 = 0;
const RESPONSE_HEADERS: u32 = 2;
const RESPONSE_TRAILERS: u32 = 3;
const BODY: u32 = 1;
const PLUGIN_CONFIGURATION: u32 = 7;
const MONOTONIC: u32 = 1;
/// Matches no version that the proxy has given out (it counts up from 1), so a write with it succeeds only where nothing is.
const NO_VERSION: u32 = u32::MAX;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, line: *const u8, size: usize) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, size: usize, data: *mut *const u8, length: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *mut *const u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(map: u32, name: *const u8, name_size: usize, value: *const u8, size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, value: *mut *const u8, size: *mut usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        value: *mut *const u8,
        size: *mut usize,
        version: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, size: usize, version: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, metric: *mut u32) -> u32;
    fn proxy_increment_metric(metric: u32, by: i64) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    fn random_get(bytes: *mut u8, size: usize) -> u32;
}

// === State ===

/// A value of the VM. It has one thread, so sharing it between threads is no question.
struct Single<T>(T);

// SAFETY: the module is built without threads; nothing in it runs at the same time as anything else.
unsafe impl<T> Sync for Single<T> {}

static FILTER: Single<RefCell<Option<Filter>>> = Single(RefCell::new(None));

/// Where the proxy puts a value that it returns. Words, because the proxy may want its values aligned.
static RETURNED: Single<UnsafeCell<Vec<u64>>> = Single(UnsafeCell::new(Vec::new()));

/// Calls the filter. Host calls never lead back into an export but the allocator's, so it is free; if a proxy does it all the
/// same, the inner call finds nothing to do instead of a panic.
fn with<R>(idle: R, call: impl FnOnce(&mut Filter, &mut Envoy) -> R) -> R {
    match FILTER.0.try_borrow_mut() {
        Ok(mut filter) => call(filter.get_or_insert_with(Filter::new), &mut Envoy),
        Err(_) => idle,
    }
}

// === Exports ===

/// Says which version of the ABI this is.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_abi_version_0_2_1() {}

/// Gives the proxy room for a value that it is about to return. There is one room: every value is used up before the next
/// host call, and none is kept.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    // SAFETY: the proxy calls this from within a host call, while nobody holds a reference into the room (see `value`).
    let room = unsafe { &mut *RETURNED.0.get() };
    let words = size.div_ceil(8);
    if room.len() < words {
        room.resize(words, 0);
    }
    room.as_mut_ptr().cast()
}

/// Takes a configuration; 0 refuses it.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_configure(_root: u32, size: usize) -> u32 {
    let json = bytes(|data, length| {
        // SAFETY: both point to places that live through the call.
        unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, length) }
    });
    // A copy, because the filter makes host calls while it reads.
    let json = json.unwrap_or_default().to_vec();
    // The largest value by far; its room would stay for the VM's life.
    // SAFETY: as in `proxy_on_memory_allocate`; `json` is a copy.
    unsafe { *RETURNED.0.get() = Vec::new() };
    with(1, |filter, host| u32::from(filter.configure(host, &json).is_ok()))
}

/// Flushes counters and publishes gauges.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_tick(_root: u32) {
    with((), |filter, host| filter.tick(host));
}

/// Chooses the arm.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_request_headers(context: u32, _headers: u32, _end: u32) -> u32 {
    with((), |filter, host| {
        filter.request(host, context);
    });
    CONTINUE
}

/// Gives a client its cookie.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_response_headers(context: u32, _headers: u32, _end: u32) -> u32 {
    with((), |filter, host| filter.response(host, context));
    CONTINUE
}

/// Sees the response's end.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    with((), |filter, host| filter.response_body(host, context, size, end != 0));
    CONTINUE
}

/// Counts the request.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn proxy_on_log(context: u32) {
    with((), |filter, host| filter.ended(host, context));
}

// === Host ===

/// Envoy, as it stands behind the imports.
struct Envoy;

/// Fetches a value that the proxy returns through two pointers. It lies in the room until the next host call; `&mut self` of
/// the methods that return it keeps that call away.
fn bytes<'a>(call: impl FnOnce(*mut *const u8, *mut usize) -> u32) -> Option<&'a [u8]> {
    let (mut data, mut size) = (std::ptr::null(), 0);
    if call(&raw mut data, &raw mut size) != OK {
        return None;
    }
    if data.is_null() || size == 0 {
        return Some(&[]);
    }
    // SAFETY: the proxy wrote `size` bytes to the room that it had asked for and says so.
    Some(unsafe { std::slice::from_raw_parts(data, size) })
}

fn header(map: u32, name: &str) -> Option<&'static [u8]> {
    // SAFETY: `name` is a live slice; the others point to places that live through the call.
    bytes(|data, size| unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, size) })
}

fn property(path: &str) -> Option<&'static [u8]> {
    // SAFETY: as in `header`.
    bytes(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

impl Host for Envoy {
    fn monotonic_ns(&mut self) -> u64 {
        let mut time = 0;
        // SAFETY: `time` lives through the call.
        unsafe { clock_time_get(MONOTONIC, 1, &raw mut time) };
        time
    }

    fn unix_seconds(&mut self) -> u64 {
        let mut time = 0;
        // SAFETY: `time` lives through the call.
        unsafe { proxy_get_current_time_nanoseconds(&raw mut time) };
        time / 1_000_000_000
    }

    fn random(&mut self) -> u64 {
        let mut bytes = [0; 8];
        // SAFETY: the proxy writes as many bytes as it is told that there are.
        unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
        u64::from_le_bytes(bytes)
    }

    fn request_header(&mut self, name: &str) -> Option<&[u8]> {
        header(REQUEST_HEADERS, name)
    }

    fn set_request_header(&mut self, name: &str, value: &str) {
        // SAFETY: both are live slices.
        unsafe {
            proxy_replace_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        };
    }

    fn response_header(&mut self, name: &str) -> Option<&[u8]> {
        header(RESPONSE_HEADERS, name)
    }

    fn add_response_header(&mut self, name: &str, value: &str) {
        // SAFETY: both are live slices.
        unsafe { proxy_add_header_map_value(RESPONSE_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }

    fn response_trailer(&mut self, name: &str) -> Option<&[u8]> {
        header(RESPONSE_TRAILERS, name)
    }

    fn response_body(&mut self, length: usize) -> Option<&[u8]> {
        // SAFETY: both point to places that live through the call.
        bytes(|data, size| unsafe { proxy_get_buffer_bytes(BODY, 0, length, data, size) })
    }

    fn route_name(&mut self) -> Option<&[u8]> {
        property("xds\0route_name")
    }

    fn response_flags(&mut self) -> Option<u64> {
        property("response\0flags").and_then(|bits| bits.try_into().ok()).map(u64::from_le_bytes)
    }

    fn define(&mut self, kind: MetricKind, name: &str) -> Option<u32> {
        let mut metric = 0;
        // SAFETY: `name` is a live slice, `metric` lives through the call.
        let status = unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut metric) };
        (status == OK).then_some(metric)
    }

    fn increment(&mut self, metric: u32, by: u64) {
        // SAFETY: only numbers.
        unsafe { proxy_increment_metric(metric, i64::try_from(by).unwrap_or(i64::MAX)) };
    }

    fn record(&mut self, metric: u32, value: u64) {
        // SAFETY: only numbers.
        unsafe { proxy_record_metric(metric, value) };
    }

    fn shared(&mut self, key: &str) -> Option<(&[u8], u32)> {
        let mut version = 0;
        // SAFETY: `key` is a live slice; the others point to places that live through the call.
        let value = bytes(|data, size| unsafe {
            proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut version)
        })?;
        Some((value, version))
    }

    fn share(&mut self, key: &str, value: &[u8], expected: Expected) -> bool {
        let version = match expected {
            Expected::Absent => NO_VERSION,
            Expected::Version(version) => version,
        };
        // SAFETY: both are live slices.
        let status = unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) };
        status == OK
    }

    fn set_tick(&mut self, milliseconds: u32) {
        // SAFETY: only a number.
        unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
    }

    fn log(&mut self, level: Level, line: &str) {
        let level = match level {
            Level::Info => 2,
            Level::Warn => 3,
            Level::Error => 4,
        };
        // SAFETY: `line` is a live slice.
        unsafe { proxy_log(level, line.as_ptr(), line.len()) };
    }
}
