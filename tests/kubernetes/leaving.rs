//! Callers that leave a release that is under way or see little of it, promotions that stop the primary first, and routes that somebody
//! delegates.

use super::STEPS;
use super::bounds::HARM;
use super::kubectl::{apply, kubectl, run, until};
use super::mesh::{Caller, inside};
use super::people::ask;
use super::stage::{Release, Stage};

/// A namespace whose pods may be callers.
fn callers_in(name: &str) -> String {
    let web = format!("weir-test-{name}-web");
    let _ = run("kubectl", &["delete", "namespace", &web, "--ignore-not-found", "--wait"], "");
    kubectl(&["create", "namespace", &web]);
    kubectl(&["label", "namespace", &web, "weir.dev/callers=allowed"]);
    web
}

/// Has the callers of a namespace leave in mid-release, then aborts: nobody may be left with a canary that has gone.
async fn leaves_in_mid_release(name: &str, leave: impl Fn(&Stage, &str)) {
    let web = callers_in(name);
    let stage = inside(name, &format!(", callers: [{{}}, {{namespace: {web}}}]")).await;
    let stays = Caller::start(&stage, "stays", 60, true).await;
    let leaver = Caller::start_in(&web, &stage, "leaves", 60, true, &[]);
    stage.release_into_traffic(&Release::good("v2")).await;
    ask(&stage, "pause", 1);
    until("both are split", || (stage.status()["gateways"]["acknowledged"] == 2).then_some(())).await;
    std::thread::sleep(std::time::Duration::from_secs(2));
    leave(&stage, &web);
    ask(&stage, "abort", 2);
    stage.phase("Failed").await;
    stage.rested().await;
    until("the canary has gone", || {
        let replicas =
            kubectl(&["-n", &stage.namespace, "get", "deployment", "shop", "-o", "jsonpath={.status.replicas}"]);
        ["", "0"].contains(&replicas.as_str()).then_some(())
    })
    .await;
    std::thread::sleep(std::time::Duration::from_secs(3));
    let (stays, leaver) = (stays.finish(), leaver.finish());
    assert_eq!((stays.failed(), leaver.failed()), (0, 0), "{stays:?} {leaver:?}");
    assert!(stays.of("v2") > 0 && leaver.of("v2") > 0, "{stays:?} {leaver:?}");
    kubectl(&["delete", "namespace", &web, "--wait=false"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_whose_namespace_loses_its_permission_in_mid_release_lose_no_request() {
    leaves_in_mid_release("mesh-unlabelled", |_, web| {
        kubectl(&["label", "namespace", web, "weir.dev/callers-"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_the_canary_names_no_more_in_mid_release_lose_no_request() {
    leaves_in_mid_release("mesh-narrowed", |stage, _| {
        stage.canary_of("{port: 80, targetPort: 8080}", "progressDeadlineSeconds: 120", STEPS);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_leaves_the_mesh_for_a_gateway_in_mid_release_loses_no_request() {
    leaves_in_mid_release("mesh-left", |stage, _| {
        let service = format!("{{port: 80, targetPort: 8080, gateways: [public], hosts: [{}]}}", stage.host());
        stage.canary_of(&service, "progressDeadlineSeconds: 120", STEPS);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_stops_the_primary_first_loses_no_request_of_a_caller_with_a_sidecar() {
    let stage = Stage::with_sidecars("mesh-recreate").await;
    let recreate = r#"{"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}"#;
    let release = |version: &str| {
        stage.release(&Release::good(version));
        kubectl(&["-n", &stage.namespace, "patch", "deployment", "shop", "-p", recreate]);
    };
    release("v1");
    stage.canary_of("{port: 80, targetPort: 8080}", "progressDeadlineSeconds: 240", STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    let caller = Caller::start(&stage, "caller", 60, true).await;
    let bare = Caller::start(&stage, "bare", 5, false).await;
    release("v2");
    until("who would be lost is named", || {
        let hazard = stage.condition("Hazard").1;
        hazard.contains(&format!("callers without the filter ({}/bare)", stage.namespace)).then_some(())
    })
    .await;
    stage.phase("Succeeded").await;
    stage.rested().await;
    let (seen, _) = (caller.finish(), bare.finish());
    assert!(seen.failed() == 0 && seen.of("v1") > 0 && seen.of("v2") > 0, "{seen:?}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegated_canary_in_the_mesh_keeps_its_other_port_apart_and_has_its_load_tests_counted() {
    let stage = Stage::with_sidecars("mesh-delegated").await;
    let namespace = &stage.namespace;
    stage.release(&Release::good("v1"));
    apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: shop, namespace: {namespace}}}, spec: {{selector: {{app: shop}}, ports: \
         [{{name: http, port: 80, targetPort: 8080}}, {{name: http-nobody, port: 9000, targetPort: 9000}}]}}}}"
    ));
    apply(&format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: root, namespace: {namespace}}}, spec: {{hosts: \
         [shop.{namespace}.svc.cluster.local], http: [{{delegate: {{name: shop, namespace: {namespace}}}}}]}}}}"
    ));
    stage.canary_of("{port: 80, targetPort: 8080, delegation: true}", "progressDeadlineSeconds: 120", STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    // Nobody listens at the other port: what is sent there is answered by nobody, and never by the port that is split.
    let other = Caller::start_to(&stage, "other", 5, &format!("http://shop.{namespace}:9000/")).await;
    std::thread::sleep(std::time::Duration::from_secs(5));
    let seen = other.finish();
    assert!(seen.of("v1") == 0 && seen.failed() > 0, "{seen:?}");
    // No user calls: the load test alone meets the canary, which no webhook of the Canary's begins.
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") });
    let test = Caller::start_to(&stage, "test", 40, &format!("http://shop-canary.{namespace}/")).await;
    let status = stage.phase("Failed").await;
    let seen = test.finish();
    assert!(seen.failed() >= *HARM.start(), "{seen:?}");
    assert!(status["evidence"]["canaryFailures"].as_u64() > Some(0), "{status}");
    stage.rested().await;
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_sidecar_resource_shows_the_service_alone_is_split_as_any_other() {
    let web = callers_in("mesh-alone");
    let stage = inside("mesh-alone", &format!(", callers: [{{namespace: {web}}}]")).await;
    let namespace = &stage.namespace;
    apply(&format!(
        "{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: default, namespace: {web}}}, spec: {{egress: [{{hosts: \
         [./*, istio-system/*, {namespace}/shop.{namespace}.svc.cluster.local]}}]}}}}"
    ));
    let caller = Caller::start_in(&web, &stage, "caller", 80, true, &[]);
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let seen = caller.finish();
    assert!(seen.failed() == 0 && seen.of("v1") > 0 && seen.of("v2") > 0, "{seen:?}");
    assert_eq!(stage.condition("Hazard").1, "");
    kubectl(&["delete", "namespace", &web, "--wait=false"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_test_by_another_name_of_the_canarys_service_than_the_host_is_counted() {
    let stage = Stage::with_sidecars("mesh-named").await;
    let own = format!("shop-canary.{}", stage.namespace);
    stage.release(&Release::good("v1"));
    stage.canary_of(&format!("{{port: 80, targetPort: 8080, hosts: [{own}]}}"), "progressDeadlineSeconds: 120", STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") });
    let test = Caller::start_to(&stage, "test", 40, &format!("http://{own}.svc.cluster.local/")).await;
    let status = stage.phase("Failed").await;
    assert!(test.finish().of("v2") > 0);
    assert!(status["evidence"]["canaryFailures"].as_u64() > Some(0), "{status}");
    stage.rested().await;
    stage.strike();
}
