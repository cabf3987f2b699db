//! Processes: defaults, references, problems.

use super::*;

#[test]
fn a_process_has_its_defaults_and_fills_in_its_port() {
    let text = "apiVersion: weir.dev/v1beta1\nkind: Process\nmetadata: {name: cart}\nspec:\n  \
                command: [./cart, --listen, \"127.0.0.1:$(PORT)\", $(HOME), $$(PORT), \"$\"]\n  \
                env: [{name: URL, value: \"http://localhost:$(PORT)/\"}, {name: SELF, value: $(URL)x}]\n";
    let Ok(Parsed { object: Known::Process(object), .. }) = read(text, "").remove(0) else { panic!() };
    let valid = process(&object).unwrap();
    assert_eq!((valid.replicas, valid.grace, valid.probe.target.clone()), (1, Span::seconds(10), Target::Tcp));
    assert_eq!(valid.command_for(81), ["./cart", "--listen", "127.0.0.1:81", "$(HOME)", "$(PORT)", "$"]);
    let env = [("PORT", "81"), ("URL", "http://localhost:81/"), ("SELF", "http://localhost:81/x")];
    assert_eq!(valid.env_for(81), env.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn every_problem_of_a_process_is_told() {
    let spec = ProcessSpec {
        command: vec![],
        env: ["", "A", "A", "PORT"].map(|name| ProcessVariable { name: name.into(), value: String::new() }).to_vec(),
        working_dir: None,
        replicas: Some(0),
        readiness_probe: Some(ProbeSpec {
            http_get: Some(HttpGet { path: "healthz".into() }),
            period_seconds: Some(0),
            ..ProbeSpec::default()
        }),
        termination_grace_period_seconds: Some(-1),
    };
    let object =
        Object { metadata: Metadata { name: "cart".into(), ..Metadata::default() }, spec, ..Object::default() };
    let found: Vec<String> = process(&object).unwrap_err().iter().map(ToString::to_string).collect();
    let expected = [
        "spec.command: is empty: name the program to run, for instance [./serve, --port, $(PORT)]",
        "spec.env[0].name: \"\" is not the name of a variable",
        "spec.env[2].name: A is given twice; keep one",
        "spec.env[3].name: PORT is given by Weir, another one for each replica; remove it here",
        "spec.replicas: 0 is out of range: give a number from 1 to 100",
        "spec.terminationGracePeriodSeconds: -1 is out of range: give a number from 0 to 3600",
        "spec.readinessProbe.periodSeconds: 0 is out of range: give a number from 1 to 3600",
        "spec.readinessProbe.httpGet.path: \"healthz\" is not a path: begin with / and escape what is not ASCII",
    ];
    assert_eq!(found, expected);
}
