//! `weir lint` and `weir migrate`: what they say of files, and their exit status.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod program;

use std::path::Path;
use std::process::Command;

use program::weir;

const CANARY: &str = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: cart, namespace: shop}\nspec:\n  \
                      targetRef: {apiVersion: apps/v1, kind: Deployment, name: cart} # ours\n  service: {port: 80}\n  \
                      analysis: {interval: 10s, stepWeights: [10, 50]}\n";
const BROKEN: &str = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: cart\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn migrate_writes_the_rest_when_a_document_does_not_parse_and_its_exit_status_says_so() {
    let output = weir(&["migrate", "-f", "-"], CANARY);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), CANARY.replace("flagger.app", "weir.dev"));
    let said = text(&output.stderr);
    assert!(
        said.contains("note: standard input, document 1, line 6: spec.service.gateways: names no gateway"),
        "{said}"
    );

    let output = weir(&["migrate", "-f", "-"], &format!("{BROKEN}---\n{CANARY}"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), format!("{BROKEN}---\n{}", CANARY.replace("flagger.app", "weir.dev")));
    let said = text(&output.stderr);
    assert!(said.contains("error: standard input, document 1, line") && said.contains("does not parse"), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for command in ["lint", "migrate"] {
        let output = weir(&[command, "-f", "/nowhere.yaml"], "");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("read /nowhere.yaml"), "{}", text(&output.stderr));
    }
    // The others are read all the same.
    let output = weir(&["migrate", "-f", "/nowhere.yaml", "-f", "-"], CANARY);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), CANARY.replace("flagger.app", "weir.dev")));
}

#[test]
fn files_one_after_the_other_stay_documents_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (a, b) = (file("a.yaml", CANARY.trim_end()), file("b.yaml", CANARY));
    let output = weir(&["migrate", "-f", &a, "-f", &b], "");
    let wanted = format!("{}\n---\n{CANARY}", CANARY.trim_end()).replace("flagger.app", "weir.dev");
    assert_eq!(text(&output.stdout), wanted);
}

#[test]
fn lint_says_what_is_refused_and_what_has_no_effect() {
    let wrong = CANARY.replace("flagger.app", "weir.dev").replace("interval: 10s", "interval: soon, canaryAnalysis: 1");
    let output = weir(&["lint", "-f", "-"], &wrong);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("error: standard input, document 1, line 7: spec.analysis.interval: \"soon\""), "{said}");
    assert!(
        said.contains("error: standard input, document 1, line 7: spec.analysis.canaryAnalysis: is not known"),
        "{said}"
    );
}

#[test]
fn what_the_api_server_refuses_is_an_error_of_lint_and_of_migrate() {
    let metrics: Vec<String> =
        (0..17).map(|i| format!("{{name: m{i}, templateRef: {{name: a}}, thresholdRange: {{max: 1}}}}")).collect();
    for (from, to, expected) in [
        ("spec:", "sepc: {}\nspec:", "line 4: sepc: is not known"),
        (
            "namespace: shop}",
            "namespace: shop, uid: 0a1b}",
            "line 3: metadata.uid: is of the object that this was read from",
        ),
        ("kind: Canary", "kind: Canary\nstatus: {verdict: good}", "line 3: status.verdict: is not known"),
        (
            "port: 80",
            "port: 80, trafficDistribution: Near",
            "line 6: spec.service.trafficDistribution: \"Near\" is not known",
        ),
        (
            "{interval",
            &format!("{{metrics: [{}], interval", metrics.join(", ")),
            "line 7: spec.analysis.metrics: has 17 items",
        ),
        (
            "port: 80",
            "port: 80, apex: {labels: {weir.dev/a: b}}",
            "line 6: spec.service.apex.labels: keys of weir.dev/ are",
        ),
    ] {
        for (command, group) in [("lint", "weir.dev"), ("migrate", "flagger.app")] {
            let text_of = CANARY.replace("flagger.app", group).replacen(from, to, 1);
            let output = weir(&[command, "-f", "-"], &text_of);
            let said = text(&output.stdout) + &text(&output.stderr);
            let expected = format!("error: standard input, document 1, {expected}");
            assert_eq!(output.status.code(), Some(1), "{command}: {said}");
            assert!(
                said.contains(&expected) && said.contains(", 1 errors") && !said.contains("is kept"),
                "{command} {expected}: {said}"
            );
        }
    }
}

