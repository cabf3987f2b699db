//! Cells that all VMs of a gateway process share, changed by compare and swap.

use crate::host::{Expected, Host};

/// More attempts than there are workers to lose against. A change that still fails is dropped rather than spun on, because
/// a worker that spins serves nobody.
const ATTEMPTS: u32 = 1_000;

/// Changes a cell, again and again until nobody came between, and returns what was written.
///
/// `change` gets what the cell holds (nothing if it was never written or is longer) and declines with `None`.
pub fn update<H: Host, const N: usize>(
    host: &mut H,
    key: &str,
    mut change: impl FnMut(Option<[u8; N]>) -> Option<[u8; N]>,
) -> Option<[u8; N]> {
    for _ in 0..ATTEMPTS {
        let (old, expected) = match host.shared(key) {
            Some((bytes, version)) => (padded(bytes), Expected::Version(version)),
            None => (None, Expected::Absent),
        };
        let new = change(old)?;
        if host.share(key, &new, expected) {
            return Some(new);
        }
    }
    None
}

/// Reads a cell.
pub fn read<H: Host, const N: usize>(host: &mut H, key: &str) -> Option<[u8; N]> {
    host.shared(key).and_then(|(bytes, _)| padded(bytes))
}

/// Fills up what a module wrote that knew less: a cell may grow at its end from one module to the next.
fn padded<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut all = [0; N];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(all)
}

/// Writes numbers one after the other into a cell's bytes.
#[must_use]
pub fn pack<const WORDS: usize, const N: usize>(words: [u64; WORDS]) -> [u8; N] {
    let mut bytes = [0; N];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Reads the numbers that [`pack`] wrote.
#[must_use]
pub fn unpack<const WORDS: usize, const N: usize>(bytes: [u8; N]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedHost;

    #[test]
    fn a_change_that_lost_a_race_is_made_again() {
        let mut host = SimulatedHost::default();
        let mut rival = host.another_vm();
        let mut raced = 0;
        let written = update(&mut host, "cell", |old: Option<[u8; 8]>| {
            if raced < 3 {
                raced += 1;
                update(&mut rival, "cell", |old: Option<[u8; 8]>| {
                    Some((old.map_or(0, u64::from_le_bytes) + 10).to_le_bytes())
                });
            }
            Some((old.map_or(0, u64::from_le_bytes) + 1).to_le_bytes())
        });
        assert_eq!(written.map(u64::from_le_bytes), Some(31));
    }

    #[test]
    fn a_change_that_always_loses_is_dropped() {
        let mut host = SimulatedHost::default();
        let mut rival = host.another_vm();
        let written = update(&mut host, "cell", |_: Option<[u8; 8]>| {
            update(&mut rival, "cell", |_: Option<[u8; 8]>| Some([1; 8]));
            Some([2; 8])
        });
        assert_eq!(written, None);
        assert_eq!(read(&mut host, "cell"), Some([1; 8]));
    }

    #[test]
    fn numbers_read_back_as_written() {
        let bytes: [u8; 24] = pack([1, u64::MAX, 3]);
        assert_eq!(unpack(bytes), [1, u64::MAX, 3]);
    }
}
