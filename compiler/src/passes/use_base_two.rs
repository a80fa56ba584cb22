//! Computes a softmax with powers of two, which machines have, instead of powers of e.
//!
//! ```text
//! o = softmax base e sink sink[head()]
//! …
//!   s = map s * scale()
//! ```
//! becomes
//! ```text
//! o = softmax base 2 sink sink[head()] * 1.442695
//! …
//!   s = map s * (scale() * 1.442695)
//! ```
//!
//! since eˢ = 2^(s · log2 e). A product's factors that are the same for a whole query tile are collected, so that the new
//! factor costs nothing.

use crate::analysis::product::Product;
use crate::expr::{BinaryOp, Expr};
use crate::ir::{Accumulator, Base, Program, TileOp};

/// Turns a softmax of base e into one of base two.
pub fn use_base_two(program: &mut Program) {
    let Accumulator::Softmax { base, sink } = &mut program.accumulator else { return };
    if *base == Base::Two {
        return;
    }
    *base = Base::Two;
    if let Some(sink) = sink {
        *sink = times_log2_e(sink);
    }
    for key_loop in &mut program.loops {
        let maps = key_loop.body.iter().rposition(|op| matches!(op, TileOp::Map(_)));
        match maps {
            Some(place) => {
                if let TileOp::Map(expr) = &mut key_loop.body[place] {
                    *expr = times_log2_e(expr);
                }
            }
            None => key_loop.body.insert(1, TileOp::Map(times_log2_e(&Expr::Score))),
        }
    }
}

fn times_log2_e(expr: &Expr) -> Expr {
    let mut product = Product::of(expr);
    product.constant *= std::f64::consts::LOG2_E;
    product
        .to_expr()
        .unwrap_or_else(|_| Expr::binary(BinaryOp::Mul, expr.clone(), Expr::float(std::f32::consts::LOG2_E)))
}
