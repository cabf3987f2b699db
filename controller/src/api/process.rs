//! `Process`: a program that `weir standalone` runs, shaped like a container of a pod.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_engine::Span;

use super::object::{Object, name_problem};
use super::problem::{Problem, Problems};

/// A program to run. A changed spec is a new revision, but for `replicas`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessSpec {
    /// The program and its arguments. `$(PORT)` is the port that this replica must listen on (on 127.0.0.1); `$(NAME)` is the
    /// variable of that name from `env`; `$$` is `$`. The program is looked up in `PATH` unless its name contains `/`.
    pub command: Vec<String>,
    /// Environment variables, added to those of `weir` itself. `PORT` is always there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<ProcessVariable>,
    /// The folder to run in; relative to the file's folder. Default: the file's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// How many run at once. 1 to 100. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<i64>,
    /// How to find out whether it serves. Default: it accepts a connection on its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<ProbeSpec>,
    /// Time in seconds between SIGTERM and SIGKILL, for requests under way. 0 to 3600. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub termination_grace_period_seconds: Option<i64>,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessVariable {
    /// Its name.
    pub name: String,
    /// Its value; `$(PORT)` and `$(NAME)` of an earlier variable are filled in. Default: empty.
    #[serde(default)]
    pub value: String,
}

/// How to find out whether a process serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSpec {
    /// Ask by HTTP: a status from 200 to 399 is yes. Default: a TCP connection that is accepted is yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// Time in seconds before the first question. 0 to 3600. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub initial_delay_seconds: Option<i64>,
    /// Time in seconds between two questions. 1 to 3600. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: Option<i64>,
    /// Time in seconds that an answer may take. 1 to 3600. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: Option<i64>,
    /// Answers in a row that make it ready. 1 to 100. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub success_threshold: Option<i64>,
    /// Missing answers in a row that make it unready. 1 to 100. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: Option<i64>,
}

/// A question by HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpGet {
    /// The path, beginning with `/`.
    pub path: String,
}

/// A program to run, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments, references not filled in yet. Never empty.
    pub command: Vec<String>,
    /// Environment variables in the order of the spec.
    pub env: Vec<ProcessVariable>,
    /// The folder to run in.
    pub working_dir: Option<String>,
    /// How many run at once, at least 1.
    pub replicas: u32,
    /// How to find out whether it serves.
    pub probe: Probe,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Span,
}

/// How to find out whether a process serves, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What to ask.
    pub target: Target,
    /// Time before the first question.
    pub delay: Span,
    /// Time between two questions.
    pub period: Span,
    /// Time that an answer may take.
    pub timeout: Span,
    /// Answers in a row that make it ready.
    pub successes: u32,
    /// Missing answers in a row that make it unready.
    pub failures: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `GET` of this path.
    Http(String),
    /// A connection.
    Tcp,
}

/// Makes a valid process of what a user wrote.
///
/// # Errors
/// Every problem of the spec.
pub fn process(object: &Object<ProcessSpec>) -> Result<Process, Vec<Problem>> {
    let spec = &object.spec;
    let mut problems = Problems::new();
    if let Some(text) = name_problem(&object.metadata.name) {
        problems.add("metadata.name", text);
    }
    match spec.command.first().map(String::as_str) {
        None => {
            problems.add("spec.command", "is empty: name the program to run, for instance [./serve, --port, $(PORT)]")
        }
        Some("") => problems.add("spec.command[0]", "is empty: name the program to run"),
        Some(_) => {}
    }
    if let Some(i) = spec.command.iter().position(|word| word.contains('\0')) {
        problems.add(format!("spec.command[{i}]"), "holds a NUL character, which no program can be given");
    }
    check_env(&spec.env, &mut problems);
    let mut whole = |field: &str, value: Option<i64>, default: u32, min: i64, max: i64| {
        let value = value.unwrap_or(default.into());
        if !(min..=max).contains(&value) {
            problems.add(field, format!("{value} is out of range: give a number from {min} to {max}"));
        }
        u32::try_from(value).unwrap_or(default)
    };
    let replicas = whole("spec.replicas", spec.replicas, 1, 1, 100);
    let grace = whole("spec.terminationGracePeriodSeconds", spec.termination_grace_period_seconds, 10, 0, 3600);
    let raw = spec.readiness_probe.clone().unwrap_or_default();
    let at = |name: &str| format!("spec.readinessProbe.{name}");
    let delay = whole(&at("initialDelaySeconds"), raw.initial_delay_seconds, 0, 0, 3600);
    let period = whole(&at("periodSeconds"), raw.period_seconds, 1, 1, 3600);
    let timeout = whole(&at("timeoutSeconds"), raw.timeout_seconds, 1, 1, 3600);
    let successes = whole(&at("successThreshold"), raw.success_threshold, 1, 1, 100);
    let failures = whole(&at("failureThreshold"), raw.failure_threshold, 3, 1, 100);
    let seconds = |s: u32| Span::seconds(s.into());
    let target = raw.http_get.map_or(Target::Tcp, |get| Target::Http(get.path));
    if let Target::Http(path) = &target
        && (!path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()))
    {
        problems.add(at("httpGet.path"), format!("{path:?} is not a path: begin with / and escape what is not ASCII"));
    }
    problems.into_result(Process {
        command: spec.command.clone(),
        env: spec.env.clone(),
        working_dir: spec.working_dir.clone(),
        replicas,
        probe: Probe {
            target,
            delay: seconds(delay),
            period: seconds(period),
            timeout: seconds(timeout),
            successes,
            failures,
        },
        grace: seconds(grace),
    })
}

fn check_env(env: &[ProcessVariable], problems: &mut Problems) {
    let mut names = BTreeSet::new();
    for (i, variable) in env.iter().enumerate() {
        let field = format!("spec.env[{i}]");
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            problems.add(field + ".name", format!("{:?} is not the name of a variable", variable.name));
        } else if variable.name == "PORT" {
            problems.add(field + ".name", "PORT is given by Weir, another one for each replica; remove it here");
        } else if !names.insert(&variable.name) {
            problems.add(field + ".name", format!("{} is given twice; keep one", variable.name));
        } else if variable.value.contains('\0') {
            problems.add(field + ".value", "holds a NUL character, which no program can be given");
        }
    }
}

impl Process {
    /// Returns the command for a replica that listens on `port`, with every `$(NAME)` filled in.
    #[must_use]
    pub fn command_for(&self, port: u16) -> Vec<String> {
        let env = self.env_for(port);
        self.command.iter().map(|word| expand(word, &env)).collect()
    }

    /// Returns the environment for a replica that listens on `port`: `PORT` first, then the spec's variables.
    #[must_use]
    pub fn env_for(&self, port: u16) -> Vec<(String, String)> {
        let mut env = vec![("PORT".to_owned(), port.to_string())];
        for variable in &self.env {
            let value = expand(&variable.value, &env);
            env.push((variable.name.clone(), value));
        }
        env
    }
}

/// Fills in `$(NAME)` as Kubernetes does: an unknown name stays as it is, `$$` is `$`.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let value = reference.and_then(|(name, _)| env.iter().find(|(n, _)| n == name));
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let (Some((_, after)), Some((_, value))) = (reference, value) {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}
