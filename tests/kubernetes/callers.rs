//! Callers as there are in a mesh: more of them and fewer, Jobs, pods that call two services, other kinds of Services, retries.

use serde_json::Value;

use super::bounds::HARM;
use super::kubectl::{apply, kubectl, until};
use super::mesh::{Caller, bound, inside, inside_for, splits_a_good_release};
use super::stage::{Release, Stage, variable};
use super::{ONE_STEP, STEPS};

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_grow_to_five_and_shrink_to_one_in_mid_release_see_no_error_and_lose_no_count() {
    let stage = inside_for("mesh-scaled", "", ONE_STEP).await;
    let first = Caller::start(&stage, "first", 30, true).await;
    stage.release_into_traffic(&Release::good("v2")).await;
    super::people::ask(&stage, "pause", 1);
    let mut more = Vec::new();
    for name in ["second", "third", "fourth", "fifth"] {
        more.push(Caller::start(&stage, name, 30, true).await);
    }
    until("five callers use the weight", || (stage.status()["gateways"]["acknowledged"] == 5).then_some(())).await;
    std::thread::sleep(std::time::Duration::from_secs(3));
    let seen: Vec<_> = more.into_iter().map(Caller::finish).collect();
    until("one caller is left", || (stage.status()["gateways"]["serving"] == 1).then_some(())).await;
    let of_canary = seen.iter().map(|seen| seen.of("v2")).sum::<u64>();
    let counted = until("what they counted is in the status", || {
        let counted = stage.status()["evidence"]["canaryRequests"].as_u64()?;
        (counted * 10 >= of_canary * 9).then_some(counted)
    })
    .await;
    super::people::ask(&stage, "resume", 2);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let first = first.finish();
    println!("{counted} counted, of which {of_canary} were theirs that have gone");
    assert!(of_canary > 0 && seen.iter().all(|seen| seen.failed() == 0) && first.failed() == 0, "{seen:?} {first:?}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn five_callers_of_a_bad_release_let_out_a_few_failures_and_go_on_with_the_primary() {
    let stage = inside("mesh-five", "").await;
    let mut callers = Vec::new();
    for number in 0..5 {
        callers.push(Caller::start(&stage, &format!("caller-{number}"), 20, true).await);
    }
    until("all are known", || bound(&stage).1.contains("5 callers with a sidecar").then_some(())).await;
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") });
    stage.phase("Failed").await;
    stage.rested().await;
    let failed: u64 = callers.into_iter().map(|caller| caller.finish().failed()).sum();
    println!("five callers: {failed} failed");
    assert!((1..=5 * HARM.end()).contains(&failed), "{failed}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_cron_job_that_calls_takes_part_and_ends_without_an_error() {
    let stage = inside("mesh-job", "").await;
    let (namespace, image) = (&stage.namespace, variable("WEIR_DEMO_IMAGE"));
    apply(&format!(
        r#"
apiVersion: batch/v1
kind: CronJob
metadata: {{name: batch, namespace: {namespace}}}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        metadata: {{labels: {{app: batch, sidecar.istio.io/inject: "true"}}}}
        spec:
          restartPolicy: Never
          containers:
          - name: client
            image: {image}
            imagePullPolicy: IfNotPresent
            args: [load, --url, "http://shop.{namespace}/", --rate, "60", --seconds, "180", --timeout-ms, "60000"]
            securityContext: {{runAsUser: 1000}}
            resources: {{requests: {{cpu: 1m, memory: 8Mi}}}}
"#
    ));
    kubectl(&["-n", namespace, "create", "job", "batch", "--from=cronjob/batch"]);
    until("it is a caller", || bound(&stage).1.contains("1 callers with a sidecar").then_some(())).await;
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    kubectl(&["-n", namespace, "wait", "job/batch", "--for=condition=Complete", "--timeout=400s"]);
    let report = kubectl(&["-n", namespace, "logs", "job/batch", "-c", "client"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let of = |revision: &str, field: &str| report["revisions"][revision][field].as_u64().unwrap_or_default();
    assert!(of("v1", "ok") > 0 && of("v2", "ok") > 0, "{report}");
    assert_eq!(of("v1", "failed") + of("v2", "failed"), 0, "{report}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pod_that_calls_two_services_under_release_has_each_judged_by_its_own_requests() {
    let stage = inside("mesh-two", "").await;
    let namespace = stage.namespace.clone();
    stage.deploy("cart", &Release::good("v1"));
    let service = "{port: 80, targetPort: 8080}";
    apply(&super::stage::canary(&namespace, "cart", "progressDeadlineSeconds: 120", service, STEPS));
    let phase = |name: &str| super::kubectl::object(&namespace, "canary", name).map(|it| it["status"]["phase"].clone());
    until("cart is looked after", || (phase("cart")? == "Initialized").then_some(())).await;
    let both = Caller::start_two(&stage, "both", 60, ["shop", "cart"]).await;
    stage.deploy("cart", &Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") });
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    until("cart is taken back", || (phase("cart")? == "Failed").then_some(())).await;
    stage.rested().await;
    let [shop, cart] = both.finish_two();
    assert!(shop.failed() == 0 && shop.of("v2") > 0, "{shop:?}");
    assert!(HARM.contains(&cart.failed()), "{cart:?}");
    kubectl(&["-n", &namespace, "delete", "canary", "cart", "--wait"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headless_service_with_named_and_several_ports_is_split_as_any_other() {
    let stage = Stage::with_sidecars("mesh-ports").await;
    stage.release(&Release::good("v1"));
    let ports = r#"[{"op": "add", "path": "/spec/template/spec/containers/0/ports",
        "value": [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9090}]}]"#;
    kubectl(&["-n", &stage.namespace, "patch", "deployment", "shop", "--type=json", "-p", ports]);
    let service = "{port: 80, portName: http, targetPort: http, portDiscovery: true, headless: true}";
    stage.canary_of(service, "progressDeadlineSeconds: 120", STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    splits_a_good_release(&stage, 80).await;
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_sidecar_tries_again_is_counted_once() {
    let stage = inside("mesh-retries", ", retries: {attempts: 5, retryOn: 5xx}").await;
    let caller = Caller::start(&stage, "caller", 80, true).await;
    // Three of ten tries fail, and next to no request does.
    stage.release(&Release { arguments: &["--failure-ratio", "0.3"], ..Release::good("v2") });
    let status = stage.phase("Succeeded").await;
    let counted = status["evidence"]["canaryRequests"].as_u64().unwrap();
    let seen = caller.finish();
    println!("{counted} counted: {seen:?}");
    assert!(seen.of("v2") > 0 && counted <= seen.of("v2"), "{counted}: {seen:?}");
    assert!(seen.failed() * 50 <= seen.of("v2"), "{seen:?}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_test_from_a_sidecar_is_counted_and_so_is_no_request_to_another_service() {
    let stage = inside("mesh-load", "").await;
    let namespace = stage.namespace.clone();
    stage.deploy("other", &Release { arguments: &["--failure-ratio", "1"], ..Release::good("v1") });
    let selector = "{selector: {app: other}, ports: [{name: http, port: 80, targetPort: 8080}]}";
    apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: other, namespace: {namespace}}}, spec: {selector}}}"
    ));
    let other = Caller::start_to(&stage, "other-caller", 50, &format!("http://other.{namespace}/")).await;
    let tester = Caller::start_to(&stage, "tester", 20, &format!("http://shop-canary.{namespace}/")).await;
    let analysis = "{interval: 4s, threshold: 2, iterations: 2, metrics: [{name: request-success-rate, thresholdRange: {min: 99}}], \
                    webhooks: [{name: load, type: rollout, url: \"http://other/\"}]}";
    let analysis = analysis.replace("http://other/", &format!("http://shop-primary.{namespace}/"));
    stage.canary_of("{port: 80, targetPort: 8080}", "progressDeadlineSeconds: 120", &analysis);
    stage.release(&Release::good("v2"));
    let counted = until("its requests are counted at weight 0", || {
        let status = stage.status();
        let counted = status["evidence"]["canaryRequests"].as_u64().filter(|counted| *counted > 20)?;
        (status["canaryWeight"].as_f64() == Some(0.0)).then_some((counted, status["evidence"].clone()))
    })
    .await;
    println!("{counted:?}");
    assert_eq!(counted.1["canaryFailures"], 0, "no request to another service is among them: {counted:?}");
    stage.phase("Succeeded").await;
    let events = stage.events();
    assert!(!events.iter().any(|text| text.contains("no sidecar has seen")), "it was judged by them: {events:?}");
    drop((other, tester));
    stage.strike();
}
