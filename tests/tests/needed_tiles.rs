//! The tiles that the gallery's variants visit against those that have a visible pair, found by looking at every pair.

use purview::{Arguments, Device, Shape};
use purview_examples::GALLERY;
use purview_tests::soundness::{Case, LENGTH, TILES, Tally, tiles_of_queries};

/// Values of a variant's scalars, by name.
type Scalars = &'static [(&'static str, u32)];

/// Variants whose ranges are exact, with values of their scalars.
const EXACT: &[(&str, &[Scalars])] = &[
    ("causal", &[&[]]),
    ("sliding_window", &[&[], &[("window", 0)], &[("window", 1)], &[("window", 65)], &[("window", 1000)]]),
    ("local_window", &[&[], &[("radius", 0)], &[("radius", 32)], &[("radius", 100)]]),
    ("prefix_lm", &[&[], &[("prefix", 0)], &[("prefix", 64)], &[("prefix", 333)]]),
    ("chunked", &[&[], &[("chunk", 1)], &[("chunk", 64)], &[("chunk", 333)]]),
    (
        "global_and_local",
        &[&[], &[("globals", 0), ("window", 0)], &[("globals", 1), ("window", 65)], &[("globals", 300), ("window", 1)]],
    ),
    ("document_causal", &[&[]]),
];

/// Queries and keys.
const LENGTHS: [(usize, usize); 4] = [(500, 500), (130, 450), (450, 130), (1, 450)];

#[test]
fn no_tile_is_visited_in_vain() {
    let device = Device::cpu().unwrap();
    for (name, values) in EXACT {
        let variant = GALLERY.iter().find(|variant| variant.name == *name).unwrap();
        for (queries, keys) in LENGTHS {
            let shape = Shape::new(2, 2, keys, 16).with_queries(queries);
            for scalars in *values {
                let mut arguments = Arguments::new(device.clone(), shape.clone());
                arguments.scalars = scalars.iter().map(|(name, value)| (name.to_string(), f64::from(*value))).collect();
                let report = (variant.make)(&arguments).unwrap().report_verified(&shape).unwrap();
                let case = format!("{name} {scalars:?}, {queries} queries on {keys} keys");
                assert_eq!(report.needed_tiles, Some(report.tiles.visited), "{case}");
                assert!(report.visible_pairs.is_some(), "{case}");
            }
        }
    }
}

/// The other way round, as gradients of keys and values go through queries.
#[test]
fn no_tile_of_queries_is_visited_in_vain() {
    let device = Device::cpu().unwrap();
    for (name, values) in EXACT {
        let variant = GALLERY.iter().find(|variant| variant.name == *name).unwrap();
        let shape = Shape::new(1, 1, LENGTH, 8);
        for scalars in *values {
            let mut arguments = Arguments::new(device.clone(), shape.clone());
            arguments.scalars =
                scalars.iter().map(|(name, value)| (name.to_string(), f64::from(value.div_ceil(8)))).collect();
            let attention = (variant.make)(&arguments).unwrap();
            let case = Case::of(&attention).unwrap();
            for tile in TILES {
                let Tally { visited, needed, .. } = tiles_of_queries(&case, tile);
                assert_eq!(visited, needed, "{name} {scalars:?}, tiles of {tile}");
            }
        }
    }
}

#[test]
fn no_variant_skips_a_tile_that_it_needs() {
    let device = Device::cpu().unwrap();
    for variant in GALLERY {
        for (queries, keys) in LENGTHS {
            let shape = Shape::new(2, 2, keys, 16).with_queries(queries);
            let attention = (variant.make)(&Arguments::new(device.clone(), shape.clone())).unwrap();
            // It reads a tensor at every query's position, which no mask keeps from being negative.
            let is_indexed = variant.name == "point_distance" && queries > keys;
            let attention = if is_indexed { attention.with_query_offset(0) } else { attention };
            let report = attention.report_verified(&shape);
            assert!(report.is_ok(), "{}, {queries} queries on {keys} keys: {:?}", variant.name, report.err());
        }
    }
}
