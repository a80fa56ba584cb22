//! A kernel with all that makes one fast, `matrix_product.ptx`: right as it stands, and found out without any one of its barriers and
//! waits.

use half::f16;
use purview_nvidia::ptx::{Counts, DeviceMemory, Fault, GridLaunch, Module, run};

const SOURCE: &str = include_str!("matrix_product.ptx");
/// Rows, columns and depth of the product.
const SIZE: (usize, usize, usize) = (64, 96, 160);

/// Numbers whose products and sums are exact in f32.
fn numbers(count: usize, step: usize) -> Vec<f16> {
    (0..count).map(|index| f16::from_f32((index * step % 29) as f32 / 4.0 - 3.5)).collect()
}

fn bytes(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// C as the kernel makes it, and the counts.
fn product(source: &str) -> Result<(Vec<f32>, Counts), Fault> {
    let (rows, columns, depth) = SIZE;
    let module = Module::parse(source).expect("it is PTX");
    let mut memory = DeviceMemory::new();
    let a = memory.add(bytes(&numbers(rows * depth, 7)));
    let b = memory.add(bytes(&numbers(depth * columns, 11)));
    let c = memory.add_uninitialised(4 * rows * columns);
    let sizes = [columns as u32, depth as u32].iter().flat_map(|size| size.to_le_bytes()).collect();
    let launch = GridLaunch {
        grid: [columns as u32 / 32, rows as u32 / 32, 1],
        block: [64, 1, 1],
        dynamic_shared: 0,
        parameters: [a, b, c].iter().map(|address| address.to_le_bytes().to_vec()).chain([sizes]).collect(),
    };
    let counts = run(&module, &launch, &mut memory)?;
    assert!(memory.written(c).expect("C is there").iter().all(|&written| written), "all of C is written");
    let words = memory.bytes(c).expect("C is there").chunks(4);
    Ok((words.map(|word| f32::from_le_bytes(word.try_into().expect("four bytes"))).collect(), counts))
}

/// The source without a line.
fn without(line: usize) -> String {
    SOURCE
        .lines()
        .enumerate()
        .map(|(index, text)| if index + 1 == line { "\n" } else { text }.to_owned() + "\n")
        .collect()
}

/// The numbers of the lines that start with an instruction.
fn lines(start: &str) -> Vec<usize> {
    let found = SOURCE.lines().enumerate().filter(|(_, text)| text.trim().starts_with(start));
    found.map(|(index, _)| index + 1).collect()
}

#[test]
fn the_product_is_right() {
    let (rows, columns, depth) = SIZE;
    let (c, _) = product(SOURCE).unwrap_or_else(|fault| panic!("{fault}"));
    let (a, b) = (numbers(rows * depth, 7), numbers(depth * columns, 11));
    for (index, &found) in c.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        let expected: f32 = (0..depth).map(|k| a[row * depth + k].to_f32() * b[k * columns + column].to_f32()).sum();
        assert_eq!(found, expected, "row {row}, column {column}");
    }
}

#[test]
fn nothing_goes_through_memory_twice() {
    let (rows, columns, depth) = SIZE;
    let (_, counts) = product(SOURCE).unwrap_or_else(|fault| panic!("{fault}"));
    let blocks = (rows / 32 * columns / 32) as u64;
    let tiles = (depth / 32) as u64;
    // Two warps, four copies a tile of 512 bytes; three loads of four matrices, twice a tile; eight products.
    let copies = counts.traffic("cp.async");
    assert_eq!((copies.requests, copies.sectors), (blocks * tiles * 8, blocks * tiles * 8 * 16));
    assert_eq!((copies.wavefronts, copies.sectors), (copies.ideal_wavefronts, copies.ideal_sectors));
    let loads = counts.traffic("ldmatrix");
    assert_eq!((loads.requests, loads.wavefronts), (blocks * tiles * 2 * 6, blocks * tiles * 2 * 6 * 4));
    assert_eq!(loads.wavefronts, loads.ideal_wavefronts);
    assert_eq!(counts.executed("mma"), blocks * tiles * 2 * 8);
    // The rows of C that a half warp writes at once, four, start in the same bank.
    let turned = counts.traffic("st.shared");
    assert_eq!((turned.wavefronts, turned.ideal_wavefronts), (4 * turned.ideal_wavefronts, turned.ideal_wavefronts));
    let stores = counts.traffic("st.global");
    assert_eq!((stores.sectors, stores.ideal_sectors), ((rows * columns / 8) as u64, (rows * columns / 8) as u64));
}

#[test]
fn without_any_one_barrier_or_wait_it_is_found_out() {
    assert_eq!(lines("bar.").len(), 3);
    for line in lines("bar.") {
        match product(&without(line)) {
            Err(Fault::Race { .. }) => {}
            Err(other) => panic!("without line {line}: {other}"),
            Ok(_) => panic!("without line {line} it runs"),
        }
    }
    assert_eq!(lines("cp.async.wait").len() + lines("cp.async.commit").len(), 2);
    for line in [lines("cp.async.wait"), lines("cp.async.commit")].concat() {
        match product(&without(line)) {
            Err(Fault::CopyUnderWay { copy, .. }) => assert!(copy.text.starts_with("cp.async.cg"), "{}", copy.text),
            Err(other) => panic!("without line {line}: {other}"),
            Ok(_) => panic!("without line {line} it runs"),
        }
    }
}

#[test]
fn a_wait_for_one_group_less_is_found_out() {
    let late = product(&SOURCE.replace("cp.async.wait_group 1", "cp.async.wait_group 2"));
    assert!(matches!(late, Err(Fault::CopyUnderWay { .. })));
    let early = product(&SOURCE.replace("cp.async.wait_group 1", "cp.async.wait_group 0"));
    assert!(early.is_ok());
}
