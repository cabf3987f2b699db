//! Parts of the cluster that go away: the controller, istiod, the API server, gateways. What a user sees goes on.

use super::bounds::HARM;
use super::kubectl::{kubectl, run, until};
use super::people::ask;
use super::stage::{self, Release, SYSTEM, Stage, install, install_with, variable};
use super::{ONE_STEP, STEPS};

/// Ends the controller's processes as `kill -9` does, without a farewell.
fn kill_controller() {
    kubectl(&["-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/name=weir", "--grace-period=0", "--force"]);
}

fn scale(namespace: &str, deployment: &str, replicas: u32) {
    kubectl(&["-n", namespace, "scale", "deployment", deployment, &format!("--replicas={replicas}")]);
    kubectl(&["-n", namespace, "rollout", "status", "deployment", deployment, "--timeout=3m"]);
}

/// A Deployment with another number of pods for as long as this value lives; one afterwards, for the next test.
struct Scaled(&'static str, &'static str);

impl Scaled {
    fn to(namespace: &'static str, deployment: &'static str, replicas: u32) -> Self {
        let scaled = Self(namespace, deployment);
        scale(namespace, deployment, replicas);
        scaled
    }
}

impl Drop for Scaled {
    fn drop(&mut self) {
        scale(self.0, self.1, 1);
    }
}

/// Weir with other values for as long as this value lives.
pub(crate) struct Installed;

