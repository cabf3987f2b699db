//! Bad input: every mistake is named, with its place and a way out, and the traffic stays where it was.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::site::{ANALYSIS, Site, canary};

/// Waits until the API names a problem that holds all of these words.
async fn problem(site: &Site, words: &[&str]) {
    site.eventually(&format!("a problem with {words:?}"), async || {
        let problems = site.list().await.map(|list| list["problems"].clone()).unwrap_or_default();
        let problems = problems.as_array().cloned().unwrap_or_default();
        problems.iter().filter_map(|problem| problem.as_str()).any(|text| words.iter().all(|word| text.contains(word)))
    })
    .await;
}

#[tokio::test]
async fn yaml_that_does_not_parse_keeps_the_last_good_version() {
    let site = Site::serving().await;
    site.write("shop.yaml", "apiVersion: weir.dev/v1beta1\nkind: Canary\nmetadata: {name: shop\n");
    problem(&site, &["shop.yaml", "line", "the last good version stays in force"]).await;
    assert_eq!(site.get(&[]).await.unwrap().status, 200);
    let weight = ANALYSIS.replace("[10, 30]", "[10, 130]");
    let process = site.process("shop", "v2", "");
    let _load = site.load();
    site.write("shop.yaml", &format!("{process}---\n{}", canary("shop", "*", &weight)));
    problem(&site, &["default/shop", "stepWeights[1]", "130"]).await;
    assert_eq!(site.get(&[]).await.unwrap().status, 200);
    site.write("shop.yaml", &format!("{process}---\n{}", canary("shop", "*", ANALYSIS)));
    site.until_ended("Succeeded").await;
}

#[tokio::test]
async fn an_unknown_field_is_named_and_ignored() {
    let site = Site::serving().await;
    let spelt = ANALYSIS.replace("interval: 1s", "interval: 1s, treshold: 3");
    site.write("shop.yaml", &format!("{}---\n{}", site.process("shop", "v1", ""), canary("shop", "*", &spelt)));
    problem(&site, &["spec.analysis.treshold", "not known"]).await;
}

