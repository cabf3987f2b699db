//! Grafana's boards as drawings for people who look whether what a test saw is what they would want to see: panels where the board
//! has them, with the series that a real Prometheus gave.

use std::fmt::Write as _;

use serde_json::Value;

/// Pixels of one of the board's 24 columns, and of one of its rows.
const CELL: [f64; 2] = [52.0, 32.0];
const COLOURS: [&str; 8] = ["#c27c00", "#4c6a92", "#bf2636", "#137a48", "#7b4fa6", "#0b7f8f", "#8a5a00", "#566676"];

/// One series: what it is called, and its values by seconds.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) values: Vec<(f64, f64)>,
}

/// Reads what Prometheus answers to a query over a range; `legend` names each by its labels: `{{arm}} p50`.
pub(crate) fn read(result: &[Value], legend: &str) -> Vec<Series> {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_f64());
    let pair = |pair: &Value| Some((number(&pair[0])?, number(&pair[1])?));
    let one = |series: &Value| {
        let labels = series["metric"].as_object().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = labels
            .iter()
            .fold(legend.to_owned(), |name, (label, value)| name.replace(&format!("{{{{{label}}}}}"), &text(value)));
        let all: Vec<String> = labels.values().map(text).collect();
        let name = if name.is_empty() { all.join(" ") } else { name };
        let range = series["values"].as_array().into_iter().flatten().filter_map(pair);
        Series { name, values: range.chain(pair(&series["value"])).collect() }
    };
    result.iter().map(one).collect()
}

/// Draws a board: each panel with its series.
pub(crate) fn board(board: &Value, panels: &[(&Value, Vec<Series>)], range: (f64, f64)) -> String {
    let bottom = panels.iter().map(|(panel, _)| number(panel, "y") + number(panel, "h")).fold(0.0, f64::max);
    let (width, height) = (24.0 * CELL[0], (bottom + 1.5) * CELL[1]);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"#f3f6f9\"/>"
    );
    text(&mut out, [12.0, 24.0], "#17212b", board["title"].as_str().unwrap_or_default());
    for (panel, series) in panels {
        let at = [number(panel, "x") * CELL[0], (number(panel, "y") + 1.2) * CELL[1]];
        let size = [number(panel, "w") * CELL[0] - 6.0, number(panel, "h") * CELL[1] - 6.0];
        let _ = write!(
            out,
            "<g transform=\"translate({} {})\"><rect width=\"{}\" height=\"{}\" fill=\"#fff\" stroke=\"#d5dee7\"/>",
            at[0] + 3.0,
            at[1],
            size[0],
            size[1]
        );
        text(&mut out, [8.0, 17.0], "#17212b", panel["title"].as_str().unwrap_or_default());
        match panel["type"].as_str() {
            Some("timeseries" | "state-timeline") => lines(&mut out, series, size, range),
            _ => newest(&mut out, series),
        }
        out += "</g>";
    }
    out + "</svg>"
}

/// The newest value of each, as a table or a number would have it.
fn newest(out: &mut String, series: &[Series]) {
    for (i, series) in series.iter().filter(|series| !series.values.is_empty()).enumerate() {
        let value = series.values.last().map_or(f64::NAN, |(_, value)| *value);
        text(out, [8.0, 38.0 + 17.0 * i as f64], COLOURS[i % COLOURS.len()], &format!("{} {value:.4}", series.name));
    }
}

fn lines(out: &mut String, series: &[Series], size: [f64; 2], (from, to): (f64, f64)) {
    let finite =
        |series: &Series| series.values.iter().map(|it| it.1).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let most = series.iter().map(finite).fold(0.0, f64::max).max(1e-9);
    let (top, bottom) = (34.0 + 15.0 * (series.len() as f64 / 3.0).ceil(), size[1] - 10.0);
    let x = |time: f64| 46.0 + (size[0] - 56.0) * (time - from) / (to - from).max(1.0);
    let y = |value: f64| bottom - (bottom - top) * value / most;
    text(out, [6.0, bottom], "#566676", "0");
    text(out, [6.0, top + 4.0], "#566676", &format!("{most:.3}"));
    for (i, series) in series.iter().enumerate() {
        let (colour, mut path, mut last) = (COLOURS[i % COLOURS.len()], String::new(), f64::NEG_INFINITY);
        for (time, value) in series.values.iter().filter(|(_, value)| value.is_finite()) {
            // A gap is no line.
            let letter = if time - last > 5.0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}h1", x(*time), y(*value));
            last = *time;
        }
        let _ = write!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>");
        let at = [8.0 + (i % 3) as f64 * size[0] / 3.0, 33.0 + 15.0 * (i / 3) as f64];
        text(out, at, colour, &format!("— {}", series.name));
    }
}

fn text(out: &mut String, at: [f64; 2], colour: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = write!(out, "<text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{text}</text>", at[0], at[1]);
}

fn number(panel: &Value, side: &str) -> f64 {
    panel["gridPos"][side].as_f64().unwrap_or_default()
}
