//! How many registers a kernel may have.

use cubecl::prelude::*;

/// As many as it wants, where LLVM makes PTX. CUDA C++ and the other targets have no words for it.
#[cube]
pub fn take_registers() {
    intrinsic!(|scope| register_taking(scope))
}

#[cfg(any(feature = "emit", feature = "cuda"))]
fn register_taking(scope: &Scope) {
    if crate::emit::math::is_nvptx(scope) {
        scope.register(&super::nvptx::TakeRegistersOp::new(scope.ctx_mut()));
    }
}

#[cfg(not(any(feature = "emit", feature = "cuda")))]
fn register_taking(_: &Scope) {}