#[test]
fn lint_says_what_means_something_else_than_with_flagger() {
    let metrics = "metrics: [{name: request-success-rate, thresholdRange: {min: 99}}], interval";
    let canary = CANARY.replace("flagger.app", "weir.dev").replace("{interval", &format!("{{{metrics}"));
    let output = weir(&["lint", "-f", "-"], &canary);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let meant =
        "meaning: standard input, document 1, line 7: spec.analysis.metrics[0].thresholdRange: holds the weight";
    assert!(
        said.contains(meant) && said.contains("meaning: standard input, document 1, line 6: spec.service.gateways"),
        "{said}"
    );
}

#[test]
fn a_canary_that_names_no_namespace_may_have_hosts_of_the_one_that_it_goes_to() {
    let canary =
        CANARY.replace(", namespace: shop", "").replace("port: 80", "port: 80, hosts: [cart.prod.svc.cluster.local]");
    for (command, group) in [("lint", "weir.dev"), ("migrate", "flagger.app")] {
        let output = weir(&[command, "-f", "-"], &canary.replace("flagger.app", group));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command}: {said}");
        let elsewhere =
            canary.replace("flagger.app", group).replace("{name: cart}\nspec", "{name: cart, namespace: shop}\nspec");
        assert_eq!(weir(&[command, "-f", "-"], &elsewhere).status.code(), Some(1), "{command}");
    }
}

/// What is said of a release by this analysis.
fn forecast(analysis: &str) -> String {
    let canary = CANARY.replace("flagger.app", "weir.dev").replace("{interval: 10s, stepWeights: [10, 50]}", analysis);
    let output = weir(&["lint", "-f", "-"], &canary);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

#[test]
fn lint_forecasts_a_release_in_time_requests_and_failures() {
    let rate = "metrics: [{name: request-success-rate, thresholdRange: {min: 99}}]";
    let said = forecast(&format!("{{interval: 10s, stepWeights: [10, 50], {rate}}}"));
    // 10 requests of 10 %, in 10 s; failures as the guard's tables of docs/evidence.md have them.
    for line in [
        "shop/cart: weights 10, 50 %; promoted after 20s at least",
        "requests  10 of the canary in each step, after 10s: 10/s at 10 %, 2/s at 50 %; with fewer it waits",
        "failures  every request fails: taken back after 2 at 10 %, 2 at 50 %",
        "10x as often as a primary at 0.1 %: after 7 at 10 % (9 of 10: 10)",
        "in 6,316 requests (9 of 10: 12,632), which come in one step at 640/s",
        "bounds    neither met nor shown to be broken: a step waits for 60 checks at most, 10m00s",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let mut told = said.lines().filter(|line| !line.starts_with("meaning: "));
    assert!(told.all(|line| line.chars().count() <= 110), "{said}");
    // Without a bound of its own a revision must be worse than 5 % and than thrice what the primary may be.
    assert!(forecast("{interval: 10s, stepWeights: [10, 50]}").contains("taken back after 4 at 10 %, 4 at 50 %"));
    assert!(
        forecast("{interval: 1m, stepWeight: 50, maxWeight: 50, stepWeightPromotion: 25}")
            .contains("promoted after 1m00s at least, and 2m00s more until the primary has all requests")
    );
    let said = forecast(&format!("{{interval: 1m, iterations: 3, match: [{{headers: {{a: {{exact: b}}}}}}], {rate}}}"));
    assert!(said.contains("3 checks; promoted after 3m00s at least") && said.contains("0.17/s that match"), "{said}");
    let said = forecast(
        "{interval: 1m, iterations: 2, webhooks: [{name: approval, type: confirm-promotion, url: 'http://gate/'}]}",
    );
    assert!(said.contains("gates     waits for the yes of approval"), "{said}");
}

#[test]
fn lint_forecasts_no_decision_where_people_decide() {
    let canary =
        |fields: &str| CANARY.replace("flagger.app", "weir.dev").replace("spec:\n", &format!("spec:\n  {fields}\n"));
    let said = text(&weir(&["lint", "-f", "-"], &canary("observeOnly: true")).stdout);
    assert!(
        said.contains("shop/cart: observed at 10 %: nothing is advanced, promoted or taken back but by a person"),
        "{said}"
    );
    assert!(!said.contains("promoted after") && !said.contains("taken back after"), "{said}");
    let said = text(&weir(&["lint", "-f", "-"], &canary("suspend: true")).stdout);
    assert!(
        said.contains("shop/cart: starts nothing while spec.suspend is true; after that:\n  weights 10, 50 %"),
        "{said}"
    );
}

#[test]
fn lint_takes_nothing_for_somebody_elses_that_was_meant_for_weir() {
    for (header, told) in [
        ("apiVersion: weir.dev/v1\nkind: Canary", "line 1: apiVersion: \"weir.dev/v1\" is not a version"),
        ("apiVersion: weir.dev/v1beta1\nkind: Canry", "line 2: kind: Canry is not a kind"),
        ("kind: Canary", "apiVersion: is missing, so this Canary is ignored"),
        ("apiVersion: flagger.app/v1beta1\nkind: Canary", "`weir migrate` turns it into Weir's"),
    ] {
        let output = weir(&["lint", "-f", "-"], header);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{header}: {said}");
        assert!(said.starts_with("error: ") && said.contains(told) && said.contains("1 objects, 1 errors"), "{said}");
    }
    let output =
        weir(&["lint", "-f", "-"], "apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\nkind: Service\n");
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "0 objects, 0 errors: there is none of Weir's or Flagger's\n".to_owned())
    );
}

