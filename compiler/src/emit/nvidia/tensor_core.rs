//! The instructions that NVIDIA's tensor cores are fed by: matrices from shared memory, products, and copies that go on by themselves.
//!
//! They have two ways into a kernel. Where LLVM makes PTX, each is an operation of our own (`nvptx`); where CubeCL writes CUDA C++,
//! inline PTX. Shared memory is addressed by bytes, as the instructions do: an address that is computed once, and a constant.
//!
//! A lane of a warp has, with g = lane / 4 and q = lane % 4 (PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type"):
//!
//! | matrix | lane's elements, two to a register |
//! |---|---|
//! | A, `[16, 16]` | (g, 2q), (g + 8, 2q), (g, 2q + 8), (g + 8, 2q + 8), each with the next in its row |
//! | B, `[16, 8]` | (2q, g), (2q + 8, g), each with the next in its column |
//! | C, `[16, 8]`, f32 | (g, 2q), (g, 2q + 1), (g + 8, 2q), (g + 8, 2q + 1) |
//!
//! Two C that are neighbours along their columns, rounded, are an A: that is how weights become a factor without leaving registers.

use super::instruction::{Half, Instruction};
use crate::emit::math::{exp2_native, is_nvptx};
use cubecl::ir::pliron::{r#type::TypeHandle, value::Value};
use cubecl::prelude::*;

/// The lanes of a fragment.
pub type Four = Const<4>;

/// Puts `instruction` into the kernel, and gives what it gives, if that is a `result`.
#[cfg(any(feature = "emit", feature = "cuda"))]
fn run(scope: &Scope, instruction: Instruction, operands: Vec<Value>, result: Option<TypeHandle>) -> Option<Value> {
    let op = super::nvptx::InstructionOp::new(scope.ctx_mut(), instruction, operands, result);
    scope.register(&op);
    result.map(|_| op.result(scope.ctx()))
}

#[cfg(not(any(feature = "emit", feature = "cuda")))]
fn run(_: &Scope, _: Instruction, _: Vec<Value>, _: Option<TypeHandle>) -> Option<Value> {
    unreachable!("PTX is made only with the feature `emit` or `cuda`")
}

fn value(scope: &Scope, instruction: Instruction, operands: Vec<Value>, result: TypeHandle) -> Value {
    run(scope, instruction, operands, Some(result)).expect("it gives something")
}

/// The value of a number that may be a variable's: inline assembly would take the variable's address.
fn read<T: CubePrimitive>(scope: &Scope, number: NativeExpand<T>) -> NativeExpand<T> {
    number.read_value(scope).into()
}

/// The address of the first byte of `memory`, which is shared.
#[cube]
#[allow(unused_variables, reason = "the body is what it expands to")]
pub fn shared_address<E: CubePrimitive>(memory: &[E]) -> u32 {
    intrinsic!(|scope| {
        // SAFETY: only the address is used.
        let pointer = unsafe { *memory.__expand_as_ptr_method(scope) };
        if is_nvptx(scope) {
            let word = u32::__expand_as_type(scope);
            value(scope, Instruction::SharedAddress, vec![pointer.value(scope)], word).into()
        } else {
            cuda_shared_address::expand::<E>(scope, &pointer)
        }
    })
}

#[cube]
fn cuda_shared_address<E: CubePrimitive>(pointer: *const E) -> u32 {
    let address: u32;
    gpu_asm!(
        "{{ .reg .u64 shared; cvta.to.shared.u64 shared, {pointer}; cvt.u32.u64 {address}, shared; }}",
        pointer = in(_) pointer, address = out(_) address, options(nomem),
    );
    address
}

/// Four 8×8 matrices: row r of matrix m is the 16 bytes at what lane 8m + r gives as `address`, and `offset` further. Element m of the
/// result is the lane's part of matrix m, as of a B that is stored by columns.
#[cube]
#[allow(unused_variables, reason = "the body is what it expands to")]
pub fn load_matrices(address: u32, #[comptime] offset: u32, #[comptime] transposed: bool) -> Vector<u32, Four> {
    intrinsic!(|scope| {
        if is_nvptx(scope) {
            let operands = vec![address.read_value(scope), offset.into_expand(scope).value(scope)];
            let four = Vector::<u32, Four>::__expand_as_type(scope);
            value(scope, Instruction::LoadMatrices { transposed }, operands, four).into()
        } else {
            cuda_load_matrices::expand(scope, read(scope, address), offset, if transposed { ".trans" } else { "" })
        }
    })
}

#[cube]
fn cuda_load_matrices(address: u32, #[comptime] offset: u32, #[comptime] transposed: &str) -> Vector<u32, Four> {
    let matrices: Vector<u32, Four>;
    gpu_asm!(
        "ldmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 {matrices}, [{address}+{offset}];",
        matrices = out(_) matrices, address = in(_) address, offset = const offset,
    );
    matrices
}

/// C + A × B, with B the first or the second (`upper`) of the two in `b`.
#[cube]
#[allow(unused_variables, reason = "the body is what it expands to")]
pub fn multiply(
    a: Vector<u32, Four>,
    b: Vector<u32, Four>,
    c: Vector<f32, Four>,
    #[comptime] upper: bool,
    #[comptime] element: Half,
) -> Vector<f32, Four> {
    intrinsic!(|scope| {
        if is_nvptx(scope) {
            let operands = vec![a.read_value(scope), b.read_value(scope), c.read_value(scope)];
            let four = Vector::<f32, Four>::__expand_as_type(scope);
            value(scope, Instruction::Multiply { element, upper }, operands, four).into()
        } else {
            cuda_multiply::expand(scope, read(scope, a), read(scope, b), read(scope, c), upper, element.ptx())
        }
    })
}

#[cube]
fn cuda_multiply(
    a: Vector<u32, Four>,
    b: Vector<u32, Four>,
    c: Vector<f32, Four>,
    #[comptime] upper: bool,
    #[comptime] element: &str,
) -> Vector<f32, Four> {
    let first = comptime![if upper { 2usize } else { 0 }];
    let sums: Vector<f32, Four>;
    gpu_asm!(
        "mma.sync.aligned.m16n8k16.row.col.f32.{element}.{element}.f32 {sums}, {a}, {{{b0}, {b1}}}, {c};",
        element = const element, sums = out(_) sums, a = in(_) a,
        b0 = in(_) b.extract(first), b1 = in(_) b.extract(comptime![first + 1]), c = in(_) c, options(nomem),
    );
    sums
}

/// The A that two C are, side by side, rounded.
#[cube]
#[allow(unused_variables, reason = "the body is what it expands to")]
pub fn pack(left: Vector<f32, Four>, right: Vector<f32, Four>, #[comptime] element: Half) -> Vector<u32, Four> {
    intrinsic!(|scope| {
        if is_nvptx(scope) {
            let operands = vec![left.read_value(scope), right.read_value(scope)];
            let four = Vector::<u32, Four>::__expand_as_type(scope);
            value(scope, Instruction::Pack { element }, operands, four).into()
        } else {
            cuda_pack::expand(scope, read(scope, left), read(scope, right), element.ptx())
        }
    })
}

#[cube]
fn cuda_pack(left: Vector<f32, Four>, right: Vector<f32, Four>, #[comptime] element: &str) -> Vector<u32, Four> {
    let mut packed = Vector::<u32, Four>::empty();
    packed.insert(0usize, cuda_pack_two(left.extract(0usize), left.extract(1usize), element));
    packed.insert(1usize, cuda_pack_two(left.extract(2usize), left.extract(3usize), element));
    packed.insert(2usize, cuda_pack_two(right.extract(0usize), right.extract(1usize), element));
    packed.insert(3usize, cuda_pack_two(right.extract(2usize), right.extract(3usize), element));
    packed
}

#[cube]
fn cuda_pack_two(lower: f32, upper: f32, #[comptime] element: &str) -> u32 {
    let packed: u32;
    gpu_asm!(
        "cvt.rn.{element}x2.f32 {packed}, {upper}, {lower};",
        element = const element, packed = out(_) packed, upper = in(_) upper, lower = in(_) lower, options(nomem),
    );
    packed
}

/// Begins to copy the 16 bytes at the beginning of `source` to `offset` bytes after the shared address `to`. Only the first `bytes`
/// are read, none where that is 0; zeros are written for the rest.
#[cube]
#[allow(unused_variables, reason = "the body is what it expands to")]
pub fn copy_async<E: CubePrimitive>(source: &[E], to: u32, #[comptime] offset: u32, bytes: u32) {
    intrinsic!(|scope| {
        // SAFETY: only the address is used.
        let pointer = unsafe { *source.__expand_as_ptr_method(scope) };
        if is_nvptx(scope) {
            let offset = offset.into_expand(scope).value(scope);
            let operands = vec![to.read_value(scope), offset, pointer.value(scope), bytes.read_value(scope)];
            run(scope, Instruction::Copy, operands, None);
        } else {
            cuda_copy_async::expand::<E>(scope, &pointer, read(scope, to), offset, read(scope, bytes));
        }
    })
}

#[cube]
fn cuda_copy_async<E: CubePrimitive>(source: *const E, to: u32, #[comptime] offset: u32, bytes: u32) {
    gpu_asm!(
        "cp.async.cg.shared.global [{to}+{offset}], [{source}], 16, {bytes};",
        to = in(_) to, offset = const offset, source = in(_) source, bytes = in(_) bytes,
    );
}

/// What this unit has begun to copy since the last call becomes a group.
#[cube]
pub fn commit_copies() {
    intrinsic!(|scope| {
        if is_nvptx(scope) {
            run(scope, Instruction::Commit, vec![], None);
        } else {
            cuda_commit_copies::expand(scope);
        }
    })
}

#[cube]
fn cuda_commit_copies() {
    gpu_asm!("cp.async.commit_group;");
}

/// Waits for all copies that this unit has committed. Other units see them after a barrier.
#[cube]
pub fn wait_for_copies() {
    intrinsic!(|scope| {
        if is_nvptx(scope) {
            run(scope, Instruction::Wait, vec![], None);
        } else {
            cuda_wait_for_copies::expand(scope);
        }
    })
}

#[cube]
fn cuda_wait_for_copies() {
    gpu_asm!("cp.async.wait_group 0;");
}

/// `number`, and what is computed of it is computed where it stands, also in a loop: LLVM keeps what a loop does not change in registers, however
/// many that takes.
#[cube]
#[allow(unused_variables, reason = "the body is what it expands to")]
pub fn computed_here(number: u32) -> u32 {
    intrinsic!(|scope| {
        if is_nvptx(scope) {
            let word = u32::__expand_as_type(scope);
            value(scope, Instruction::Opaque, vec![number.read_value(scope)], word).into()
        } else {
            number
        }
    })
}

/// At the beginning of a loop's body: it stays a loop, which takes few registers.
#[cube]
pub fn keep_rolled() {
    intrinsic!(|scope| {
        if is_nvptx(scope) {
            run(scope, Instruction::KeepRolled, vec![], None);
        }
    })
}

/// 2 to the x, as `ex2.approx` has it: what is below 2⁻¹²⁶ is 0.
#[cube]
#[allow(unused_variables, reason = "the body is what it expands to")]
pub fn exp2<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    intrinsic!(|scope| {
        if is_nvptx(scope) { exp2_native::expand::<N>(scope, x) } else { cuda_exp2::expand::<N>(scope, read(scope, x)) }
    })
}

#[cube]
fn cuda_exp2<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let mut powers = Vector::<f32, N>::empty();
    #[unroll]
    for lane in 0..x.vector_size() {
        let power: f32;
        gpu_asm!(
            "ex2.approx.ftz.f32 {power}, {x};",
            power = out(_) power, x = in(_) x.extract(lane), options(nomem),
        );
        powers.insert(lane, power);
    }
    powers
}
