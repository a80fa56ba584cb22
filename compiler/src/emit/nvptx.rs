//! An operation of CubeCL IR for an instruction of NVIDIA's GPUs that CubeCL has none for, which LLVM knows as an intrinsic.

use cubecl::ir::interfaces::side_effects::{MemoryEffect, MemoryEffectsOp};
use cubecl::ir::prelude::*;
use cubecl_llvm::shared::intrinsic::call_op;
use cubecl_llvm::shared::to_llvm::ToLLVMDialect;
use cubecl_llvm::shared::to_llvm::ty::cube_type_to_llvm;
use pliron::builtin::attributes::StringAttr;
use pliron::opts::dce::SideEffects;

/// A function of one number that has its type.
#[pliron_op(
    name = "purview.intrinsic",
    format = "attr($purview_intrinsic_name, $StringAttr) ` ` $0 ` : ` type($0)",
    interfaces = [OneResultInterface, OneOpdInterface],
    attributes = (purview_intrinsic_name: StringAttr),
    verifier = "succ"
)]
pub(super) struct IntrinsicOp;

impl IntrinsicOp {
    /// The intrinsic `name` of `x`.
    pub(super) fn new(ctx: &mut Context, name: &str, x: Value) -> IntrinsicOp {
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
        let call = call_op(ctx, &name, ty, vec![self.get_operand(ctx)]);
        rewriter.insert_op(ctx, &call);
        rewriter.replace_operation_with_values(ctx, self.get_operation(), vec![call.get_result(ctx)]);
        Ok(())
    }
}
