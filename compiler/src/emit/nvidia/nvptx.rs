//! Operations of CubeCL IR for instructions of NVIDIA's GPUs that CubeCL has none for, which LLVM knows as intrinsics.

use super::instruction::{Half, Instruction};
use cubecl::ir::interfaces::side_effects::{MemoryEffect, MemoryEffectsOp};
use cubecl::ir::prelude::*;
use cubecl_llvm::shared::intrinsic::call_op;
use cubecl_llvm::shared::to_llvm::ToLLVMDialect;
use cubecl_llvm::shared::to_llvm::constant::insert_i32_const;
use cubecl_llvm::shared::to_llvm::ty::cube_type_to_llvm;
use pliron::builtin::attributes::StringAttr;
use pliron::builtin::types::{BF16Type, FP16Type, FP32Type, IntegerType, Signedness};
use pliron::opts::dce::SideEffects;
use pliron_llvm::llvm_attrs::{LlvmAttrValue, LlvmAttributesAttr};
use pliron_llvm::op_interfaces::CastOpInterface;
use pliron_llvm::ops as llvm;
use pliron_llvm::types::{FuncType, PointerType, StructLayout, StructType, VectorType, VectorTypeKind, VoidType};

/// A function of one number that has its type.
#[pliron_op(
    name = "purview.intrinsic",
    format = "attr($purview_intrinsic_name, $StringAttr) ` ` $0 ` : ` type($0)",
    interfaces = [OneResultInterface, OneOpdInterface],
    attributes = (purview_intrinsic_name: StringAttr),
    verifier = "succ"
)]
pub(in crate::emit) struct IntrinsicOp;

impl IntrinsicOp {
    /// The intrinsic `name` of `x`; or where LLVM has none, the instruction of that name, of an f32.
    pub(in crate::emit) fn new(ctx: &mut Context, name: &str, x: Value) -> IntrinsicOp {
        let ty = x.get_type(ctx);
        let op = Operation::new(ctx, Self::get_concrete_op_info(), vec![ty], vec![x], vec![], 0);
        let op = IntrinsicOp { op };
        op.set_attr_purview_intrinsic_name(ctx, name.to_string().into());
        op
    }
}

#[op_interface_impl]
impl SideEffects for IntrinsicOp {
    fn has_side_effects(&self, _: &Context) -> bool {
        false
    }
}

#[op_interface_impl]
impl MemoryEffectsOp for IntrinsicOp {
    fn memory_effects(&self, _: &Context) -> Vec<MemoryEffect> {
        Vec::new()
    }
}

#[op_interface_impl]
impl ToLLVMDialect for IntrinsicOp {
    fn rewrite(&self, ctx: &mut Context, rewriter: &mut DialectConversionRewriter, _: &OperandsInfo) -> Result<()> {
        let name: String =
            self.get_attr_purview_intrinsic_name(ctx).map(|name| name.clone().into()).unwrap_or_default();
        let ty = cube_type_to_llvm(ctx, self.get_result(ctx).get_type(ctx));
        let operands = vec![self.get_operand(ctx)];
        let result = if name.starts_with("llvm.") {
            let call = call_op(ctx, &name, ty, operands);
            rewriter.insert_op(ctx, &call);
            call.get_result(ctx)
        } else {
            let assembly = llvm::InlineAsmOp::new(ctx, ty, operands, &format!("{name} $0, $1;"), "=f,f", false);
            rewriter.insert_op(ctx, &assembly);
            assembly.get_result(ctx)
        };
        rewriter.replace_operation_with_values(ctx, self.get_operation(), vec![result]);
        Ok(())
    }
}

/// An [`Instruction`].
#[pliron_op(
    name = "purview.instruction",
    format = "attr($purview_instruction_name, $StringAttr) ` ` operands(CharSpace(`,`)) ` : ` types(CharSpace(`,`))",
    attributes = (purview_instruction_name: StringAttr),
    verifier = "succ"
)]
pub(in crate::emit) struct InstructionOp;

