//! Expressions of a program, expanded into CubeCL IR: the one evaluator that every schedule shares.
//!
//! An expression is compile-time data of the kernel. Its leaves are values of a [`Place`]: the query's position is a vector
//! (one per lane; a schedule without vectors uses one lane), everything else is uniform. Operations are built on untyped
//! values, and a scalar meets a vector only where it must: what does not depend on the lanes stays scalar.

use super::arguments::{
    BlocksExpand, CapturedArgument, CapturedArgumentExpand, CapturedElementsExpand, ParameterValues,
    ParameterValuesExpand, SummaryArgumentExpand,
};
use super::math;
use super::place::{Place, PlaceExpand};
use crate::eval::{Environment, evaluate};
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::ir::{Axis, SUMMARY_BLOCK, Summary};
use crate::philox::{KEY_STEPS, MULTIPLIERS, ROUNDS};
use crate::typing::{Parameters, type_of};
use cubecl::ir::{
    ConstantValue, ElemType, ExpandValue, FloatKind, IntKind, UIntKind,
    dialect::vector::{CompositeExtractOp, CompositeInsertOp},
    interfaces::TypedExt,
    pliron::{r#type::TypeHandle, value::Value},
    types::VectorType,
};
use cubecl::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

#[cube]
impl ParameterValues {
    /// The float `expr` at `place`, where there are no values with names.
    pub fn float<N: Size>(&self, place: &Place<N>, #[comptime] expr: Expr) -> Vector<f32, N> {
        intrinsic!(|scope| { Evaluator::new(scope, self, place).vector(&expr, N::__expand_value(scope)).into() })
    }

    /// The float `expr` at `place`, where the values with names are `values`.
    pub fn float_of<N: Size>(
        &self,
        place: &Place<N>,
        values: &Sequence<Vector<f32, N>>,
        #[comptime] expr: Expr,
    ) -> Vector<f32, N> {
        intrinsic!(|scope| {
            let mut evaluator = Evaluator::new(scope, self, place);
            evaluator.values = values.iter_cloned().map(|value| value.expand.read_value(scope).into()).collect();
            evaluator.vector(&expr, N::__expand_value(scope)).into()
        })
    }

    /// The numbers of the elements of something captured that `element` is at `place`, counted in the order of its shape.
    pub fn element_number<N: Size>(&self, place: &Place<N>, #[comptime] element: Expr) -> Vector<i32, N> {
        intrinsic!(|scope| {
            let evaluator = Evaluator::new(scope, self, place);
            let number = evaluator.element_number(&element);
            evaluator.in_lanes(number, N::__expand_value(scope)).into()
        })
    }

    /// The truth value `expr` at `place`.
    pub fn truth<N: Size>(&self, place: &Place<N>, #[comptime] expr: Expr) -> Vector<bool, N> {
        intrinsic!(|scope| { Evaluator::new(scope, self, place).vector(&expr, N::__expand_value(scope)).into() })
    }

    /// The integer `expr` at `place`; it must be uniform over the lanes.
    pub fn uniform<N: Size>(&self, place: &Place<N>, #[comptime] expr: Expr) -> i32 {
        intrinsic!(|scope| {
            let typed = Evaluator::new(scope, self, place).evaluate(&expr);
            typed.value.read_value(scope).into()
        })
    }

    /// As `uniform`, where the integers `exprs` have been evaluated to `values`.
    pub fn uniform_with<N: Size>(
        &self,
        place: &Place<N>,
        values: &Sequence<i32>,
        #[comptime] exprs: Vec<Expr>,
        #[comptime] expr: Expr,
    ) -> i32 {
        intrinsic!(|scope| {
            let evaluator = Evaluator::new(scope, self, place);
            for (at, known) in exprs.into_iter().enumerate() {
                let value = values.__expand_index_method(scope, at.into());
                evaluator.known.borrow_mut().insert(known, int(value.expand));
            }
            evaluator.evaluate(&expr).value.read_value(scope).into()
        })
    }
}

/// A value of the IR and its type in the language.
#[derive(Clone, Copy)]
struct Typed {
    ty: Type,
    value: ExpandValue,
}

fn constant_float(value: f32) -> ExpandValue {
    ExpandValue::constant(ConstantValue::Float(value.into()), FloatKind::F32)
}

fn constant_int(value: i32) -> ExpandValue {
    ExpandValue::constant(ConstantValue::Int(value.into()), IntKind::I32)
}

fn constant_word(value: u32) -> ExpandValue {
    ExpandValue::constant(ConstantValue::UInt(value.into()), UIntKind::U32)
}

/// The blocks of a dimension that does not vary.
fn one_block() -> BlocksExpand {
    let zero = || constant_int(0).into();
    BlocksExpand { first: zero(), last: zero(), stride: zero() }
}

fn int(value: ExpandValue) -> Typed {
    Typed { ty: Type::Int, value }
}

fn float(value: ExpandValue) -> Typed {
    Typed { ty: Type::Float, value }
}

fn truth(value: ExpandValue) -> Typed {
    Typed { ty: Type::Bool, value }
}

/// The value of a constant, or of an operation on constants, that is not finite.
fn without_text(expr: &Expr) -> Option<f32> {
    let value = match expr {
        Expr::Float(value) => value.value(),
        Expr::Unary(..) | Expr::Binary(..) if expr.children().into_iter().all(|of| matches!(of, Expr::Float(_))) => {
            evaluate(expr, &Environment::EMPTY).ok()??.float() as f32
        }
        _ => return None,
    };
    // Of what is no float there is no value here: a comparison of floats is no constant of that kind.
    (!value.is_finite() && type_of(expr, NOTHING) == Ok(Type::Float)).then_some(value)
}

/// The parameters of an expression that has none.
const NOTHING: Parameters = Parameters { scalars: &[], tensors: &[], values: &[], numbers: &[] };

/// Expands the sub-expressions of one expression, each once.
struct Evaluator<'a> {
    scope: &'a Scope,
    parameters: &'a ParameterValuesExpand,
    query: ExpandValue,
    key: ExpandValue,
    batch: ExpandValue,
    head: ExpandValue,
    kv_head: ExpandValue,
    query_ends: [ExpandValue; 2],
    key_ends: [ExpandValue; 2],
    values: Vec<ExpandValue>,
    known: RefCell<HashMap<Expr, Typed>>,
}

