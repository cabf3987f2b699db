//! `weir get NAME` on a terminal: a Canary, its arms, and what runs of them, in the form of Argo's tree.

use serde::{Deserialize, Serialize};
use weir_engine::Timestamp;

use super::paint::{self, Paint, Tone, WIDTH};
use super::{ArmView, CanaryDetail, table};

/// What runs of a Canary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Workloads {
    /// Of the primary, newest first.
    pub primary: Vec<ReplicaSetView>,
    /// Of the canary, newest first.
    pub canary: Vec<ReplicaSetView>,
    /// Why it is not known what runs, if so.
    pub unknown: Option<String>,
}

/// A ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetView {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub made: Timestamp,
    /// Pods that it wants.
    pub desired: i32,
    /// Pods of it that are ready.
    pub ready: i32,
    /// Pods of it that have been ready for long enough.
    pub available: i32,
    /// Images of its pods' containers.
    pub images: Vec<String>,
    /// Its pods, by name.
    pub pods: Vec<PodView>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub made: Timestamp,
    /// As `kubectl get pods` has it: `Running`, `CrashLoopBackOff`.
    pub status: String,
    /// Containers that are ready, and how many there are.
    pub ready: [usize; 2],
    /// Times that a container was started again.
    pub restarts: i32,
}

/// A row: its place in the tree, and what stands beside it.
struct Row {
    name: String,
    kind: &'static str,
    status: (&'static str, Tone, String),
    made: Option<Timestamp>,
    info: String,
}

/// Characters that names have in a window of [`WIDTH`].
const NAMES: usize = 46;

const HEADER: [&str; 5] = ["NAME", "KIND", "STATUS", "AGE", "INFO"];

/// Writes the whole screen.
#[must_use]
pub fn tree(detail: &CanaryDetail, workloads: &Workloads, now: Timestamp, paint: Paint) -> String {
    let rows = rows(detail, workloads);
    head(detail, workloads, now, paint, true) + "\n" + &body(&rows, workloads, now, paint)
}

/// Writes as much of it as so many lines have room for: what is well is told in numbers first, then the head is short.
#[must_use]
pub fn fitted(detail: &CanaryDetail, workloads: &Workloads, now: Timestamp, paint: Paint, room: usize) -> String {
    let whole = tree(detail, workloads, now, paint);
    if whole.lines().count() <= room {
        return whole;
    }
    let body = body(&folded(rows(detail, workloads)), workloads, now, paint);
    let long = head(detail, workloads, now, paint, true);
    let is_long = long.lines().count() + 1 + body.lines().count() <= room;
    (if is_long { long } else { head(detail, workloads, now, paint, false) }) + "\n" + &body
}

/// Puts one row into the place of neighbours that are well and have nothing below them.
fn folded(rows: Vec<Row>) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while let Some(row) = rows.next() {
        let is_leaf = |row: &Row| row.status.1 == Tone::Good && ["Pod", "Metric", "Webhook"].contains(&row.kind);
        let (kind, mut last, mut count) = (row.kind, row, 1);
        while is_leaf(&last)
            && let Some(next) = rows.next_if(|next| is_leaf(next) && next.kind == kind)
        {
            (last, count) = (next, count + 1);
        }
        if count > 1 {
            let branch = last.name.find("──").map_or("", |at| &last.name[..at + "──".len()]);
            (last.name, last.made, last.info) = (format!("{branch}… {count} of them"), None, String::new());
        }
        out.push(last);
    }
    out
}