impl InstructionOp {
    /// `instruction` of `operands`, which gives a `result` if that is a type.
    pub(in crate::emit) fn new(
        ctx: &mut Context,
        instruction: Instruction,
        operands: Vec<Value>,
        result: Option<TypeHandle>,
    ) -> InstructionOp {
        let results = result.into_iter().collect();
        let op = Operation::new(ctx, Self::get_concrete_op_info(), results, operands, vec![], 0);
        let op = InstructionOp { op };
        op.set_attr_purview_instruction_name(ctx, instruction.name().into());
        op
    }

    /// What it gives, if it gives something.
    pub(in crate::emit) fn result(&self, ctx: &Context) -> Value {
        self.get_operation().deref(ctx).get_result(0)
    }

    fn instruction(&self, ctx: &Context) -> Instruction {
        let name: String =
            self.get_attr_purview_instruction_name(ctx).map(|name| name.clone().into()).unwrap_or_default();
        Instruction::named(&name).expect("the operation was made of an instruction")
    }
}

#[op_interface_impl]
impl SideEffects for InstructionOp {
    fn has_side_effects(&self, ctx: &Context) -> bool {
        !self.instruction(ctx).is_pure()
    }
}

#[op_interface_impl]
impl MemoryEffectsOp for InstructionOp {
    fn memory_effects(&self, ctx: &Context) -> Vec<MemoryEffect> {
        if self.instruction(ctx).is_pure() { Vec::new() } else { vec![MemoryEffect::Opaque] }
    }
}

/// The kernel that it stands in may have as many registers as one block on a multiprocessor can: `.minnctapersm 1`. Where nothing
/// is said, `ptxas` aims at as many blocks as shared memory allows, and spills for it.
#[pliron_op(
    name = "purview.take_registers",
    format = "",
    interfaces = [NOpdsInterface<0>, NResultsInterface<0>],
    verifier = "succ"
)]
pub(in crate::emit) struct TakeRegistersOp;

impl TakeRegistersOp {
    pub(in crate::emit) fn new(ctx: &mut Context) -> TakeRegistersOp {
        TakeRegistersOp { op: Operation::new(ctx, Self::get_concrete_op_info(), vec![], vec![], vec![], 0) }
    }
}

#[op_interface_impl]
impl SideEffects for TakeRegistersOp {
    fn has_side_effects(&self, _: &Context) -> bool {
        true
    }
}

#[op_interface_impl]
impl MemoryEffectsOp for TakeRegistersOp {
    fn memory_effects(&self, _: &Context) -> Vec<MemoryEffect> {
        Vec::new()
    }
}

/// Functions become LLVM's after everything else, and what they had been said to be is lost. So this is not one of CubeCL's
/// [`ToLLVMDialect`], which come before.
#[op_interface_impl]
impl pliron_llvm::ToLLVMDialect for TakeRegistersOp {
    fn rewrite(&self, ctx: &mut Context, rewriter: &mut DialectConversionRewriter, _: &OperandsInfo) -> Result<()> {
        let op = self.get_operation();
        let mut at = op;
        while let Some(parent) = at.deref(ctx).get_parent_op(ctx) {
            if let Some(kernel) = Operation::get_op::<llvm::FuncOp>(parent, ctx) {
                let mut attributes: LlvmAttributesAttr =
                    kernel.get_attr_llvm_func_attrs(ctx).map(|attributes| attributes.clone()).unwrap_or_default();
                attributes.set("nvvm.minctasm", LlvmAttrValue::Str("1".into()));
                kernel.set_attr_llvm_func_attrs(ctx, attributes);
            }
            at = parent;
        }
        rewriter.erase_operation(ctx, op);
        Ok(())
    }
}

/// The address space of shared memory.
const SHARED: u32 = 3;
/// The address space of global memory.
const GLOBAL: u32 = 1;

