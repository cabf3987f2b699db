//! Every kind of release, and the phases in which Flagger has nothing under way: taken over under load, and released by Weir afterwards.

use weir_demo::load::Running;

use super::super::mesh::Caller;
use super::{
    Duration, Stage, apply, canary_of, declared, identity, is_in_phase, is_promoted, is_taken_over, kubectl, object,
    push, strike, until,
};

const STEPS: &str = "{interval: 10s, threshold: 2, stepWeights: [20, 50]}";
/// A gate and a check that are never passed: nobody has this name.
const GATE: &str = "{interval: 10s, threshold: 2, stepWeights: [20, 50], \
                    webhooks: [{name: gate, type: confirm-rollout, url: 'http://nobody.invalid/'}]}";
const CHECK: &str = "{interval: 10s, threshold: 1, stepWeights: [20, 50], \
                     webhooks: [{name: check, type: rollout, url: 'http://nobody.invalid/'}]}";

/// A service as somebody has Flagger release it.
struct Kind {
    name: &'static str,
    /// One more line of the spec.
    line: &'static str,
    /// Whether requests come from inside of the mesh, and not through a gateway.
    inside: bool,
    analysis: &'static str,
    /// Flagger's analysis of a revision that it does not promote, and the phase in which it is then.
    stays: Option<(&'static str, &'static str)>,
}

impl Kind {
    const PLAIN: Self =
        Self { name: "", line: "progressDeadlineSeconds: 120", inside: false, analysis: STEPS, stays: None };
}

static KINDS: [Kind; 6] = [
    Kind { name: "failed", stays: Some((CHECK, "Failed")), ..Kind::PLAIN },
    Kind { name: "waiting", stays: Some((GATE, "Waiting")), ..Kind::PLAIN },
    Kind {
        name: "scaled",
        line: "autoscalerRef: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, name: shop}",
        ..Kind::PLAIN
    },
    Kind { name: "blue-green", analysis: "{interval: 10s, threshold: 2, iterations: 2}", ..Kind::PLAIN },
    Kind {
        name: "ab-test",
        analysis: "{interval: 10s, threshold: 2, iterations: 2, match: [{headers: {cookie: {exact: insider}}}]}",
        ..Kind::PLAIN
    },
    Kind { name: "inside", inside: true, ..Kind::PLAIN },
];

/// Those who use the service all the time.
enum Users {
    Outside([Running; 2]),
    Inside(Caller),
}

impl Users {
    async fn come(stage: &Stage, inside: bool) -> Self {
        if inside {
            return Self::Inside(Caller::start(stage, "caller", 20, true).await);
        }
        stage.reachable().await;
        Self::Outside([stage.traffic(20.0), stage.traffic_to("/", 5.0, &[("cookie", "insider")])])
    }

    /// Returns how many requests there were, and how many failed.
    async fn go(self) -> (u64, u64) {
        match self {
            Self::Inside(caller) => {
                let seen = caller.finish();
                (seen.of("v1") + seen.of("v2") + seen.of("v3") + seen.failed(), seen.failed())
            }
            Self::Outside(all) => {
                let (mut requests, mut failed) = (0, 0);
                for one in all {
                    let tally = one.finish().await;
                    let (some, bad) = tally.totals();
                    (requests, failed) = (requests + some, failed + bad + tally.unsent);
                }
                (requests, failed)
            }
        }
    }
}

async fn is_taken_over_and_released(kind: &Kind) {
    let stage = declared(&format!("kind-{}", kind.name)).await;
    let service = match kind.inside {
        true => "{port: 80, targetPort: 8080}".to_owned(),
        false => format!("{{port: 80, targetPort: 8080, gateways: [public], hosts: [{}]}}", stage.host()),
    };
    let manifest = |group: &str, annotations: &str, analysis: &str| {
        canary_of(&stage, group, annotations, kind.line, &service, analysis)
    };
    if kind.line.contains("autoscalerRef") {
        apply(&format!(
            "{{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {{name: shop, namespace: {}}}, spec: {{scaleTargetRef: \
             {{apiVersion: apps/v1, kind: Deployment, name: shop}}, minReplicas: 2, maxReplicas: 3, metrics: [{{type: Resource, resource: \
             {{name: cpu, target: {{type: Utilization, averageUtilization: 99}}}}}}]}}}}",
            stage.namespace
        ));
    }
    apply(&manifest("flagger.app", "", kind.analysis));
    is_in_phase(&stage, "Initialized").await;
    if kind.line.contains("autoscalerRef") {
        // Its autoscaler looks every fifteen seconds.
        until("the primary is scaled", || {
            (object(&stage.namespace, "deployment", "shop-primary")?["status"]["readyReplicas"] == 2).then_some(())
        })
        .await;
    }
    if let Some((analysis, phase)) = kind.stays {
        apply(&manifest("flagger.app", "", analysis));
        push(&stage, "v2");
        is_in_phase(&stage, phase).await;
    }
    // Flagger's own rollback ends pods before the gateways have let go of them.
    let users = Users::come(&stage, kind.inside).await;
    let before = identity(&stage);
    apply(&manifest("weir.dev", "weir.dev/take-over: flagger", kind.analysis));
    is_taken_over(&stage).await;
    // The objects are the same, and so is every pod of the primary: until Weir promotes something.
    let after = identity(&stage);
    assert_eq!(after[0], before[0], "{}", kind.name);
    assert_eq!(after[2], before[2], "{}: pods of the primary were replaced", kind.name);
    kubectl(&["-n", &stage.namespace, "delete", "canaries.flagger.app", "shop"]);
    let next = match kind.stays {
        Some((_, "Failed")) => {
            // What Flagger took back is not tried again by itself.
            tokio::time::sleep(Duration::from_secs(15)).await;
            let status = stage.status();
            assert_eq!(
                (&status["phase"], &status["reason"]),
                (&"Failed".into(), &"FailedRevision".into()),
                "{status:#}"
            );
            assert_eq!(identity(&stage), before);
            push(&stage, "v3");
            "v3"
        }
        Some(_) => "v2",
        None => {
            tokio::time::sleep(Duration::from_secs(15)).await;
            assert_eq!(identity(&stage), before, "{}", kind.name);
            push(&stage, "v2");
            "v2"
        }
    };
    is_promoted(&stage, next).await;
    assert_eq!(identity(&stage)[0], before[0], "{}", kind.name);
    let (requests, failed) = users.go().await;
    println!("{}: {failed} of {requests} requests failed", kind.name);
    assert!(requests > 300 && failed == 0, "{}: {failed} of {requests}", kind.name);
    strike(&stage);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_release_and_every_phase_at_rest_is_taken_over_and_no_request_fails() {
    let mut open = tokio::task::JoinSet::new();
    for kind in &KINDS {
        open.spawn(is_taken_over_and_released(kind));
    }
    while let Some(done) = open.join_next().await {
        done.unwrap();
    }
}
