//! The gauges of the process: which generation runs in how many VMs, and since when.
//!
//! Every VM publishes them, from cells that all share. How many VMs run a generation is published by one at a time
//! ([`process::publish_vms`]), so that it never goes back.

use weir_wire::SLOTS;
use weir_wire::names::{LEVEL, Metric};

use crate::host::{Host, MetricKind};
use crate::process;

/// The numbers that the proxy knows the gauges by.
#[derive(Debug, Default)]
pub struct Gauges {
    boot: Option<u32>,
    disarmed: Option<u32>,
    level: Option<u32>,
    vms: [Option<u32>; SLOTS as usize],
    generations: [Option<u32>; SLOTS as usize],
}

impl Gauges {
    /// Publishes what runs. Returns whether nothing is left to publish; otherwise another VM is publishing now.
    pub fn publish<H: Host>(&mut self, host: &mut H, generation: u64, boot: u64, armed: bool) -> bool {
        set(host, &mut self.boot, Metric::Boot, boot);
        set(host, &mut self.disarmed, Metric::Disarmed, u64::from(!armed));
        set(host, &mut self.level, Metric::Level, LEVEL);
        // Fits: there are 8 slots.
        let slot = (generation % SLOTS) as u8;
        let index = usize::from(slot);
        let (Some(vms), Some(generations)) = (self.vms.get_mut(index), self.generations.get_mut(index)) else {
            return true;
        };
        // Known before they are needed: Envoy forgets a gauge with the last VM that knows it, and the one that published may go.
        known(host, vms, Metric::Vms(slot));
        known(host, generations, Metric::Generation(slot));
        process::publish_vms(host, generation, |host, of, count| {
            set(host, generations, Metric::Generation(slot), of);
            set(host, vms, Metric::Vms(slot), count);
        })
    }
}

fn known<H: Host>(host: &mut H, gauge: &mut Option<u32>, metric: Metric<'_>) -> Option<u32> {
    if gauge.is_none() {
        *gauge = host.define(MetricKind::Gauge, &metric.to_string());
    }
    *gauge
}

fn set<H: Host>(host: &mut H, gauge: &mut Option<u32>, metric: Metric<'_>, value: u64) {
    if let Some(gauge) = known(host, gauge, metric) {
        host.record(gauge, value);
    }
}
