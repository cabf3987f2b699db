//! What a process costs, and how well the median of some ratios is known: for every benchmark that compares costs.

/// Returns the run time of all threads of a process so far, in nanoseconds, from the kernel's scheduler.
pub(crate) fn ran_ns(process: u32) -> std::io::Result<u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"))?.flatten();
    let ran = threads.filter_map(|thread| {
        let schedule = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        schedule.split(' ').next()?.parse::<u64>().ok()
    });
    Ok(ran.sum())
}

/// Returns the error of a median, from the quartiles of so many numbers: those of a normal distribution are 1.35 sigma apart,
/// and its median's error is 1.25 that of the mean.
pub(crate) fn error_of_median(low: f64, high: f64, count: usize) -> f64 {
    (high - low) / 1.35 * 1.25 / (count as f64).sqrt()
}
