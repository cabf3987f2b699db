//! `/metrics`: what the statuses shows, by names and labels that people query. Nothing is registered per Canary: the text is
//! made of the statuses at each scrape, so the series of a deleted Canary are gone with it.

pub(crate) mod verdicts;

use std::collections::BTreeMap;
use std::fmt::{Error, Write as _};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use weir_engine::{Cell, Outcome, Phase};
use weir_wire::names::{Arm, Cohort};

use crate::status_store::{AlertCounts, Entry, Name, Receiver, StatusStore};
use crate::view::Attention;

/// Content type of [`Format::OpenMetrics`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of [`Format::Prometheus`].
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What Prometheus asks for.
    OpenMetrics,
    /// What everybody else reads.
    Prometheus,
}

/// Writes every metric.
///
/// # Errors
/// Never in practice: writing to a string does not fail.
pub fn render(statuses: &Arc<StatusStore>, format: Format) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("weir");
    registry.register_collector(Box::new(Metrics(Arc::clone(statuses))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Prometheus => plain(&text),
    })
}

/// Rewrites OpenMetrics as the older text: there, a counter's family is named like its samples.
fn plain(text: &str) -> String {
    let mut counters = Vec::new();
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")) {
            counters.push(name);
            // The help was written before the type was known.
            let help = format!("# HELP {name} ");
            if let Some(at) = out.rfind(&help) {
                out.insert_str(at + help.len() - 1, "_total");
            }
            let _ = writeln!(out, "# TYPE {name}_total counter");
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[derive(Debug)]
struct Metrics(Arc<StatusStore>);

type Entries = [(Name, Entry)];

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let entries: Vec<(Name, Entry)> = self.0.entries().into_iter().collect();
        build_info(&mut encoder)?;
        let ready = i64::from(self.0.unready().is_empty());
        gauge(&mut encoder, "ready", "Whether every part of Weir works: 0 or 1")?.encode_gauge(&ready)?;
        let acting = i64::from(self.0.is_acting());
        gauge(&mut encoder, "acting", "Whether this Weir looks after the Canaries, which one replica does: 0 or 1")?
            .encode_gauge(&acting)?;
        let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        gauge(&mut encoder, "canaries", "Canaries that Weir looks after")?.encode_gauge(&count)?;
        requests(&mut encoder, &entries)?;
        durations(&mut encoder, &entries)?;
        standing(&mut encoder, &entries)?;
        weights(&mut encoder, &entries)?;
        rollouts(&mut encoder, &entries)?;
        verdicts::encode(&mut encoder, &self.0.verdicts())?;
        verdicts::guards(&mut encoder, &entries)?;
        verdicts::checks(&mut encoder, &entries)?;
        alerts(&mut encoder, &self.0.alerts())
    }
}

fn build_info(encoder: &mut DescriptorEncoder) -> Result<(), Error> {
    let mut metric = gauge(encoder, "build_info", "The version of Weir; always 1")?;
    metric.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?.encode_gauge(&1i64)
}

fn requests(encoder: &mut DescriptorEncoder, entries: &Entries) -> Result<(), Error> {
    let mut metric = counter(
        encoder,
        "requests",
        "Requests that have ended, by arm, by why they were given it (cohort) and by how they ended (outcome)",
    )?;
    each_cell(entries, |name, arm, cohort, cell| {
        let outcomes = [("success", cell.success), ("failure", cell.failure), ("abandoned", cell.abandoned)];
        for (outcome, value) in outcomes {
            let labels = cell_labels(name, arm, cohort, Some(("outcome", outcome)));
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
        }
        Ok(())
    })?;
    let mut metric = counter(encoder, "requests_assigned", "Requests that were given an arm, counted at the choice")?;
    each_cell(entries, |name, arm, cohort, cell| {
        let labels = cell_labels(name, arm, cohort, None);
        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&cell.assigned, None)
    })
}

