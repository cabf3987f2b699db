//! The filter as Envoy is told of it: Envoy's `Wasm` message with the module, its configuration and its limits.
//!
//! One place for it, whoever delivers it (istiod, a file, a test): a limit that one of them forgot would be no limit.

use serde_json::{Map, Value, json};

use crate::{Config, capabilities};

/// Name of the plugin, of its root context and of its VM.
const NAME: &str = "weir";

/// Returns the `typed_config` of the filter. `code` is Envoy's `AsyncDataSource` of the module.
///
/// # Errors
/// When the configuration has no JSON form.
pub fn typed_config(code: Value, config: &Config) -> serde_json::Result<Value> {
    restricted(code, config, capabilities::needed(config), capabilities::vm_configuration(config))
}

/// As [`typed_config`], for a module that is not of this release: it may need more than this release's does.
///
/// # Errors
/// When the configuration has no JSON form.
pub fn typed_config_of_another(code: Value, config: &Config) -> serde_json::Result<Value> {
    restricted(code, config, capabilities::of_another_module(), capabilities::VM_OF_ANOTHER_MODULE)
}

fn restricted(
    code: Value,
    config: &Config,
    allowed: impl Iterator<Item = &'static str>,
    vm_configuration: &str,
) -> serde_json::Result<Value> {
    let allowed: Map<_, _> = allowed.map(|name| (name.to_owned(), json!({}))).collect();
    let mut typed = unrestricted(code, &serde_json::to_string(config)?);
    let plugin = &mut typed["config"];
    plugin["capability_restriction_config"] = json!({"allowed_capabilities": allowed});
    plugin["vm_config"]["configuration"] = text(vm_configuration);
    Ok(typed)
}

/// Returns the `typed_config` of a filter that may use everything, with any text as its configuration: for tests and
/// measurements.
#[must_use]
pub fn unrestricted(code: Value, configuration: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": NAME,
            "root_id": NAME,
            // Under this policy alone a trap lets the very request through, to the primary. FAIL_OPEN and FAIL_RELOAD
            // answer 503 to it and to those under way.
            "fail_open": true,
            "configuration": text(configuration),
            "vm_config": {"vm_id": NAME, "runtime": "envoy.wasm.runtime.v8", "code": code},
        },
    })
}

/// Returns the text of the filter's configuration in a `typed_config`.
#[must_use]
pub fn configuration_of(typed_config: &Value) -> Option<&str> {
    typed_config.pointer("/config/configuration/value")?.as_str()
}

/// Returns a text as Envoy hands it to a module unchanged.
#[must_use]
pub fn text(value: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_may_do_what_its_configuration_needs_and_a_trap_lets_requests_through() {
        let config = Config { version: 1, generation: 7, ..Config::default() };
        let typed = typed_config(json!({"local": {"filename": "/m.wasm"}}), &config).unwrap();
        let plugin = &typed["config"];
        let allowed = plugin["capability_restriction_config"]["allowed_capabilities"].as_object().unwrap();
        assert!(capabilities::needed(&config).all(|name| allowed.contains_key(name)));
        assert_eq!(allowed.len(), capabilities::needed(&config).count());
        assert_eq!(plugin["fail_open"], true);
        assert_eq!(plugin["vm_config"]["code"]["local"]["filename"], "/m.wasm");
        assert_eq!(Config::parse(configuration_of(&typed).unwrap().as_bytes()).unwrap(), config);
    }
}
