//! What is written, and what counts as acknowledged. When something is pushed is `publisher/tests.rs`.

use super::*;
use std::fs;

const ID: &str = "a3f09c11d2e4b877";
const NOW: Timestamp = Timestamp(1_795_395_000_000);

fn canary(epoch: u64, weight: u32) -> Canary {
    let weight = weir_wire::Weight::new(weight).unwrap();
    Canary { id: ID.into(), hosts: vec!["*".into()], token: "t".into(), epoch, weight, ..Canary::default() }
}

fn named(canary: Canary) -> Desired {
    Desired { canary, filter: FilterMode::Named, routes: RouteNames::default(), since: Timestamp(0) }
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
    gateway.set_desired(named(canary(1, 0)));
    gateway.push(NOW).unwrap();
    let generation = gateway.publisher.generation();
    gateway.set_desired(named(canary(1, 0)));
    gateway.push(NOW + Span::seconds(600)).unwrap();
    assert_eq!(gateway.publisher.generation(), generation);
    gateway.set_desired(named(canary(2, 500)));
    gateway.push(NOW).unwrap();
    assert!(gateway.publisher.generation() > generation);
}

#[test]
fn only_a_canary_with_affinity_has_envoy_call_for_the_responses_headers() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    let mut told = |affinity| {
        gateway.set_desired(named(Canary { affinity, ..canary(1, 500) }));
        gateway.push(NOW).unwrap();
        let filter: Value = serde_json::from_slice(&fs::read(&gateway.file).unwrap()).unwrap();
        let config = filter.pointer("/resources/0/typed_config/config").unwrap().clone();
        let allowed = &config["capability_restriction_config"]["allowed_capabilities"];
        assert!(allowed.get("proxy_on_request_headers").is_some());
        (allowed.get("proxy_on_response_headers").is_some(), config["vm_config"]["configuration"]["value"].clone())
    };
    let (without, with) = (told(None), told(Some(weir_wire::Affinity { cookie: "arm".into(), ..Default::default() })));
    assert!(!without.0 && with.0);
    assert_ne!(without.1, with.1, "Envoy reads the list when it makes a VM, and only another text makes another one");
}

#[test]
fn an_epoch_is_acknowledged_when_every_vm_runs_its_generation() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    gateway.set_desired(named(canary(4, 500)));
    gateway.push(NOW).unwrap();
    assert_eq!(gateway.acknowledged(ID), None);
    gateway.ingest(&said(gateway.publisher.generation(), 1), folder.path(), NOW);
    assert_eq!(gateway.acknowledged(ID), None);
    gateway.ingest(&said(gateway.publisher.generation(), 2), folder.path(), NOW);
    assert_eq!(gateway.acknowledged(ID), Some(4));
    // The next push is not acknowledged by what was said of the one before.
    let before = said(gateway.publisher.generation(), 2);
    gateway.set_desired(named(canary(5, 1000)));
    gateway.push(NOW).unwrap();
    gateway.ingest(&before, folder.path(), NOW);
    assert_eq!(gateway.acknowledged(ID), Some(4));
}

#[test]
fn a_later_weir_reads_in_the_file_what_was_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(folder.path());
    gateway.set_desired(named(canary(9, 3000)));
    gateway.push(NOW).unwrap();
    let generation = gateway.publisher.generation();
    let mut next = open(folder.path());
    next.ingest(&said(generation, 2), folder.path(), NOW);
    assert_eq!((next.publisher.generation(), next.acknowledged(ID)), (generation, Some(9)));
    next.set_desired(named(canary(9, 3000)));
    next.push(NOW).unwrap();
    assert_eq!(next.publisher.generation(), generation);
}

#[test]
fn a_rejection_is_told_in_envoys_words() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("envoy.log");
    fs::write(&log, "[warning][config] Filesystem config update rejected: Unable to create Wasm plugin weir\n")
        .unwrap();
    let mut gateway = open(folder.path());
    gateway.startup(NOW).unwrap();
    gateway.ingest("envoy_extension_config_discovery_http_filter_weir_update_rejected{} 1\n", &log, NOW);
    assert!(gateway.trouble(NOW).unwrap().contains("Unable to create Wasm plugin weir"));
}