fn durations(encoder: &mut DescriptorEncoder, entries: &Entries) -> Result<(), Error> {
    let help = "Time from request to end of response at the gateway; the sum is estimated from the buckets";
    let mut metric = encoder.encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?;
    for (name, entry) in entries {
        for arm in Arm::ALL {
            let (total, buckets) = histogram(&entry.totals.latency(arm), &entry.edges_ms);
            let count = buckets.iter().map(|(_, n)| n).sum();
            let labels = labels(name, &[("arm", arm.word())]);
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(total, count, &buckets, None)?;
        }
    }
    Ok(())
}

/// Returns the estimated sum in seconds, taking each request for the middle of its bucket, and the buckets.
fn histogram(counts: &[u64], edges_ms: &[u32]) -> (f64, Vec<(f64, u64)>) {
    let mut sum = 0.0;
    let mut lower = 0.0;
    let mut buckets = Vec::with_capacity(edges_ms.len() + 1);
    for (index, edge) in edges_ms.iter().enumerate() {
        let (edge, count) = (f64::from(*edge) / 1000.0, counts.get(index).copied().unwrap_or_default());
        sum += (lower + edge) / 2.0 * count as f64;
        buckets.push((edge, count));
        lower = edge;
    }
    let rest: u64 = counts.iter().skip(edges_ms.len()).sum();
    buckets.push((f64::MAX, rest));
    (sum + lower * rest as f64, buckets)
}

fn standing(encoder: &mut DescriptorEncoder, entries: &Entries) -> Result<(), Error> {
    let mut metric = gauge(encoder, "phase", "Where a Canary stands: 1 for its phase, 0 for the others")?;
    for (name, entry) in entries {
        for phase in Phase::ALL {
            let labels = labels(name, &[("phase", phase.as_str())]);
            metric.encode_family(&labels)?.encode_gauge(&i64::from(entry.view.phase == *phase))?;
        }
    }
    let mut metric = gauge(encoder, "reason", "Why a Canary stands where it does; always 1")?;
    for (name, entry) in entries {
        let labels = labels(name, &[("reason", &entry.view.reason)]);
        metric.encode_family(&labels)?.encode_gauge(&1i64)?;
    }
    let mut metric = gauge(encoder, "attention", "Who has to do something about a Canary; always 1")?;
    for (name, entry) in entries {
        let who = Attention::of(&entry.view).word();
        metric.encode_family(&labels(name, &[("who", who)]))?.encode_gauge(&1i64)?;
    }
    let mut metric =
        gauge(encoder, "stalled", "Whether a Canary cannot go on until somebody changes something: 0 or 1")?;
    for (name, entry) in entries {
        metric.encode_family(&labels(name, &[]))?.encode_gauge(&i64::from(entry.view.stalled))?;
    }
    let mut metric = gauge(
        encoder,
        "gateways",
        "Gateway processes that serve, that use the weight asked for, that never ran the filter",
    )?;
    for (name, entry) in entries {
        let applied = &entry.view.applied;
        let states = [("serving", applied.of), ("acknowledged", applied.gateways), ("silent", applied.silent)];
        for (state, count) in states {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            metric.encode_family(&labels(name, &[("state", state)]))?.encode_gauge(&count)?;
        }
    }
    let mut metric = gauge(encoder, "failed_checks", "Checks of the rollout under way that failed")?;
    for (name, entry) in entries {
        metric.encode_family(&labels(name, &[]))?.encode_gauge(&i64::from(entry.view.checks.failed))?;
    }
    Ok(())
}

