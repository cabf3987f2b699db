//! What of the counts is stored: the sums, and of each process only what another controller needs to go on.
//!
//! A slot of a process changes no more once the process is known to use a newer epoch and nothing of the slot's own epoch is under
//! way. Of such a slot nothing is stored: it starts from what it reads next. What is left is one slot or two of each process, in bytes
//! that are written as text:
//!
//! ```text
//! identity (8 bytes), refused, routed, slots { slot, cells { which fields, fields … } }     numbers as LEB128
//! ```
//!
//! Up to [`FEW`] processes are stored with their names and latencies. Of more, what ended between the newest write and a restart enters no
//! latency test, which asks for shares: it is counted all the same. Beyond [`ROOM`] processes are stored by their identities alone:
//! they start from what they read next, so that nothing is counted twice.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use weir_wire::SLOTS;

use super::{CELLS, CounterHistory, Identity, Process, owner};
use crate::counts::{Cell, Counts};
use crate::time::Timestamp;

/// Processes that are stored with their names and latencies.
const FEW: usize = 16;
/// Bytes for processes, and how many are stored by their identity alone: with the sums and all else of the state some 60 KiB.
const ROOM: usize = 30_000;
const IDENTITIES: usize = 768;

/// The form that is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    newest: u64,
    epochs: Vec<(u64, Counts)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    processes: String,
    /// Name of each process and when its newest scrape began, where there are few: what is known of them is known at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heard: Vec<(String, Timestamp)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    gone: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    crowded: bool,
}

/// The forms that are read.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Form {
    Now(Stored),
    /// By gateway, as it was until there could be many.
    Earlier(BTreeMap<String, Account>),
}

/// One gateway's part, as it was.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    boot: u64,
    begun: Timestamp,
    last: BTreeMap<String, Counts>,
    refused: u64,
    routed: u64,
    epochs: BTreeMap<String, Counts>,
}

impl From<CounterHistory> for Stored {
    fn from(history: CounterHistory) -> Self {
        let CounterHistory { newest, epochs, processes, gone, crowded } = history;
        let few = processes.len() <= FEW;
        let (mut bytes, mut heard, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for (identity, process) in &processes {
            let mut one = identity.0.to_le_bytes().to_vec();
            process.write(newest, few, &mut one);
            if bytes.len() + one.len() > ROOM {
                alone.push(*identity);
                continue;
            }
            bytes.extend(one);
            heard.extend(few.then(|| (process.name.clone(), process.begun)));
        }
        let crowded = (crowded && !processes.is_empty()) || alone.len() > IDENTITIES;
        alone.extend(gone.iter().rev());
        let alone = alone.iter().take(IDENTITIES).rev().flat_map(|identity| identity.0.to_le_bytes());
        let (processes, gone) = (text(&bytes), text(&alone.collect::<Vec<_>>()));
        Self { newest, epochs: epochs.into_iter().collect(), processes, heard, gone, crowded }
    }
}

impl From<Form> for CounterHistory {
    fn from(form: Form) -> Self {
        match form {
            Form::Now(stored) => {
                let Stored { newest, epochs, processes, heard, gone, crowded } = stored;
                let (of_processes, of_gone) = (bytes(&processes), bytes(&gone));
                let mut reader = Reader(&of_processes);
                let one = || Some((reader.identity()?, Process::read(&mut reader, newest)?));
                let mut processes: BTreeMap<_, _> = std::iter::from_fn(one).collect();
                for (process, (name, begun)) in processes.values_mut().zip(heard) {
                    (process.name, process.begun) = (name, begun);
                }
                let mut reader = Reader(&of_gone);
                let gone: VecDeque<_> = std::iter::from_fn(|| reader.identity()).collect();
                Self { newest, epochs: epochs.into_iter().collect(), processes, gone, crowded }
            }
            Form::Earlier(accounts) => {
                let mut history = Self::default();
                for (name, account) in accounts {
                    history.take_over(name, account);
                }
                history
            }
        }
    }
}

impl CounterHistory {
    fn take_over(&mut self, name: String, account: Account) {
        for (epoch, counts) in account.epochs.iter().filter_map(|(epoch, counts)| Some((epoch.parse().ok()?, counts))) {
            self.epochs.entry(epoch).or_default().add(counts);
            self.newest = self.newest.max(epoch);
        }
        let scrape = crate::Scrape { gateway: name.clone(), boot: account.boot, ..crate::Scrape::default() };
        let slot = |slot| account.last.get(&u64::to_string(&slot)).cloned().unwrap_or_default();
        let process = Process {
            name,
            begun: account.begun,
            last: std::array::from_fn(|place| Some(slot(place as u64))),
            refused: Some(account.refused),
            routed: Some(account.routed),
            ..Process::default()
        };
        self.processes.insert(Identity::of(&scrape), process);
    }
}

impl Process {
    fn write(&self, newest: u64, latencies: bool, to: &mut Vec<u8>) {
        // One more than was read: 0 stands for nothing.
        put(to, self.refused.map_or(0, |refused| refused.saturating_add(1)));
        put(to, self.routed.map_or(0, |routed| routed.saturating_add(1)));
        let changes = |slot: &u64| {
            let owner = owner(*slot, newest).unwrap_or_default();
            owner >= self.uses || self.open.contains_key(&owner)
        };
        let slots = (0..SLOTS).filter(changes).filter_map(|slot| Some((slot, self.last.get(slot as usize)?.as_ref()?)));
        let slots: Vec<_> = slots.collect();
        put(to, slots.len() as u64);
        for (slot, counts) in slots {
            let open = owner(slot, newest).and_then(|owner| self.open.get(&owner)).copied().unwrap_or_default();
            let cells: Vec<_> =
                (0u8..).zip(counts.cells().zip(open)).filter(|(_, (cell, _))| !cell.is_empty()).collect();
            to.extend([slot as u8, cells.iter().fold(0, |set, (place, _)| set | 1 << place)]);
            for (_, (cell, open)) in cells {
                write_cell(cell, open, latencies && !self.untimed, to);
            }
        }
    }