impl<'a> Evaluator<'a> {
    fn new<N: Size>(scope: &'a Scope, parameters: &'a ParameterValuesExpand, place: &PlaceExpand<N>) -> Self {
        // A mutable local is read once, so that equal sub-expressions stay equal for the backend.
        let read = |value: ExpandValue| -> ExpandValue { value.read_value(scope).into() };
        let tile = &place.tile;
        let (rows, column) = (read(place.rows.expand), read(place.column.expand));
        let batch = read(tile.batch.expand);
        let head = if place.heads_differ { read(place.heads.expand) } else { read(tile.head.expand) };
        let kv_head = read(tile.kv_head.expand);
        let rows_of_tile = [read(tile.rows.first.expand), read(tile.rows.last.expand)];
        let columns_of_tile = [read(tile.columns.first.expand), read(tile.columns.last.expand)];
        Evaluator {
            scope,
            parameters,
            query: if place.rows_are_keys { column } else { rows },
            key: if place.rows_are_keys { rows } else { column },
            batch,
            head,
            kv_head,
            query_ends: if place.rows_are_keys { columns_of_tile } else { rows_of_tile },
            key_ends: if place.rows_are_keys { rows_of_tile } else { columns_of_tile },
            values: Vec::new(),
            known: RefCell::default(),
        }
    }

    /// The value of `expr`, one per lane.
    fn vector(&self, expr: &Expr, lanes: usize) -> Value {
        self.in_lanes(self.evaluate(expr), lanes)
    }

    fn in_lanes(&self, value: Typed, lanes: usize) -> Value {
        let value = value.value.read_value(self.scope);
        if value.vector_size(self.scope.ctx()) == lanes { value } else { broadcast_value(self.scope, value, lanes) }
    }

    fn evaluate(&self, expr: &Expr) -> Typed {
        if let Some(known) = self.known.borrow().get(expr) {
            return *known;
        }
        let value = self.expand(expr);
        self.known.borrow_mut().insert(expr.clone(), value);
        value
    }

