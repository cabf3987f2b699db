//! The long rows: whatever may happen to a rollout, in every phase of it. Each event happens to one Canary in each phase, side by
//! side, so that they also happen to one another's Canaries. The ordinary suite has one representative of each.

use serde_json::Value;
use tokio::task::JoinSet;
use weir_demo::load::Running;

use super::kubectl::{apply, kubectl, object, run, until};
use super::stage::{Release, SYSTEM, Stage};

/// Where a Canary is held, or is at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Initializing,
    Waiting,
    Starting,
    Analysing,
    WaitingPromotion,
    Promoting,
    Finalising,
    Succeeded,
    Failed,
}

const EVERYWHERE: [At; 9] = [
    At::Initializing,
    At::Waiting,
    At::Starting,
    At::Analysing,
    At::WaitingPromotion,
    At::Promoting,
    At::Finalising,
    At::Succeeded,
    At::Failed,
];

/// A Canary in a phase, under traffic once it has been initialized.
struct Scene {
    stage: Stage,
    at: At,
    traffic: Option<Running>,
}

impl Scene {
    /// Brings a Canary to a phase, and holds it there where it would go on by itself.
    async fn set(event: &str, at: At, line: &str) -> Self {
        let stage = Stage::bare(&format!("{event}-{at:?}").to_lowercase()).await;
        let namespace = stage.namespace.clone();
        let gate = match at {
            At::Waiting => "confirm-rollout",
            At::WaitingPromotion => "confirm-promotion",
            _ => "",
        };
        let webhooks = match gate {
            "" => String::new(),
            gate => format!(", webhooks: [{{name: gate, type: {gate}, url: 'http://gate.{namespace}/'}}]"),
        };
        if !gate.is_empty() {
            stage.deploy("gate", &Release { arguments: &["--failure-ratio", "1"], ..Release::good("gate") });
            apply(&format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: gate, namespace: {namespace}}}, \
                 spec: {{selector: {{app: gate}}, ports: [{{port: 80, targetPort: 8080}}]}}}}"
            ));
        }
        let interval = if at == At::Analysing { "6s" } else { "2s" };
        let analysis = format!(
            "{{interval: {interval}, threshold: 5, stepWeights: [20, 50], stepWeightPromotion: 10, \
             metrics: [{{name: request-success-rate, thresholdRange: {{min: 99}}}}]{webhooks}}}"
        );
        let first: &[&str] = if at == At::Initializing { &["--unready"] } else { &[] };
        stage.release(&Release { arguments: first, ..Release::good("v1") });
        stage.canary_with(line, &analysis);
        if at == At::Initializing {
            stage.phase("Initializing").await;
            return Self { stage, at, traffic: None };
        }
        stage.phase("Initialized").await;
        stage.rested().await;
        let traffic = Some(stage.traffic(20.0));
        let arguments: &[&str] = match at {
            At::Starting => &["--unready"],
            At::Promoting => &["--unready-at", "shop-primary-"],
            At::Failed => &["--failure-ratio", "1"],
            _ => &[],
        };
        stage.release(&Release { arguments, ..Release::good("v2") });
        match at {
            At::Starting => drop(stage.phase("Progressing").await),
            At::Analysing => {
                until("the canary has requests", || {
                    (stage.status()["canaryWeight"].as_f64() > Some(0.0)).then_some(())
                })
                .await;
            }
            at => drop(stage.phase(&format!("{at:?}")).await),
        }
        if matches!(at, At::Succeeded | At::Failed) {
            stage.rested().await;
        }
        Self { stage, at, traffic }
    }

    /// Takes away what holds the Canary in its phase.
    async fn let_go(&self) {
        let (app, change) = match self.at {
            At::Initializing | At::Starting => ("shop", r#"{"ready": true}"#),
            At::Promoting => ("shop-primary", r#"{"ready": true}"#),
            At::Waiting | At::WaitingPromotion => ("gate", r#"{"failure_ratio": 0}"#),
            _ => return,
        };
        if self.at == At::Promoting {
            // Until then only pods of the revision before would hear of it.
            until("the primary's next pod runs", || self.primary_pods().contains("\"v2\"").then_some(())).await;
        }
        // Pods may only just be starting.
        until(&format!("{app} takes {change}"), || self.stage.try_switch(app, change).ok()).await;
        if matches!(self.at, At::Initializing | At::Starting) {
            // The primary's pods, which start as unready, when they come.
            until("the primary takes it", || {
                let taken = self.stage.try_switch("shop-primary", change).is_ok();
                let over =
                    ["Initialized", "Finalising", "Succeeded"].iter().any(|it| self.stage.status()["phase"] == *it);
                (taken && over).then_some(())
            })
            .await;
        }
    }

    /// Returns the arguments of the primary's pods that run, line by line.
    fn primary_pods(&self) -> String {
        let lines = r#"jsonpath={range .items[?(@.status.phase=="Running")]}{.spec.containers[0].args}{"\n"}{end}"#;
        kubectl(&["-n", &self.stage.namespace, "get", "pods", "-l", "app=shop-primary", "-o", lines])
    }

    /// Deletes the Canary; a target that never got ready does so then.
    async fn delete(&self) {
        kubectl(&["-n", &self.stage.namespace, "delete", "canary", "shop", "--wait=false"]);
        if matches!(self.at, At::Initializing | At::Starting) {
            until("the target takes it", || self.stage.try_switch("shop", r#"{"ready": true}"#).ok()).await;
        }
    }

    fn primary_runs(&self, version: &str) -> bool {
        let primary = object(&self.stage.namespace, "deployment", "shop-primary").unwrap_or_default();
        let arguments = &primary["spec"]["template"]["spec"]["containers"][0]["args"];
        arguments.as_array().is_some_and(|it| it.iter().any(|it| it == version))
    }

    /// Ends the traffic; no more requests may have failed than the phase has cost already.
    async fn served(&mut self) {
        let Some(traffic) = self.traffic.take() else { return };
        let tally = traffic.finish().await;
        println!("{}: {}", self.stage.namespace, serde_json::to_string(&tally.summary()).unwrap());
        assert!(tally.totals().0 > 0, "{}: nothing was sent", self.stage.namespace);
        let most = if self.at == At::Failed { 10 } else { 0 };
        assert!(tally.totals().1 <= most, "{}: {:?}", self.stage.namespace, tally.summary());
    }

    fn told(&self, beginning: &str) -> usize {
        self.stage.events().iter().filter(|text| text.starts_with(beginning)).count()
    }
}

/// Plays an event in every phase, side by side; tells of all that went wrong.
async fn everywhere<F: Future<Output = ()> + Send + 'static>(play: impl Fn(At) -> F) {
    let mut scenes = JoinSet::new();
    for at in EVERYWHERE {
        let scene = play(at);
        scenes.spawn(async move {
            let played = tokio::spawn(scene).await;
            played.is_err().then_some(at)
        });
    }
    let wrong: Vec<At> = scenes.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "wrong in {wrong:?}");
}

/// Ends the controller without a farewell: its process, or its pod.
fn kill_controller(process: bool) {
    if process && run("pkill", &["-9", "-x", "weir"], "").is_ok() {
        return;
    }
    kubectl(&["-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/name=weir", "--grace-period=0", "--force"]);
}

const LINE: &str = "progressDeadlineSeconds: 150";

#[tokio::test(flavor = "multi_thread", worker_threads = 10)]
async fn a_new_revision_in_every_phase_is_promoted_after_its_own_analysis() {
    everywhere(|at| async move {
        let mut scene = Scene::set("newer", at, LINE).await;
        scene.stage.release(&Release::good("v3"));
        if !matches!(at, At::Initializing | At::Starting) {
            scene.let_go().await;
        }
        let end = if at == At::Initializing { "Initialized" } else { "Succeeded" };
        until(&format!("{at:?}: v3 is in production"), || {
            let is_late = matches!(at, At::Promoting | At::Finalising | At::Succeeded);
            assert!(is_late || !scene.primary_runs("v2"), "{at:?}: the revision that was replaced was promoted");
            (scene.stage.status()["phase"] == end && scene.primary_runs("v3")).then_some(())
        })
        .await;
        if at != At::Initializing {
            scene.stage.rested().await;
        }
        scene.served().await;
        scene.stage.strike();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 10)]
async fn a_controller_killed_in_every_phase_goes_on_where_it_was() {
    everywhere(|at| async move {
        let mut scene = Scene::set("killed", at, LINE).await;
        kill_controller(at == At::Analysing);
        scene.let_go().await;
        let (end, version, started) = match at {
            At::Initializing => ("Initialized", "v1", 0),
            At::Failed => ("Failed", "v1", 1),
            _ => ("Succeeded", "v2", 1),
        };
        scene.stage.phase(end).await;
        scene.stage.rested().await;
        assert!(scene.primary_runs(version), "{at:?}: the primary does not run {version}");
        scene.served().await;
        let told = scene.told("Starting canary analysis");
        // An event is told after the state is stored; one that dies in between has not told it.
        assert!(told <= started, "{at:?}: {told} times: {:?}", scene.stage.events());
        scene.stage.strike();
    })
    .await;
}

async fn gone(stage: &Stage) {
    until("the Canary is gone", || object(&stage.namespace, "canary", "shop").is_none().then_some(())).await;
    let target = object(&stage.namespace, "deployment", "shop").unwrap();
    assert!(
        target["status"]["availableReplicas"].as_i64() > Some(0),
        "the target does not serve: {}",
        target["status"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 10)]
async fn a_canary_deleted_in_every_phase_leaves_routes_to_its_target_where_it_reverts() {
    everywhere(|at| async move {
        let mut scene = Scene::set("reverts", at, &format!("{LINE}\n  revertOnDeletion: true")).await;
        if at == At::Failed {
            // The target that takes the traffic is what is in Git: first that is mended.
            scene.served().await;
            scene.stage.release(&Release::good("v3"));
            scene.traffic = Some(scene.stage.traffic(20.0));
            scene.at = At::Analysing;
        }
        scene.delete().await;
        gone(&scene.stage).await;
        let primary = || object(&scene.stage.namespace, "deployment", "shop-primary");
        until("the primary is gone", || primary().is_none().then_some(())).await;
        let routes = object(&scene.stage.namespace, "virtualservice", "shop");
        if let Some(routes) = routes.as_ref().filter(|_| at != At::Initializing) {
            assert_eq!(routes["spec"]["http"][0]["route"][0]["destination"]["host"], "shop", "{at:?}");
        }
        assert!(routes.is_some() || at == At::Initializing, "{at:?}: the routes are gone");
        scene.served().await;
        scene.stage.strike();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 10)]
async fn a_canary_deleted_in_every_phase_takes_away_what_was_made_for_it() {
    everywhere(|at| async move {
        let scene = Scene::set("deleted", at, LINE).await;
        scene.delete().await;
        gone(&scene.stage).await;
        for kind in ["deployment", "service", "virtualservice", "destinationrule", "controllerrevision"] {
            let own =
                ["-n", &scene.stage.namespace, "get", kind, "-l", "app.kubernetes.io/managed-by=weir", "-o", "json"];
            until(&format!("{at:?}: no {kind} of Weir is left"), || {
                let list: Value = serde_json::from_str(&kubectl(&own)).ok()?;
                list["items"].as_array()?.is_empty().then_some(())
            })
            .await;
        }
        scene.stage.strike();
    })
    .await;
}
