//! `weir evidence` as a user types it.

use std::process::{Command, Output};

use serde_json::{Value, json};

pub(crate) fn weir(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments.split_whitespace()).output().unwrap()
}

fn text(arguments: &str) -> String {
    let output = weir(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn report(arguments: &str) -> Value {
    serde_json::from_str(&text(&format!("{arguments} -o json"))).unwrap()
}

fn number(report: &Value, field: &str) -> f64 {
    report[field].as_f64().unwrap_or_else(|| panic!("{field} of {report}"))
}

#[test]
fn figures_are_those_of_statistics_2_and_12() {
    let seen = report("evidence --epoch 0.05:3:0");
    assert_eq!(format!("{:.4}", number(&seen, "e")), "876.9829");
    assert_eq!(format!("{:.4}", number(&seen, "log_e")), format!("{:.4}", 876.9829f64.ln()));
    // One block: half of the prior is spent.
    assert_eq!(format!("{:.3}", number(&seen, "e_onset")), "438.991");
    assert_eq!(seen["verdict"], "bad");
    let simpson = report("evidence --epoch 0.01:1:99 --epoch 0.5:1000:1000");
    assert_eq!(format!("{:.4}", number(&simpson, "log_e")), "-14.5285");
}

#[test]
fn epochs_are_blocks_of_the_onset_in_their_order() {
    let (one, other) =
        (report("evidence --epoch 0.05:0:20 --epoch 0.05:4:0"), report("evidence --epoch 0.05:4:0 --epoch 0.05:0:20"));
    assert!((number(&one, "log_e") - number(&other, "log_e")).abs() < 1e-9);
    assert!(number(&one, "e_onset") > number(&other, "e_onset"), "a bad end weighs more than a bad beginning");
}

#[test]
fn tables_of_a_first_epoch_begin_as_those_of_the_design() {
    let seen = report("evidence --epoch 0.05:0:0");
    let rows = seen["limits"]["comparison"].as_array().unwrap();
    assert_eq!(rows[..6], json!([[0, 3], [1, 4], [3, 5], [7, 6], [11, 7], [17, 8]]).as_array().unwrap()[..]);
    assert_eq!(rows[6][0], 23, "so that the first six hold up to 22");
    assert_eq!(seen["limits"]["comparison_threshold"], 200.0);
    // The absolute guard's share of α 2 % is evidence of 200.
    let seen = report("evidence --epoch 0.05:0:0 --alpha 0.02");
    let rows = seen["limits"]["absolute"].as_array().unwrap();
    assert_eq!(rows[..5], json!([[3, 3], [4, 4], [7, 5], [12, 6], [18, 7]]).as_array().unwrap()[..]);
    assert_eq!(rows[5][0], 24);
    assert_eq!(seen["limits"]["absolute_threshold"], 200.0);
}

#[test]
fn what_is_missing_is_what_makes_the_verdict() {
    let seen = report("evidence --epoch 0.05:1:7 --epoch 0.2:2:9");
    assert_eq!(seen["verdict"], "insufficient");
    let more = seen["missing"]["canary_failures_to_bad"].as_u64().unwrap();
    let with = |more| report(&format!("evidence --epoch 0.05:1:7 --epoch 0.2:{}:9", 2 + more));
    assert_eq!(with(more)["verdict"], "bad");
    assert_eq!(with(more - 1)["verdict"], "insufficient");
    let good = report("evidence --epoch 0.5:40:41");
    assert_eq!((&good["verdict"], &good["missing"]["failures_to_good"]), (&json!("good"), &json!(0)));
}

#[test]
fn ratio_moves_the_null_and_alpha_the_threshold() {
    let (equal, twice) = (report("evidence --epoch 0.05:3:0"), report("evidence --epoch 0.05:3:0 --ratio 2"));
    assert!(number(&twice, "e") < number(&equal, "e"));
    assert_eq!(report("evidence --epoch 0.05:3:0 --alpha 0.002")["verdict"], "insufficient");
}

#[test]
fn absolute_test_has_its_own_verdict() {
    let seen = report("evidence --absolute 3:3");
    assert!(number(&seen, "e_absolute") > 400.0);
    assert_eq!((&seen["verdict_absolute"], &seen["verdict"]), (&json!("bad"), &json!("insufficient")));
    assert_eq!(seen["e_onset"], 1.0, "no comparison, no evidence");
    // 88 clean requests certify less than 5 % (§5), 87 do not.
    assert_eq!(report("evidence --absolute 0:88")["verdict_absolute"], "good");
    assert_eq!(report("evidence --absolute 0:87")["verdict_absolute"], "insufficient");
    assert_eq!(report("evidence --epoch 0.05:1:1").get("e_absolute"), None);
}

#[test]
fn the_largest_counts_give_a_null_and_its_logarithm() {
    let most = u64::MAX;
    let seen = report(&format!("evidence --epoch 0.5:{most}:0 --epoch 0.0001:3:{most} --absolute {most}:{most}"));
    for (e, log_e) in [("e", "log_e"), ("e_onset", "log_e_onset"), ("e_absolute", "log_e_absolute")] {
        assert_eq!(seen[e], Value::Null);
        assert!(number(&seen, log_e) > 1e18);
    }
    assert_eq!(seen["verdict"], "bad");
}

#[test]
fn text_fits_a_hundred_columns_and_begins_with_the_verdict() {
    let most = u64::MAX;
    for arguments in [
        "--epoch 0.05:2:10 --epoch 0.2:6:12 --absolute 3:40",
        "--epoch 0.05:14:214",
        "--epoch 0.0001:0:5000000 --ratio 1.5 --gateways 40",
        "--epoch 0.999999:1:1000000000",
        "--epoch 1e-300:1:1",
        &format!("--epoch 0.5:{most}:{most} --absolute 5:{most} --p0 0.00001"),
        "--absolute 0:0",
    ] {
        let text = text(&format!("evidence {arguments}"));
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{arguments}: {wide:#?}");
        let first = text.lines().next().unwrap();
        assert!(["Bad", "Good", "Insufficient"].iter().any(|word| first.starts_with(word)), "{first}");
    }
}

#[test]
fn bad_input_says_what_and_where_and_what_to_do() {
    for (arguments, told) in [
        ("", "--epoch"),
        ("--alpha 0.05", "--epoch"),
        ("--epoch 5:1:1", "weight: \"5\" is not a fraction above 0 and below 1, write 0.05 for 5 %"),
        ("--epoch 0:1:1", "weight: \"0\" is not a fraction"),
        ("--epoch 1:1:1", "weight: \"1\" is not a fraction"),
        ("--epoch nan:1:1", "weight: \"nan\" is not a fraction"),
        ("--epoch 0.05:1", "it has 2 parts and needs 3, for instance 0.05:2:10"),
        ("--epoch 0.05:1:2:3", "it has 4 parts and needs 3"),
        ("--epoch 0.05:x:1", "canary failures: \"x\" is not a whole number, write digits only"),
        ("--epoch 0.05:1:-1", "primary failures: \"-1\" is not a whole number"),
        ("--epoch 0.05:1:1.5", "primary failures: \"1.5\" is not a whole number"),
        ("--epoch 0.05::1", "canary failures: \"\" is not a whole number"),
        ("--epoch 0.05:1:18446744073709551616", "primary failures: 18446744073709551616 is too large"),
        ("--epoch 0.05:1:1 --alpha 1", "'--alpha <ALPHA>': \"1\" is not a fraction"),
        ("--epoch 0.05:1:1 --ratio 0", "'--ratio <RATIO>': \"0\" is not a number above 0"),
        ("--epoch 0.05:1:1 --ratio inf", "\"inf\" is not a number above 0"),
        ("--epoch 0.05:1:1 --p0 5%", "'--p0 <P>': \"5%\" is not a fraction"),
        ("--absolute 3:2", "3 failures of 2 requests; completed requests include failed ones"),
        ("--absolute 3", "it has 1 parts and needs 2"),
        ("--epoch 0.05:1:1 --gateways 0", "0 is not in 1.."),
        ("--epoch 0.05:1:1 -o yaml", "[possible values: text, json]"),
    ] {
        let output = weir(&format!("evidence {arguments}"));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
        assert!(error.contains(told), "{arguments}: {error}");
        assert!(output.stdout.is_empty());
    }
}
