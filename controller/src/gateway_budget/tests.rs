//! What fits, who goes first, and who is told.

use super::*;
use weir_engine::evidence::{Absolute, Comparison, Onset, guard};
use weir_wire::Config;

/// An entry of about so many bytes.
fn canary(id: usize, weight: u32, bytes: usize) -> Canary {
    let bare = Canary {
        id: format!("{id:016x}"),
        run: "6f2c".into(),
        weight: Weight::new(weight).unwrap(),
        limits: vec![Limits { epoch: 1, ..Limits::default() }],
        ..Canary::default()
    };
    let host = "h".repeat(bytes.saturating_sub(size(&bare)) / 4);
    Canary { hosts: vec![host.clone(), host.clone(), host.clone(), host], ..bare }
}

/// An entry with as many tables as there can be, of the numbers that a busy rollout has.
fn ordinary(id: usize) -> Canary {
    let row = |i: u32| [i * 11 + 100, i / 2 + 10];
    let rows: Vec<[u32; 2]> = (0..64).map(row).collect();
    let table = |epoch| Limits {
        epoch,
        comparison: rows.clone(),
        absolute: rows.clone(),
        end: [900, 900],
        beyond: [vec![[900, 24_000], [960, 21_000], [1_200, 19_000]], vec![[900, 3_000], [960, 2_100]]],
    };
    Canary {
        name: format!("team-{id}/shopping-cart"),
        hosts: vec![
            format!("shopping-cart.team-{id}.example.com"),
            format!("shopping-cart.team-{id}.svc.cluster.local"),
        ],
        routes: vec![format!("team-{id}/shopping-cart")],
        token: format!("{id:016x}"),
        latency_ms: crate::api::DEFAULT_LATENCY_MS.to_vec(),
        limits: [9, 8, 7].map(table).to_vec(),
        ..canary(id, 500, 0)
    }
}

/// As [`super::fit`], with the routes that a Canary has.
fn fit(canaries: Vec<Canary>, last: &BTreeMap<String, Size>) -> Fitted {
    let routes = |canary: &Canary| RouteNames {
        primary: canary.routes.clone(),
        canary: canary.routes.iter().map(|route| format!("{route}/canary")).collect(),
        direct: Vec::new(),
    };
    super::fit(canaries.into_iter().map(|canary| Claim { routes: routes(&canary), canary }).collect(), last)
}

fn pushed(canaries: &[Canary]) -> BTreeMap<String, Size> {
    sizes(canaries)
}

fn left_out(fitted: &Fitted) -> Vec<usize> {
    fitted.left_out.keys().map(|id| usize::from_str_radix(id, 16).unwrap()).collect()
}

/// Entries that fill the configuration.
fn full() -> Vec<Canary> {
    (1..=ENTRIES / 15_000).map(|id| canary(id, 500, 15_000)).collect()
}

#[test]
fn five_hundred_ordinary_rollouts_fit_into_an_object_of_one_mebibyte() {
    let fitted = fit((0..500).map(ordinary).collect(), &BTreeMap::new());
    assert_eq!((fitted.canaries.len(), fitted.left_out.len()), (500, 0));
    let config = Config { canaries: fitted.canaries, ..Config::default() };
    assert!(config.canaries.iter().all(|canary| canary.limits.len() == 1 && canary.limits[0].epoch == 9));
    let object = serde_json::to_string(&serde_json::to_string(&config).unwrap()).unwrap();
    let switches: usize =
        config.canaries.iter().flat_map(|canary| &canary.routes).map(|route| 2 * (SWITCH + route.len()) + 7).sum();
    assert!(object.len() + switches < 1 << 20, "{} {switches}", object.len());
    assert_eq!(fit(vec![ordinary(1)], &BTreeMap::new()).canaries, [ordinary(1)], "with room, all tables stay");
}

#[test]
fn a_new_canary_that_does_not_fit_is_left_out_with_the_numbers_and_no_other() {
    let running = full();
    let mut desired = running.clone();
    // First by its id, and last by its turn.
    desired.push(canary(0, 500, 15_000));
    let fitted = fit(desired, &pushed(&running));
    assert_eq!(left_out(&fitted), [0]);
    assert_eq!(fitted.canaries, running);
    let text = &fitted.left_out[&format!("{:016x}", 0)];
    assert!(text.contains(&format!("of {ENTRIES} are taken")) && text.contains("bytes"), "{text}");
}