    fn expand(&self, expr: &Expr) -> Typed {
        if let Some(value) = without_text(expr) {
            return self.not_finite(value);
        }
        match expr {
            Expr::Query => int(self.query),
            Expr::Key => int(self.key),
            Expr::Batch => int(self.batch),
            Expr::Head => int(self.head),
            Expr::KvHead => int(self.kv_head),
            Expr::QueryLen => self.length(Axis::Queries),
            Expr::KeyLen(set) => self.length(Axis::Keys(*set)),
            Expr::QueryFirst => int(self.query_ends[0]),
            Expr::QueryLast => int(self.query_ends[1]),
            Expr::KeyFirst => int(self.key_ends[0]),
            Expr::KeyLast => int(self.key_ends[1]),
            Expr::Value(place) => float(self.values[*place]),
            Expr::Number(_) => unreachable!("a push's expression has its numbers after its products"),
            Expr::Scale => float(self.parameters.scale.expand),
            Expr::Int(value) => int(constant_int(*value)),
            Expr::Float(value) => float(constant_float(value.value())),
            Expr::Bool(value) => truth(ExpandValue::constant(ConstantValue::Bool(*value), ElemType::Bool)),
            Expr::Scalar(place) => self.scalar(*place),
            Expr::Load { tensor, index } => self.load(*tensor, index),
            Expr::Extreme { tensor, greatest, index } => self.extreme(expr, *tensor, *greatest, index),
            Expr::Next { tensor, index, from } => self.next(expr, *tensor, index, from),
            Expr::Count { tensor, index, value, inclusive } => self.count(*tensor, index, value, *inclusive),
            Expr::Unary(op, a) => self.unary(*op, self.evaluate(a)),
            Expr::Binary(op, a, b) => {
                let signs = non_negative(a) && non_negative(b);
                self.binary(*op, self.evaluate(a), self.evaluate(b), signs)
            }
            Expr::Random(of) => self.random(of.each_ref().map(|expr| self.evaluate(expr).value)),
            Expr::Select(condition, a, b) => self.select(self.evaluate(condition), self.evaluate(a), self.evaluate(b)),
            Expr::Mask(..) | Expr::HeadDim => unreachable!("the verifier allows neither in an expression of a program"),
        }
    }

    /// A constant that WGSL has no text for, made of −∞, which is a number of the launch.
    fn not_finite(&self, value: f32) -> Typed {
        let infinite = float(self.parameters.empty_lse.expand);
        match value {
            f32::NEG_INFINITY => infinite,
            f32::INFINITY => self.unary(UnaryOp::Neg, infinite),
            _ => self.binary(BinaryOp::Sub, infinite, infinite, false),
        }
    }

    /// A scalar parameter: a 32-bit integer or float, or a truth value passed as an integer.
    fn scalar(&self, place: usize) -> Typed {
        let scalar = self.parameters.scalars.__expand_index_method(self.scope, place.into());
        let value = scalar.value.expand;
        if value.scalar_ty(self.scope.ctx()).is_float(self.scope.ctx()) {
            return float(value.into());
        }
        if scalar.truth { self.not_zero(value.into()) } else { int(value.into()) }
    }

    /// How many rows there are along `axis`.
    fn length(&self, axis: Axis) -> Typed {
        let lengths = &self.parameters.lengths;
        let mut known = (0..lengths.len()).map(|at| lengths.__expand_index_method(self.scope, at.into()));
        let found = known.find(|known| known.axis == axis).expect("a launch gives every length of its program");
        int(found.value.expand)
    }

    /// An element of a captured tensor: one load where the index is uniform, else one per lane. Indices are clamped into the
    /// tensor: a launch proves that every index that counts is inside, but lanes past the last query or under the mask may
    /// hold any.
    fn load(&self, tensor: usize, index: &[Expr]) -> Typed {
        let tensor = self.parameters.tensors.__expand_index_method(self.scope, tensor.into());
        let offset = self.offset(tensor, index).value.read_value(self.scope);
        let lanes = offset.vector_size(self.scope.ctx());
        if lanes == 1 {
            return self.element(tensor, offset);
        }
        let lane = |lane: usize| {
            let extract = CompositeExtractOp::new(self.scope.ctx_mut(), offset, lane);
            let element = self.element(tensor, self.scope.register_with_result(&extract));
            (element.ty, element.value.read_value(self.scope))
        };
        let (ty, first) = lane(0);
        let mut value = broadcast_value(self.scope, first, lanes);
        for at in 1..lanes {
            let (_, element) = lane(at);
            let insert = CompositeInsertOp::new(self.scope.ctx_mut(), value, element, at);
            value = self.scope.register_with_result(&insert);
        }
        Typed { ty, value: value.into() }
    }

