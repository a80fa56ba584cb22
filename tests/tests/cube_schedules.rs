//! The `cube` schedule in sizes that are not this machine's choice: those of GPUs, on a driver that runs on the CPU.

use purview::ir::Element;
use purview::schedule::{CubeSchedule, DevicePlanes, Planes, Products, Schedule};
use purview::{Arguments, Shape};
use purview_examples::GALLERY;
use purview_tests::compare::{Failures, compare, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;

/// Accumulators of all kinds, a captured tensor that decides of tiles, two pairs.
const VARIANTS: [&str; 5] = ["causal", "document_causal", "attention_sink", "linear_attention", "recurrent_memory"];

/// Units along queries and keys, queries of a unit, keys, and the chunk.
const SIZES: [(usize, usize, usize, usize, usize); 4] =
    [(8, 8, 4, 32, 32), (8, 4, 4, 16, 16), (4, 8, 2, 16, 32), (4, 4, 1, 16, 16)];

#[test]
fn of_gpus() {
    let Some(device) = devices::wgpu("of_gpus") else { return };
    let uses: &[Planes] = match device.planes() {
        DevicePlanes::Unknown => {
            eprintln!("of_gpus: SKIPPED with planes: {device:?} has none");
            &[Planes::Unused]
        }
        DevicePlanes::Sized { .. } | DevicePlanes::Cheap(_) => &[Planes::Unused, Planes::Reduce],
    };
    let mut failures = Failures::default();
    for (place, (unit_rows, unit_columns, rows, keys, chunk)) in SIZES.into_iter().enumerate() {
        for &planes in uses {
            let products = Products::Units;
            let cube = CubeSchedule { unit_rows, unit_columns, rows, keys, chunk, planes, products };
            // Every other size with head dims that are no whole vectors.
            let (qk_dim, v_dim) = if place % 2 == 0 { (40, 24) } else { (18, 35) };
            let shape = Shape::new(1, 2, 77, qk_dim).with_v_dim(v_dim);
            for variant in GALLERY.iter().filter(|variant| VARIANTS.contains(&variant.name)) {
                let attention = (variant.make)(&Arguments::new(device.clone(), shape.clone())).unwrap();
                let attention = attention.with_schedule(Schedule::Cube(cube));
                let (q, pairs) = Numbers::new(7).operands(&device, &attention, &shape).unwrap();
                let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key, value)).collect();
                let errors = compare(&attention, &device, &q, &pairs);
                failures.check(&format!("{} {}", variant.name, Schedule::Cube(cube)), errors, &tolerance(Element::F32));
            }
        }
    }
    failures.report();
}
