//! Computes what is constant, and removes operations that change nothing.
//!
//! ```text
//! s = map s * (2.0 * 0.5)
//! s = mask s where true && !(j > i) && (window - 0 > 0 || false) on all
//! ```
//! becomes
//! ```text
//! s = mask s where j <= i && window > 0 on all
//! ```
//!
//! [`simplify`] says which rules there are.

use crate::analysis::simplify::simplify;
use crate::expr::Expr;
use crate::ir::{Accumulator, Program, TileOp};
use crate::typing::Parameters;

/// Simplifies the sink and every map and mask; removes those that do nothing.
pub fn simplify_expressions(program: &mut Program) {
    let parameters = Parameters { scalars: &program.scalars, tensors: &program.tensors };
    if let Accumulator::Softmax { sink: Some(sink), .. } = &mut program.accumulator {
        *sink = simplify(sink, parameters);
    }
    for key_loop in &mut program.loops {
        for op in &mut key_loop.body {
            match op {
                TileOp::Map(expr) | TileOp::Mask { visible: expr, .. } => *expr = simplify(expr, parameters),
                TileOp::Dot | TileOp::Push => {}
            }
        }
        key_loop.body.retain(|op| match op {
            TileOp::Map(expr) => *expr != Expr::Score,
            TileOp::Mask { visible, .. } => *visible != Expr::Bool(true),
            TileOp::Dot | TileOp::Push => true,
        });
    }
}