fn body(rows: &[Row], workloads: &Workloads, now: Timestamp, paint: Paint) -> String {
    let mut out = String::new();
    let age = |row: &Row| row.made.map(|made| paint::age(now.since(made))).unwrap_or_default();
    let status = |row: &Row| format!("{} {}", row.status.0, row.status.2);
    let cells: Vec<[String; 4]> =
        rows.iter().map(|row| [row.name.clone(), row.kind.to_owned(), status(row), age(row)]).collect();
    let width = |i: usize| {
        let widest = cells.iter().map(|cells| cells[i].chars().count()).max().unwrap_or_default();
        // A name of the greatest length leaves room for the rest; a wider window is the names'.
        let names = (NAMES + paint.width).saturating_sub(WIDTH).max(NAMES / 2);
        widest.max(HEADER[i].len()).min(if i == 0 { names } else { 20 })
    };
    let widths = [0, 1, 2, 3].map(width);
    let cell = |text: &str, i: usize| format!("{:1$}", paint::fit(text, widths[i]), widths[i]);
    let header: Vec<String> =
        HEADER.iter().enumerate().map(|(i, it)| if i < 4 { cell(it, i) } else { (*it).into() }).collect();
    out += &(paint.text(Tone::Faint, &header.join("  ")) + "\n");
    for (row, cells) in rows.iter().zip(&cells) {
        let plain: Vec<String> = cells.iter().enumerate().map(|(i, text)| cell(text, i)).collect();
        let used: usize = widths.iter().map(|width| width + 2).sum();
        let [name, kind, status, age] = &plain[..] else { continue };
        let status = paint.text(row.status.1, status);
        let line =
            format!("{name}  {kind}  {status}  {age}  {}", paint::fit(&row.info, paint.width.saturating_sub(used)));
        out += &(line.trim_end().to_owned() + "\n");
    }
    match &workloads.unknown {
        Some(why) => {
            out + &format!(
                "\n{} {}\n",
                paint.text(Tone::Busy, "⚠"),
                paint.wrap(&format!("what runs is not known: {why}"), 2)
            )
        }
        None => out,
    }
}

fn head(detail: &CanaryDetail, workloads: &Workloads, now: Timestamp, paint: Paint, is_long: bool) -> String {
    let view = &detail.view;
    let (mark, tone) = paint::mark(view);
    let since = paint::age(now.since(view.started.unwrap_or(view.since)));
    let mut rows = vec![
        ("Name", view.name.clone()),
        ("Namespace", view.namespace.clone()),
        ("Status", format!("{} for {since}", paint.text(tone, &format!("{mark} {}", paint::word(view))))),
        ("Message", format!("{}: {}", view.reason, view.cause())),
    ];
    if let Some(step) = &view.step {
        rows.push(("  Step", format!("{}/{}", step.number, step.of)));
    }
    rows.push(("  SetWeight", table::weight(view)));
    if let Some(applied) = view.applied.weight {
        rows.push(("  Applied", paint::percent(applied)));
    }
    if let Some(observed) = view.applied.observed {
        rows.push((
            "  ActualWeight",
            format!("{} of {}", paint::percent(observed), paint::several(view.applied.draws, "draw")),
        ));
    }
    if let Some(evidence) = &view.evidence {
        let (bad, good) = evidence.distances();
        rows.push(("Evidence", format!("{:.0} % of the way to bad, {:.0} % to good", 100.0 * bad, 100.0 * good)));
    }
    if let Some(guard) = &detail.particulars.guard {
        let left = guard.limit.saturating_sub(guard.failed);
        rows.push(("Guard", format!("{} more failures in {} take it back", paint::count(left), guard.gateway)));
    }
    let arms = [("primary", "  Primary", &workloads.primary), ("canary", "  Canary", &workloads.canary)];
    let images = arms.iter().flat_map(|(arm, _, sets)| images(sets).map(move |image| format!("{image} ({arm})")));
    rows.extend(images.enumerate().map(|(i, image)| (if i == 0 { "Images" } else { "" }, image)));
    if arms.iter().any(|(.., sets)| !sets.is_empty()) {
        rows.push(("Replicas", String::new()));
        rows.extend(arms.iter().map(|(_, title, sets)| (*title, replicas(sets))));
    }
    let row = |(name, value): (&str, String)| {
        let title = if name.is_empty() { String::new() } else { format!("{name}:") };
        format!("{title:17}{}", paint.wrap(&value, 17)).trim_end().to_owned() + "\n"
    };
    // The tree below has the rest, but for how far it is.
    let short = ["Name", "Status", "Message", "  SetWeight", "Evidence", "Guard"];
    rows.into_iter().filter(|(name, _)| is_long || short.contains(name)).map(row).collect()
}

