//! Everything that parses bytes of others, under bytes that nobody would write: a configuration, a gateway's metrics, cookies,
//! hosts and paths of clients, gRPC frames, a map of headers, users' regular expressions and objects.
//!
//! A plain mutator over a fixed corpus, with a fixed seed: it needs no nightly compiler and no instrumentation (cargo-fuzz does),
//! finds the same on every machine, and a failure names the input. Generators of valid values (proptest, arbitrary) would be
//! the other way round: what matters here is what is nearly valid. `WEIR_FUZZ_SECONDS` goes on for longer than one round.

use std::path::Path;
use std::time::{Duration, Instant};

use weir_controller::api::{self, Known};
use weir_controller::rollout::{Span, Timestamp};
use weir_controller::scrape::Reader;
use weir_filter::Filter;
use weir_filter::condition::Conditions;
use weir_filter::headers::Headers;
use weir_filter::simulated::SimulatedHost;
use weir_wire::{Affinity, Canary, Condition, Config, StringMatch, Weight};

/// Inputs for each target in one round: seconds of a debug build.
const ROUND: usize = 3_000;

/// A generator of numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % below.max(1)
    }
}

/// Bytes that parsers trip over.
const TOKENS: [&[u8]; 20] = [
    b"\0",
    b"\xff",
    b"\xc3",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"{",
    b"[[[[[[[[",
    b"]",
    b"\"",
    b"\\u0000",
    b"null",
    b"{}",
    b"\n",
    b"\r\n",
    b" ",
    b"_",
    b";",
    b"=",
    b"NaN",
];

fn mutate(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[numbers.next(corpus.len())].clone();
    for _ in 0..=numbers.next(6) {
        let at = numbers.next(input.len() + 1);
        let end = (at + numbers.next(12)).min(input.len());
        match numbers.next(7) {
            0 if at < input.len() => input[at] ^= 1 << numbers.next(8),
            1 if at < input.len() => input[at] = numbers.next(256) as u8,
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => drop(input.splice(at..at, TOKENS[numbers.next(TOKENS.len())].iter().copied())),
            5 => drop(input.splice(at..end, TOKENS[numbers.next(TOKENS.len())].iter().copied())),
            _ => {
                let other = &corpus[numbers.next(corpus.len())];
                let from = numbers.next(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input
}

/// Feeds the corpus of this name to a parser as it is, and then whatever the mutator makes of it.
fn fuzz(name: &str, mut parse: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name));
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty(), "no corpus for {name}");
    let mut check = |input: &[u8]| {
        let parsed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parse(input)));
        assert!(parsed.is_ok(), "{name}: {:?}", String::from_utf8_lossy(input));
    };
    corpus.iter().for_each(|input| check(input));
    let seconds = std::env::var("WEIR_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut numbers = Numbers(1);
    loop {
        (0..ROUND).for_each(|_| check(&mutate(&mut numbers, &corpus)));
        if Instant::now() >= until {
            return;
        }
    }
}

#[test]
fn a_configuration_is_taken_whole_or_refused_whatever_it_is() {
    fuzz("configuration", |input| {
        let (mut filter, mut host) = (Filter::new(), SimulatedHost::default());
        let taken = filter.configure(&mut host, input).is_ok();
        assert_eq!(taken, filter.generation() > 0);
        if taken {
            let config = Config::parse(input).unwrap();
            assert_eq!(Config::parse(&serde_json::to_vec(&config).unwrap()).unwrap(), config);
            host.request = vec![(":authority".into(), "shop.example.com".into()), (":path".into(), "/".into())];
            filter.request(&mut host, 1);
            filter.ended(&mut host, 1);
            filter.tick(&mut host);
        }
    });
}

