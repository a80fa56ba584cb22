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
use crate::ir::{Program, Reduction, TileOp};
use crate::typing::Parameters;

/// Simplifies sinks, outputs, and every map and mask; removes those that do nothing.
pub fn simplify_expressions(program: &mut Program) {
    let parameters = Parameters { scalars: &program.scalars, tensors: &program.tensors, values: &[] };
    for accumulator in &mut program.accumulators {
        if let Reduction::Softmax { sink: Some(sink), .. } = &mut accumulator.reduction {
            *sink = simplify(sink, parameters);
        }
    }
    let values = program.stored_values();
    for output in &mut program.outputs {
        output.value = simplify(&output.value, Parameters { values: &values, ..parameters });
    }
    for one in &mut program.loops {
        let parameters = Parameters { values: &one.tiles, ..parameters };
        for op in &mut one.body {
            match op {
                TileOp::Map { value: expr, .. } | TileOp::Mask { visible: expr, .. } => {
                    *expr = simplify(expr, parameters);
                }
                TileOp::Dot { .. } | TileOp::Push { .. } => {}
            }
        }
        one.body.retain(|op| match op {
            TileOp::Map { tile, value } => *value != Expr::Value(*tile),
            TileOp::Mask { visible, .. } => *visible != Expr::Bool(true),
            TileOp::Dot { .. } | TileOp::Push { .. } => true,
        });
    }
}
