//! The gauges of the process: which generation runs in how many VMs, and since when.
//!
//! Every VM publishes them on every tick, from cells that all share. A VM that read a cell just before another one changed
//! it may publish the older value last; its next tick mends that.

use weir_wire::SLOTS;
use weir_wire::names::Metric;

use crate::host::{Host, MetricKind};
use crate::process;

/// The numbers that the proxy knows the gauges by.
#[derive(Debug, Default)]
pub struct Gauges {
    boot: Option<u32>,
    disarmed: Option<u32>,
    vms: [Option<u32>; SLOTS as usize],
    generations: [Option<u32>; SLOTS as usize],
}

impl Gauges {
    /// Publishes what runs.
    pub fn publish<H: Host>(&mut self, host: &mut H, generation: u64, boot: u64, armed: bool) {
        set(host, &mut self.boot, Metric::Boot, boot);
        set(host, &mut self.disarmed, Metric::Disarmed, u64::from(!armed));
        // Fits: there are 8 slots.
        let slot = (generation % SLOTS) as u8;
        let index = usize::from(slot);
        if let Some([of, count]) = process::vms(host, generation)
            && let Some(vms) = self.vms.get_mut(index)
            && let Some(generations) = self.generations.get_mut(index)
        {
            set(host, generations, Metric::Generation(slot), of);
            set(host, vms, Metric::Vms(slot), count);
        }
    }
}

fn set<H: Host>(host: &mut H, gauge: &mut Option<u32>, metric: Metric<'_>, value: u64) {
    if gauge.is_none() {
        *gauge = host.define(MetricKind::Gauge, &metric.to_string());
    }
    if let Some(gauge) = *gauge {
        host.record(gauge, value);
    }
}