    /// The offset of the element at `index`, of which a last dimension may be left out.
    fn offset(&self, tensor: &CapturedArgumentExpand, index: &[Expr]) -> Typed {
        let mut offset = int(tensor.start.expand);
        for (dimension, expr) in index.iter().enumerate() {
            let stride = tensor.strides.__expand_index_method(self.scope, dimension.into());
            let at = self.inside(tensor, dimension, expr);
            let step = self.binary(BinaryOp::Mul, at, int(stride.expand), true);
            offset = self.binary(BinaryOp::Add, offset, step, true);
        }
        offset
    }

    /// The number of an element of something captured; that of what is no tensor is 0.
    fn element_number(&self, element: &Expr) -> Typed {
        let mut number = int(constant_int(0));
        if let Expr::Load { tensor, index } = element {
            let tensor = self.parameters.tensors.__expand_index_method(self.scope, (*tensor).into());
            for (dimension, expr) in index.iter().enumerate() {
                let last = tensor.last.__expand_index_method(self.scope, dimension.into());
                let length = self.binary(BinaryOp::Add, int(last.expand), int(constant_int(1)), true);
                let before = self.binary(BinaryOp::Mul, number, length, true);
                number = self.binary(BinaryOp::Add, before, self.inside(tensor, dimension, expr), true);
            }
        }
        number
    }

    /// The index `expr`, clamped into its dimension.
    fn inside(&self, tensor: &CapturedArgumentExpand, dimension: usize, expr: &Expr) -> Typed {
        let last = tensor.last.__expand_index_method(self.scope, dimension.into());
        let at = self.binary(BinaryOp::Max, self.evaluate(expr), int(constant_int(0)), true);
        self.binary(BinaryOp::Min, at, int(last.expand), true)
    }

    /// The extreme of the blocks that a box of indices touches.
    fn extreme(&self, expr: &Expr, tensor: usize, greatest: bool, index: &[(Expr, Expr)]) -> Typed {
        let Some(summary) = self.summary(expr) else {
            let index: Vec<Expr> = index.iter().map(|(first, _)| first.clone()).collect();
            let element = self.load(tensor, &index);
            return if element.ty == Type::Bool { self.unary(UnaryOp::ToInt, element) } else { element };
        };
        let (base, mut spans) = self.blocks(summary, index);
        let columns = spans.pop().unwrap_or_else(one_block);
        let rows = spans.pop().unwrap_or_else(one_block);
        int(summary.__expand_extreme_method(self.scope, base.into(), rows, columns, greatest).expand)
    }

    /// The first index of the last dimension from which on an element of the rows may be true.
    fn next(&self, expr: &Expr, tensor: usize, index: &[(Expr, Expr)], from: &Expr) -> Typed {
        let summary = self.summary(expr).expect("`next` has a summary");
        let captured = self.parameters.tensors.__expand_index_method(self.scope, tensor.into());
        let (base, mut spans) = self.blocks(summary, index);
        let rows = spans.pop().unwrap_or_else(one_block);
        let size = int(constant_int(if summary.summary.blocked[index.len()] { SUMMARY_BLOCK as i32 } else { 1 }));
        let column = self.binary(BinaryOp::Div, self.inside(captured, index.len(), from), size, true);
        let found = summary.__expand_next_method(self.scope, base.into(), rows, column.value.into());
        let found = int(found.expand);
        // In the block of `from` itself, nothing is known of what is before it.
        let beyond = self.binary(BinaryOp::Gt, found, column, true);
        let start =
            self.binary(BinaryOp::Max, self.evaluate(from), self.binary(BinaryOp::Mul, found, size, true), true);
        self.select(beyond, start, self.evaluate(from))
    }

    /// The summary that `expr` is read from, if it is.
    fn summary(&self, expr: &Expr) -> Option<&SummaryArgumentExpand> {
        let wanted = Summary::of(expr)?;
        let summaries = &self.parameters.summaries;
        let mut known = (0..summaries.len()).map(|at| summaries.__expand_index_method(self.scope, at.into()));
        Some(known.find(|known| known.summary.serves(&wanted)).expect("a launch gives every summary of its program"))
    }

