//! Computes what is constant, and removes operations that change nothing.
//!
//! ```text
//! s = dot q, k[j]
//! s2 = dot r, l[j]
//! s = map (if false { s + s2 } else { s }) * (2.0 * 0.5)
//! s = mask s where true && !(j > i) && (window - 0 > 0 || false) on all
//! ```
//! becomes
//! ```text
//! s = dot q, k[j]
//! s = mask s where j <= i && window > 0 on all
//! ```
//!
//! [`simplify`] says which rules there are. A tile that nothing is made of any more goes, and so does its product: that is how a comptime `if`
//! takes one away. (An accumulator that it takes away is not lowered: [`Spec::pruned`](crate::spec::Spec::pruned).)

use crate::analysis::simplify::simplify;
use crate::expr::Expr;
use crate::ir::{Program, Reduction, TileOp};
use crate::typing::Parameters;

/// Simplifies sinks, sums, what is added, outputs, and every map and mask; removes those that do nothing, and tiles that nothing is made of.
pub fn simplify_expressions(program: &mut Program) {
    let parameters =
        Parameters { scalars: &program.scalars, tensors: &program.tensors, values: &[], numbers: &program.numbers };
    for accumulator in &mut program.accumulators {
        if let Reduction::Softmax { sink: Some(sink), .. } = &mut accumulator.reduction {
            *sink = simplify(sink, parameters);
        }
    }
    let values = program.stored_values();
    let of_sums = program.sums.iter_mut().map(|sum| &mut sum.value);
    let of_adds = program.adds.iter_mut().flat_map(|add| [&mut add.value, &mut add.element]);
    for value in of_sums.chain(of_adds).chain(program.outputs.iter_mut().map(|output| &mut output.value)) {
        *value = simplify(value, Parameters { values: &values, ..parameters });
    }
    for one in &mut program.loops {
        let parameters = Parameters { values: &one.tiles, ..parameters };
        for op in &mut one.body {
            match op {
                TileOp::Map { value: expr, .. }
                | TileOp::Mask { visible: expr, .. }
                | TileOp::Add { element: expr, .. } => *expr = simplify(expr, parameters),
                TileOp::Dot { .. } | TileOp::Push { .. } => {}
            }
        }
        one.body.retain(|op| match op {
            TileOp::Map { tile, value } => *value != Expr::Value(*tile),
            TileOp::Mask { visible, .. } => *visible != Expr::Bool(true),
            TileOp::Dot { .. } | TileOp::Push { .. } | TileOp::Add { .. } => true,
        });
        while let Some(tile) = (0..one.tiles.len()).find(|tile| !one.body.iter().any(|op| op.uses(*tile))) {
            one.body.retain(|op| !op.changes(tile));
            one.forget_tile(tile);
        }
    }
}