/// Returns the images that run of an arm, each once.
fn images(sets: &[ReplicaSetView]) -> impl Iterator<Item = &String> {
    let running = sets.iter().filter(|set| set.desired > 0 || !set.pods.is_empty());
    running.flat_map(|set| &set.images).collect::<std::collections::BTreeSet<_>>().into_iter()
}

fn replicas(sets: &[ReplicaSetView]) -> String {
    let sum = |of: fn(&ReplicaSetView) -> i32| sets.iter().map(of).sum::<i32>();
    format!(
        "{} desired, {} ready, {} available",
        sum(|set| set.desired),
        sum(|set| set.ready),
        sum(|set| set.available)
    )
}

fn rows(detail: &CanaryDetail, workloads: &Workloads) -> Vec<Row> {
    let view = &detail.view;
    let (mark, tone) = paint::mark(view);
    let particulars = &detail.particulars;
    let mut rows = vec![Row {
        name: format!("⟳ {}", view.name),
        kind: "Canary",
        status: (mark, tone, paint::word(view).to_owned()),
        made: view.started,
        info: String::new(),
    }];
    let last =
        match (particulars.gateways.is_empty(), particulars.metrics.is_empty() && particulars.webhooks.is_empty()) {
            (true, true) => 1,
            (false, true) => 2,
            _ => 3,
        };
    for (i, (word, arm, sets)) in
        [("primary", &view.primary, &workloads.primary), ("canary", &view.canary, &workloads.canary)]
            .into_iter()
            .enumerate()
    {
        let (branch, below) = if i == last { ("└──", "   ") } else { ("├──", "│  ") };
        rows.push(of_arm(branch, word, arm));
        for (set, is_last) in ends(sets) {
            let (branch, deeper) = if is_last { ("└──", "   ") } else { ("├──", "│  ") };
            rows.push(of_set(&format!("{below}{branch}⧉ "), set));
            for (pod, is_last) in ends(&set.pods) {
                let branch = if is_last { "└──" } else { "├──" };
                rows.push(of_pod(&format!("{below}{deeper}{branch}□ "), pod));
            }
        }
    }
    if !particulars.gateways.is_empty() {
        let (branch, below) = if last == 2 { ("└──", "   ") } else { ("├──", "│  ") };
        let applied = &view.applied;
        let all = applied.missing.is_empty();
        let status =
            if all { ("✔", Tone::Good, "Acknowledged".into()) } else { ("◌", Tone::Busy, "Waiting".into()) };
        let info = format!("{} of {}", applied.gateways, applied.of);
        rows.push(Row { name: format!("{branch}⇄ gateways"), kind: "Gateways", status, made: None, info });
        for (gateway, is_last) in ends(&particulars.gateways) {
            let branch = if is_last { "└──" } else { "├──" };
            let status = match (gateway.acknowledged, gateway.silent) {
                (true, _) => ("✔", Tone::Good, "Acknowledged".to_owned()),
                (false, true) => ("?", Tone::Faint, "Silent".to_owned()),
                (false, false) => ("◌", Tone::Busy, "NotYet".to_owned()),
            };
            rows.push(Row {
                name: format!("{below}{branch}{}", gateway.name),
                kind: "Pod",
                status,
                made: None,
                info: match gateway.waits {
                    0 => String::new(),
                    waits => format!("{} unseen", paint::several(waits, "failure")),
                },
            });
        }
    }
    rows.extend(of_checks(detail));
    rows
}

fn of_arm(branch: &str, word: &str, arm: &ArmView) -> Row {
    let status = match arm.readiness.as_str() {
        "ready" => ("✔", Tone::Good, "Ready".to_owned()),
        "absent" => ("•", Tone::Faint, "Absent".to_owned()),
        "" | "not looked at" => ("?", Tone::Faint, "Unknown".to_owned()),
        _ => ("◌", Tone::Busy, "NotReady".to_owned()),
    };
    let revision = arm.revision.as_deref().map(|revision| format!("{} ", paint::short(revision))).unwrap_or_default();
    let info = format!("{revision}{} failed", paint::count(arm.failed));
    Row { name: format!("{branch}# {word}"), kind: "Arm", status, made: None, info }
}