#[test]
fn a_canary_that_grows_gives_way_to_those_that_did_not() {
    let running = full();
    let mut desired = running.clone();
    desired[0] = canary(1, 500, 16_300);
    let last = pushed(&running);
    let fitted = fit([desired.clone(), vec![canary(99, 500, 4_000)]].concat(), &last);
    assert!(left_out(&fitted).contains(&99) && fitted.canaries.len() >= running.len() - 1);
    assert!(running[1..].iter().all(|canary| fitted.canaries.contains(canary)));
}

#[test]
fn every_rollback_fits_in_a_configuration_that_is_full() {
    let running = full();
    let back = |canary: &Canary| Canary { weight: Weight::ZERO, conditions: Vec::new(), ..canary.clone() };
    for count in [1, running.len()] {
        let mut desired: Vec<Canary> = running.iter().take(count).map(back).collect();
        desired.extend_from_slice(&running[count..]);
        desired.extend((100..200).map(|id| canary(id, 500, 15_000)));
        let fitted = fit(desired, &pushed(&running));
        let rollbacks = fitted.canaries.iter().filter(|canary| canary.weight == Weight::ZERO).count();
        assert_eq!(rollbacks, count);
        assert!(left_out(&fitted).iter().all(|id| *id >= 100));
    }
}

#[test]
fn an_entry_of_its_own_size_is_left_out_unless_gateways_run_it_already() {
    let large = canary(1, 500, ENTRY + 2_000);
    let fitted = fit(vec![large.clone(), canary(2, 500, 1_000)], &BTreeMap::new());
    assert_eq!(left_out(&fitted), [1]);
    assert!(fitted.left_out.values().all(|text| text.contains(&format!("{ENTRY} is the limit for one Canary"))));
    let fitted = fit(vec![large.clone()], &pushed(&[large]));
    assert_eq!(left_out(&fitted), [0; 0], "what worked before an upgrade goes on");
}

#[test]
fn a_start_at_weight_0_is_no_rollback_and_takes_nobodys_place() {
    let running = full();
    let mut desired = running.clone();
    desired.extend((0..1).map(|id| canary(id, 0, 15_000)));
    let fitted = fit(desired.clone(), &pushed(&running));
    assert_eq!(left_out(&fitted), [0]);
    // Nor is one that has grown while it had none.
    let small = [running.clone(), vec![canary(0, 0, 1_000)]].concat();
    let fitted = fit(desired, &pushed(&small));
    assert_eq!(left_out(&fitted), [0]);
}

#[test]
fn an_answer_that_was_pushed_stays_the_answer() {
    let desired: Vec<Canary> = (0..600).map(ordinary).chain((600..640).map(|id| canary(id, 100, 15_000))).collect();
    let first = fit(desired.clone(), &BTreeMap::new());
    assert!(!first.left_out.is_empty());
    let again = fit(desired, &pushed(&first.canaries));
    assert_eq!((again.canaries, again.left_out.len()), (first.canaries, first.left_out.len()));
}

#[test]
fn a_canary_that_serves_for_its_primary_keeps_its_place_when_it_grows() {
    let running = full();
    let mut desired = running.clone();
    desired[0] = Canary { fallback: true, ..canary(1, 10_000, 16_300) };
    let fitted = fit(desired, &pushed(&running));
    assert_eq!(left_out(&fitted), [0; 0]);
}

#[test]
fn a_table_that_is_cut_off_asks_for_no_less_than_before() {
    let mut onset = Onset::new(Comparison::WEIGHTS.len());
    onset.begin_block(&Comparison::WEIGHTS);
    let comparison = guard::comparison(&Comparison::EQUAL, &onset, 0.05, 200.0, guard::ROWS);
    let mut onset = Onset::new(Absolute::WEIGHTS.len());
    onset.begin_block(&Absolute::WEIGHTS);
    let absolute = guard::absolute(&Absolute::at(0.05), &onset, 200.0, guard::ROWS);
    let whole = Limits {
        epoch: 9,
        comparison: comparison.rows,
        absolute: absolute.rows,
        end: [comparison.end, absolute.end],
        beyond: [comparison.beyond, absolute.beyond],
    };
    let short = shortened(whole.clone());
    assert_eq!((short.comparison.len(), short.absolute.len()), (ROWS, ROWS));
    for count in (0..3_000).chain([10_000, 100_000, 5_000_000]) {
        let pairs = [
            (short.comparison_limit(count), whole.comparison_limit(count)),
            (short.absolute_limit(count), whole.absolute_limit(count)),
        ];
        for (short, whole) in pairs {
            assert!(short >= whole && short.is_none() == whole.is_none(), "{count}: {short:?} {whole:?}");
            assert!(short.unwrap_or_default() <= whole.unwrap_or_default() * 2 + 8, "{count}: {short:?} {whole:?}");
        }
    }
    let fits = Limits { comparison: vec![[0, 3]], ..Limits::default() };
    assert_eq!(shortened(fits.clone()), fits);
}