fn weights(encoder: &mut DescriptorEncoder, entries: &Entries) -> Result<(), Error> {
    let help =
        "Percent of requests for the canary: asked of the gateways, applied by all of them, observed in the draws";
    let mut metric = gauge(encoder, "weight", help)?;
    for (name, entry) in entries {
        // At weight 0 it is what the step before left behind.
        let observed = entry.view.applied.observed.filter(|_| entry.view.weight > 0.0);
        let kinds = [("asked", Some(entry.view.weight)), ("applied", entry.applied), ("observed", observed)];
        for (kind, value) in kinds {
            let Some(value) = value else { continue };
            metric.encode_family(&labels(name, &[("kind", kind)]))?.encode_gauge(&value)?;
        }
    }
    let help = "Evidence of the rollout under way: how much of the way to a verdict has been gone, 1 is the verdict";
    let mut metric = gauge(encoder, "evidence", help)?;
    for (name, entry) in entries {
        let Some(evidence) = &entry.view.evidence else { continue };
        let (bad, good) = evidence.distances();
        for (verdict, value) in [("bad", bad), ("good", good)] {
            metric.encode_family(&labels(name, &[("verdict", verdict)]))?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

fn rollouts(encoder: &mut DescriptorEncoder, entries: &Entries) -> Result<(), Error> {
    let mut metric = counter(encoder, "rollouts", "Rollouts that have ended since Weir was started")?;
    for (name, entry) in entries {
        for ((result, reason), count) in &entry.rollouts {
            let labels = labels(name, &[("result", result_word(*result)), ("reason", reason)]);
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(count, None)?;
        }
    }
    Ok(())
}

fn alerts(encoder: &mut DescriptorEncoder, receivers: &BTreeMap<Receiver, AlertCounts>) -> Result<(), Error> {
    let labels = |(provider, kind): &Receiver| {
        let (namespace, name) = provider.split_once('/').unwrap_or(("", provider));
        [("namespace", namespace), ("provider", name), ("type", kind)].map(|(key, value)| (key, value.to_owned()))
    };
    let mut metric = counter(encoder, "alerts", "Alerts, by what became of them")?;
    for (receiver, counts) in receivers {
        for (result, count) in [("sent", counts.sent), ("failed", counts.failed), ("dropped", counts.dropped)] {
            let mut labels = labels(receiver).to_vec();
            labels.push(("result", result.to_owned()));
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
    }
    let mut metric = gauge(encoder, "alerts_failing", "Whether a provider's newest alert did not arrive: 0 or 1")?;
    for (receiver, counts) in receivers {
        let labels = labels(receiver).to_vec();
        metric.encode_family(&labels)?.encode_gauge(&i64::from(counts.failing))?;
    }
    Ok(())
}

fn result_word(result: Outcome) -> &'static str {
    match result {
        Outcome::Promoted => "promoted",
        Outcome::RolledBack => "rolled_back",
        Outcome::Superseded => "superseded",
        Outcome::PromotionFailed => "promotion_failed",
    }
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

fn labels<'a>(name: &'a Name, more: &[(&'a str, &'a str)]) -> Labels<'a> {
    let mut labels = vec![("namespace", name.namespace.as_str()), ("canary", name.name.as_str())];
    labels.extend_from_slice(more);
    labels
}

fn cell_labels<'a>(name: &'a Name, arm: Arm, cohort: Cohort, more: Option<(&'a str, &'a str)>) -> Labels<'a> {
    let mut labels = labels(name, &[("arm", arm.word()), ("cohort", cohort.word())]);
    labels.extend(more);
    labels
}

/// Visits the cells of every Canary. Cohorts that never had a request are left out, but for draws.
fn each_cell(
    entries: &Entries,
    mut visit: impl FnMut(&Name, Arm, Cohort, &Cell) -> Result<(), Error>,
) -> Result<(), Error> {
    for (name, entry) in entries {
        let sum = entry.totals.sum();
        for arm in Arm::ALL {
            for cohort in Cohort::ALL {
                let cell = sum.cell(arm, cohort);
                if cohort == Cohort::Draw || *cell != Cell::default() {
                    visit(name, arm, cohort, cell)?;
                }
            }
        }
    }
    Ok(())
}

fn gauge<'e>(encoder: &'e mut DescriptorEncoder, name: &'e str, help: &str) -> Result<MetricEncoder<'e>, Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}

fn counter<'e>(encoder: &'e mut DescriptorEncoder, name: &'e str, help: &str) -> Result<MetricEncoder<'e>, Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

#[cfg(test)]
mod tests;
