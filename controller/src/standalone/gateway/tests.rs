//! What is pushed, when, and what counts as acknowledged.

use super::*;
use std::fs;

const ID: &str = "a3f09c11d2e4b877";
const NOW: Timestamp = Timestamp(1_795_395_000_000);

fn canary(epoch: u64, weight: u32) -> Canary {
    let weight = weir_wire::Weight::new(weight).unwrap();
    Canary { id: ID.into(), hosts: vec!["*".into()], token: "t".into(), epoch, weight, ..Canary::default() }
}

fn open(folder: &Path) -> Gateway {
    Gateway::open(&Files::in_folder(folder), "/modules/weir-filter-0.wasm".into())
}

/// What an Envoy with one worker says when so many VMs run a generation.
fn said(generation: u64, vms: u64) -> String {
    let slot = generation % weir_wire::SLOTS;
    format!(
        "envoy_server_concurrency{{}} 1\nweir_boot{{}} 7\nweir_generation_{slot}{{}} {generation}\nweir_vms_{slot}{{}} {vms}\n"
    )
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    gateway.want(canary(1, 0));
    gateway.push(false, NOW).unwrap();
    let generation = gateway.newest();
    gateway.want(canary(1, 0));
    gateway.push(false, NOW + Span::seconds(600)).unwrap();
    assert_eq!(gateway.newest(), generation);
    gateway.want(canary(2, 500));
    gateway.push(false, NOW).unwrap();
    assert!(gateway.newest() > generation);
}

#[test]
fn only_a_canary_with_affinity_has_envoy_call_for_the_responses_headers() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    let mut told = |affinity| {
        gateway.want(Canary { affinity, ..canary(1, 500) });
        gateway.push(false, NOW).unwrap();
        let filter: Value = serde_json::from_slice(&fs::read(&gateway.file).unwrap()).unwrap();
        let config = filter.pointer("/resources/0/typed_config/config").unwrap().clone();
        let allowed = &config["capability_restriction_config"]["allowed_capabilities"];
        assert!(allowed.get("proxy_on_request_headers").is_some());
        (allowed.get("proxy_on_response_headers").is_some(), config["vm_config"]["configuration"]["value"].clone())
    };
    let (without, with) = (told(None), told(Some(weir_wire::Affinity::default())));
    assert!(!without.0 && with.0);
    assert_ne!(without.1, with.1, "Envoy reads the list when it makes a VM, and only another text makes another one");
}

#[test]
fn an_epoch_is_acknowledged_when_every_vm_runs_its_generation() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    gateway.want(canary(4, 500));
    gateway.push(true, NOW).unwrap();
    assert_eq!(gateway.acknowledged(ID), None);
    gateway.hear(&said(gateway.newest(), 1), folder.path(), NOW);
    assert_eq!(gateway.acknowledged(ID), None);
    gateway.hear(&said(gateway.newest(), 2), folder.path(), NOW);
    assert_eq!(gateway.acknowledged(ID), Some(4));
    // The next push is not acknowledged by what was said of the one before.
    let before = said(gateway.newest(), 2);
    gateway.want(canary(5, 1000));
    gateway.push(true, NOW).unwrap();
    gateway.hear(&before, folder.path(), NOW);
    assert_eq!(gateway.acknowledged(ID), Some(4));
}

#[test]
fn a_later_weir_reads_in_the_file_what_was_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    gateway.want(canary(9, 3000));
    gateway.push(false, NOW).unwrap();
    let generation = gateway.newest();
    let mut next = open(folder.path());
    next.hear(&said(generation, 2), folder.path(), NOW);
    assert_eq!((next.newest(), next.acknowledged(ID)), (generation, Some(9)));
    next.want(canary(9, 3000));
    next.push(true, NOW).unwrap();
    assert_eq!(next.newest(), generation);
}

#[test]
fn what_is_not_acknowledged_is_pushed_again_and_ever_more_rarely() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    gateway.want(canary(1, 500));
    gateway.push(true, NOW).unwrap();
    let mut pushes = Vec::new();
    for ms in (0..29_000).step_by(100) {
        let before = gateway.newest();
        gateway.push(true, NOW + Span(ms)).unwrap();
        if gateway.newest() != before {
            pushes.push(ms);
        }
    }
    assert_eq!(pushes, [2_000, 6_000, 14_000]);
}

#[test]
fn an_envoy_that_starts_later_still_trusts_a_split_that_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    gateway.want(canary(1, 500));
    gateway.push(false, NOW).unwrap();
    let generation = gateway.newest();
    gateway.push(false, NOW + Span::seconds(29)).unwrap();
    assert_eq!(gateway.newest(), generation);
    gateway.push(false, NOW + Span::seconds(30)).unwrap();
    assert!(gateway.newest() > generation);
}

#[test]
fn a_rejection_is_told_in_envoys_words() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("envoy.log");
    fs::write(&log, "[warning][config] Filesystem config update rejected: Unable to create Wasm plugin weir\n")
        .unwrap();
    let mut gateway = open(folder.path());
    gateway.renew(NOW).unwrap();
    gateway.hear("envoy_extension_config_discovery_http_filter_weir_update_rejected{} 1\n", &log, NOW);
    assert!(gateway.trouble(NOW).unwrap().contains("Unable to create Wasm plugin weir"));
}
