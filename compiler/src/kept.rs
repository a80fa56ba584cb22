//! What is left of a specification where the values of comptime scalars take accumulators away.

use crate::analysis::simplify::simplify;
use crate::expr::Expr;
use crate::lower::comptime_values;
use crate::spec::{AccumulatorParam, KeyLoop, ScalarValue, Spec};
use crate::typing::Parameters;
use std::borrow::Cow;

impl Spec {
    /// The specification without the accumulators that its output is not of, with these values of its comptime scalars: without what is
    /// pushed into them, and without the loops that push nothing else. Operands, scalars and captured tensors stay, so that it takes the
    /// same arguments. It is the specification itself where its output is of all accumulators, or where the scalars are not its own. It has
    /// no loops where its output is of no accumulator, which [lowering](crate::lower::lower) refuses.
    pub fn kept(&self, scalars: &[ScalarValue]) -> Cow<'_, Spec> {
        if self.accumulators.len() < 2 && matches!(self.output, Expr::Value(_)) {
            return Cow::Borrowed(self);
        }
        let Ok(constants) = comptime_values(self, scalars) else { return Cow::Borrowed(self) };
        let values = self.output_values();
        let parameters = Parameters { values: &values, ..self.parameters() };
        let output = simplify(&with_constants(&self.output, &constants), parameters);
        let is_kept: Vec<bool> =
            (0..self.accumulators.len()).map(|place| output.mentions(&Expr::Value(place))).collect();
        if is_kept.iter().all(|kept| *kept) {
            return Cow::Borrowed(self);
        }

        let new_place = |place: usize| place - is_kept.iter().take(place).filter(|kept| !**kept).count();
        let accumulators: Vec<AccumulatorParam> =
            self.accumulators.iter().zip(&is_kept).filter(|(_, kept)| **kept).map(|(one, _)| one.clone()).collect();
        let mut loops: Vec<KeyLoop> = self.loops.clone();
        for key_loop in &mut loops {
            key_loop.pushes.retain(|push| is_kept[push.accumulator]);
            key_loop.pushes.iter_mut().for_each(|push| push.accumulator = new_place(push.accumulator));
        }
        loops.retain(|key_loop| !key_loop.pushes.is_empty());
        let output = output.map_values(&|place| Expr::Value(new_place(place)));
        Cow::Owned(Spec { accumulators, loops, output, ..self.clone() })
    }
}

/// `expr` with the values of comptime scalars in their places.
pub(crate) fn with_constants(expr: &Expr, constants: &[Option<Expr>]) -> Expr {
    match expr {
        Expr::Scalar(place) => constants[*place].clone().unwrap_or(Expr::Scalar(*place)),
        other => other.map_children(|child| with_constants(child, constants)),
    }
}