fn of_set(branch: &str, set: &ReplicaSetView) -> Row {
    let status = match (set.desired, set.ready) {
        (0, _) if set.pods.is_empty() => ("•", Tone::Faint, "ScaledDown".to_owned()),
        (desired, ready) if ready >= desired => ("✔", Tone::Good, "Healthy".to_owned()),
        _ => ("◌", Tone::Busy, "Progressing".to_owned()),
    };
    let info = format!("ready:{}/{}", set.ready, set.desired);
    Row { name: format!("{branch}{}", set.name), kind: "ReplicaSet", status, made: Some(set.made), info }
}

fn of_pod(branch: &str, pod: &PodView) -> Row {
    let (mark, tone) = match pod.status.as_str() {
        "Running" | "Succeeded" if pod.ready[0] == pod.ready[1] => ("✔", Tone::Good),
        "Running" | "Pending" | "ContainerCreating" | "PodInitializing" | "Terminating" => ("◌", Tone::Busy),
        "Failed" | "Error" | "CrashLoopBackOff" => ("✖", Tone::Bad),
        _ => ("⚠", Tone::Bad),
    };
    let restarts = match pod.restarts {
        0 => String::new(),
        n => format!(" ↻{n}"),
    };
    let info = format!("ready:{}/{}{restarts}", pod.ready[0], pod.ready[1]);
    Row {
        name: format!("{branch}{}", pod.name),
        kind: "Pod",
        status: (mark, tone, pod.status.clone()),
        made: Some(pod.made),
        info,
    }
}

fn of_checks(detail: &CanaryDetail) -> Vec<Row> {
    let (particulars, checks) = (&detail.particulars, detail.view.checks);
    let count = particulars.metrics.len() + particulars.webhooks.len();
    if count == 0 {
        return Vec::new();
    }
    let failed = checks.failed > 0;
    let status = if failed { ("⚠", Tone::Busy, "Failing") } else { ("✔", Tone::Good, "Passing") };
    let status = (status.0, status.1, status.2.to_owned());
    let info = format!("failed:{}/{}", checks.failed, checks.threshold);
    let mut rows = vec![Row { name: "└──α checks".into(), kind: "Checks", status, made: None, info }];
    let metrics = particulars.metrics.iter().map(|metric| {
        let status = match metric.result.as_str() {
            "inside" => ("✔", Tone::Good, "Inside"),
            "outside" => ("✖", Tone::Bad, "Outside"),
            _ => ("?", Tone::Faint, "NoValue"),
        };
        let unit = if metric.unit.is_empty() { String::new() } else { format!(" {}", metric.unit) };
        (&metric.name, "Metric", status, metric.value.map(|value| format!("{}{unit}", paint::percent(value))))
    });
    let webhooks = particulars.webhooks.iter().map(|hook| {
        let status = match hook.result.as_str() {
            "Passed" => ("✔", Tone::Good, "Passed"),
            "Failed" => ("✖", Tone::Bad, "Failed"),
            _ => ("?", Tone::Faint, "NotCalled"),
        };
        (&hook.name, "Webhook", status, Some(hook.kind.clone()))
    });
    for (i, (name, kind, status, info)) in metrics.chain(webhooks).enumerate() {
        let branch = if i + 1 == count { "└──" } else { "├──" };
        let status = (status.0, status.1, status.2.to_owned());
        rows.push(Row { name: format!("   {branch}{name}"), kind, status, made: None, info: info.unwrap_or_default() });
    }
    rows
}

/// Each with whether it is the last one.
fn ends<T>(items: &[T]) -> impl Iterator<Item = (&T, bool)> {
    items.iter().enumerate().map(|(i, item)| (item, i + 1 == items.len()))
}
