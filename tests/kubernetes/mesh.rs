//! Services that are called from inside of the mesh, by pods with real sidecars.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::bounds::HARM;
use super::kubectl::{apply, kubectl, object, run, until};
use super::stage::{Release, Stage, variable};
use super::{ONE_STEP, STEPS};

/// A pod that sends requests to a service by its name.
pub(crate) struct Caller {
    namespace: String,
    name: String,
    /// What its clients say.
    said: Vec<Child>,
}

/// What a caller saw: by revision, what was answered and what failed.
#[derive(Debug)]
pub(crate) struct Seen(BTreeMap<String, (u64, u64)>);

impl Seen {
    #[cfg(feature = "kubernetes-flux")]
    pub(crate) fn requests(&self) -> u64 {
        self.0.values().map(|(ok, failed)| ok + failed).sum()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.0.values().map(|(_, failed)| failed).sum()
    }

    pub(crate) fn of(&self, revision: &str) -> u64 {
        self.0.get(revision).map_or(0, |(ok, failed)| ok + failed)
    }
}

impl Caller {
    /// Starts a caller in the stage's namespace.
    pub(crate) async fn start(stage: &Stage, name: &str, rate: u32, sidecar: bool) -> Self {
        Self::start_in(&stage.namespace, stage, name, rate, sidecar, &[])
    }

    /// Starts a caller in the stage's namespace that calls an address.
    pub(crate) async fn start_to(stage: &Stage, name: &str, rate: u32, url: &str) -> Self {
        Self::start_calling(&stage.namespace, name, rate, true, &[url], &[])
    }

    /// Starts a caller in the stage's namespace that calls two services, each with its own client.
    pub(crate) async fn start_two(stage: &Stage, name: &str, rate: u32, services: [&str; 2]) -> Self {
        let [one, other] = services.map(|service| format!("http://{service}.{}/", stage.namespace));
        Self::start_calling(&stage.namespace, name, rate, true, &[&one, &other], &[])
    }

    /// Starts a caller in a namespace, whose client has more arguments.
    pub(crate) fn start_in(
        namespace: &str,
        stage: &Stage,
        name: &str,
        rate: u32,
        sidecar: bool,
        more: &[&str],
    ) -> Self {
        let url = format!("http://shop.{}/", stage.namespace);
        Self::start_calling(namespace, name, rate, sidecar, &[&url], more)
    }

    /// Starts a caller of addresses, each with its own client. What calls without a sidecar connects anew for every request: a server
    /// that ends closes the connections that it has kept, and a request that is on its way through one is lost, whoever rolls it out.
    pub(crate) fn start_calling(
        namespace: &str,
        name: &str,
        rate: u32,
        sidecar: bool,
        urls: &[&str],
        more: &[&str],
    ) -> Self {
        let image = variable("WEIR_DEMO_IMAGE");
        let client = |(number, url): (usize, &&str)| {
            let mut arguments =
                vec!["load".to_owned(), "--url".into(), (*url).into(), "--rate".into(), rate.to_string()];
            arguments.extend(["--timeout-ms".into(), "60000".into()]);
            let fresh = (!sidecar).then_some("--fresh");
            arguments.extend(more.iter().copied().chain(fresh).map(str::to_owned));
            serde_json::json!({
                "name": format!("client-{number}"), "image": image, "imagePullPolicy": "IfNotPresent", "args": arguments,
                "securityContext": {"runAsUser": 1000}, "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
            })
        };
        let clients = serde_json::to_string(&urls.iter().enumerate().map(client).collect::<Vec<_>>()).unwrap();
        // What runs as the proxy's own user passes no sidecar.
        apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: {name}, sidecar.istio.io/inject: "{sidecar}"}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 75
  containers: {clients}
"#
        ));
        kubectl(&["-n", namespace, "wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=180s"]);
        let said = (0..urls.len()).map(|number| {
            let mut logs = Command::new("kubectl");
            let container = format!("client-{number}");
            logs.args(["-n", namespace, "logs", "-f", name, "-c", &container]).stdout(Stdio::piped()).spawn().unwrap()
        });
        Self { namespace: namespace.into(), name: name.into(), said: said.collect() }
    }

    /// Ends the traffic; returns what was seen.
    pub(crate) fn finish(self) -> Seen {
        self.finish_all().remove(0)
    }

    /// As [`Caller::finish`], of one with two clients.
    pub(crate) fn finish_two(self) -> [Seen; 2] {
        self.finish_all().try_into().unwrap()
    }

    fn finish_all(mut self) -> Vec<Seen> {
        kubectl(&["-n", &self.namespace, "delete", "pod", &self.name, "--wait=false"]);
        let mut said = std::mem::take(&mut self.said);
        said.iter_mut().map(|said| self.seen(said)).collect()
    }

    fn seen(&self, said: &mut Child) -> Seen {
        let mut text = String::new();
        said.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let _ = said.wait();
        // The kubelet adds a line of its own when it finds the container gone while it follows its log.
        let report = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
        let report = report.unwrap_or_else(|| panic!("{} said nothing", self.name));
        let report = report.unwrap_or_else(|error| panic!("{error}: {text}"));
        let count = |counts: &Value, field: &str| counts[field].as_u64().unwrap_or_default();
        let revisions = report["revisions"].as_object().unwrap().iter();
        let seen = revisions.map(|(revision, it)| (revision.clone(), (count(it, "ok"), count(it, "failed"))));
        let seen = Seen(seen.collect());
        println!("{}/{}: {seen:?} {}", self.namespace, self.name, report["failures"]);
        seen
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // A test that has failed waits for no logs.
        for said in &mut self.said {
            let _ = said.kill();
            let _ = said.wait();
        }
    }
}