    /// The offset of the first dimensions' single indices in a summary, and the blocks of the dimensions that vary.
    fn blocks(&self, summary: &SummaryArgumentExpand, index: &[(Expr, Expr)]) -> (ExpandValue, Vec<BlocksExpand>) {
        let captured = self.parameters.tensors.__expand_index_method(self.scope, summary.summary.tensor.into());
        let mut base = int(constant_int(0));
        let mut spans = Vec::new();
        for (dimension, (first, last)) in index.iter().enumerate() {
            let stride = summary.strides.__expand_index_method(self.scope, dimension.into());
            let block = |index: &Expr| {
                let inside = self.inside(captured, dimension, index);
                let size = int(constant_int(SUMMARY_BLOCK as i32));
                if summary.summary.blocked[dimension] { self.binary(BinaryOp::Div, inside, size, true) } else { inside }
            };
            if first == last {
                let step = self.binary(BinaryOp::Mul, block(first), int(stride.expand), true);
                base = self.binary(BinaryOp::Add, base, step, true);
            } else {
                let (first, last) = (block(first).value.into(), block(last).value.into());
                spans.push(BlocksExpand { first, last, stride: stride.expand.into() });
            }
        }
        (base.value, spans)
    }

    /// How many elements of a row of a sorted tensor are below `value`, or at most `value`.
    fn count(&self, tensor: usize, index: &[Expr], value: &Expr, inclusive: bool) -> Typed {
        let captured = self.parameters.tensors.__expand_index_method(self.scope, tensor.into());
        let CapturedElementsExpand::I32(elements) = &captured.elements else {
            unreachable!("the verifier allows a count only of integers")
        };
        let start = self.offset(captured, index).value.into();
        let last = *captured.last.__expand_index_method(self.scope, index.len().into());
        let stride = *captured.strides.__expand_index_method(self.scope, index.len().into());
        let value = self.evaluate(value).value.into();
        int(count_sorted::expand(self.scope, elements, start, last, stride, value, inclusive).expand)
    }

    /// The element at the scalar `offset`.
    fn element(&self, tensor: &CapturedArgumentExpand, offset: Value) -> Typed {
        let element = stored(self.scope, tensor, offset);
        match &tensor.elements {
            CapturedElementsExpand::F32(_) | CapturedElementsExpand::F16(_) | CapturedElementsExpand::Bf16(_) => {
                float(element)
            }
            CapturedElementsExpand::I32(_) => int(element),
            CapturedElementsExpand::U8(_) | CapturedElementsExpand::U32(_) => self.not_zero(element),
        }
    }

    fn not_zero(&self, value: ExpandValue) -> Typed {
        truth(i32::__expand_native_ne(self.scope, value, constant_int(0)))
    }

    fn lanes(&self, value: Typed) -> usize {
        value.value.read_value(self.scope).vector_size(self.scope.ctx())
    }

    fn select(&self, condition: Typed, then: Typed, otherwise: Typed) -> Typed {
        macro_rules! select {
            ($ty:ty) => {{
                let (condition, then, otherwise) = (condition.value, then.value, otherwise.value);
                select::expand::<$ty>(self.scope, condition.into(), then.into(), otherwise.into()).expand
            }};
        }
        let value = match then.ty {
            Type::Int => select!(i32),
            Type::Float => select!(f32),
            Type::Bool => select!(bool),
        };
        Typed { ty: then.ty, value }
    }

    /// `a && b`, `a || b`. Of vectors as a select: the operations on vectors of truth values become a branch per lane in WGSL.
    fn both_or_either(&self, a: Typed, b: Typed, both: bool) -> Typed {
        if self.lanes(a) == 1 && self.lanes(b) == 1 {
            let expand = if both { bool::__expand_native_bitand } else { bool::__expand_native_bitor };
            return truth(expand(self.scope, a.value, b.value));
        }
        let decided = truth(ExpandValue::constant(ConstantValue::Bool(!both), ElemType::Bool));
        if both { self.select(a, b, decided) } else { self.select(a, decided, b) }
    }

    fn cast(&self, value: ExpandValue, scalar: TypeHandle) -> ExpandValue {
        let value = value.read_value(self.scope);
        let lanes = value.vector_size(self.scope.ctx());
        let ty = if lanes > 1 { VectorType::get(self.scope.ctx(), scalar, lanes).into() } else { scalar };
        cast_value(self.scope, value, ty).into()
    }

