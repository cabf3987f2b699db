//! `weir get canaries`: one line each, with the columns of `kubectl get canaries`.

use weir_engine::Timestamp;

use super::paint::{self, Paint, Tone, WIDTH};
use super::{CanaryList, CanaryView};

const HEADER: [&str; 8] = ["NAMESPACE", "NAME", "STATUS", "WEIGHT", "STEP", "GATEWAYS", "REASON", "SINCE"];
/// Which of the columns is the status: it has the colour.
const STATUS: usize = 2;

/// Writes the table. `wide` adds the reason in words.
#[must_use]
pub fn table(list: &CanaryList, now: Timestamp, wide: bool, paint: Paint) -> String {
    let mut rows: Vec<(Vec<String>, Tone, &str)> = vec![(HEADER.map(str::to_owned).to_vec(), Tone::Faint, "MESSAGE")];
    rows.extend(list.items.iter().map(|view| (row(view, now), paint::mark(view).1, view.cause())));
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|i| rows.iter().filter_map(|(row, ..)| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for (cells, tone, message) in &rows {
        let mut line = String::new();
        for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count() + 2);
            let heading = *tone == Tone::Faint && cell == HEADER[i];
            let painted = if i == STATUS && !heading { paint.text(*tone, cell) } else { cell.clone() };
            line += &(painted + &padding);
        }
        out += if wide {
            line.push_str(message);
            line.trim_end()
        } else {
            line.trim_end()
        };
        out.push('\n');
    }
    out + &problems(list, paint)
}

fn row(view: &CanaryView, now: Timestamp) -> Vec<String> {
    let step = view.step.as_ref().map(|step| format!("{}/{}", step.number, step.of));
    vec![
        view.namespace.clone(),
        view.name.clone(),
        paint::word(view).to_owned(),
        weight(view),
        step.unwrap_or_else(|| "-".to_owned()),
        format!("{}/{}", view.applied.gateways, view.applied.of),
        view.reason.clone(),
        paint::age(now.since(view.since)),
    ]
}

/// Writes the weight that was asked for, and whether requests are matched.
#[must_use]
pub fn weight(view: &CanaryView) -> String {
    let weight = paint::percent(view.weight);
    match (view.matching, view.weight > 0.0) {
        (true, false) => "match".to_owned(),
        (true, true) => format!("{weight}+match"),
        (false, true) if view.only_matched => format!("{weight} of match"),
        (false, _) => weight,
    }
}

/// Returns whether [`weight`] ends with the word for requests that meet a condition, and not with a number.
pub(super) fn counts_matches(view: &CanaryView) -> bool {
    (view.matching && view.weight == 0.0) || (view.only_matched && view.weight > 0.0)
}

/// Writes what is wrong with objects that could not be used.
#[must_use]
pub fn problems(list: &CanaryList, paint: Paint) -> String {
    list.problems.iter().map(|problem| format!("{} {}\n", paint.text(Tone::Bad, "✖"), paint.wrap(problem, 2))).collect()
}

/// Writes for a pipe that a Canary is no more.
#[must_use]
pub fn gone(namespace: &str, name: &str, now: Timestamp) -> String {
    format!("{} {namespace}/{name} Gone: the Canary was deleted", paint::clock(now, now))
}

/// Writes one change for a pipe: who, where it stands, and why.
#[must_use]
pub fn change(view: &CanaryView, now: Timestamp) -> String {
    let weight = weight(view);
    let head = format!("{} {}/{} {}", paint::clock(now, now), view.namespace, view.name, paint::word(view));
    let line = format!("{head} weight={weight} {}: {}", view.reason, view.cause());
    paint::fit(&line, 3 * WIDTH)
}
