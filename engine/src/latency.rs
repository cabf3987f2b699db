//! Quantiles of a latency histogram.

/// Returns the quantile `q` of a latency histogram in milliseconds, linear within its bucket; infinite where it lies above
/// the last edge. `unended` requests are slower than every edge. Nothing without requests.
///
/// A bound on a quantile that is one of the edges is judged exactly: the quantile exceeds the edge just when more than
/// `1 - q` of the requests do.
#[must_use]
pub fn quantile(q: f64, buckets: &[u64], unended: u64, edges_ms: &[u32]) -> Option<f64> {
    let total: u64 = buckets.iter().sum::<u64>() + unended;
    if total == 0 {
        return None;
    }
    let rank = q * total as f64;
    let mut below = 0.0;
    let mut lower = 0.0;
    for (index, edge) in edges_ms.iter().map(|edge| f64::from(*edge)).enumerate() {
        let count = buckets.get(index).copied().unwrap_or(0) as f64;
        if below + count >= rank && count > 0.0 {
            return Some(lower + (edge - lower) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        below += count;
        lower = edge;
    }
    Some(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_exceeds_an_edge_just_when_too_many_requests_do() {
        let edges = [100, 500, 1000];
        assert!(quantile(0.99, &[90, 9, 1, 0], 0, &edges).unwrap() <= 500.0);
        assert!(quantile(0.99, &[90, 8, 2, 0], 0, &edges).unwrap() > 500.0);
        assert!(quantile(0.99, &[99, 0, 0, 0], 1, &edges).unwrap() <= 100.0);
        assert_eq!(quantile(0.99, &[98, 0, 0, 0], 2, &edges), Some(f64::INFINITY));
    }

    #[test]
    fn no_requests_have_no_quantile() {
        assert_eq!(quantile(0.5, &[], 0, &[1, 2]), None);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        assert_eq!(quantile(0.5, &[0, 10], 0, &[10, 20]), Some(15.0));
        assert_eq!(quantile(1.0, &[10], 0, &[8]), Some(8.0));
    }
}