impl Installed {
    pub(crate) fn with(values: &[&str]) -> Self {
        install_with(values);
        Self
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        install();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_goes_bad_after_the_controller_is_gone_is_stopped_by_the_gateway() {
    let stage = Stage::set_alone("alone", "{interval: 60s, threshold: 2, stepWeights: [30]}").await;
    let traffic = stage.traffic(100.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    let away = Scaled::to(SYSTEM, "weir", 0);
    kill_controller();
    stage.switch(r#"{"failure_ratio": 1}"#).await;
    // The gateway's own count of what it sent to the primary says how much time has passed for the requests.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let tally = traffic.finish().await;
    println!("bad at 30 % without a controller: {}", serde_json::to_string(&tally.summary()).unwrap());
    let (_, failed) = tally.totals();
    assert!((1..=2 * HARM.end()).contains(&failed), "{failed} failed: {:?}", tally.summary());
    let later = stage.traffic(50.0);
    drop(away);
    stage.phase("Failed").await;
    stage.rested().await;
    let tally = later.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_goes_on_where_it_was() {
    let stage = Stage::set_alone("killed", ONE_STEP).await;
    let traffic = stage.traffic(50.0);
    let weight = stage.release_into_traffic(&Release::good("v2")).await["canaryWeight"].clone();
    kill_controller();
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    let started = stage.events().iter().filter(|text| text.starts_with("Starting canary analysis")).count();
    assert_eq!((started, weight.as_f64()), (1, Some(30.0)), "{:?}", stage.events());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_without_repeating_a_step() {
    let stage = Stage::set_alone("failover", ONE_STEP).await;
    let _two = Installed::with(&["--set", "replicas=2"]);
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    let leader = kubectl(&["-n", SYSTEM, "get", "lease", "weir-leader", "-o", "jsonpath={.spec.holderIdentity}"]);
    kubectl(&["-n", SYSTEM, "delete", "pod", &leader, "--grace-period=0", "--force"]);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    let started = stage.events().iter().filter(|text| text.starts_with("Starting canary analysis")).count();
    assert_eq!(started, 1, "{:?}", stage.events());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_canary_is_stopped_while_istiod_is_away_and_taken_back_when_it_returns() {
    let stage = Stage::set_alone("istiod", &ONE_STEP.replace("15s", "60s")).await;
    let traffic = stage.traffic(100.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    let away = Scaled::to("istio-system", "istiod", 0);
    stage.switch(r#"{"failure_ratio": 1}"#).await;
    until("the controller has noticed", || (stage.status()["canaryWeight"].as_f64() == Some(0.0)).then_some(())).await;
    let tally = traffic.finish().await;
    println!("bad at 30 % without istiod: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert!((1..=2 * HARM.end()).contains(&tally.totals().1), "{:?}", tally.summary());
    drop(away);
    stage.phase("Failed").await;
    stage.rested().await;
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_release_waits_for_istiod_and_is_promoted() {
    let stage = Stage::set_alone("patient", "{interval: 8s, threshold: 2, stepWeights: [10, 50]}").await;
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    let away = Scaled::to("istio-system", "istiod", 0);
    until("the next weight is not acknowledged", || (stage.status()["reason"] == "NotAcknowledged").then_some(()))
        .await;
    drop(away);
    stage.phase("Succeeded").await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_api_server_changes_no_outcome() {
    let stage = Stage::set_alone("apiserver", ONE_STEP).await;
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    // Where the API server is no process of this machine, its connections are cut by nobody, and the rest still holds.
    if run("pkill", &["-9", "-x", "kube-apiserver"], "").is_ok() {
        until("the API server answers again", || run("kubectl", &["get", "--raw", "/readyz"], "").ok()).await;
    }
    stage.phase("Succeeded").await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_come_and_go_in_mid_rollout_change_no_outcome() {
    let stage = Stage::set_alone("gateways", ONE_STEP).await;
    let gateway = ("istio-ingress", "istio-ingressgateway");
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    ask(&stage, "pause", 1);
    let three = Scaled::to(gateway.0, gateway.1, 3);
    until("three gateways use the weight", || (stage.status()["gateways"]["acknowledged"] == 3).then_some(())).await;
    let pods = kubectl(&["-n", gateway.0, "get", "pods", "-l", "istio=ingressgateway", "-o", "name"]);
    kubectl(&["-n", gateway.0, "delete", pods.lines().next().unwrap(), "--wait=false"]);
    drop(three);
    ask(&stage, "resume", 2);
    // From the promotion on the primary answers as v2 too.
    let answered = until("the analysis ends", || {
        let answered = traffic.tally().of("v2").ok;
        (stage.status()["phase"] != "Progressing").then_some(answered)
    })
    .await;
    let status = stage.phase("Succeeded").await;
    let tally = traffic.finish().await;
    println!("gateways 1, 3, 2, 1: {}", serde_json::to_string(&tally.summary()).unwrap());
    // What a gateway had under way when it went may be lost with it; what reaches one is served.
    let errors: u64 = ["v1", "v2"].iter().map(|version| tally.of(version).failed).sum();
    assert_eq!(errors, 0, "{:?}", tally.summary());
    let counted = status["evidence"]["canaryRequests"].as_u64().unwrap();
    assert!(counted >= answered / 2, "{counted} of {answered} counted");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_with_another_checksum_leaves_the_traffic_with_the_primary_and_the_status_says_why() {
    let stage = Stage::set_alone("checksum", STEPS).await;
    let wrong = format!("module.sha256={}", "0".repeat(64));
    let url = format!("module.url=http://weir.{SYSTEM}.svc.cluster.local:8080/wrong.wasm");
    let other = Installed::with(&["--set", &url, "--set-string", &wrong]);
    let traffic = stage.traffic(50.0);
    stage.release(&Release::good("v2"));
    let status = until("the status says that gateways do not follow", || {
        let status = stage.status();
        (status["reason"] == "NotAcknowledged").then_some(status)
    })
    .await;
    println!("wrong checksum: {}", status["message"]);
    drop(other);
    stage.phase("Succeeded").await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_weir_changes_the_module_on_running_gateways_without_an_error() {
    let stage = Stage::set_alone("upgrade", ONE_STEP).await;
    let module = || {
        let filters = kubectl(&["-n", "istio-ingress", "get", "envoyfilters", "-o", "json"]);
        let sha256 = filters.split("\"sha256\": \"").nth(1).unwrap_or_default();
        sha256.split('"').next().unwrap_or_default().to_owned()
    };
    let before = module();
    let traffic = stage.traffic(50.0);
    stage.release_into_traffic(&Release::good("v2")).await;
    ask(&stage, "pause", 1);
    let (repository, tag) = stage::split(&variable("WEIR_NEXT_IMAGE"));
    let next = Installed::with(&["--set", &repository, "--set-string", &tag]);
    let changed = until("gateways are given another module", || Some(module()).filter(|it| *it != before)).await;
    until("every gateway runs it at the weight that was", || {
        let status = stage.status();
        let all = status["gateways"]["serving"] == status["gateways"]["acknowledged"];
        (all && status["canaryWeight"].as_f64() == Some(30.0)).then_some(())
    })
    .await;
    let counted = traffic.tally();
    until("some requests more", || (traffic.tally().of("v2").ok > counted.of("v2").ok + 30).then_some(())).await;
    ask(&stage, "resume", 2);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let tally = traffic.finish().await;
    println!("module {before} to {changed}: {}", serde_json::to_string(&tally.summary()).unwrap());
    assert_eq!((tally.totals().1, tally.unsent), (0, 0), "{:?}", tally.summary());
    let started = stage.events().iter().filter(|text| text.starts_with("Starting canary analysis")).count();
    assert_eq!(started, 1, "{:?}", stage.events());
    // The module that runs now splits and counts: a bad release is stopped, and back again changes it once more.
    stage.stops_a_bad_release("v3").await;
    let traffic = stage.traffic(50.0);
    drop(next);
    until("the module is the one before", || (module() == before).then_some(())).await;
    let tally = traffic.finish().await;
    assert_eq!(tally.totals().1, 0, "{:?}", tally.summary());
    stage.strike();
}

#[cfg(feature = "kubernetes-full")]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_away_in_mid_release_callers_that_stay_see_no_error() {
    use super::mesh::Caller;
    let stage = Stage::bare_alone("mesh-away").await;
    stage.release(&Release::good("v1"));
    stage.canary_of("{port: 80, targetPort: 8080}", "progressDeadlineSeconds: 600", ONE_STEP);
    stage.phase("Initialized").await;
    stage.rested().await;
    let mut callers = Vec::new();
    for name in ["stays", "killed", "bereft"] {
        callers.push(Caller::start(&stage, name, 40, true).await);
    }
    stage.release_into_traffic(&Release::good("v2")).await;
    let namespace = stage.namespace.as_str();
    // A caller, another one's sidecar, istiod and the controller, one after the other.
    kubectl(&["-n", namespace, "delete", "pod", "killed", "--grace-period=0", "--force"]);
    let quit = ["pilot-agent", "request", "POST", "quitquitquit"];
    kubectl(&[&["-n", namespace, "exec", "bereft", "-c", "istio-proxy", "--"], &quit[..]].concat());
    let istiod = Scaled::to("istio-system", "istiod", 0);
    kill_controller();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    drop(istiod);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let stays = callers.remove(0).finish();
    assert!(stays.failed() == 0 && stays.of("v1") > 0 && stays.of("v2") > 0, "{stays:?}");
    let bereft = callers.remove(1).finish();
    assert!(bereft.of("v2") > 0, "its sidecar came back: {bereft:?}");
    stage.strike();
}
