//! What is left of a specification where what is known when it is compiled takes accumulators and products away.

use crate::analysis::simplify::simplify;
use crate::expr::Expr;
use crate::ir::forward::OperandDims;
use crate::spec::{AccumulatorParam, KeyLoop, Role, ScalarParam, ScalarValue, Spec};
use crate::typing::Parameters;
use std::borrow::Cow;

/// What is known of a specification's expressions when it is compiled: comptime scalars and `head_dim()`.
pub struct Constants {
    /// The value of each scalar that is comptime, where it has one.
    scalars: Vec<Option<Expr>>,
    head_dim: Expr,
}

impl Constants {
    /// Those of `spec` with these values of its scalars, where `head_dim()` is so much.
    pub fn new(spec: &Spec, scalars: &[ScalarValue], head_dim: usize) -> Constants {
        let value = |(place, param): (usize, &ScalarParam)| scalars.get(place).filter(|_| param.comptime)?.constant();
        // A head dim of more than 32 bits is refused where its tensor is.
        let head_dim = Expr::Int(i32::try_from(head_dim).unwrap_or(i32::MAX));
        Constants { scalars: spec.scalars.iter().enumerate().map(value).collect(), head_dim }
    }

    /// The value of the scalar at this place, if it is known.
    pub fn scalar(&self, place: usize) -> Option<&Expr> {
        self.scalars.get(place)?.as_ref()
    }

    /// `expr` with them in their places.
    pub fn apply(&self, expr: &Expr) -> Expr {
        match expr {
            Expr::Scalar(place) => self.scalar(*place).unwrap_or(expr).clone(),
            Expr::HeadDim => self.head_dim.clone(),
            other => other.map_children(|child| self.apply(child)),
        }
    }
}

/// The head dim of the first operand along queries: `head_dim()`.
pub fn head_dim(spec: &Spec, dims: &OperandDims) -> usize {
    spec.operands_of(Role::Query).next().and_then(|(first, _)| dims.dims.get(first)).copied().unwrap_or(0)
}

impl Spec {
    /// The specification without the accumulators that no output is of, where `constants` are known: without what is pushed into them,
    /// and without the loops that push nothing else. Operands, scalars and captured tensors stay, so that it takes the same arguments. It is
    /// the specification itself where its outputs are of all accumulators. It has no loops where they are of none, which
    /// [lowering](crate::lower::lower) refuses.
    pub fn pruned(&self, constants: &Constants) -> Cow<'_, Spec> {
        if self.accumulators.len() < 2 && self.outputs.iter().all(|output| matches!(output, Expr::Value(_))) {
            return Cow::Borrowed(self);
        }
        let outputs = self.simple_outputs(constants);
        let is_stored = |place: usize| outputs.iter().any(|output| output.mentions(&Expr::Value(place)));
        let is_kept: Vec<bool> = (0..self.accumulators.len()).map(is_stored).collect();
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
        let renumbered = |output: Expr| output.map_values(&|place| Expr::Value(new_place(place)));
        let outputs = outputs.into_iter().map(renumbered).collect();
        Cow::Owned(Spec { accumulators, loops, outputs, ..self.clone() })
    }

    /// The outputs, where `constants` are known, without constant parts.
    pub(crate) fn simple_outputs(&self, constants: &Constants) -> Vec<Expr> {
        let values = self.output_values();
        let parameters = Parameters { values: &values, ..self.parameters() };
        self.outputs.iter().map(|output| simplify(&constants.apply(output), parameters)).collect()
    }
}
