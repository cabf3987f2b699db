//! The whole of `docs/tutorial.md`: an empty cluster, `gitops/`, releases, an A/B test, an edit in mid-run, upgrades, under traffic.

use std::path::Path;

use weir_demo::load::Running;

use super::super::kubectl::{apply, kubectl, object, until};
use super::super::mesh::Caller;
use super::super::stage::{load, variable};
use super::inventory::Inventory;
use super::page::Page;
use super::watch::Watch;
use super::{Fork, applied, knows_callers, push_chart, without_callers};

/// flux-system itself, and those that it applies.
pub(super) const ALL: usize = 6;

/// Those who use both apps: at the gateway, testers among them, and inside of the mesh.
pub(super) struct Users {
    everybody: Running,
    testers: Running,
    caller: Caller,
}

impl Users {
    pub(super) fn come(number: u32) -> Self {
        let gateway =
            kubectl(&["-n", "istio-ingress", "get", "service", "istio-ingress", "-o", "jsonpath={.spec.clusterIP}"]);
        let host = ("host", "www.example.com");
        let everybody = load(&gateway, "/", 20.0, &[host]).start();
        let testers = load(&gateway, "/", 10.0, &[host, ("cookie", "type=insider")]).start();
        let caller =
            Caller::start_calling("prod", &format!("caller-{number}"), 20, true, &["http://backend:9898/"], &[]);
        Self { everybody, testers, caller }
    }

    /// Ends; returns requests and failures at the gateway, and inside of the mesh.
    async fn go(self, when: &str) -> ((u64, u64), (u64, u64)) {
        let (everybody, testers) = (self.everybody.finish().await, self.testers.finish().await);
        let seen = self.caller.finish();
        println!("{when}: {:?} {:?} {seen:?}", everybody.summary(), testers.summary());
        let ((a, b), (c, d)) = (everybody.totals(), testers.totals());
        ((a + c, b + d), (seen.requests(), seen.failed()))
    }

    pub(super) async fn notice_nothing(self, when: &str) {
        let ((at_gateway, failed), (inside, failed_inside)) = self.go(when).await;
        assert!(at_gateway > 100 && inside > 100, "{when}: {at_gateway} {inside}");
        assert_eq!((failed, failed_inside), (0, 0), "{when}: of {at_gateway} and {inside}");
    }
}

fn image(deployment: &str) -> String {
    let it = object("prod", "deployment", deployment).unwrap();
    it["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

pub(super) fn phase(name: &str) -> String {
    object("prod", "canary", name).unwrap()["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

/// Returns a repository as somebody copies it, with today's chart of Weir in the registry or a changed one.
fn forked(change: impl FnOnce(&Path)) -> Fork {
    let clone = Fork::of("fleet");
    clone.copy("gitops/.", ".");
    clone.copy("tests/cluster/manifests/gitops/.", "clusters/here");
    push_chart("0.1.0", change);
    clone
}

/// Gives a repository to Flux; returns its first revision, once Flux knows of everything in it.
async fn bootstrapped(clone: &Fork) -> String {
    let first = clone.push("A cluster");
    clone.read_by_flux("flux-system", Some("./clusters/here"));
    until("Flux knows of the apps", || object("flux-system", "kustomization", "apps")).await;
    first
}

async fn primaries_serve_alone() {
    for name in ["backend", "frontend"] {
        until("the primary serves alone", || {
            let target = object("prod", "deployment", name)?;
            (target["status"]["replicas"].as_u64().unwrap_or_default() == 0 && phase(name) == "Initialized")
                .then_some(())
        })
        .await;
    }
}

/// Begins a cluster from nothing; returns the repository.
pub(super) async fn begun() -> Fork {
    let clone = forked(|_| ());
    let first = bootstrapped(&clone).await;
    applied(&first, ALL).await;
    primaries_serve_alone().await;
    clone
}

/// Has a program stand for Slack.
fn chat() {
    let image = variable("WEIR_DEMO_IMAGE");
    apply(&format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: chat}}
---
apiVersion: v1
kind: Service
metadata: {{name: chat, namespace: chat}}
spec: {{selector: {{app: chat}}, ports: [{{port: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: chat, namespace: chat}}
spec:
  selector: {{matchLabels: {{app: chat}}}}
  template:
    metadata: {{labels: {{app: chat}}}}
    spec: {{containers: [{{name: chat, image: "{image}", imagePullPolicy: IfNotPresent, args: [serve, --address, 0.0.0.0, --port, "8080", --record]}}]}}
"#
    ));
}

/// What the team was told.
fn told() -> String {
    kubectl(&["get", "--raw", "/api/v1/namespaces/chat/services/chat:8080/proxy/recorded"])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_runs_as_it_stands_and_users_notice_nothing() {
    let page = Page::read("docs/tutorial.md");
    // A Weir whose definitions are older: the upgrade replaces them.
    let clone = forked(without_callers);
    chat();
    page.play_block("## 1. Begin", 0, &clone);
    let first = bootstrapped(&clone).await;
    page.play_block("## 1. Begin", 1, &clone);
    applied(&first, ALL).await;
    primaries_serve_alone().await;
    let begun = Inventory::now();
    page.play("## 2. Look around", &clone);
    assert!(!knows_callers());

    let watch = Watch::begin(&["backend", "frontend"], &["apps", "weir", "monitoring"]);
    let users = Users::come(1);
    watch.applies();
    page.play("## 3. A new version of the backend", &clone);
    applied(&clone.revision(), ALL).await;
    watch.rests();
    assert!(image("backend-primary").ends_with(":6.7.1"), "{}", image("backend-primary"));
    users.notice_nothing("a good backend").await;

    let users = Users::come(2);
    watch.applies();
    page.play("## 4. A version that fails", &clone);
    applied(&clone.revision(), ALL).await;
    watch.rests();
    let ((_, failed), (requests, failed_inside)) = users.go("a bad backend").await;
    assert_eq!(failed, 0, "nobody at the gateway asks for the backend");
    assert!(failed_inside <= 15, "{failed_inside} of {requests} failed");

    let users = Users::come(3);
    watch.applies();
    page.play("## 5. An A/B test of the frontend, edited while it runs", &clone);
    applied(&clone.revision(), ALL).await;
    watch.rests();
    assert!(image("frontend-primary").ends_with(":6.7.1"), "{}", image("frontend-primary"));
    users.notice_nothing("an A/B test").await;

    let users = Users::come(4);
    watch.applies();
    page.play("## 6. Upgrade Istio during a release", &clone);
    push_chart("0.2.0", |_| ());
    applied(&clone.revision(), ALL).await;
    watch.rests();
    until("today's definitions", || knows_callers().then_some(())).await;
    users.notice_nothing("an upgrade of Istio").await;
    assert_eq!((phase("backend"), phase("frontend")), ("Succeeded".into(), "Succeeded".into()));

    page.play("## 7. Be told", &clone);
    page.play("## 8. Look at Grafana", &clone);
    let told = told();
    for text in ["set up", "is being released", "was taken back", "is in production"] {
        assert!(told.contains(text), "{text}: {told}");
    }
    Inventory::now().is_whole_since(&begun);
    watch.end().await;
    Inventory::drifts_nowhere().await;
}
