//! Barriers and waits are missed: without any one of them, running a kernel's PTX finds a race. One that is not missed is one too many.

use purview::PtxLaunch;
use purview::ir::Element;
use purview::{AnyAttention, DeviceModel};
use purview_cli::ptx::{self, PtxError};
use purview_nvidia::ptx::without_line;
use purview_tests::attentions;
use purview_tests::devices;
use purview_tests::numbers::Numbers;

/// What orders the threads of a block, or a thread and its asynchronous copies.
const ORDERING: [&str; 6] = [
    "bar.sync",
    "barrier.sync",
    "barrier.cta.sync",
    "cp.async.commit_group",
    "cp.async.wait_group",
    "cp.async.wait_all",
];

/// A causal launch with several tiles of queries and keys, each in several chunks. The first query is `before` the first key, and the
/// scale is `scale`: neither changes the kernel.
fn launch(element: Element, before: i64, scale: f32) -> PtxLaunch {
    let attention = AnyAttention::from(attentions::window(1 << 20)).with_query_offset(-before).with_scale(scale);
    let mut numbers = Numbers::new(3);
    let device = devices::cpu();
    let [q, k, v] = [(); 3].map(|()| numbers.tensor(&device, element, &[1, 1, 193, 64]).unwrap());
    attention.ptx_launch(&DeviceModel::ampere(), &q, &[(&k, &v)]).unwrap()
}

/// The numbers, from 1, of the lines of `text` with an instruction that orders.
fn ordering(text: &str) -> Vec<usize> {
    let is = |line: &str| ORDERING.iter().any(|name| line.trim_start().starts_with(name));
    text.lines().enumerate().filter(|(_, line)| is(line)).map(|(at, _)| at + 1).collect()
}

/// Takes each of the kernel's barriers, commits and waits away, and sees that a launch misses it.
fn each_is_missed(launches: &[PtxLaunch]) {
    let text = &launches[0].kernel.text;
    for launch in launches {
        assert_eq!(launch.kernel.text, *text, "one kernel");
        let whole = ptx::run(launch).expect("the kernel itself has no fault");
        assert!(whole.counts.warp_instructions > 0);
    }
    let lines = ordering(text);
    assert!(lines.len() > 2, "the kernel orders nothing:\n{text}");
    let mut not_missed = Vec::new();
    for line in lines {
        let removed = text.lines().nth(line - 1).unwrap_or_default().trim();
        let without = without_line(text, line);
        let missed = launches.iter().any(|launch| match ptx::run_text(launch, &without) {
            Err(PtxError::Fault(fault)) => {
                println!("without line {line} ({removed}): {fault}");
                true
            }
            Err(other) => panic!("without line {line} ({removed}): {other}"),
            Ok(_) => false,
        });
        if !missed {
            not_missed.push(format!("line {line} ({removed})"));
        }
    }
    assert_eq!(not_missed, Vec::<String>::new(), "in\n{text}");
}

#[test]
fn in_f32() {
    each_is_missed(&[launch(Element::F32, 0, 0.125)]);
}

/// The queries of a tile that sees no key are still being copied when the output takes their place; a negative scale changes their sign.
fn with_tensor_cores(element: Element) {
    each_is_missed(&[launch(element, 0, 0.125), launch(element, 130, 0.125), launch(element, 0, -0.125)]);
}

#[test]
fn in_f16() {
    with_tensor_cores(Element::F16);
}

#[test]
fn in_bf16() {
    with_tensor_cores(Element::Bf16);
}
