//! Barriers and waits that a kernel needs are missed: without any one of them, running its PTX finds a race. One that is not missed
//! is one too many, and said here.

use purview::ir::Element;
use purview::ptx::{PtxError, PtxLaunch};
use purview::{AnyAttention, DeviceModel};
use purview_nvidia::ptx::without_line;
use purview_tests::attentions;
use purview_tests::devices;
use purview_tests::numbers::Numbers;

/// What orders the threads of a block, or a thread and its asynchronous copies.
const ORDERING: [&str; 5] =
    ["bar.sync", "barrier.sync", "barrier.cta.sync", "cp.async.wait_group", "cp.async.wait_all"];

/// A causal launch with several tiles of queries and keys, each in several chunks.
fn launch(element: Element) -> PtxLaunch {
    let attention = AnyAttention::from(attentions::window(1 << 20));
    let mut numbers = Numbers::new(3);
    let device = devices::cpu();
    let [q, k, v] = [(); 3].map(|()| numbers.tensor(&device, element, &[1, 1, 193, 64]).unwrap());
    attention.ptx(&DeviceModel::ampere(), &q, &[(&k, &v)]).unwrap()
}

/// The numbers, from 1, of the lines of `text` with an instruction that orders.
fn ordering(text: &str) -> Vec<usize> {
    let is = |line: &str| ORDERING.iter().any(|name| line.trim_start().starts_with(name));
    text.lines().enumerate().filter(|(_, line)| is(line)).map(|(at, _)| at + 1).collect()
}

/// Takes each of the kernel's barriers and waits away, and looks which of them nobody misses.
fn missed_but(element: Element, unneeded: &[usize]) {
    let launch = launch(element);
    let whole = launch.run().expect("the kernel itself has no fault");
    assert!(whole.counts.warp_instructions > 0);
    let text = &launch.kernel.text;
    let lines = ordering(text);
    assert!(lines.len() > 2, "{element:?} orders nothing:\n{text}");
    let mut not_missed = Vec::new();
    for (place, line) in lines.into_iter().enumerate() {
        let removed = text.lines().nth(line - 1).unwrap_or_default().trim();
        match launch.run_text(&without_line(text, line)) {
            Err(PtxError::Fault(fault)) => println!("{element:?} without line {line} ({removed}): {fault}"),
            Err(other) => panic!("{element:?} without line {line} ({removed}): {other}"),
            Ok(_) => not_missed.push(place),
        }
    }
    assert_eq!(not_missed, unneeded, "{element:?}");
}

/// The first barrier is after the queries are in shared memory. Before any are read there is another, after the first keys.
#[test]
fn in_f32() {
    missed_but(Element::F32, &[0]);
}

/// As in f32.
#[test]
fn in_f16() {
    missed_but(Element::F16, &[0]);
}
