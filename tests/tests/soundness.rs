//! No visible pair outside the visited tiles, no hidden pair inside a tile called full: for every tile that occurs at lengths up
//! to 40, and offsets from -5 to 20. And how many tiles are visited for nothing.

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use purview::{Arguments, Device, Shape};
use purview_examples::GALLERY;
use purview_tests::generate;
use purview_tests::predicates::{EXACT, SOUND, case};
use purview_tests::soundness::{Case, Tally, check, check_tiles};
use std::fmt::Write;

/// The gallery with captured tensors for positions to 59, and small scalars.
fn gallery() -> Vec<(&'static str, Tally)> {
    let shape = Shape::new(2, 4, 60, 8).with_kv_heads(2);
    let mut arguments = Arguments::new(Device::cpu().unwrap(), shape);
    for (name, value) in [
        ("window", 5.0),
        ("radius", 2.0),
        ("prefix", 6.0),
        ("chunk", 6.0),
        ("block", 6.0),
        ("globals", 3.0),
        ("dilation", 3.0),
        ("stride", 7.0),
        ("width", 8.0),
        ("past", 9.0),
    ] {
        arguments.scalars.insert(name.into(), value);
    }
    let tally = |attention| check(&Case::of(&attention).unwrap());
    GALLERY.iter().map(|variant| (variant.name, tally((variant.make)(&arguments).unwrap()))).collect()
}

/// Variants whose masks are not affine comparisons, unions of them or blocks by floor division.
const NOT_EXACT: &[&str] = &["block_sparse", "document_mask", "neighborhood_2d", "swin", "tree"];

#[test]
fn exact_predicates_visit_just_the_tiles_with_a_visible_pair() {
    for (name, text) in EXACT {
        let tally = check(&case(text));
        assert_eq!(tally.visited, tally.needed, "visited and needed tiles of {name}: {text}");
    }
}

#[test]
fn other_predicates_and_the_gallery() {
    let mut wasted = String::from("| predicate | visited | needed | wasted |\n|---|---|---|---|\n");
    let mut add = |name: &str, Tally { visited, needed, .. }: Tally| {
        let share = 100.0 * (visited - needed) as f64 / visited as f64;
        if visited > needed {
            writeln!(wasted, "| {name} | {visited} | {needed} | {share:.1} % |").unwrap();
        }
    };
    for (name, tally) in gallery() {
        assert!(tally.visited == tally.needed || NOT_EXACT.contains(&name), "{name}: {tally:?}");
        add(&format!("`{name}`"), tally);
    }
    for (_, text) in SOUND {
        add(&format!("`{}`", text.replace('|', "\\|")), check(&case(text)));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tiles.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page.contains(&wasted), "the table in docs/tiles.md should be\n{wasted}");
}

#[test]
fn random_predicates() {
    let cases = std::env::var("PROPTEST_CASES").map_or(100, |cases| cases.parse().expect("a number of cases"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let device = Device::cpu().unwrap();
    let result = runner.run(&generate::Case::any(), |random| {
        let case = Case::of(&random.attention(&device).unwrap()).unwrap();
        let tally = std::panic::catch_unwind(|| check_tiles(&case, 4));
        tally.map(drop).map_err(|_| TestCaseError::fail("unsound: see above"))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
