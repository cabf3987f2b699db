//! What the pods of a gateway workload say, as everybody may read it.

use std::collections::BTreeMap;

use weir_engine::{Gateway, Scrape, Timestamp};

use crate::publisher::Epochs;
use crate::scrape::Report;

/// What is known of the pods of one gateway workload.
#[derive(Default)]
pub(super) struct Reports {
    /// When pods were asked, and what they said last: nothing where the filter does not run.
    pods: BTreeMap<String, (Timestamp, Option<Report>)>,
    /// Which generation carried which epoch.
    pub(super) epochs: Epochs,
    /// Whether each pod was asked once.
    pub(super) complete: bool,
    /// Why the filter is on for all requests of the gateway, where it is.
    pub(super) everywhere: Option<String>,
}

impl Reports {
    /// Takes note of what a pod said.
    pub(super) fn insert(&mut self, pod: String, asked_at: Timestamp, report: Option<Report>) {
        self.pods.insert(pod, (asked_at, report));
    }

    /// Forgets pods that are gone.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.pods.retain(|pod, _| keep(pod));
    }

    /// Returns how many requests of a canary failed, with the guards' own verdicts, as all pods together say.
    #[must_use]
    pub(super) fn failures(&self, id: &str) -> u64 {
        self.pods.values().filter_map(|(_, report)| report.as_ref()).map(|report| report.trouble(id)).sum()
    }

    /// Returns whether the filter is on for a canary's requests in every pod where it runs.
    #[must_use]
    pub(super) fn is_filtering(&self, id: &str) -> bool {
        self.pods.values().filter_map(|(_, report)| report.as_ref()).all(|report| report.is_filtering(id))
    }

    /// Returns what a pod is known to use and has counted, for one Canary. `name` is the gateway's in observations.
    #[must_use]
    pub(super) fn of(&self, pod: &str, name: String, id: &str) -> (Gateway, Option<Scrape>) {
        let report = self.pods.get(pod).and_then(|(asked_at, report)| Some((*asked_at, report.as_ref()?)));
        let generation = report.and_then(|(_, report)| report.generation());
        let acknowledged = generation.and_then(|generation| self.epochs.acknowledged(id, generation));
        let scrape = report.map(|(asked_at, report)| report.scrape(id, &name, asked_at));
        let routed = report.is_some_and(|(_, report)| report.is_filtering(id));
        let filtering = self.everywhere.is_some() || routed;
        let splits_matched = report.is_some_and(|(_, report)| report.splits_matched());
        (Gateway { name, acknowledged, filtering, splits_matched }, scrape)
    }
}
