//! The filter's two objects, in gateways and in the sidecars of callers.

use weir_wire::{Canary, Config};

use super::*;

#[test]
fn the_filter_is_inserted_once_and_configured_apart() {
    let selector = [("istio".to_owned(), "ingressgateway".to_owned())].into();
    let names = FilterNames { namespace: "istio-ingress".into(), selector, proxies: Proxies::Gateways };
    let canary = Canary { id: "6b31d19cc274a06a".into(), name: "shop/cart".into(), ..Canary::default() };
    let config = Config { version: 1, generation: 17, armed_until: 60, canaries: vec![canary], ..Config::default() };
    // A checksum of digits alone would be a number if anything lost its quotes.
    let module = Module::Own { uri: "http://weir/module.wasm".into(), sha256: "0123456789".into() };
    let routes =
        RouteNames { primary: vec!["shop/cart".into()], canary: vec!["shop/cart/canary".into()], direct: vec![] };
    let switched = [("6b31d19cc274a06a".to_owned(), routes)].into();
    let written = config_filter(&names, &module, &config, &switched, Some("4711"));
    golden("filter.yaml", &[static_filter(&names, None), written.clone()]);
    let live = EnvoyFilter::new(serde_json::from_value(written).unwrap()).unwrap();
    assert_eq!((config_of(&live), switched_of(&live)), (Some(config), switched));
    for why in [None, Some("it is not seen to be switched on")] {
        let live = EnvoyFilter::new(serde_json::from_value(static_filter(&names, why)).unwrap()).unwrap();
        assert_eq!(everywhere(&live).as_deref(), why);
    }
}

#[test]
fn callers_get_the_filter_for_what_they_send_and_nothing_before_a_rollout() {
    let names = FilterNames { namespace: "web".into(), selector: Labels::new(), proxies: Proxies::Sidecars };
    let canary = Canary { id: "6b31d19cc274a06a".into(), name: "shop/cart".into(), ..Canary::default() };
    let config = Config { version: 1, generation: 17, armed_until: 60, canaries: vec![canary], ..Config::default() };
    let module = Module::Remote { uri: "http://weir/module.wasm".into(), sha256: "0123456789".into() };
    let routes =
        RouteNames { primary: vec!["shop/cart".into()], canary: vec!["shop/cart/canary".into()], direct: vec![] };
    let switched = [("6b31d19cc274a06a".to_owned(), routes)].into();
    let none = Config { canaries: Vec::new(), ..config.clone() };
    let at_rest = config_filter(&names, &module, &none, &[].into(), None);
    golden("callers.yaml", &[static_filter(&names, None), at_rest.clone()]);
    let rolling = config_filter(&names, &module, &config, &switched, None);
    let text = rolling.to_string();
    assert!(text.matches("SIDECAR_OUTBOUND").count() == 3 && !text.contains("GATEWAY"), "{text}");
    let read = |object: Value| EnvoyFilter::new(serde_json::from_value(object).unwrap()).unwrap();
    let (at_rest, rolling) = (read(at_rest), read(rolling));
    assert_eq!(config_of(&rolling), Some(config));
    assert_eq!(
        config_of(&at_rest).map(|config| config.canaries),
        Some(Vec::new()),
        "what is there is known to be Weir's"
    );
    assert_eq!([names_of(&at_rest), names_of(&rolling)], [Some(names.clone()), Some(names.clone())]);
    // Callers that are found by the labels of a gateway have objects of their own.
    let selector: Labels = [("istio".to_owned(), "ingressgateway".to_owned())].into();
    let gateway = FilterNames { selector: selector.clone(), proxies: Proxies::Gateways, ..names.clone() };
    let callers = FilterNames { selector, ..names };
    assert_ne!([gateway.listener(), gateway.config()], [callers.listener(), callers.config()]);
    assert_eq!(names_of(&read(static_filter(&callers, None))), Some(callers));
}

#[test]
fn a_module_from_elsewhere_is_not_kept_from_calls_that_a_newer_one_may_need() {
    let names = FilterNames {
        namespace: "istio-ingress".into(),
        selector: [("a".to_owned(), "b".to_owned())].into(),
        proxies: Proxies::Gateways,
    };
    let allowed = |module: &Module| {
        let written = config_filter(&names, module, &Config::default(), &std::collections::BTreeMap::new(), None);
        let list =
            "/spec/configPatches/0/patch/value/typed_config/config/capability_restriction_config/allowed_capabilities";
        written.pointer(list).and_then(Value::as_object).cloned().unwrap()
    };
    let (uri, sha256) = ("x".to_owned(), "0".to_owned());
    let own = allowed(&Module::Own { uri: uri.clone(), sha256: sha256.clone() });
    for other in [Module::Remote { uri, sha256 }, Module::File("/m.wasm".into())] {
        let other = allowed(&other);
        assert!(own.keys().all(|name| other.contains_key(name)) && other.len() > own.len() + 15);
    }
}
