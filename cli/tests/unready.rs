//! `weir lint` and `weir migrate`: objects that cannot work as they are written, and texts that are no objects yet.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod program;

/// What a command says of a text: its exit status, standard output, and standard error.
fn weir(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let output = program::weir(arguments, input);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn canary(group: &str, more: &str, metrics: &str) -> String {
    format!(
        "apiVersion: {group}/v1beta1\nkind: Canary\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  \
         targetRef: {{apiVersion: apps/v1, kind: Deployment, name: cart}}\n  \
         service: {{port: 80, gateways: [istio-ingress/public], hosts: [cart.example.com]}}\n{more}  \
         analysis:\n    interval: 10s\n    stepWeight: 10\n    metrics: {metrics}\n"
    )
}

fn template(provider: &str, query: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1beta1\nkind: MetricTemplate\nmetadata: {{name: errors, namespace: shop}}\nspec:\n  provider: {provider}\n  \
         query: {query}\n---\n"
    )
}

#[test]
fn a_question_that_no_prometheus_could_be_asked_is_refused_by_lint_and_migrate_as_in_a_cluster() {
    let own = |query: &str| format!("[{{name: errors, query: {query}, thresholdRange: {{max: 1}}}}]");
    let server = |address: &str| format!("  metricsServer: {address}\n");
    let asks = "[{name: errors, templateRef: {name: errors}, thresholdRange: {max: 1}}]";
    let with = "[{name: errors, templateRef: {name: errors}, templateVariables: {reporter: source}, thresholdRange: {max: 1}}]";
    let prometheus = "{type: prometheus, address: 'http://p'}";
    let variable = "'sum(rate(x{reporter=\"{{ variables.reporter }}\"}[1m]))'";
    let rows = [
        (
            "",
            "",
            own("sum(up)"),
            "spec.metricsServer: no address of a Prometheus is given for a metric with a query of its own",
        ),
        ("", &*server("prometheus:9090"), own("sum(up)"), "spec.metricsServer: \"prometheus:9090\" is not an address"),
        ("", &server("http://p"), own("'{{ if x }}'"), "spec.analysis.metrics[0].query: {{ if x }} is not known: use"),
        ("", &server("http://p"), own("sum(up)"), ""),
        (
            &template(prometheus, variable),
            "",
            asks.to_owned(),
            "spec.analysis.metrics[0].templateVariables: MetricTemplate errors: {{ variables.reporter }} needs reporter",
        ),
        (&template(prometheus, variable), "", with.to_owned(), ""),
        // What is told of the template is told once.
        (
            &template("{type: prometheus}", "sum(up)"),
            "",
            asks.to_owned(),
            "spec.provider.address: no address of a Prometheus",
        ),
        // Another file may have it, or the cluster.
        ("", "", asks.to_owned(), ""),
    ];
    for (before, more, metrics, expected) in rows {
        let text = format!("{before}{}", canary("weir.dev", more, &metrics));
        let (code, out, _) = weir(&["lint", "-f", "-"], &text);
        let errors: Vec<&str> = out.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(
            (code, errors.len()),
            if expected.is_empty() { (Some(0), 0) } else { (Some(1), 1) },
            "{expected}: {out}"
        );
        assert!(errors.iter().all(|error| error.contains(expected)), "{out}");
        let (code, _, said) = weir(&["migrate", "-f", "-"], &text.replace("weir.dev/v1beta1", "flagger.app/v1beta1"));
        assert_eq!(code, Some(i32::from(!expected.is_empty())), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn every_value_that_its_field_cannot_take_is_named() {
    let text = canary("weir.dev", "  skipAnalysis: \"true\"\n", "[{name: 5, thresholdRange: {max: x}}]")
        .replace("port: 80", "port: \"80\"")
        .replace("interval: 10s", "interval: 60")
        .replace("stepWeight: 10", "stepWeights: [a, 5, b]");
    let (code, out, _) = weir(&["lint", "-f", "-"], &text);
    assert_eq!(code, Some(1), "{out}");
    let fields = [
        "line 6: spec.service.port: ",
        "line 7: spec.skipAnalysis: ",
        "line 9: spec.analysis.interval: ",
        "spec.analysis.stepWeights[0]: ",
        "spec.analysis.stepWeights[2]: ",
        "spec.analysis.metrics[0].name: ",
        "spec.analysis.metrics[0].thresholdRange.max: ",
    ];
    for field in fields {
        assert_eq!(out.matches(field).count(), 1, "{field}: {out}");
    }
    assert!(out.ends_with(&format!("1 objects, {} errors\n", fields.len())), "{out}");
    // What is missing, beside what is wrong.
    let text = text.replace("kind: Deployment, name: cart", "kind: Deployment");
    let (_, out, _) = weir(&["lint", "-f", "-"], &text);
    assert!(out.contains("spec.targetRef: missing field `name`") && out.contains("spec.analysis.interval"), "{out}");
}

#[test]
fn what_sops_has_encrypted_stays_as_it_is_and_is_said_to() {
    let text = "apiVersion: flagger.app/v1beta1\nkind: AlertProvider\nmetadata: {name: slack}\nspec:\n    type: slack\n    \
                address: ENC[AES256_GCM,data:a,type:str]\nsops:\n    mac: ENC[AES256_GCM,data:z,type:str]\n";
    let (code, out, said) = weir(&["migrate", "--take-over", "-f", "-"], text);
    assert_eq!((code, out.as_str()), (Some(1), text));
    assert!(said.contains("line 7: sops: is how SOPS encrypts") && said.contains("decrypt it, migrate it"), "{said}");
    assert!(said.contains("0 of Flagger's objects changed, 1 errors"), "{said}");
}

#[test]
fn a_template_of_helms_is_to_be_rendered_first() {
    let plain = canary("flagger.app", "", "[]");
    for text in [
        format!("{{{{- if .Values.canary }}}}\n{plain}{{{{- end }}}}\n"),
        plain.replace("name: cart", "name: \"{{ .Release.Name }}\""),
    ] {
        let (code, out, said) = weir(&["migrate", "-f", "-"], &text);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("is a template of Helm's, say: render it first"), "{said}");
        assert!(
            said.ends_with("1 errors\n")
                && out.contains(text.lines().next().unwrap_or_default().trim_end_matches("flagger.app/v1beta1")),
            "{out}{said}"
        );
    }
    // The words of queries are no template's.
    let (code, _, said) = weir(
        &["migrate", "-f", "-"],
        &template("{type: prometheus, address: 'http://p'}", "'sum(x{a=\"{{ target }}\"})'"),
    );
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn what_flagger_called_otherwise_once_is_named_with_its_word_of_today() {
    let text = canary("flagger.app", "", "[]").replace("  analysis:", "  canaryAnalysis:");
    let (_, _, said) = weir(&["migrate", "-f", "-"], &text);
    assert!(
        said.contains("line 7: spec.canaryAnalysis: is what Flagger calls analysis today: call it analysis"),
        "{said}"
    );
}

#[test]
fn a_template_of_another_provider_is_told_of_its_provider_alone() {
    let text = template("{type: newrelic}", "SELECT x FROM Metric").replace("weir.dev", "flagger.app");
    let (_, _, said) = weir(&["migrate", "-f", "-"], &text);
    assert!(said.contains("provider type newrelic is not supported") && !said.contains("aggregate it"), "{said}");
}

#[test]
fn a_directory_is_its_files_as_kubectl_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, _, said) = weir(&["lint", "-f", path], "");
    assert!(code == Some(2) && said.contains("has no file that ends in .yaml, .yml or .json"), "{said}");
    write("b.yml", &canary("flagger.app", "", "[]"));
    write("a.yaml", &canary("flagger.app", "", "[]").replace("name: cart", "name: bag"));
    write("README.md", "not: [yaml");
    let (code, out, said) = weir(&["migrate", "-f", path], "");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        out.find("name: bag") < out.find("name: cart") && said.contains("2 of Flagger's objects changed"),
        "{out}{said}"
    );
}
