//! Processes of pods, as `/proc` shows them: processor time and memory.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::cost::ran_ns;

/// Ticks of `/proc/PID/stat` per second; the same on every Linux that Kubernetes runs on.
const TICKS: f64 = 100.0;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// Finds the one process of this name, in the pod with this uid if one is given.
    pub(crate) fn find(name: &str, pod: Option<&str>) -> Option<Self> {
        let entries = fs::read_dir("/proc").ok()?.flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let named = |id: &u32| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name);
        let within = |id: &u32| {
            let groups = fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap_or_default();
            pod.is_none_or(|uid| groups.contains(uid) || groups.contains(&uid.replace('-', "_")))
        };
        ids.filter(named).find(within).map(Self)
    }

    /// Returns its id.
    pub(crate) fn id(self) -> u32 {
        self.0
    }

    /// Returns whether it still runs.
    pub(crate) fn lives(self) -> bool {
        fs::exists(format!("/proc/{}", self.0)).unwrap_or_default()
    }

    /// Returns the processor time of all its threads so far, in seconds.
    pub(crate) fn cpu(self) -> f64 {
        ran_ns(self.0).unwrap_or_default() as f64 / 1e9
    }

    /// Returns a line of `/proc/PID/status` in MiB: `VmRSS` is what it has now, `VmHWM` the most that it ever had.
    pub(crate) fn memory(self, line: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let kib = status.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':')?.split_whitespace().next());
        kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }

    /// Returns when it was started.
    pub(crate) fn started(self) -> Option<SystemTime> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name stands in brackets and may hold anything; what follows is the third field.
        let since_boot: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
        SystemTime::now().checked_sub(Duration::from_secs_f64((uptime - since_boot / TICKS).max(0.0)))
    }
}