#[test]
fn lint_sees_two_canaries_of_one_deployment_or_host_in_two_files() {
    let folder = tempfile::tempdir().unwrap();
    let canary = |name: &str, target: &str| {
        let text = CANARY
            .replace("flagger.app", "weir.dev")
            .replace("{name: cart, namespace", &format!("{{name: {name}, namespace"));
        let text = text.replace("kind: Deployment, name: cart", &format!("kind: Deployment, name: {target}"));
        let path = folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, text.replace("{port: 80}", "{port: 80, gateways: [public], hosts: [shop.example.com]}"))
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cart, twin, other) = (canary("cart", "cart"), canary("twin", "cart"), canary("other", "other"));
    let output = weir(&["lint", "-f", &cart, "-f", &twin], "");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("twin.yaml, document 1, line 5: spec.targetRef: Deployment cart is the target of both"),
        "{said}"
    );
    let output = weir(&["lint", "-f", &cart, "-f", &other], "");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("note: ") && said.contains("spec.service.hosts[0]: shop.example.com is a host of both"),
        "{said}"
    );
    // A base and what is made of it are one object.
    assert_eq!(weir(&["lint", "-f", &cart, "-f", &cart], "").status.code(), Some(0));
}

#[test]
fn lint_finds_nothing_wrong_with_the_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    for example in std::fs::read_dir(folder).unwrap() {
        let path = example.unwrap().path();
        let output = weir(&["lint", "-f", path.to_str().unwrap()], "");
        assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), text(&output.stdout));
    }
}

#[test]
fn a_metric_that_cannot_be_asked_is_an_error_of_lint_and_of_migrate() {
    let of = |group: &str, provider: &str, query: &str| {
        format!(
            "apiVersion: {group}/v1beta1\nkind: MetricTemplate\nmetadata: {{name: errors}}\nspec:\n  provider: {{type: {provider}, address: \
             \"http://prometheus\"}}\n  query: '{query}'\n"
        )
    };
    let asked = "sum(rate(errors{app=\"{{ target }}\", zone=\"{{ variables.zone }}\"}[{{ interval }}]))";
    for (provider, query, expected) in [
        ("prometheus", asked, None),
        ("datadog", "up", Some("line 5: spec.provider.type: provider type datadog is not supported")),
        ("prometheus", "{{ if target }}up{{ end }}", Some("if target")),
    ] {
        for (command, group) in [("lint", "weir.dev"), ("migrate", "flagger.app")] {
            let output = weir(&[command, "-f", "-"], &of(group, provider, query));
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(i32::from(expected.is_some())), "{command}: {said}");
            assert!(expected.is_none_or(|expected| said.contains(expected)), "{command}: {said}");
        }
    }
}

