//! No visible pair outside the visited tiles, no hidden pair inside a tile called full.

use purview_tests::predicates::{EXACT, SOUND, case};
use purview_tests::soundness::check;

#[test]
fn exact_predicates_visit_just_the_tiles_with_a_visible_pair() {
    for (name, text) in EXACT {
        let tally = check(&case(text));
        assert_eq!(tally.visited, tally.needed, "visited and needed tiles of {name}: {text}");
    }
}

#[test]
fn other_predicates_are_sound() {
    for (name, text) in SOUND {
        let tally = check(&case(text));
        println!("{name}: {tally:?}");
    }
}
