//! How large regular expressions are once they are compiled: a few characters may be kilobytes, in every VM of a gateway.

use std::collections::HashMap;
use std::sync::LazyLock;

use parking_lot::Mutex;
use regex_lite::RegexBuilder;
use weir_wire::limits::{COMPILED, whole};
use weir_wire::{Canary, StringMatch};

/// Patterns whose size is remembered. To find it out takes several compilations, and every push asks for all of them.
const REMEMBERED: usize = 4096;
/// Below this, one size is as good as another.
const SMALLEST: usize = 512;

static KNOWN: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);

/// Returns the bytes of a canary's regular expressions, compiled, to a power of two each. On a machine of 64 bits they are larger
/// than in the module.
pub(super) fn size(canary: &Canary) -> usize {
    let conditions = canary.conditions.iter().chain(canary.matched.iter().flat_map(|matched| &matched.conditions));
    let tests = conditions.flat_map(|condition| {
        [&condition.headers, &condition.cookies, &condition.query_params].into_iter().flat_map(|tests| tests.values())
    });
    let size_of = |test: &StringMatch| match test {
        StringMatch::Regex(pattern) => size_of(pattern),
        StringMatch::Exact(_) | StringMatch::Prefix(_) | StringMatch::Suffix(_) => 0,
    };
    tests.map(size_of).sum()
}

fn size_of(pattern: &str) -> usize {
    if let Some(known) = KNOWN.lock().get(pattern) {
        return *known;
    }
    // The library does not say how large it is, but it refuses what is larger than it is told.
    let within = |bytes: usize| RegexBuilder::new(&whole(pattern)).size_limit(bytes).build().is_ok();
    let mut bytes = COMPILED;
    while bytes > SMALLEST && within(bytes / 2) {
        bytes /= 2;
    }
    let mut known = KNOWN.lock();
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(pattern.to_owned(), bytes);
    bytes
}