#[test]
fn a_gateways_metrics_are_read_or_refused_whatever_they_are() {
    fuzz("scrape", |input| {
        let read = |pieces: usize| {
            let mut reader = Reader::of(None);
            input.chunks(pieces).try_for_each(|piece| reader.read(piece)).and_then(|()| reader.finish())
        };
        let whole = read(input.len().max(1));
        assert_eq!(read(7), whole, "it comes in pieces, cut anywhere");
        if let Ok(report) = whole {
            let text = String::from_utf8_lossy(input);
            for id in text.split(['_', '{']).filter(|part| part.len() == 16) {
                let _ = (report.scrape(id, "pod", Timestamp(1)), report.trouble(id), report.assigned(id));
            }
            let _ = (report.generation(), report.implausible(&report, Span(0)));
        }
    });
}

#[test]
fn patterns_of_users_are_refused_or_end() {
    fuzz("pattern", |input| {
        let text = String::from_utf8_lossy(input);
        let (pattern, value) = text.split_once('\n').unwrap_or((&text, ""));
        let test = StringMatch::Regex(pattern.to_owned());
        let condition = Condition { headers: [("x-a".to_owned(), test)].into(), ..Condition::default() };
        if let Ok(conditions) = Conditions::compile(&[condition]) {
            let mut host = SimulatedHost::default();
            host.request = vec![("x-a".into(), value.into())];
            let _ = conditions.are_met(&mut host);
        }
    });
}

#[test]
fn objects_of_users_are_planned_or_refused_with_the_field() {
    fuzz("object", |input| {
        let text = String::from_utf8_lossy(input);
        for document in api::read(&text, "f").into_iter().flatten() {
            match document.object {
                Known::Canary(canary) => {
                    let problems = api::plan(&canary).err().unwrap_or_default();
                    assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
                    let _ = (api::remarks(&canary), api::hosts(&canary));
                }
                Known::Process(process) => drop(api::process(&process)),
                _ => {}
            }
        }
        let _ = api::migrate(&text, "f");
        let _ = api::taking_over(&text);
    });
}

#[test]
fn what_clients_send_traps_nothing() {
    let match_all = r#"[{"headers": {"user-agent": {"regex": ".*Firefox.*"}}}, {"cookies": {"beta": {"exact": "always"}}},
        {"queryParams": {"v": {"prefix": "2"}}}]"#;
    let canary = Canary {
        id: "a".repeat(16),
        hosts: vec!["shop.example.com".into(), "*.example.com".into(), "[::1]".into(), "*".into()],
        token: "t".into(),
        epoch: 1,
        weight: Weight::new(5_000).unwrap(),
        conditions: serde_json::from_str(match_all).unwrap(),
        affinity: Some(Affinity { cookie: "weir".into(), ..Affinity::default() }),
        ..Canary::default()
    };
    let config =
        Config { version: 1, generation: 1, armed_until: u64::MAX, canaries: vec![canary], ..Config::default() };
    let (mut filter, mut host) = (Filter::new(), SimulatedHost::default());
    filter.configure(&mut host, &serde_json::to_vec(&config).unwrap()).unwrap();
    fuzz("request", |input| {
        let text = String::from_utf8_lossy(input);
        let names = ["cookie", ":path", ":authority", "user-agent"];
        host.request =
            names.iter().zip(text.split('\n')).map(|(name, value)| (name.to_string(), value.into())).collect();
        filter.request(&mut host, 1);
        filter.ended(&mut host, 1);
    });
}

#[test]
fn grpc_frames_of_any_form_trap_nothing() {
    fuzz("grpc", |input| {
        let mut host = SimulatedHost::default();
        host.body = input.to_vec();
        let first = weir_filter::outcome::first_message(&mut host);
        assert_eq!(first.is_some(), input.len() >= 5);
    });
}

#[test]
fn a_map_of_headers_of_any_form_ends() {
    fuzz("headers", |input| {
        let headers = Headers::new(input);
        let read: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(read <= input.len() && headers.iter().count() <= input.len() / 8);
        let _ = headers.get(":status");
    });
}
