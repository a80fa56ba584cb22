//! The CPU kernel's text: the LLVM IR that CubeCL gives to LLVM.
//!
//! CubeCL's compiler for the CPU gives a function in memory and keeps its IR to itself, but the passes it runs are public. Here the same
//! passes run in the same order, as `lower` in cubecl-llvm 0.11.3's `shared/base.rs` has them, up to where LLVM takes over: what LLVM
//! makes of the IR depends on the machine.
//!
//! One thing that they read is not public: the alignment that CPU buffers have, which the compiler leaves in the context. It is taken from the
//! context of another kernel, an empty one, in which an operation of our own is asked to lower itself.

use crate::emit::count_kernel;
use cubecl::Compiler;
use cubecl::ir::Scope;
use cubecl::ir::dialect::scf::BranchToSCFPass;
use cubecl::ir::prelude::*;
use cubecl::ir::rewrite::SimplifyOpsPass;
use cubecl::post_processing::bf16::LowerWideBf16CastPass;
use cubecl::post_processing::bitwise::PromoteBitwisePass;
use cubecl::post_processing::minifloat::{LowerMinifloatCastPass, LowerMinifloatComparePass};
use cubecl::prelude::*;
use cubecl_llvm::cpu::abi::CpuLowering;
use cubecl_llvm::shared::branch::SCFToLlvmCf;
use cubecl_llvm::shared::lowering::TargetLowering;
use cubecl_llvm::shared::metadata::{CtxGridConstants, LowerEntryAbiPass};
use cubecl_llvm::shared::polyfill::{LowerComplexOpPass, LowerOp};
use cubecl_llvm::shared::to_llvm::CubeToLLVMPass;
use cubecl_llvm::target::CtxTarget;
use cubecl_llvm::{LlvmTarget, PlironCompiler, PlironOptions};
use cubecl_opt::passes::annotate_buffer_visibility::AnnotateGlobalVisibilityPass;
use cubecl_opt::passes::inst_combine::InstCombinePass;
use cubecl_opt::passes::sccp::SCCPPass;
use cubecl_opt::passes::simple_cse::SimpleCSEPass;
use cubecl_opt::passes::sroa::SROAPass;
use pliron::builtin::ops::{FuncOp, ModuleOp};
use pliron::identifier::Identifier;
use pliron::opts::dce::DCEPass;
use pliron::opts::mem2reg::Mem2RegPass;
use pliron::opts::simplify_cfg::SimplifyCFGPass;
use pliron::printable::Printable;
use pliron_llvm::builtin_to_llvm::builtin_to_llvm_pass;
use pliron_llvm::llvm_sys::core::LLVMContext;
use pliron_llvm::to_llvm_ir::convert_module;
use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

/// The alignment of CubeCL's CPU buffers, in bytes.
const BUFFER_ALIGNMENT: u32 = 64;

/// The IR that CubeCL gives LLVM for `definition`.
pub fn llvm_ir(definition: KernelDefinition) -> std::result::Result<String, String> {
    let alignment = take_alignment()?;
    let module = definition.body.state().module;
    let info = definition.info.clone();
    let mut ctx = definition.body.into_context().ok_or("the kernel's body is borrowed")?;
    let ctx = &mut ctx;
    ctx.set_target(LlvmTarget::Cpu);
    ctx.set_grid_constants(false);
    let place = ctx.aux_data.insert(alignment);
    ctx.aux_data_map.insert(alignment_name(), place);

    let target = CpuLowering::new(Default::default(), Default::default());
    let mut function = OpPass::<FuncOp, Passes>::default();
    target.prologue(&mut function);
    function.add_pass(SROAPass);
    function.add_pass(SCCPPass);
    function.add_pass(SimpleCSEPass::with_memory());
    function.add_pass(SimplifyOpsPass::default());
    function.add_pass(PromoteBitwisePass);
    function.add_pass(InstCombinePass::default());
    function.add_pass(LowerWideBf16CastPass::default());
    function.add_pass(LowerMinifloatCastPass::default());
    function.add_pass(LowerMinifloatComparePass::default());
    function.add_pass(LowerComplexOpPass::default());
    target.epilogue(&mut function);
    function.add_pass(DCEPass);
    function.add_pass(SROAPass);
    let mut passes = OpPass::<ModuleOp, Passes>::default();
    passes.add_pass(NestedOpsPass::new(function));
    passes.add_pass(AnnotateGlobalVisibilityPass);

    let mut function = OpPass::<FuncOp, Passes>::default();
    function.add_pass(BranchToSCFPass::default());
    function.add_pass(SCFToLlvmCf::default());
    function.add_pass(LowerEntryAbiPass::new(info, target.arg_layout()));
    function.add_pass(CubeToLLVMPass::default());
    function.add_pass(SimplifyCFGPass);
    function.add_pass(DCEPass);
    function.add_pass(Mem2RegPass);
    passes.add_pass(NestedOpsPass::new(function));
    passes.add_pass(builtin_to_llvm_pass());
    let run = passes.run(module.get_operation(), ctx, &mut AnalysisManager::default()).map(|_| ());
    run.map_err(|error| error.disp(ctx).to_string())?;

    let llvm = LLVMContext::default();
    let text = convert_module(ctx, &llvm, module).map(|module| module.to_string());
    text.map_err(|error| error.disp(ctx).to_string())
}

/// The name under which a context has the alignment: its type's path, `::` written as `__`.
const ALIGNMENT: &str = "cubecl_llvm__target__CpuBufferAlignment";

fn alignment_name() -> Identifier {
    Identifier::try_from(ALIGNMENT).expect("a name")
}

thread_local! {
    static TAKEN: RefCell<Option<Box<dyn Any + Send>>> = const { RefCell::new(None) };
}

fn take_alignment() -> std::result::Result<Box<dyn Any + Send>, String> {
    let settings = KernelSettings::new(*CubeDim::new_1d(1), ExecutionMode::Unchecked, AddressType::U32);
    let device = super::properties::device_properties(
        &crate::device_model::DeviceModel::cpu_avx512(),
        crate::target::Target::Cpu,
    );
    let kernel = empty::Empty::new(settings, Arc::new(device), Arc::default());
    let options = PlironOptions { cpu_buffer_alignment: Some(BUFFER_ALIGNMENT), ..Default::default() };
    PlironCompiler { target: LlvmTarget::Cpu }.compile(kernel.define(), &options).map_err(|error| error.to_string())?;
    TAKEN.take().ok_or_else(|| "CubeCL keeps the alignment of buffers elsewhere".into())
}

#[cube(launch_unchecked)]
fn empty() {
    comptime!(count_kernel());
    intrinsic!(|scope| scope.register(&TakeAlignmentOp::new(scope.ctx_mut())))
}

/// An operation that lowers to nothing, and takes the alignment of buffers out of its context as it does.
#[pliron_op(name = "purview.take_alignment", format = "", verifier = "succ")]
struct TakeAlignmentOp;

impl TakeAlignmentOp {
    fn new(ctx: &mut Context) -> TakeAlignmentOp {
        TakeAlignmentOp { op: Operation::new(ctx, Self::get_concrete_op_info(), vec![], vec![], vec![], 0) }
    }
}

#[op_interface_impl]
impl LowerOp for TakeAlignmentOp {
    fn lower(&self, scope: &Scope) -> Vec<Value> {
        let ctx = scope.ctx_mut();
        let place = ctx.aux_data_map.get(&alignment_name()).copied();
        TAKEN.set(place.and_then(|place| ctx.aux_data.remove(place)));
        Vec::new()
    }
}