    fn unary(&self, op: UnaryOp, a: Typed) -> Typed {
        let scope = self.scope;
        let x = a.value;
        match (op, a.ty) {
            (UnaryOp::Neg, Type::Int) => int(i32::__expand_native_neg(scope, x)),
            (UnaryOp::Neg, _) => float(f32::__expand_native_neg(scope, x)),
            // CubeCL's own is one LLVM function for scalars and vectors, on which LLVM crashes where a kernel has both.
            (UnaryOp::Abs, Type::Int) => int(i32::__expand_native_max(scope, x, i32::__expand_native_neg(scope, x))),
            (UnaryOp::Abs, _) => float(f32::__expand_native_abs(scope, x)),
            (UnaryOp::Not, _) => truth(not::expand::<bool>(scope, x.into()).expand),
            (UnaryOp::Sqrt, _) => float(f32::__expand_native_sqrt(scope, x)),
            (UnaryOp::Floor, _) => float(f32::__expand_native_floor(scope, x)),
            (UnaryOp::Ceil, _) => float(f32::__expand_native_ceil(scope, x)),
            (UnaryOp::Round, _) => self.round(a),
            (UnaryOp::Ilog2, _) => self.ilog2(a),
            (UnaryOp::Relu, _) => float(f32::__expand_native_max(scope, x, constant_float(0.0))),
            (
                UnaryOp::Exp
                | UnaryOp::Exp2
                | UnaryOp::Log
                | UnaryOp::Log2
                | UnaryOp::Tanh
                | UnaryOp::Sigmoid
                | UnaryOp::Sin
                | UnaryOp::Cos,
                _,
            ) => float(math::unary(scope, op, x, self.parameters.approximate)),
            (UnaryOp::ToFloat, Type::Bool) => self.select(a, float(constant_float(1.0)), float(constant_float(0.0))),
            (UnaryOp::ToFloat, _) => float(self.cast(x, f32::__expand_as_type(scope))),
            (UnaryOp::ToInt, Type::Bool) => self.select(a, int(constant_int(1)), int(constant_int(0))),
            (UnaryOp::ToInt, _) => self.cut(a),
        }
    }

    /// A float as an integer. What a device's cast makes of NaN and of numbers without 32 bits is its own affair, and nothing at
    /// all in LLVM and SPIR-V: here NaN gives 0, and they the nearest that has, as in Rust.
    fn cut(&self, a: Typed) -> Typed {
        let scope = self.scope;
        let beyond = constant_float(2_147_483_648.0);
        let is_nan = truth(f32::__expand_is_nan(scope, a.value.into()).expand);
        let number = self.select(is_nan, float(constant_float(0.0)), a).value;
        let is_large = truth(f32::__expand_native_ge(scope, number, beyond));
        // The greatest float below 2³¹.
        let number = f32::__expand_native_min(scope, number, constant_float(2_147_483_520.0));
        let number = f32::__expand_native_max(scope, number, constant_float(-2_147_483_648.0));
        let cut = int(self.cast(number, i32::__expand_as_type(scope)));
        self.select(is_large, int(constant_int(i32::MAX)), cut)
    }

    /// The nearest whole number, of two the one further from 0. The devices' own functions give an even one instead, or, in SPIR-V,
    /// either.
    fn round(&self, a: Typed) -> Typed {
        let scope = self.scope;
        let zero = || float(constant_float(0.0));
        let size = f32::__expand_native_abs(scope, a.value);
        let below = f32::__expand_native_floor(scope, size);
        // What is lost is exact.
        let lost = f32::__expand_native_sub(scope, size, below);
        let is_half = truth(f32::__expand_native_ge(scope, lost, constant_float(0.5)));
        let one = self.select(is_half, float(constant_float(1.0)), zero());
        let size = float(f32::__expand_native_add(scope, below, one.value));
        let negated = float(f32::__expand_native_neg(scope, size.value));
        let is_negative = truth(f32::__expand_native_lt(scope, a.value, zero().value));
        self.select(is_negative, negated, size)
    }

    /// The place of the highest bit, and −1 where there is none or the number is negative: of 0 all devices count 32 zeros.
    fn ilog2(&self, a: Typed) -> Typed {
        let scope = self.scope;
        let number = i32::__expand_native_max(scope, a.value, constant_int(0));
        let zeros = i32::__expand_leading_zeros(scope, number.into()).expand;
        let zeros = self.cast(zeros, i32::__expand_as_type(scope));
        int(i32::__expand_native_sub(scope, constant_int(31), zeros))
    }

