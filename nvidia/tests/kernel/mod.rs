//! Small kernels for tests: a body of PTX between a fixed head and end.

use purview_nvidia::ptx::{Counts, DeviceMemory, Fault, GridLaunch, Module, run_within};

/// Instructions that a warp of a test may run.
const STEPS: u64 = 100_000;

/// A kernel with registers of all kinds, 4 KiB of shared memory at `tile`, and for each thread its index in `%r1`, the address of its
/// word of the input in `%rd4` and of the output in `%rd5`. `%rd1` and `%rd2` are where input and output start.
pub fn source(body: &str) -> String {
    format!(
        ".version 8.0
.target sm_80
.address_size 64
.visible .entry kernel(.param .u64 input, .param .u64 output)
{{
    .reg .pred %p<8>;
    .reg .b16 %h<8>;
    .reg .b32 %r<64>;
    .reg .f32 %f<64>;
    .reg .b64 %rd<32>;
    .shared .align 128 .b8 tile[4096];
    ld.param.u64 %rd1, [input];
    ld.param.u64 %rd2, [output];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
{body}
    ret;
}}
"
    )
}

/// What a run leaves in the output, of as many words as the input, and its counts.
#[allow(dead_code, reason = "each test file compiles this module for itself")]
pub struct Ran {
    pub output: Vec<u32>,
    pub counts: Counts,
}

/// Runs a kernel made by [`source`] in one block of so many threads. Input and output have `words` words.
pub fn run_source(source: &str, threads: u32, input: &[u32]) -> Result<Ran, Fault> {
    run_blocks(source, 1, threads, input)
}

/// The same in several blocks.
pub fn run_blocks(source: &str, blocks: u32, threads: u32, input: &[u32]) -> Result<Ran, Fault> {
    let module = Module::parse(source).unwrap_or_else(|error| panic!("{error}\nin\n{source}"));
    let mut memory = DeviceMemory::new();
    let from = memory.add(input.iter().flat_map(|word| word.to_le_bytes()).collect());
    let to = memory.add_uninitialised(4 * input.len());
    let launch = GridLaunch {
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        dynamic_shared: 0,
        parameters: vec![from.to_le_bytes().to_vec(), to.to_le_bytes().to_vec()],
    };
    let counts = run_within(&module, &launch, &mut memory, STEPS)?;
    let bytes = memory.bytes(to).expect("the output is there");
    let output = bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect();
    Ok(Ran { output, counts })
}

/// Runs a body that must not fail.
#[allow(dead_code, reason = "each test file compiles this module for itself")]
pub fn output(body: &str, threads: u32, input: &[u32]) -> Vec<u32> {
    match run_source(&source(body), threads, input) {
        Ok(ran) => ran.output,
        Err(fault) => panic!("{fault}\nin\n{body}"),
    }
}