/// Makes a service that only the mesh calls, and waits until it is looked after.
pub(crate) async fn inside(name: &str, more: &str) -> Stage {
    inside_for(name, more, STEPS).await
}

/// As [`inside`], with another analysis.
pub(crate) async fn inside_for(name: &str, more: &str, analysis: &str) -> Stage {
    let stage = Stage::with_sidecars(name).await;
    stage.release(&Release::good("v1"));
    stage.canary_of(&format!("{{port: 80, targetPort: 8080{more}}}"), "progressDeadlineSeconds: 120", analysis);
    stage.phase("Initialized").await;
    stage.rested().await;
    stage
}

/// The condition `GatewayBound` of the Canary: its reason and its message.
pub(crate) fn bound(stage: &Stage) -> (String, String) {
    stage.condition("GatewayBound")
}

/// Releases a good revision under so many requests a second of a caller: both revisions answer some, and none fails.
pub(crate) async fn splits_a_good_release(stage: &Stage, rate: u32) {
    let caller = Caller::start(stage, "caller", rate, true).await;
    stage.release(&Release::good("v2"));
    stage.phase("Succeeded").await;
    stage.rested().await;
    let seen = caller.finish();
    assert!(seen.failed() == 0 && seen.of("v1") > 0 && seen.of("v2") > 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_release_is_promoted_through_the_sidecars_of_its_callers() {
    let stage = inside("mesh-good", "").await;
    let caller = Caller::start(&stage, "caller", 100, true).await;
    let bare = Caller::start(&stage, "bare", 20, false).await;
    stage.release(&Release::good("v2"));
    until("the callers are counted", || {
        let (reason, message) = bound(&stage);
        let so = message.contains("1 callers with a sidecar") && message.contains("1 pods there have no sidecar");
        (reason == "Bound" && so).then_some(())
    })
    .await;
    let status = stage.phase("Succeeded").await;
    stage.rested().await;
    let (seen, of_bare) = (caller.finish(), bare.finish());
    assert_eq!((seen.failed(), of_bare.failed()), (0, 0), "{seen:?} {of_bare:?}");
    assert!(seen.of("v1") > 0 && seen.of("v2") > 0, "{seen:?}");
    assert!(status["evidence"]["canaryRequests"].as_u64() > Some(50), "{}", status["evidence"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_release_costs_its_callers_a_handful_and_those_without_a_sidecar_nothing() {
    let stage = inside("mesh-bad", "").await;
    let caller = Caller::start(&stage, "caller", 100, true).await;
    let bare = Caller::start(&stage, "bare", 20, false).await;
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v2") });
    let status = stage.phase("Failed").await;
    stage.rested().await;
    let (seen, of_bare) = (caller.finish(), bare.finish());
    println!("{}", status["message"]);
    assert!(HARM.contains(&seen.failed()), "{seen:?}");
    assert_eq!((of_bare.failed(), of_bare.of("v2")), (0, 0), "{of_bare:?}");
    // The canary is gone: whoever could send the token would be answered by nobody.
    let routes = object(&stage.namespace, "virtualservice", "shop").unwrap();
    let token = routes["spec"]["http"][0]["match"][0]["headers"]["x-weir-token"]["exact"].as_str().unwrap().to_owned();
    let forged = format!("x-weir-token: {token}");
    let forger = Caller::start_in(&stage.namespace, &stage, "forger", 50, true, &["--header", &forged]);
    std::thread::sleep(std::time::Duration::from_secs(8));
    let seen = forger.finish();
    assert!(seen.failed() == 0 && seen.of("v1") > 50, "{seen:?}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_behind_a_gateway_and_the_mesh_has_one_weight_and_one_evidence() {
    let stage = Stage::with_sidecars("mesh-both").await;
    stage.release(&Release::good("v1"));
    let service = format!("{{port: 80, targetPort: 8080, gateways: [public, mesh], hosts: [{}]}}", stage.host());
    stage.canary_of(&service, "progressDeadlineSeconds: 120", STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    let caller = Caller::start(&stage, "caller", 50, true).await;
    let traffic = stage.traffic(50.0);
    let status = stage.release_into_traffic(&Release::good("v2")).await;
    assert!(status["gateways"]["serving"].as_u64() >= Some(2), "{}", status["gateways"]);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let (seen, tally) = (caller.finish(), traffic.finish().await);
    assert_eq!((seen.failed(), tally.totals().1), (0, 0), "{seen:?} {:?}", tally.summary());
    assert!(seen.of("v2") > 0 && tally.of("v2").ok > 0, "{seen:?} {:?}", tally.summary());
    // A bad one is taken back by what both have counted.
    let (caller, traffic) = (Caller::start(&stage, "again", 50, true).await, stage.traffic(50.0));
    stage.release(&Release { arguments: &["--failure-ratio", "1"], ..Release::good("v3") });
    stage.phase("Failed").await;
    stage.rested().await;
    let (seen, tally) = (caller.finish(), traffic.finish().await);
    let failed = seen.failed() + tally.totals().1;
    println!("behind both: {failed} failed");
    assert!((1..=2 * HARM.end()).contains(&failed), "{seen:?} {:?}", tally.summary());
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_in_another_namespace_take_part_once_an_admin_allows_it_and_leave_nothing_behind() {
    let web = "weir-test-mesh-web";
    let _ = run("kubectl", &["delete", "namespace", web, "--ignore-not-found", "--wait"], "");
    kubectl(&["create", "namespace", web]);
    let stage = inside("mesh-apart", &format!(", callers: [{{namespace: {web}}}]")).await;
    let caller = Caller::start_in(web, &stage, "caller", 100, true, &[]);
    until("the namespace is named with what to do", || {
        bound(&stage).1.contains(&format!("kubectl label namespace {web} weir.dev/callers=allowed")).then_some(())
    })
    .await;
    stage.release(&Release::good("v2"));
    until("the rollout waits for a caller", || (stage.status()["reason"] == "NoCaller").then_some(())).await;
    let filters = || kubectl(&["-n", web, "get", "envoyfilters", "-o", "name"]);
    assert_eq!(filters(), "");
    kubectl(&["label", "namespace", web, "weir.dev/callers=allowed"]);
    stage.phase("Succeeded").await;
    stage.rested().await;
    let seen = caller.finish();
    assert_eq!(seen.failed(), 0, "{seen:?}");
    assert!(seen.of("v2") > 0, "{seen:?}");
    kubectl(&["-n", &stage.namespace, "delete", "canary", "shop", "--wait"]);
    until("nothing of Weir is left there", || filters().is_empty().then_some(())).await;
    kubectl(&["delete", "namespace", web, "--wait=false"]);
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_come_and_go_in_mid_release_see_no_error() {
    let stage = inside_for("mesh-moving", "", ONE_STEP).await;
    let first = Caller::start(&stage, "first", 40, true).await;
    stage.release_into_traffic(&Release::good("v2")).await;
    super::people::ask(&stage, "pause", 1);
    let second = Caller::start(&stage, "second", 40, true).await;
    let first = first.finish();
    super::people::ask(&stage, "resume", 2);
    let status = stage.phase("Succeeded").await;
    stage.rested().await;
    let second = second.finish();
    assert_eq!((first.failed(), second.failed()), (0, 0), "{first:?} {second:?}");
    assert!(first.of("v2") > 0 && second.of("v2") > 0, "{first:?} {second:?}");
    // What the first one counted is not lost with it.
    let counted = status["evidence"]["canaryRequests"].as_u64().unwrap_or_default();
    assert!(counted >= first.of("v2") / 2, "{counted}: {first:?}");
    stage.strike();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_in_a_namespace_of_strict_mtls_is_split_as_any_other() {
    let stage = Stage::with_sidecars("mesh-strict").await;
    kubectl(&["label", "namespace", &stage.namespace, "istio-injection=enabled"]);
    apply(&format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: {}}}, \
         spec: {{mtls: {{mode: STRICT}}}}}}",
        stage.namespace
    ));
    stage.release(&Release::good("v1"));
    stage.canary_of("{port: 80, targetPort: 8080}", "progressDeadlineSeconds: 120", STEPS);
    stage.phase("Initialized").await;
    stage.rested().await;
    splits_a_good_release(&stage, 100).await;
    stage.strike();
}