    /// The random float of a seed, a batch, a head and two positions, as [`random`](crate::philox::random()) has it.
    fn random(&self, [seed, batch, head, query, key]: [ExpandValue; 5]) -> Typed {
        let scope = self.scope;
        let word = |value: ExpandValue| self.cast(value, u32::__expand_as_type(scope));
        let mut counter = [key, query, head, batch].map(word);
        let mut round_key = [word(seed), constant_word(0)];
        for _ in 0..ROUNDS {
            let [a, b, c, d] = counter;
            let multiplied = |word, by: u32| {
                let by = constant_word(by);
                (u32::__expand_native_mul_hi(scope, word, by), u32::__expand_native_mul(scope, word, by))
            };
            let ((first_high, first), (third_high, third)) =
                (multiplied(a, MULTIPLIERS[0]), multiplied(c, MULTIPLIERS[1]));
            let mixed = |high, word, key| {
                u32::__expand_native_bitxor(scope, u32::__expand_native_bitxor(scope, high, word), key)
            };
            counter = [mixed(third_high, b, round_key[0]), third, mixed(first_high, d, round_key[1]), first];
            for (word, step) in round_key.iter_mut().zip(KEY_STEPS) {
                *word = u32::__expand_native_add(scope, *word, constant_word(step));
            }
        }
        let bits = u32::__expand_native_shr(scope, counter[0], constant_word(8));
        let bits = self.cast(bits, f32::__expand_as_type(scope));
        float(f32::__expand_native_mul(scope, bits, constant_float(1.0 / (1 << 24) as f32)))
    }

    fn is_vector(&self, value: Typed) -> bool {
        value.value.read_value(self.scope).vector_size(self.scope.ctx()) > 1
    }

    /// `a op b`; `signs` says that neither is negative.
    fn binary(&self, op: BinaryOp, a: Typed, b: Typed, signs: bool) -> Typed {
        let scope = self.scope;
        macro_rules! number {
            ($expand:ident) => {
                match a.ty {
                    Type::Int => i32::$expand(scope, a.value, b.value),
                    _ => f32::$expand(scope, a.value, b.value),
                }
            };
        }
        let same = |value| Typed { ty: a.ty, value };
        match op {
            BinaryOp::Add => same(number!(__expand_native_add)),
            BinaryOp::Sub => same(number!(__expand_native_sub)),
            BinaryOp::Mul => same(number!(__expand_native_mul)),
            BinaryOp::Div if a.ty == Type::Int => self.floor_division(a, b, signs).0,
            // Once for all lanes.
            BinaryOp::Div if self.parameters.approximate && !self.is_vector(b) => {
                let inverse = f32::__expand_native_div(scope, constant_float(1.0), b.value);
                same(f32::__expand_native_mul(scope, a.value, inverse))
            }
            BinaryOp::Div => same(f32::__expand_native_div(scope, a.value, b.value)),
            BinaryOp::Rem => self.floor_division(a, b, signs).1,
            BinaryOp::Min => same(number!(__expand_native_min)),
            BinaryOp::Max => same(number!(__expand_native_max)),
            BinaryOp::Pow => same(math::pow(scope, a.value, b.value)),
            BinaryOp::Lt => truth(number!(__expand_native_lt)),
            BinaryOp::Le => truth(number!(__expand_native_le)),
            BinaryOp::Gt => truth(number!(__expand_native_gt)),
            BinaryOp::Ge => truth(number!(__expand_native_ge)),
            BinaryOp::Eq | BinaryOp::Ne if a.ty == Type::Bool => {
                let not_b = truth(not::expand::<bool>(scope, b.value.into()).expand);
                if op == BinaryOp::Eq { self.select(a, b, not_b) } else { self.select(a, not_b, b) }
            }
            BinaryOp::Eq => truth(number!(__expand_native_eq)),
            BinaryOp::Ne => truth(number!(__expand_native_ne)),
            BinaryOp::And => self.both_or_either(a, b, true),
            BinaryOp::Or => self.both_or_either(a, b, false),
        }
    }