#[test]
fn an_alert_provider_that_nothing_can_be_sent_to_is_an_error_of_lint_and_of_migrate() {
    let of = |group: &str, kind: &str, rest: &str| {
        format!(
            "apiVersion: {group}/v1beta1\nkind: AlertProvider\nmetadata: {{name: chat}}\nspec: {{type: {kind}{rest}}}\n"
        )
    };
    for (kind, rest, expected) in [
        ("slack", ", address: 'http://chat/'", None),
        ("msteams", ", secretRef: {name: chat}", None),
        ("slack", ", address: 'chat'", Some("line 4: spec.address: is no address")),
        (
            "slack",
            ", address: 'https://chat/', proxy: 'socks5://proxy:1080'",
            Some("line 4: spec.proxy: is no address of a proxy"),
        ),
        ("discord", "", Some("neither an address nor a secretRef")),
        ("telegram", ", address: 'http://chat/'", Some("line 4: spec.type: \"telegram\" is not known")),
    ] {
        for (command, group) in [("lint", "weir.dev"), ("migrate", "flagger.app")] {
            let output = weir(&[command, "-f", "-"], &of(group, kind, rest));
            let said = text(&output.stdout) + &text(&output.stderr);
            assert_eq!(output.status.code(), Some(i32::from(expected.is_some())), "{command} {kind}: {said}");
            assert!(expected.is_none_or(|expected| said.contains(expected)), "{command}: {said}");
        }
    }
}

#[test]
fn the_clients_version_is_told_where_no_weir_answers() {
    let own = format!("client: {}\n", env!("CARGO_PKG_VERSION"));
    let output = weir(&["version", "--client"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), own.clone()));
    let output = weir(&["version", "--server", "http://127.0.0.1:9"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), own));
    assert!(text(&output.stderr).contains("the controller's version is not known"));
}

#[test]
fn migrate_has_canaries_ask_to_be_taken_over_and_tells_of_the_files_own_lines() {
    let block = CANARY.replace("metadata: {name: cart, namespace: shop}", "metadata:\n  name: cart\n  namespace: shop");
    let output = weir(&["migrate", "--take-over", "-f", "-"], &block);
    let asked = block.replace("  name: cart\n", "  annotations: {weir.dev/take-over: flagger}\n  name: cart\n");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), asked.replace("flagger.app", "weir.dev")));
    let said = text(&output.stderr);
    assert!(said.contains("line 8: spec.service.gateways"), "{said}");
    // What cannot be asked is told of the file's own lines too.
    let template = "---\napiVersion: flagger.app/v1beta1\nkind: MetricTemplate\nmetadata: {name: a}\nspec:\n  provider: {type: datadog}\n";
    let output = weir(&["migrate", "--take-over", "-f", "-"], &format!("{block}{template}"));
    let said = text(&output.stderr);
    assert!(
        said.contains("error: standard input, document 2, line 15: spec.provider.type: provider type datadog"),
        "{said}"
    );
    // Where there is no place for it, that is said.
    let strange = block.replace("metadata:\n", "metadata:\n  ? annotations\n  :\n");
    let output = weir(&["migrate", "--take-over", "-f", "-"], &strange);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("metadata.annotations: could not be added to"), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn completions_are_of_the_name_that_the_program_has_and_kubectl_gets_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, arguments: &[&str]| {
        let path = folder.path().join(name);
        if !path.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_weir"), &path).unwrap();
        }
        text(&Command::new(path).args(arguments).output().unwrap().stdout)
    };
    let plugin = run("kubectl-weir", &["completion", "bash"]);
    assert!(
        plugin.lines().any(|line| line.trim_start().starts_with("complete ") && line.ends_with(" kubectl-weir")),
        "{plugin}"
    );
    let own = run("weir", &["completion", "bash"]);
    assert!(own.lines().any(|line| line.trim_start().starts_with("complete ") && line.ends_with(" weir")), "{own}");
    assert_eq!(run("kubectl_complete-weir", &["pro"]), "promote\n:4\n");
    assert_eq!(run("kubectl_complete-weir", &["status", "--time"]), "--timeout\n:4\n");
    assert_eq!(run("kubectl_complete-weir", &["completion", "z"]), "zsh\n:4\n");
}

#[test]
fn completions_know_every_command() {
    let said = text(&weir(&["completion", "bash"], "").stdout);
    for command in ["status", "migrate", "lint", "promote"] {
        assert!(said.contains(command), "{command}");
    }
}