#[test]
fn idle_entries_go_first_and_need_no_tables() {
    let running = full();
    let idle = Canary { run: String::new(), ..canary(0, 0, 15_000) };
    let fitted = fit([vec![idle.clone()], running.clone()].concat(), &pushed(&running));
    assert_eq!(left_out(&fitted), [0]);
    let fitted = fit(vec![idle], &BTreeMap::new());
    assert!(fitted.canaries[0].limits.is_empty());
}

#[test]
fn a_size_is_what_the_object_holds() {
    let canaries = vec![canary(1, 500, 1_000), canary(2, 0, 300)];
    let config = Config { canaries: canaries.clone(), ..Config::default() };
    let object = serde_json::to_string(&serde_json::to_string(&config).unwrap()).unwrap();
    let counted: usize = config.canaries.iter().map(size).sum();
    assert!((0..200).contains(&(object.len() - counted)), "{} {counted}", object.len());
}

/// An A/B test with these regular expressions.
fn matching(id: usize, patterns: &[String]) -> Canary {
    let condition = |pattern: &String| weir_wire::Condition {
        headers: [("x-a".to_owned(), weir_wire::StringMatch::Regex(pattern.clone()))].into(),
        ..weir_wire::Condition::default()
    };
    Canary { conditions: patterns.iter().map(condition).collect(), ..canary(id, 0, 300) }
}

#[test]
fn regular_expressions_of_all_canaries_together_leave_a_gateway_its_memory() {
    let ordinary: Vec<Canary> =
        (0..200).map(|id| matching(id, &["^(.*?;)?(canary=always)(;.*)?$".to_owned()])).collect();
    let fitted = fit(ordinary.clone(), &BTreeMap::new());
    assert_eq!((fitted.canaries.len(), fitted.left_out.len()), (200, 0), "as cookies are matched");
    // A few characters that are kilobytes, as often as one Canary's text may hold them, and in as many Canaries as he likes.
    let large = |text: &str, n: usize| (0..n).map(|i| format!("(?:{text}*){{400}}{i}")).collect::<Vec<_>>();
    let many = matching(9_000, &large("a", 128));
    let few: Vec<Canary> = (1_000..1_400).map(|id| matching(id, &large("a", 4))).collect();
    let claims = [ordinary.clone(), few, vec![many]].concat();
    let fitted = fit(claims, &pushed(&ordinary));
    assert!(ordinary.iter().all(|canary| fitted.canaries.contains(canary)), "nobody else is left out");
    let compiled: usize = fitted.canaries.iter().map(patterns::size).sum();
    assert!(compiled <= ALL_PATTERNS && !fitted.left_out.is_empty(), "{compiled}");
    let told = |id: usize| fitted.left_out[&format!("{id:016x}")].clone();
    assert!(told(9_000).contains("spec.analysis.match") && told(9_000).contains(&format!("{PATTERNS} is the limit")));
    assert!(told(1_399).contains(&format!("of {ALL_PATTERNS} are taken")), "{}", told(1_399));
}

#[test]
fn another_expression_of_the_same_length_is_no_way_around_the_limit() {
    let before = matching(1, &["(?:a*){111}".to_owned()]);
    let after = matching(1, &["(?:a*){999}".to_owned()]);
    assert_eq!(own_size(&before), own_size(&after));
    let last = pushed(std::slice::from_ref(&before));
    assert!(turn(&before, Size::of(&before), &last) < Turn::Grown);
    assert!(turn(&after, Size::of(&after), &last) == Turn::Grown);
}