    fn read(reader: &mut Reader<'_>, newest: u64) -> Option<Self> {
        let (refused, routed) = (reader.number()?.checked_sub(1), reader.number()?.checked_sub(1));
        let mut process = Self { refused, routed, ..Self::default() };
        for _ in 0..reader.number()? {
            let (slot, cells) = (reader.byte()?, reader.byte()?);
            let (mut counts, mut open) = (Counts::default(), [0; CELLS]);
            for (place, (cell, open)) in counts.cells_mut().zip(&mut open).enumerate() {
                if cells & (1 << place) != 0 {
                    *open = read_cell(cell, &mut process.untimed, reader)?;
                }
            }
            *process.last.get_mut(usize::from(slot))? = Some(counts);
            if open.iter().any(|count| *count > 0) {
                process.open.insert(owner(slot.into(), newest)?, open);
            }
        }
        Some(process)
    }
}

/// The fields of a cell in the order of their bits, but for its latencies: what is under way stands for what was assigned.
const LATENCIES: u8 = 1 << 6;
const OPEN: u8 = 1 << 7;
/// So many edges: there are latencies, and no place for them.
const NO_LATENCIES: u64 = 0;

fn write_cell(cell: &Cell, open: u64, latencies: bool, to: &mut Vec<u8>) {
    let fields = [cell.unended(), cell.success, cell.failure, cell.abandoned, cell.unjudged, cell.client_error];
    let mut set = (0u8..).zip(fields).fold(0, |set, (bit, value)| set | u8::from(value > 0) << bit);
    let timed = !latencies || !cell.latency.is_empty();
    set |= if timed { LATENCIES } else { 0 };
    set |= if open > 0 { OPEN } else { 0 };
    to.push(set);
    fields.iter().filter(|value| **value > 0).for_each(|value| put(to, *value));
    if timed {
        put(to, if latencies { cell.latency.len() as u64 } else { NO_LATENCIES });
        cell.latency.iter().filter(|_| latencies).for_each(|count| put(to, *count));
    }
    if open > 0 {
        put(to, open);
    }
}

/// Reads a cell; returns how many of its requests have no end. `untimed` says that its latencies are not known.
fn read_cell(cell: &mut Cell, untimed: &mut bool, reader: &mut Reader<'_>) -> Option<u64> {
    let set = reader.byte()?;
    let mut field = |bit: u8| if set & (1 << bit) == 0 { Some(0) } else { reader.number() };
    let unended = field(0)?;
    (cell.success, cell.failure, cell.abandoned) = (field(1)?, field(2)?, field(3)?);
    (cell.unjudged, cell.client_error) = (field(4)?, field(5)?);
    cell.assigned = unended.saturating_add(cell.ended()).saturating_add(cell.unjudged);
    if set & LATENCIES != 0 {
        let edges = reader.number()?.min(u64::from(u8::MAX));
        *untimed |= edges == NO_LATENCIES;
        cell.latency = (0..edges).map(|_| reader.number()).collect::<Option<_>>()?;
    }
    if set & OPEN == 0 { Some(0) } else { reader.number() }
}

/// Writes a number, seven bits to a byte.
fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn identity(&mut self) -> Option<Identity> {
        let (identity, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(Identity(u64::from_le_bytes(*identity)))
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Writes bytes as text: base64 for URLs, without padding.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().zip([16, 8, 0]).fold(0u32, |word, (byte, shift)| word | u32::from(*byte) << shift);
        let digits = [18, 12, 6, 0].into_iter().take(chunk.len() + 1);
        text.extend(digits.filter_map(|shift| Some(char::from(*DIGITS.get((word >> shift & 63) as usize)?))));
    }
    text
}

/// Reads what [`text`] wrote; ends where it is something else.
fn bytes(text: &str) -> Vec<u8> {
    let digits = text.bytes().map_while(|byte| DIGITS.iter().position(|digit| *digit == byte));
    let digits: Vec<u32> = digits.map(|digit| digit as u32).collect();
    let chunk = |chunk: &[u32]| {
        let word = chunk.iter().zip([18, 12, 6, 0]).fold(0, |word, (digit, shift)| word | digit << shift);
        [16, 8, 0]
            .into_iter()
            .take(chunk.len().saturating_sub(1))
            .map(move |shift| (word >> shift) as u8)
            .collect::<Vec<_>>()
    };
    digits.chunks(4).flat_map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_numbers_read_back_as_written() {
        for length in 0..70usize {
            let written: Vec<u8> = (0..length).map(|byte| (byte * 37 + length) as u8).collect();
            assert_eq!(bytes(&text(&written)), written);
        }
        let mut written = Vec::new();
        let numbers = [0, 1, 127, 128, 300, 1 << 40, u64::MAX];
        numbers.iter().for_each(|number| put(&mut written, *number));
        let mut reader = Reader(&written);
        assert_eq!(numbers.map(|_| reader.number()), numbers.map(Some));
        assert_eq!(reader.number(), None);
    }
}
