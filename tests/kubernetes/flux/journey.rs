//! The whole of `docs/tutorial.md`: an empty cluster, `gitops/`, releases, an A/B test, an edit in mid-run, upgrades, under traffic.

use weir_demo::load::Running;

use super::super::kubectl::{kubectl, object, until};
use super::super::mesh::Caller;
use super::super::stage::load;
use super::inventory::Inventory;
use super::page::Page;
use super::watch::Watch;
use super::{Fork, applied, knows_callers, push_chart, without_callers};

/// flux-system itself, and those that it applies.
const ALL: usize = 6;

/// Those who use both apps: at the gateway, testers among them, and inside of the mesh.
struct Users {
    everybody: Running,
    testers: Running,
    caller: Caller,
}

impl Users {
    fn come(number: u32) -> Self {
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

    async fn notice_nothing(self, when: &str) {
        let ((at_gateway, failed), (inside, failed_inside)) = self.go(when).await;
        assert!(at_gateway > 100 && inside > 100, "{when}: {at_gateway} {inside}");
        assert_eq!((failed, failed_inside), (0, 0), "{when}: of {at_gateway} and {inside}");
    }
}

fn image(deployment: &str) -> String {
    let it = object("prod", "deployment", deployment).unwrap();
    it["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

fn phase(name: &str) -> String {
    object("prod", "canary", name).unwrap()["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_runs_as_it_stands_and_users_notice_nothing() {
    let page = Page::read();
    let clone = Fork::of("fleet");
    clone.copy("gitops/.", ".");
    clone.copy("tests/cluster/manifests/gitops/.", "clusters/here");
    // A Weir whose definitions are older: the upgrade replaces them.
    push_chart("0.1.0", without_callers);
    let first = clone.push("A cluster");
    clone.read_by_flux("flux-system", Some("./clusters/here"));
    applied(&first, ALL).await;
    for name in ["backend", "frontend"] {
        until("the primary serves alone", || {
            let target = object("prod", "deployment", name)?;
            (target["status"]["replicas"].as_u64().unwrap_or_default() == 0 && phase(name) == "Initialized")
                .then_some(())
        })
        .await;
    }
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

    Inventory::now().is_whole_since(&begun);
    watch.end().await;
    Inventory::drifts_nowhere().await;
}