#[tokio::test]
async fn of_two_canaries_with_one_host_the_older_serves_and_the_younger_says_why_not() {
    let site = Site::serving().await;
    let both = format!("{}---\n{}", site.process("rival", "v1", ""), canary("rival", "*", ANALYSIS));
    site.write("rival.yaml", &both);
    site.eventually("stalled", async || site.view_of("rival").await.is_some_and(|view| view["reason"] == "Stalled"))
        .await;
    let rival = site.view_of("rival").await.unwrap();
    let message = rival["message"].as_str().unwrap();
    assert!(message.contains("default/shop") && message.contains("default/rival"), "{message}");
    assert_eq!(site.get(&[]).await.unwrap().status, 200);
    // As soon as the host is free the younger takes it.
    fs::remove_file(site.path("shop.yaml")).unwrap();
    site.eventually("the rival serves", async || {
        site.view_of("rival").await.is_some_and(|view| view["phase"] == "Initialized")
    })
    .await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_takes_the_release_back_by_its_name() {
    let site = Site::serving().await;
    site.write(
        "shop.yaml",
        &fs::read_to_string(site.path("shop.yaml")).unwrap().replace("weir-demo\"", "no-such-program\""),
    );
    let view = site.until_ended("Failed").await;
    assert_eq!(view["ended"]["reason"], "CanaryBroken");
    assert!(view["ended"]["message"].as_str().unwrap().contains("no-such-program"), "{view:#}");
    assert_eq!(site.get(&[]).await.unwrap().status, 200);
}

#[test]
fn a_port_in_use_is_named_with_the_option_that_changes_it() {
    let site = Site::new();
    let taken = TcpListener::bind(site.listen).unwrap();
    let said = site.refuse();
    assert!(said.contains(&site.listen.to_string()) && said.contains("--listen"), "{said}");
    drop(taken);
    let _taken = TcpListener::bind(site.http).unwrap();
    let said = site.refuse();
    assert!(said.contains(&site.http.to_string()) && said.contains("--http"), "{said}");
}

#[test]
fn an_envoy_that_is_missing_or_too_old_is_named() {
    let mut site = Site::new();
    site.arguments = vec!["--envoy".into(), "/no/such/envoy".into()];
    let said = site.refuse();
    assert!(said.contains("/no/such/envoy") && said.contains("--envoy"), "{said}");
    // Where it was looked for is said in full.
    let here = std::env::current_dir().unwrap();
    site.arguments = vec!["--envoy".into(), "no/such/envoy".into()];
    let said = site.refuse();
    assert!(said.contains(&here.join("no/such/envoy").display().to_string()) && said.contains("ENVOY"), "{said}");
    let old = site.path("envoy");
    fs::write(&old, "#!/bin/sh\necho 'envoy  version: 5f3c/1.22.0/Clean/RELEASE/BoringSSL'\n").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    site.arguments = vec!["--envoy".into(), old.display().to_string()];
    let said = site.refuse();
    assert!(said.contains("Envoy 1.22") && said.contains("1.40"), "{said}");
}

#[test]
fn a_module_that_is_missing_is_named_with_what_builds_it() {
    let mut site = Site::new();
    site.arguments = vec!["--wasm".into(), "/no/such/module.wasm".into()];
    let said = site.refuse();
    assert!(said.contains("/no/such/module.wasm") && said.contains("make wasm"), "{said}");
    let here = std::env::current_dir().unwrap();
    site.arguments = vec!["--wasm".into(), "no/such/module.wasm".into()];
    let said = site.refuse();
    assert!(said.contains(&here.join("no/such/module.wasm").display().to_string()), "{said}");
}

#[tokio::test]
async fn a_module_that_envoy_rejects_leaves_the_traffic_on_the_primary_and_says_why() {
    let mut site = Site::new();
    let module = site.path("module");
    fs::write(&module, b"\0asm, but not really").unwrap();
    site.arguments = vec!["--wasm".into(), module.display().to_string()];
    site.release("v1", "");
    site.start();
    problem(&site, &["filter", "rejects"]).await;
    site.eventually("served", async || site.get(&[]).await.is_some_and(|answer| answer.status == 200)).await;
    // A client's token leads nowhere with the filter away, too.
    let answer = site.get(&["x-weir-token: anything"]).await.unwrap();
    assert!(answer.body.contains("v1"), "{answer:?}");
}

#[tokio::test]
async fn a_second_weir_on_the_same_state_is_refused() {
    let site = Site::serving().await;
    let mut other = Site::new();
    other.arguments = vec!["--state".into(), site.path(".weir").display().to_string()];
    let said = other.refuse();
    assert!(said.contains("another weir standalone uses this state folder"), "{said}");
}

#[tokio::test]
async fn a_state_file_cut_in_half_is_replaced_by_the_one_before() {
    let mut site = Site::serving().await;
    let load = site.load();
    site.release("v2", "");
    site.until_ended("Succeeded").await;
    site.kill();
    let file = site.path(".weir/canaries/default~shop.json");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    site.start();
    site.until("read again", |view| view["reason"] == "UpToDate").await;
    assert!(site.log().contains("state taken from its backup"), "{}", site.log());
    assert!(site.get(&[]).await.unwrap().body.contains("v2"));
    // With neither of them nothing is begun anew: what runs goes on, and a person is told what to do.
    site.kill();
    for path in [file.clone(), file.with_extension("json.bak")] {
        fs::write(path, "{").unwrap();
    }
    site.release("v3", "");
    site.start();
    let view = site.until("stalled", |view| view["reason"] == "Stalled").await;
    assert!(view["message"].as_str().unwrap().contains("put a good copy back"), "{view:#}");
    let answer = site.get(&[]).await.unwrap();
    assert!(answer.body.contains("v2"), "{answer:?}\n{}", site.log());
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}\n{}", tally.summary(), site.log());
}

#[tokio::test]
async fn a_full_disk_is_named_and_what_was_decided_waits_for_room() {
    let mut site = Site::new();
    let state = site.path("state");
    fs::create_dir(&state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&state).status();
    if !mounted.is_ok_and(|status| status.success()) {
        // Only root can make a small disk; the unit tests of the store let a write fail in another way.
        eprintln!("no small disk can be mounted here: the case of a full one is left to the unit tests");
        return;
    }
    let _unmount = Unmount(state.clone());
    site.arguments = vec!["--state".into(), state.join("weir").display().to_string()];
    site.release("v1", "");
    site.start();
    site.until("initialized", |view| view["phase"] == "Initialized").await;
    let filler = state.join("filler");
    let _ = fs::write(&filler, vec![0; 4 << 20]);
    let load = site.load();
    site.release("v2", "");
    problem(&site, &["state", "default~shop.json", "No space left"]).await;
    let view = site.view_of("shop").await.unwrap();
    assert_eq!((view["phase"].as_str(), view["weight"].as_f64()), (Some("Initialized"), Some(0.0)));
    fs::remove_file(&filler).unwrap();
    site.until_ended("Succeeded").await;
    let tally = load.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}\n{}", tally.summary(), site.log());
    site.interrupt().await;
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // Lazily: what a failed test left running may still write there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
