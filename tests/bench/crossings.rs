//! Modules that do nothing but call the host: what each crossing between Envoy and a module costs.

use serde_json::{Value, json};

use super::variants::{Variant, bootstrap, by_token, router, split, wasm};

/// Modules that make one host call again and again for each request; the first one makes none.
pub(crate) fn calls(upstream: u16) -> Vec<Variant> {
    const TIMES: u32 = 20;
    let make = |name: &str, calls: u32, hooks: &[(&str, String)]| Variant {
        name: name.to_owned(),
        bootstrap: bootstrap(&json!([wasm(&inline(hooks), ""), router()]), &by_token(), upstream),
        calls,
    };
    let times = |hook: &'static str, call: &str| vec![(hook, format!("({call}) drop\n").repeat(TIMES as usize))];
    let nothing = |hook: &'static str| (hook, String::new());
    let (request, log) = ("proxy_on_request_headers", "proxy_on_log");
    let header = |map: u32, at: u32, size: u32| {
        format!("call $header (i32.const {map}) (i32.const {at}) (i32.const {size}) (i32.const 512) (i32.const 516)")
    };
    let property = |at: u32, size: u32| {
        format!("call $property (i32.const {at}) (i32.const {size}) (i32.const 512) (i32.const 516)")
    };
    vec![
        make("nothing but the headers' callback", 0, &[nothing(request)]),
        make("callback: log", 1, &[nothing(request), nothing(log)]),
        make("callback: response headers", 1, &[nothing(request), nothing("proxy_on_response_headers")]),
        make("callback: response body", 1, &[nothing(request), nothing("proxy_on_response_body")]),
        make("callback: context create", 1, &[nothing(request), nothing("proxy_on_context_create")]),
        make("callback: done", 1, &[nothing(request), nothing("proxy_on_done")]),
        make("callback: delete", 1, &[nothing(request), nothing("proxy_on_delete")]),
        make("clock", TIMES, &times(request, "call $clock (i32.const 1) (i64.const 1) (i32.const 520)")),
        make(":authority", TIMES, &times(request, &header(0, 0, 10))),
        make("a header that is not there", TIMES, &times(request, &header(0, 16, 6))),
        make(":status, in log", TIMES, &times(log, &header(2, 32, 7))),
        make("grpc-status in trailers, in log", TIMES, &times(log, &header(3, 48, 11))),
        make("response.flags, in log", TIMES, &times(log, &property(64, 14))),
        make("request.duration, in log", TIMES, &times(log, &property(80, 16))),
        make("xds.route_name", TIMES, &times(request, &property(96, 14))),
        make(
            "shared cell, absent",
            TIMES,
            &times(
                request,
                "call $shared (i32.const 0) (i32.const 10) (i32.const 512) (i32.const 516) (i32.const 520)",
            ),
        ),
        make(
            "shared cell, write",
            TIMES,
            &times(request, "call $share (i32.const 0) (i32.const 10) (i32.const 0) (i32.const 24) (i32.const 0)"),
        ),
        make("counter", TIMES, &times(request, "call $increment (i32.load (i32.const 700)) (i64.const 1)")),
        make(
            "set header, clears the route",
            1,
            &[(
                request,
                "(call $replace (i32.const 0) (i32.const 112) (i32.const 12) (i32.const 112) (i32.const 4)) drop"
                    .to_owned(),
            )],
        ),
    ]
}

/// What the filter does for an ordinary request, one crossing after the other, by a module that does nothing else; then the
/// filter.
pub(crate) fn ladder(upstream: u16) -> Result<Vec<Variant>, String> {
    let header = |map: u32, at: u32, size: u32| {
        format!(
            "(call $header (i32.const {map}) (i32.const {at}) (i32.const {size}) (i32.const 512) (i32.const 516)) drop"
        )
    };
    let clock = "(call $clock (i32.const 1) (i64.const 1) (i32.const 520)) drop".to_owned();
    let (authority, status) = (header(0, 0, 10), header(2, 32, 7));
    let (request, body, log) = ("proxy_on_request_headers", "proxy_on_response_body", "proxy_on_log");
    let none = String::new;
    let steps = [
        ("module", vec![]),
        ("+ request headers", vec![(request, none())]),
        ("+ log", vec![(request, none()), (log, none())]),
        ("+ response body", vec![(request, none()), (body, none()), (log, none())]),
        ("+ :authority", vec![(request, authority.clone()), (body, none()), (log, none())]),
        ("+ :status", vec![(request, authority.clone()), (body, none()), (log, status.clone())]),
        ("+ clock, twice", vec![(request, authority + &clock), (body, none()), (log, status + &clock)]),
    ];
    let mut list: Vec<Variant> = split(upstream, None)?
        .into_iter()
        .filter(|variant| {
            ["two routes without filter", "weir another's host", "weir idle"].contains(&variant.name.as_str())
        })
        .collect();
    let steps = steps.into_iter().map(|(name, hooks)| Variant {
        name: name.to_owned(),
        bootstrap: bootstrap(&json!([wasm(&inline(&hooks), ""), router()]), &by_token(), upstream),
        calls: 0,
    });
    list.splice(1..1, steps);
    Ok(list)
}

/// Returns the code of a module that takes part in no request.
pub(crate) fn empty_module() -> Value {
    inline(&[])
}

/// Returns the code of a module whose hooks do what is given.
fn inline(hooks: &[(&str, String)]) -> Value {
    let exports: String = hooks
        .iter()
        .map(|(hook, body)| {
            let (parameters, result, end) = match *hook {
                "proxy_on_log" | "proxy_on_delete" => ("(param i32)", "", ""),
                "proxy_on_done" => ("(param i32)", "(result i32)", "(i32.const 1)"),
                "proxy_on_context_create" => ("(param i32 i32)", "", ""),
                _ => ("(param i32 i32 i32)", "(result i32)", "(i32.const 0)"),
            };
            format!("(func (export \"{hook}\") {parameters} {result} {body} {end})\n")
        })
        .collect();
    let text = format!(
        r#"(module
        (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_get_shared_data" (func $shared (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_shared_data" (func $share (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (memory (export "memory") 2)
        (data (i32.const 0) ":authority")
        (data (i32.const 16) "x-none")
        (data (i32.const 32) ":status")
        (data (i32.const 48) "grpc-status")
        (data (i32.const 64) "response\00flags")
        (data (i32.const 80) "request\00duration")
        (data (i32.const 96) "xds\00route_name")
        (data (i32.const 112) "x-weir-token")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $define (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 700)) drop (i32.const 1))
        {exports})"#
    );
    let module = wat::parse_str(&text).unwrap_or_default();
    let hex: Vec<u8> = module;
    json!({"local": {"inline_bytes": base64(&hex)}})
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