#[op_interface_impl]
impl ToLLVMDialect for InstructionOp {
    fn rewrite(&self, ctx: &mut Context, rewriter: &mut DialectConversionRewriter, _: &OperandsInfo) -> Result<()> {
        let op = self.get_operation();
        let operands: Vec<Value> = op.deref(ctx).operands().collect();
        let mut llvm = Rewrite { ctx, rewriter };
        let result = match self.instruction(llvm.ctx) {
            Instruction::SharedAddress => {
                let pointer = llvm.in_space(operands[0], SHARED);
                let word = llvm.word();
                let address = llvm::PtrToIntOp::new(llvm.ctx, pointer, word);
                Some(llvm.value(&address))
            }
            Instruction::LoadMatrices { transposed } => {
                let transposed = if transposed { ".trans" } else { "" };
                let name = format!("llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4{transposed}.b16.p{SHARED}");
                let address = llvm.shared(operands[0], operands[1]);
                let word = llvm.word();
                Some(llvm.four(&name, word, vec![address]))
            }
            Instruction::Multiply { element, upper } => {
                let mut registers = llvm.lanes(operands[0], 0..4);
                registers.extend(llvm.lanes(operands[1], if upper { 2..4 } else { 0..2 }));
                let name = match element {
                    Half::F16 => {
                        let pair = llvm.pair(element);
                        for register in &mut registers {
                            *register = llvm.bitcast(*register, pair);
                        }
                        "llvm.nvvm.mma.m16n8k16.row.col.f32.f32"
                    }
                    Half::Bf16 => "llvm.nvvm.mma.m16n8k16.row.col.bf16",
                };
                registers.extend(llvm.lanes(operands[2], 0..4));
                let float = FP32Type::get(llvm.ctx).into();
                Some(llvm.four(name, float, registers))
            }
            Instruction::Pack { element } => {
                let mut sums = llvm.lanes(operands[0], 0..4);
                sums.extend(llvm.lanes(operands[1], 0..4));
                let packed = sums.chunks(2).map(|pair| llvm.pack(element, pair[0], pair[1])).collect::<Vec<_>>();
                let word = llvm.word();
                Some(llvm.vector(word, &packed))
            }
            Instruction::Copy => {
                let to = llvm.shared(operands[0], operands[1]);
                let from = llvm.in_space(operands[2], GLOBAL);
                llvm.run("llvm.nvvm.cp.async.cg.shared.global.16.s", vec![to, from, operands[3]]);
                None
            }
            Instruction::Opaque => {
                let word = llvm.word();
                let op = llvm::InlineAsmOp::new(llvm.ctx, word, vec![operands[0]], "mov.b32 $0, $1;", "=r,r", true);
                Some(llvm.value(&op))
            }
            Instruction::KeepRolled => {
                let none = VoidType::get(llvm.ctx).into();
                let op = llvm::InlineAsmOp::new(llvm.ctx, none, vec![], ".pragma \"nounroll\";", "", true);
                llvm.rewriter.insert_op(llvm.ctx, &op);
                None
            }
            Instruction::Commit => {
                llvm.run("llvm.nvvm.cp.async.commit.group", vec![]);
                None
            }
            Instruction::Wait => {
                let none = insert_i32_const(llvm.ctx, llvm.rewriter, 0);
                llvm.run("llvm.nvvm.cp.async.wait.group", vec![none]);
                None
            }
        };
        match result {
            Some(result) => rewriter.replace_operation_with_values(ctx, op, vec![result]),
            None => rewriter.erase_operation(ctx, op),
        }
        Ok(())
    }
}

/// LLVM's operations, put where an instruction was.
struct Rewrite<'a> {
    ctx: &'a mut Context,
    rewriter: &'a mut DialectConversionRewriter,
}

