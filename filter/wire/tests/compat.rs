//! Every configuration that a released controller wrote is still read, and means the same.
//!
//! The files in `golden/` are only added to. A test that must be changed to pass is a broken gateway in somebody's cluster.

#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::collections::BTreeMap;

use weir_wire::{Affinity, Canary, Condition, Config, Limits, Lookup, MatchedSplit, StringMatch, Weight};

fn golden(name: &str) -> Config {
    let path = format!("{}/golden/v1/{name}.json", env!("CARGO_MANIFEST_DIR"));
    Config::parse(&std::fs::read(path).unwrap()).unwrap()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn the_first_epoch_of_a_run_means_the_same() {
    let expected = Config {
        version: 1,
        generation: 1_795_395_035_459,
        armed_until: 1_795_395_095,
        expires_at: 0,
        canaries: vec![Canary {
            id: "a3f09c11d2e4b877".into(),
            name: "shop/cart".into(),
            hosts: strings(&["shop.example.com", "*.shop.example.com"]),
            routes: strings(&["shop/cart"]),
            lookup: Lookup::Host,
            token: "7d0b5a2c91".into(),
            run: "6f2c".into(),
            epoch: 9,
            weight: Weight::new(500).unwrap(),
            conditions: vec![],
            matched: None,
            direct: vec![],
            affinity: None,
            latency_ms: vec![1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000],
            admission: 10,
            fallback: false,
            limits: vec![
                Limits {
                    epoch: 9,
                    comparison: vec![[0, 3], [1, 4], [3, 5], [7, 6], [11, 7], [17, 8]],
                    absolute: vec![[3, 3], [4, 4], [7, 5], [12, 6], [18, 7]],
                    end: [22, 23],
                    ..Limits::default()
                },
                Limits { epoch: 8, comparison: vec![[0, 3]], absolute: vec![], end: [4, 0], ..Limits::default() },
            ],
            lease: 0,
            seen: vec![],
        }],
    };
    assert_eq!(golden("first-epoch"), expected);
}

#[test]
fn conditions_affinity_and_what_may_be_left_out_mean_the_same() {
    let one = |name: &str, test| BTreeMap::from([(name.to_owned(), test)]);
    let condition = Condition {
        headers: BTreeMap::from([
            ("x-insider".into(), StringMatch::Exact("yes".into())),
            ("user-agent".into(), StringMatch::Regex(".*Firefox.*".into())),
        ]),
        cookies: one("beta", StringMatch::Prefix("al".into())),
        query_params: one("v", StringMatch::Suffix("2".into())),
    };
    let search = Canary {
        id: "00000000000000ff".into(),
        name: "shop/search".into(),
        routes: strings(&["shop/search", "shop/search.insiders"]),
        lookup: Lookup::Route,
        token: "t".into(),
        epoch: 1,
        conditions: vec![condition],
        affinity: Some(Affinity {
            cookie: "weir-search".into(),
            attributes: "; Max-Age=86400; Path=/".into(),
            ..Affinity::default()
        }),
        admission: 10,
        ..Canary::default()
    };
    let least = Canary {
        id: "0000000000000100".into(),
        name: "shop/least".into(),
        hosts: strings(&["*"]),
        token: "u".into(),
        weight: Weight::FULL,
        admission: 10,
        ..Canary::default()
    };
    assert_eq!(
        golden("every-field"),
        Config { version: 1, generation: 7, canaries: vec![search, least], ..Config::default() }
    );
}

#[test]
fn what_later_versions_added_means_the_same() {
    let canary = Canary {
        id: "a3f09c11d2e4b877".into(),
        name: "shop/cart".into(),
        hosts: strings(&["shop.example.com"]),
        token: "7d0b5a2c91".into(),
        run: "6f2c".into(),
        epoch: 9,
        weight: Weight::FULL,
        admission: 10,
        fallback: true,
        limits: vec![Limits {
            epoch: 9,
            comparison: vec![[0, 3]],
            absolute: vec![[3, 3], [4, 4]],
            end: [2, 6],
            beyond: [vec![[5, 81_920]], vec![[6, 6_554], [9, 3_277]]],
        }],
        ..Canary::default()
    };
    let expected = Config {
        version: 1,
        generation: 11,
        armed_until: 1_795_395_095,
        expires_at: 1_795_395_695,
        canaries: vec![canary],
    };
    assert_eq!(golden("additions"), expected);
}

#[test]
fn a_split_of_matching_requests_means_the_same_and_nothing_to_a_filter_of_before_it() {
    let headers = BTreeMap::from([("x-insider".to_owned(), StringMatch::Exact("yes".into()))]);
    let matched = MatchedSplit {
        weight: Weight::new(500).unwrap(),
        conditions: vec![Condition { headers, ..Condition::default() }],
    };
    let canary = Canary {
        id: "a3f09c11d2e4b877".into(),
        name: "shop/cart".into(),
        hosts: strings(&["shop.example.com"]),
        token: "7d0b5a2c91".into(),
        run: "6f2c".into(),
        epoch: 9,
        matched: Some(matched),
        admission: 10,
        ..Canary::default()
    };
    let config = golden("matched");
    assert_eq!(config.canaries, [canary]);
    assert!(config.canaries[0].reaches_canary());
    let everybody = Canary { weight: Weight::new(500).unwrap(), matched: None, ..config.canaries[0].clone() };
    assert!(config.canaries[0].takes_from(&everybody) && !everybody.takes_from(&config.canaries[0]));
    let before = Canary { matched: None, ..config.canaries[0].clone() };
    assert!(!before.reaches_canary());
}

#[test]
fn names_of_the_canarys_own_service_mean_the_same_and_nothing_to_a_filter_of_before_them() {
    let canary = Canary {
        id: "a3f09c11d2e4b877".into(),
        name: "shop/cart".into(),
        hosts: strings(&["*"]),
        token: "7d0b5a2c91".into(),
        run: "6f2c".into(),
        epoch: 9,
        direct: strings(&["cart-canary", "cart-canary.shop"]),
        admission: 10,
        ..Canary::default()
    };
    let config = golden("direct");
    assert_eq!(config.canaries, [canary]);
    let before = Canary { direct: Vec::new(), ..config.canaries[0].clone() };
    assert!(config.canaries[0].reaches_canary() && !before.reaches_canary());
    assert!(before.takes_from(&config.canaries[0]) && !config.canaries[0].takes_from(&before));
    let patterns =
        Config { canaries: vec![Canary { direct: strings(&["*.shop"]), ..config.canaries[0].clone() }], ..config };
    let problem = patterns.check().unwrap_err().to_string();
    assert_eq!(problem, "canaries[0] (shop/cart): direct[0]: \"*.shop\" is not a host name");
}

#[test]
fn a_cookie_of_the_primarys_own_means_the_same() {
    let affinity = Affinity {
        cookie: "arm".into(),
        attributes: "; Max-Age=86400; Path=/".into(),
        primary_cookie: Some("home".into()),
    };
    let config = golden("cookies");
    assert_eq!(config.canaries[0].affinity.as_ref(), Some(&affinity));
    let unnamed = Affinity { primary_cookie: Some("a b".into()), ..affinity };
    let canaries = vec![Canary { affinity: Some(unnamed), ..config.canaries[0].clone() }];
    let problem = Config { canaries, ..config }.check().unwrap_err().to_string();
    assert_eq!(problem, "canaries[0] (shop/cart): affinity.primary_cookie: \"a b\" is not a cookie name");
}

#[test]
fn a_lease_and_what_was_seen_mean_the_same_and_nothing_to_a_filter_of_before_them() {
    let config = golden("lease");
    let canary = &config.canaries[0];
    assert_eq!((canary.lease, &canary.seen), (2, &vec![[4_503_599_627_370_497, 2], [9_007_199_254_740_991, 3]]));
    let before = Canary { lease: 0, seen: vec![], ..canary.clone() };
    assert!(before.reaches_canary() && !before.takes_from(canary) && !canary.takes_from(&before));
    let written = serde_json::to_string(&before).unwrap();
    assert!(!written.contains("lease") && !written.contains("seen"), "{written}");
}

#[test]
fn no_golden_is_forgotten() {
    let folder = format!("{}/golden/v1", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "additions.json",
            "cookies.json",
            "direct.json",
            "every-field.json",
            "first-epoch.json",
            "lease.json",
            "matched.json"
        ],
        "each has a test above"
    );
}

#[test]
fn what_is_written_reads_back() {
    for name in ["first-epoch", "every-field", "additions", "matched", "direct", "cookies", "lease"] {
        let config = golden(name);
        assert_eq!(Config::parse(&serde_json::to_vec(&config).unwrap()).unwrap(), config);
    }
}
