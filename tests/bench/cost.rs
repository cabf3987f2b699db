//! What a process costs, and how well the median of some ratios is known: for every benchmark that compares costs.

/// Returns the run time of all threads of a process so far, in nanoseconds, from the kernel's scheduler.
pub(crate) fn ran_ns(process: u32) -> std::io::Result<u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"))?.flatten();
    Ok(threads.filter_map(|thread| schedule(&thread.path())).sum())
}

/// Returns the run time of the threads of a process whose names begin so, in nanoseconds.
#[allow(dead_code, reason = "not every measurement tells threads apart")]
pub(crate) fn threads_ran_ns(process: u32, name: &str) -> std::io::Result<u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"))?.flatten().map(|thread| thread.path());
    let named = |thread: &std::path::PathBuf| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end().starts_with(name))
    };
    Ok(threads.filter(named).filter_map(|thread| schedule(&thread)).sum())
}

fn schedule(thread: &std::path::Path) -> Option<u64> {
    std::fs::read_to_string(thread.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

/// Returns the error of a median, from the quartiles of so many numbers: those of a normal distribution are 1.35 sigma apart,
/// and its median's error is 1.25 that of the mean.
pub(crate) fn error_of_median(low: f64, high: f64, count: usize) -> f64 {
    (high - low) / 1.35 * 1.25 / (count as f64).sqrt()
}
