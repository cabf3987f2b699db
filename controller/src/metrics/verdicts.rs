//! How long rollouts took to their verdict, and how many canary requests; how near the guard is; and the metrics of checks.

use std::collections::BTreeMap;
use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use weir_engine::Outcome;

use super::{Entries, gauge, labels, result_word};
use crate::view::EndedView;

/// Upper edges of the time to a verdict, in seconds: a bad canary is found within some, a release with ten steps takes an hour.
const SECONDS: [f64; 10] = [5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0];
/// Upper edges of the canary requests to a verdict: three failures are one, and ten thousand requests decide anything else.
const REQUESTS: [f64; 10] = [5.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0];

/// How rollouts of one namespace with one result came to their verdict.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts {
    seconds: Spread,
    requests: Spread,
}

/// Values by the edge that they are not above; the last is the rest.
#[derive(Clone, Debug, Default)]
struct Spread {
    sum: f64,
    buckets: [u64; 11],
}

impl Verdicts {
    /// Counts a rollout that ended.
    pub(crate) fn count(&mut self, ended: &EndedView) {
        self.seconds.add(ended.at.since(ended.started).0 as f64 / 1000.0, &SECONDS);
        self.requests.add(ended.canary_ended as f64, &REQUESTS);
    }
}

impl Spread {
    fn add(&mut self, value: f64, edges: &[f64]) {
        self.sum += value;
        let place = edges.iter().position(|edge| value <= *edge).unwrap_or(edges.len());
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
    }

    fn buckets(&self, edges: &[f64]) -> Vec<(f64, u64)> {
        edges.iter().copied().chain([f64::MAX]).zip(self.buckets).collect()
    }
}

/// Writes the histograms. By namespace only: a thousand Canaries would be forty thousand series.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder,
    verdicts: &BTreeMap<(String, Outcome), Verdicts>,
) -> Result<(), Error> {
    type Histogram = (&'static str, &'static str, &'static [f64], fn(&Verdicts) -> &Spread);
    let spreads: [Histogram; 2] = [
        ("rollout_duration_seconds", "Time from a rollout's beginning to its verdict", &SECONDS, |of| &of.seconds),
        ("rollout_canary_requests", "Canary requests that had ended at a rollout's verdict", &REQUESTS, |of| {
            &of.requests
        }),
    ];
    for (name, help, edges, spread) in spreads {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for ((namespace, result), verdicts) in verdicts {
            let labels = [("namespace", namespace.as_str()), ("result", result_word(*result))];
            let (spread, buckets) = (spread(verdicts), spread(verdicts).buckets(edges));
            let count = buckets.iter().map(|(_, n)| n).sum();
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(spread.sum, count, &buckets, None)?;
        }
    }
    Ok(())
}

/// Writes how near the guards are to stopping canaries.
pub(super) fn guards(encoder: &mut DescriptorEncoder, entries: &Entries) -> Result<(), Error> {
    let help = "Failures in this stretch of the weight in the gateway whose guard is nearest to stopping the canary, and those at which it does";
    let mut metric = gauge(encoder, "guard_failures", help)?;
    for (name, entry) in entries {
        let Some(guard) = &entry.guard else { continue };
        for (kind, value) in [("failed", guard.failed), ("limit", guard.limit)] {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            metric.encode_family(&labels(name, &[("kind", kind)]))?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

/// Writes the metrics of checks: their last values, and the bounds.
pub(super) fn checks(encoder: &mut DescriptorEncoder, entries: &Entries) -> Result<(), Error> {
    let help = "A metric of a Canary's checks: its last value in the rollout under way, and its bounds, in the metric's own unit";
    let mut metric = gauge(encoder, "check_metric", help)?;
    for (name, entry) in entries {
        for of in &entry.metrics {
            for (kind, value) in [("value", of.value), ("min", of.min), ("max", of.max)] {
                let Some(value) = value else { continue };
                metric.encode_family(&labels(name, &[("metric", &of.name), ("kind", kind)]))?.encode_gauge(&value)?;
            }
        }
    }
    Ok(())
}
