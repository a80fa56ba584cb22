//! Multiplies the queries, once a tile, by what every score would be multiplied by.
//!
//! ```text
//! q = load q[i]
//! for j in tiles(T0)
//!   s = dot q, k[j]
//!   s = map s * (scale() * 1.442695)
//! ```
//! becomes
//! ```text
//! q = load q[i] * (scale() * 1.442695)
//! for j in tiles(T0)
//!   s = dot q, k[j]
//! ```
//!
//! It needs the first map of every loop to be a product of `s` and the same factors that are the same for the whole tile.

use crate::analysis::product::{Factor, Product};
use crate::expr::Expr;
use crate::ir::{Program, TileOp};

/// Moves the factors that all loops' scores have to [`query_scale`](Program::query_scale).
pub fn scale_queries(program: &mut Program) {
    if program.query_scale.is_some() {
        return;
    }
    let Some(products) = program.loops.iter().map(|key_loop| scores(&key_loop.body)).collect::<Option<Vec<_>>>() else {
        return;
    };
    let mut scales = products.iter().map(|product| product.uniform_part().ok().flatten());
    let Some(Some(scale)) = scales.next() else { return };
    if !scales.all(|other| other.as_ref() == Some(&scale)) {
        return;
    }
    program.query_scale = Some(scale);
    for (key_loop, product) in program.loops.iter_mut().zip(&products) {
        match product.varying_part() {
            None | Some(Expr::Score) => drop(key_loop.body.remove(1)),
            Some(rest) => key_loop.body[1] = TileOp::Map(rest),
        }
    }
}

/// The product that a loop's first map is, if it multiplies `s` once.
fn scores(body: &[TileOp]) -> Option<Product> {
    let [TileOp::Dot, TileOp::Map(map), ..] = body else { return None };
    let product = Product::of(map);
    let mentions = product.varying.iter().filter(|factor| match factor {
        Factor::Times(expr) | Factor::Over(expr) => expr.mentions(&Expr::Score),
    });
    (mentions.count() == 1 && product.varying.contains(&Factor::Times(Expr::Score))).then_some(product)
}