    /// ⌊a/b⌋ and a − b·⌊a/b⌋, from the division that truncates: one less and b more where the remainder's sign is not b's.
    fn floor_division(&self, a: Typed, b: Typed, signs: bool) -> (Typed, Typed) {
        let scope = self.scope;
        let quotient = int(i32::__expand_native_div(scope, a.value, b.value));
        let product = i32::__expand_native_mul(scope, quotient.value, b.value);
        let remainder = int(i32::__expand_native_sub(scope, a.value, product));
        if signs {
            return (quotient, remainder);
        }
        let not_zero = self.not_zero(remainder.value);
        let signs_differ = i32::__expand_native_bitxor(scope, remainder.value, b.value);
        let signs_differ = truth(i32::__expand_native_lt(scope, signs_differ, constant_int(0)));
        let correct = self.both_or_either(not_zero, signs_differ, true);
        let less = int(i32::__expand_native_sub(scope, quotient.value, constant_int(1)));
        let more = int(i32::__expand_native_add(scope, remainder.value, b.value));
        (self.select(correct, less, quotient), self.select(correct, more, remainder))
    }
}

/// How many of the sorted elements at `start`, `start + stride`, …, with the last index `last`, are below `value` or, if
/// `inclusive`, at most `value`; by bisection.
#[cube]
#[allow(clippy::borrowed_box, reason = "a captured tensor's elements are in a box")]
fn count_sorted(
    elements: &Box<[i32]>,
    start: i32,
    last: i32,
    stride: i32,
    value: i32,
    #[comptime] inclusive: bool,
) -> i32 {
    let mut low = 0i32;
    let mut high = last + 1;
    while low < high {
        let middle = (low + high) / 2;
        let element = elements[(start + middle * stride) as usize];
        let counts = if inclusive { element <= value } else { element < value };
        if counts {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cube]
impl CapturedArgument {
    /// The element at `offset` of a tensor of integers or truth values, which are 0 and 1.
    pub fn integer(&self, offset: i32) -> i32 {
        intrinsic!(|scope| {
            let element = stored(scope, self, offset.expand.read_value(scope));
            match &self.elements {
                CapturedElementsExpand::F32(_)
                | CapturedElementsExpand::F16(_)
                | CapturedElementsExpand::Bf16(_)
                | CapturedElementsExpand::I32(_) => element.into(),
                // Any element that is not zero is true, also one whose highest bit is set.
                CapturedElementsExpand::U8(_) | CapturedElementsExpand::U32(_) => {
                    let truth = i32::__expand_native_ne(scope, element, constant_int(0));
                    let (one, zero) = (constant_int(1), constant_int(0));
                    select::expand::<i32>(scope, truth.into(), one.into(), zero.into())
                }
            }
        })
    }
}

/// The element at the scalar `offset` as it is stored, truth values as integers and floats in 32 bits.
fn stored(scope: &Scope, tensor: &CapturedArgumentExpand, offset: Value) -> ExpandValue {
    let offset = cast_value(scope, offset, usize::__expand_as_type(scope));
    let integer = |value: Value| -> ExpandValue { cast_value(scope, value, i32::__expand_as_type(scope)).into() };
    let float = |value: Value| -> ExpandValue { cast_value(scope, value, f32::__expand_as_type(scope)).into() };
    match &tensor.elements {
        CapturedElementsExpand::F32(elements) => element(scope, elements, offset).into(),
        CapturedElementsExpand::F16(elements) => float(element(scope, elements, offset)),
        CapturedElementsExpand::Bf16(elements) => float(element(scope, elements, offset)),
        CapturedElementsExpand::I32(elements) => element(scope, elements, offset).into(),
        CapturedElementsExpand::U8(elements) => integer(element(scope, elements, offset)),
        CapturedElementsExpand::U32(elements) => integer(element(scope, elements, offset)),
    }
}

/// `elements[offset]`.
fn element<T: CubePrimitive>(scope: &Scope, elements: &NativeExpand<Box<[T]>>, offset: Value) -> Value {
    let offset: NativeExpand<usize> = offset.into();
    elements.__expand_index_method(scope, offset).read_value(scope)
}

/// Whether `expr` is never negative whatever the launch. (Positions can be: offsets may be negative.)
fn non_negative(expr: &Expr) -> bool {
    match expr {
        Expr::Batch | Expr::Head | Expr::KvHead | Expr::QueryLen | Expr::KeyLen(_) => true,
        Expr::Int(value) => *value >= 0,
        Expr::Unary(UnaryOp::Abs, _) => true,
        Expr::Binary(BinaryOp::Add | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Min, a, b) => {
            non_negative(a) && non_negative(b)
        }
        Expr::Binary(BinaryOp::Max, a, b) => non_negative(a) || non_negative(b),
        Expr::Binary(BinaryOp::Rem, _, b) => non_negative(b),
        _ => false,
    }
}