impl Rewrite<'_> {
    fn value<O: Op + OneResultInterface>(&mut self, op: &O) -> Value {
        self.rewriter.insert_op(self.ctx, op);
        op.get_result(self.ctx)
    }

    fn word(&mut self) -> TypeHandle {
        IntegerType::get(self.ctx, 32, Signedness::Signless).into()
    }

    /// Two elements in a register.
    fn pair(&mut self, element: Half) -> TypeHandle {
        let element: TypeHandle = match element {
            Half::F16 => FP16Type::get(self.ctx).into(),
            Half::Bf16 => BF16Type::get(self.ctx).into(),
        };
        VectorType::get(self.ctx, element, 2, VectorTypeKind::Fixed).into()
    }

    fn bitcast(&mut self, value: Value, ty: TypeHandle) -> Value {
        let op = llvm::BitcastOp::new(self.ctx, value, ty);
        self.value(&op)
    }

    fn in_space(&mut self, pointer: Value, space: u32) -> Value {
        let ty: TypeHandle = PointerType::get(self.ctx, space).into();
        if pointer.get_type(self.ctx) == ty {
            return pointer;
        }
        let op = llvm::AddrSpaceCastOp::new(self.ctx, pointer, ty);
        self.value(&op)
    }

    /// The pointer to `offset` bytes after the address `base` of shared memory. The sum is left to the instruction, which adds constants.
    fn shared(&mut self, base: Value, offset: Value) -> Value {
        let ty: TypeHandle = PointerType::get(self.ctx, SHARED).into();
        let pointer = llvm::IntToPtrOp::new(self.ctx, base, ty);
        let pointer = self.value(&pointer);
        let byte = IntegerType::get(self.ctx, 8, Signedness::Signless).into();
        let op = llvm::GetElementPtrOp::new(self.ctx, pointer, vec![llvm::GepIndex::Value(offset)], byte);
        self.value(&op)
    }

    /// Two f32 rounded to one register; the second is in its upper half.
    fn pack(&mut self, element: Half, lower: Value, upper: Value) -> Value {
        let name = match element {
            Half::F16 => "llvm.nvvm.ff2f16x2.rn",
            Half::Bf16 => "llvm.nvvm.ff2bf16x2.rn",
        };
        let pair = self.pair(element);
        let call = call_op(self.ctx, name, pair, vec![upper, lower]);
        let packed = self.value(&call);
        let word = self.word();
        self.bitcast(packed, word)
    }

    /// Some lanes of a vector.
    fn lanes(&mut self, vector: Value, which: impl IntoIterator<Item = i32>) -> Vec<Value> {
        let mut lanes = Vec::new();
        for lane in which {
            let at = insert_i32_const(self.ctx, self.rewriter, lane);
            let op = llvm::ExtractElementOp::new(self.ctx, vector, at);
            lanes.push(self.value(&op));
        }
        lanes
    }

    /// The vector of `lanes`, each of type `ty`.
    fn vector(&mut self, ty: TypeHandle, lanes: &[Value]) -> Value {
        let ty = VectorType::get(self.ctx, ty, lanes.len() as u32, VectorTypeKind::Fixed).into();
        let poison = llvm::PoisonOp::new(self.ctx, ty);
        let mut vector = self.value(&poison);
        for (lane, &value) in lanes.iter().enumerate() {
            let at = insert_i32_const(self.ctx, self.rewriter, lane as i32);
            let inserted = llvm::InsertElementOp::new(self.ctx, vector, value, at);
            vector = self.value(&inserted);
        }
        vector
    }

    /// The vector of the four values of type `ty` that the intrinsic `name` gives.
    fn four(&mut self, name: &str, ty: TypeHandle, arguments: Vec<Value>) -> Value {
        let results = StructType::get_unnamed(self.ctx, (vec![ty; 4], StructLayout::Unpacked)).into();
        let call = call_op(self.ctx, name, results, arguments);
        let results = self.value(&call);
        let mut fields = Vec::with_capacity(4);
        for field in 0..4 {
            let field = llvm::ExtractValueOp::new(self.ctx, results, vec![field]).expect("the struct has four fields");
            fields.push(self.value(&field));
        }
        self.vector(ty, &fields)
    }

    /// The intrinsic `name`, which gives nothing.
    fn run(&mut self, name: &str, arguments: Vec<Value>) {
        let types = arguments.iter().map(|argument| argument.get_type(self.ctx)).collect();
        let nothing = VoidType::get(self.ctx).into();
        let function = FuncType::get(self.ctx, nothing, types, false);
        let call = llvm::CallIntrinsicOp::new(self.ctx, name.into(), function, arguments);
        self.rewriter.insert_op(self.ctx, &call);
    }
}
