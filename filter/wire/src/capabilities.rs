//! What the module may call and be called for, so that the proxy leaves out the callbacks that a configuration does not need.
//!
//! The proxy calls every callback that the module exports, for every request, even where there is nothing to do, and each
//! call costs about as much as reading a header. Envoy's `capability_restriction_config.allowed_capabilities` hides exports
//! from it. The list is read when a VM is made, not when its configuration changes, and it is no part of the VM's identity:
//! whoever restricts must put [`vm_configuration`] into `vm_config.configuration`, so that another list makes other VMs.
//! Whoever does not restrict loses a little time and nothing else. A module that is newer than the list may call more than it
//! allows and would trap: one that did not come with the list gets [`of_another_module`]. Envoy 1.40 calls the field deprecated, as it does
//! `fail_open`; a later one that drops it must be told nothing here.

use crate::Config;

/// What every configuration needs: the module's imports, and its exports but for the one below.
const ALWAYS: [&str; 24] = [
    "proxy_log",
    "proxy_set_tick_period_milliseconds",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_value",
    "proxy_get_header_map_pairs",
    "proxy_replace_header_map_value",
    "proxy_add_header_map_value",
    "proxy_get_property",
    "proxy_set_effective_context",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
    "proxy_get_current_time_nanoseconds",
    "clock_time_get",
    "random_get",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_request_headers",
    "proxy_on_response_body",
    "proxy_on_log",
];

/// What gives a client its cookie.
const COOKIES: &str = "proxy_on_response_headers";

/// What a module of another release may call beside [`ALWAYS`]: all of the ABI that stays inside of the proxy. Calls to other
/// servers, answers in the upstream's place and the proxy's own functions are left out, since no filter of this kind makes them.
const INSIDE: [&str; 20] = [
    "proxy_get_log_level",
    "proxy_get_status",
    "proxy_set_buffer_bytes",
    "proxy_get_header_map_size",
    "proxy_set_header_map_pairs",
    "proxy_remove_header_map_value",
    "proxy_set_property",
    "proxy_get_metric",
    "proxy_continue_stream",
    "proxy_continue_request",
    "proxy_continue_response",
    "proxy_done",
    "fd_write",
    "fd_seek",
    "fd_close",
    "fd_fdstat_get",
    "environ_get",
    "environ_sizes_get",
    "args_get",
    "args_sizes_get",
];

/// Returns the capabilities that the module needs for a configuration.
pub fn needed(config: &Config) -> impl Iterator<Item = &'static str> {
    ALWAYS.into_iter().chain(gives_cookies(config).then_some(COOKIES))
}

/// Returns the capabilities of a module that did not come with whoever restricts it: what it calls is not known, so no call is
/// hidden from it that stays inside of the proxy. Without a call that it makes it would trap. Without a callback that this list
/// does not know it would only not be told; and each of them would cost every request a crossing.
pub fn of_another_module() -> impl Iterator<Item = &'static str> {
    ALWAYS.into_iter().chain([COOKIES]).chain(INSIDE)
}

/// The VM configuration that goes with [`of_another_module`].
pub const VM_OF_ANOTHER_MODULE: &str = "another module";

/// Returns the VM configuration that goes with [`needed`]: other capabilities, other text. The filter does not read it.
#[must_use]
pub fn vm_configuration(config: &Config) -> &'static str {
    if gives_cookies(config) { "cookies" } else { "" }
}

fn gives_cookies(config: &Config) -> bool {
    config.canaries.iter().any(|canary| canary.affinity.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Affinity, Canary};

    #[test]
    fn only_cookies_need_the_responses_headers() {
        let with = |affinity| Config { canaries: vec![Canary { affinity, ..Canary::default() }], ..Config::default() };
        let (without, with) = (with(None), with(Some(Affinity::default())));
        assert!(!needed(&without).any(|name| name == COOKIES) && needed(&with).any(|name| name == COOKIES));
        assert_ne!(vm_configuration(&without), vm_configuration(&with));
    }

    #[test]
    fn a_module_of_another_release_loses_no_call_and_calls_nobody() {
        let with = Config {
            canaries: vec![Canary { affinity: Some(Affinity::default()), ..Canary::default() }],
            ..Config::default()
        };
        let allowed: Vec<_> = of_another_module().collect();
        assert!(needed(&with).all(|name| allowed.contains(&name)));
        for outside in ["http_call", "grpc", "foreign", "send_local_response", "queue"] {
            assert!(!allowed.iter().any(|name| name.contains(outside)), "{outside}");
        }
        assert!(
            VM_OF_ANOTHER_MODULE != vm_configuration(&with)
                && VM_OF_ANOTHER_MODULE != vm_configuration(&Config::default())
        );
    }
}
