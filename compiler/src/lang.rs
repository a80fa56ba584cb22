//! Typed construction of specifications: what the macros expand to.
//!
//! `#[attention]` expands to calls of [`Builder`], `#[mask]`, `#[score]` and `#[index]` to functions over [`Int`], [`Float`] and
//! [`Bool`], so that rustc itself checks what a macro cannot see: the types of a call to a function in another module.

use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::spec::{
    Accumulator, AccumulatorParam, DotParam, KeyLoop, Leading, Location, MAX_EXPR_SIZE, OperandParam, Order, Origin,
    Push, Role, ScalarParam, ScalarType, Spec, TensorParam, TensorType,
};

/// An expression and where its parts are written.
#[derive(Clone, Debug)]
pub struct Traced {
    expr: Expr,
    size: usize,
    origins: Vec<Origin>,
}

impl Traced {
    fn leaf(expr: Expr) -> Self {
        Traced { expr, size: 1, origins: Vec::new() }
    }

    fn unary(self, op: UnaryOp) -> Self {
        Traced::join([self], |exprs| {
            let [a] = take(exprs);
            Expr::unary(op, a)
        })
    }

    /// The expression that `make` makes of `parts`. A part that is too large stands for the whole: `let`s that double would
    /// fill the memory otherwise, and lowering refuses such an expression for its size alone.
    fn join<const N: usize>(parts: [Traced; N], make: impl FnOnce(Vec<Expr>) -> Expr) -> Self {
        let mut size = 1;
        let mut origins = Vec::new();
        let mut exprs = Vec::with_capacity(N);
        for part in parts {
            if part.size > MAX_EXPR_SIZE {
                return part;
            }
            size += part.size;
            exprs.push(part.expr);
            add_origins(&mut origins, part.origins);
        }
        Traced { expr: make(exprs), size, origins }
    }

    /// The same, with `kv_len()` of the set of keys with this number.
    fn of_keys(mut self, set: usize) -> Self {
        fn with_set(expr: &Expr, set: usize) -> Expr {
            match expr {
                Expr::KeyLen(_) => Expr::KeyLen(set),
                other => other.map_children(|child| with_set(child, set)),
            }
        }
        if set > 0 && self.expr.mentions(&Expr::KeyLen(0)) {
            self.expr = with_set(&self.expr, set);
            self.origins.iter_mut().for_each(|origin| origin.expr = with_set(&origin.expr, set));
        }
        self
    }

    fn binary(self, op: BinaryOp, other: Traced) -> Self {
        Traced::join([self, other], |exprs| {
            let [a, b] = take(exprs);
            Expr::binary(op, a, b)
        })
    }
}

/// The operands of an operation, by number.
fn take<const N: usize>(exprs: Vec<Expr>) -> [Expr; N] {
    exprs.try_into().expect("as many expressions as were joined")
}

mod sealed {
    pub trait Sealed {}
}

/// A value of the language: [`Int`], [`Float`] or [`Bool`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a value of an attention",
    note = "an expression of an attention is an integer, a float or a bool"
)]
pub trait Value: Clone + sealed::Sealed {
    /// The type of the value.
    const TYPE: Type;
    /// The value of an expression of that type.
    fn new(traced: Traced) -> Self;
    /// The expression.
    fn traced(self) -> Traced;
}

/// A value with arithmetic and an order: [`Int`] or [`Float`].
#[diagnostic::on_unimplemented(
    message = "arithmetic on `{Self}`",
    label = "expected an integer or a float",
    note = "`+ - * /`, `min`, `max`, `abs` and the order take two integers or two floats"
)]
pub trait Number: Value {}

/// What a function with `#[mask]`, `#[score]` or `#[index]` takes or gives: a [`Value`] or a [`Captured`] tensor.
pub trait Parameter: sealed::Sealed {}

impl Parameter for Int {}
impl Parameter for Float {}
impl Parameter for Bool {}
impl<T, const RANK: usize> sealed::Sealed for Captured<T, RANK> {}
impl<T, const RANK: usize> Parameter for Captured<T, RANK> {}

/// A function that can be called in an attention: one with `#[mask]`, `#[score]` or `#[index]`. `Signature` is the type of a pointer to it.
///
/// Every call goes through [`Function::itself`], so that a plain function of Rust gets this error, and not one for each of its
/// arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be called here: it has none of `#[mask]`, `#[score]` and `#[index]`",
    label = "expected a function with `#[mask]`, `#[score]` or `#[index]`",
    note = "write `#[mask]` above a function that gives a `bool`, `#[score]` above one that gives a score, an `f32`, and `#[index]` above \
            one that gives an integer, an `i32`"
)]
pub trait Function<Signature> {
    /// The type of the function.
    type Itself;
    /// The function.
    fn itself(self) -> Self::Itself;
}

macro_rules! functions {
    ($($parameter:ident)*) => {
        // Without it rustc says which of the bounds below fails.
        #[diagnostic::do_not_recommend]
        impl<F, Output, $($parameter),*> Function<fn($($parameter),*) -> Output> for F
        where
            F: Fn($($parameter),*) -> Output,
            Output: Value,
            $($parameter: Parameter,)*
        {
            type Itself = F;
            fn itself(self) -> F {
                self
            }
        }
    };
    ($($parameter:ident)*; $next:ident $($rest:ident)*) => {
        functions!($($parameter)*);
        functions!($($parameter)* $next; $($rest)*);
    };
    ($($parameter:ident)*;) => {
        functions!($($parameter)*);
    };
}
functions!(; P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11 P12 P13 P14 P15 P16 P17 P18 P19 P20);

/// An integer: a position, an integer scalar, an element of a `Tensor<i32, R>`.
#[derive(Clone, Debug)]
pub struct Int(Traced);
/// A float: a score, an `f32` scalar, an element of a `Tensor<f32, R>`.
#[derive(Clone, Debug)]
pub struct Float(Traced);
/// A truth value: a predicate, a `bool` scalar, an element of a `Tensor<bool, R>`.
#[derive(Clone, Debug)]
pub struct Bool(Traced);

macro_rules! value {
    ($name:ident) => {
        impl sealed::Sealed for $name {}
        impl Value for $name {
            const TYPE: Type = Type::$name;
            fn new(traced: Traced) -> Self {
                $name(traced)
            }
            fn traced(self) -> Traced {
                self.0
            }
        }
    };
}
value!(Int);
value!(Float);
value!(Bool);
impl Number for Int {}
impl Number for Float {}

/// A captured tensor of elements `T` with `RANK` dimensions.
#[derive(Clone, Debug)]
pub struct Captured<T, const RANK: usize> {
    place: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Value, const RANK: usize> Captured<T, RANK> {
    /// The element at `index`, one integer per dimension.
    pub fn load(&self, index: [Int; RANK]) -> T {
        let index = index.map(Int::traced);
        T::new(Traced::join(index, |index| Expr::Load { tensor: self.place, index }))
    }
}

/// `value`, remembered to be written at `line` and `column` (from 1) of `file`.
pub fn at<T: Value>(value: T, file: &str, line: u32, column: u32) -> T {
    let mut traced = value.traced();
    if traced.size > MAX_LOCATED_SIZE {
        return T::new(traced);
    }
    let origin = Origin { expr: traced.expr.clone(), location: Location { file: file.to_string(), line, column } };
    add_origins(&mut traced.origins, vec![origin]);
    T::new(traced)
}

/// The most nodes of an expression whose place is remembered, since it is kept once more for that. The places of its parts say
/// where a larger one is.
const MAX_LOCATED_SIZE: usize = 256;

/// Adds those of `more` that are not known.
fn add_origins(origins: &mut Vec<Origin>, more: Vec<Origin>) {
    if origins.is_empty() {
        *origins = more;
        return;
    }
    for origin in more {
        // Places differ sooner than expressions.
        let same = |known: &Origin| known.location == origin.location && known.expr == origin.expr;
        if !origins.iter().any(same) {
            origins.push(origin);
        }
    }
}

/// A constant of Rust that can be used in an attention: an integer, an `f32` or a `bool`.
#[diagnostic::on_unimplemented(
    message = "a constant of type `{Self}` can't be used in an attention",
    label = "expected an integer, an `f32` or a `bool`",
    note = "a constant of an attention is of an integer type, such as `i32` or `usize`, of `f32` or of `bool`"
)]
pub trait Constant: sealed::Sealed {
    /// What it is in an attention.
    type Value: Value;
    /// The expression of it.
    fn expr(self) -> Expr;
}

/// Constants that say how many elements are taken of a row: integers.
#[diagnostic::on_unimplemented(
    message = "a constant of type `{Self}` can't say how many elements are taken",
    label = "expected an integer"
)]
pub trait Elements: sealed::Sealed {
    /// The number; 0, which no row allows, where it is negative or has too many bits.
    fn elements(self) -> usize;
}

macro_rules! integer_constants {
    ($($ty:ty)*) => {
        $(
            impl sealed::Sealed for $ty {}
            impl Constant for $ty {
                type Value = Int;
                fn expr(self) -> Expr {
                    integer(self as i128)
                }
            }
            impl Elements for $ty {
                fn elements(self) -> usize {
                    usize::try_from(self).unwrap_or(0)
                }
            }
        )*
    };
}
integer_constants!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize);

/// The integer `value`; of one that has no 32 bits a sum with that value, which a launch refuses as it does any that leaves 32 bits.
fn integer(value: i128) -> Expr {
    match i32::try_from(value) {
        Ok(value) => Expr::Int(value),
        Err(_) => {
            let most = i128::from(i32::MAX);
            let multiple = Expr::binary(BinaryOp::Mul, integer(value / most), Expr::Int(i32::MAX));
            Expr::binary(BinaryOp::Add, multiple, integer(value % most))
        }
    }
}

impl sealed::Sealed for f32 {}
impl Constant for f32 {
    type Value = Float;
    fn expr(self) -> Expr {
        Expr::float(self)
    }
}

impl sealed::Sealed for bool {}
impl Constant for bool {
    type Value = Bool;
    fn expr(self) -> Expr {
        Expr::Bool(self)
    }
}

/// The value of a constant of Rust, which is used at `line` and `column` (from 1) of `file`.
pub fn constant<C: Constant>(constant: C, file: &str, line: u32, column: u32) -> C::Value {
    let expr = constant.expr();
    let is_usual = match &expr {
        Expr::Float(value) => value.value().is_finite(),
        other => other.children().is_empty(),
    };
    let value = C::Value::new(Traced { size: expr.size(), expr, origins: Vec::new() });
    // A message is only of a constant that can't be.
    if is_usual { value } else { at(value, file, line, column) }
}

/// How many elements a constant says.
pub fn elements(constant: impl Elements) -> usize {
    constant.elements()
}

macro_rules! leaves {
    ($($(#[$doc:meta])* $name:ident: $ty:ident = $expr:expr;)*) => {
        $($(#[$doc])*
        pub fn $name() -> $ty {
            $ty(Traced::leaf($expr))
        })*
    };
}

leaves! {
    /// The query's absolute position.
    query_position: Int = Expr::Query;
    /// The key's absolute position.
    key_position: Int = Expr::Key;
    /// The batch index.
    batch: Int = Expr::Batch;
    /// The query head.
    head: Int = Expr::Head;
    /// The key and value head.
    kv_head: Int = Expr::KvHead;
    /// How many queries there are.
    q_len: Int = Expr::QueryLen;
    /// How many keys there are in the loop in which this is pushed; elsewhere, in the first set.
    kv_len: Int = Expr::KeyLen(0);
    /// The elements of a row of the first operand along queries.
    head_dim: Int = Expr::HeadDim;
    /// What the caller gave, or 1/√D, where D is the sum of the head dims of the products in the first push's
    /// [score](crate::lower::scaled_dim).
    scale: Float = Expr::Scale;
}

/// The product q·k at this place among those of the key loop.
pub fn dot(place: usize) -> Float {
    Float(Traced::leaf(Expr::Value(place)))
}

/// What an output is made of, at this place: the accumulators, and then the operands along queries.
pub fn result(place: usize) -> Float {
    Float(Traced::leaf(Expr::Value(place)))
}

/// The constant integer `value`.
pub fn int(value: i32) -> Int {
    Int(Traced::leaf(Expr::Int(value)))
}

/// The constant float `value`.
pub fn float(value: f32) -> Float {
    Float(Traced::leaf(Expr::float(value)))
}

/// The constant truth value `value`.
pub fn boolean(value: bool) -> Bool {
    Bool(Traced::leaf(Expr::Bool(value)))
}

macro_rules! operations {
    ($($name:ident: $ty:ident, $ty2:ident -> $out:ident = $op:ident;)*) => {
        $(#[doc = concat!("[`BinaryOp::", stringify!($op), "`] of two values.")]
        pub fn $name(a: $ty, b: $ty2) -> $out {
            $out(a.traced().binary(BinaryOp::$op, b.traced()))
        })*
    };
    (numbers: $($name:ident = $op:ident;)*) => {
        $(#[doc = concat!("[`BinaryOp::", stringify!($op), "`] of two numbers of one type.")]
        pub fn $name<T: Number>(a: T, b: T) -> T {
            T::new(a.traced().binary(BinaryOp::$op, b.traced()))
        })*
    };
    (order: $($name:ident = $op:ident;)*) => {
        $(#[doc = concat!("[`BinaryOp::", stringify!($op), "`] of two numbers of one type.")]
        pub fn $name<T: Number>(a: T, b: T) -> Bool {
            Bool(a.traced().binary(BinaryOp::$op, b.traced()))
        })*
    };
    (equality: $($name:ident = $op:ident;)*) => {
        $(#[doc = concat!("[`BinaryOp::", stringify!($op), "`] of two values of one type.")]
        pub fn $name<T: Value>(a: T, b: T) -> Bool {
            Bool(a.traced().binary(BinaryOp::$op, b.traced()))
        })*
    };
    (functions: $($name:ident = $op:ident;)*) => {
        $(#[doc = concat!("[`UnaryOp::", stringify!($op), "`] of a float.")]
        pub fn $name(a: Float) -> Float {
            Float(a.traced().unary(UnaryOp::$op))
        })*
    };
}

operations! { numbers: add = Add; sub = Sub; mul = Mul; div = Div; min = Min; max = Max; }
operations! { order: lt = Lt; le = Le; gt = Gt; ge = Ge; }
operations! { equality: eq = Eq; ne = Ne; }
operations! { rem: Int, Int -> Int = Rem; pow: Float, Float -> Float = Pow; and: Bool, Bool -> Bool = And; or: Bool, Bool -> Bool = Or; }
operations! { functions:
    exp = Exp; exp2 = Exp2; log = Log; log2 = Log2; sqrt = Sqrt; tanh = Tanh; sigmoid = Sigmoid; relu = Relu; sin = Sin; cos = Cos;
    floor = Floor; ceil = Ceil; round = Round;
}

/// `-a`, of a number.
pub fn neg<T: Number>(a: T) -> T {
    T::new(a.traced().unary(UnaryOp::Neg))
}

/// The absolute value of a number.
pub fn abs<T: Number>(a: T) -> T {
    T::new(a.traced().unary(UnaryOp::Abs))
}

/// The logarithm of an integer to base 2, rounded down; −1 of what is not positive.
pub fn ilog2(a: Int) -> Int {
    Int(a.traced().unary(UnaryOp::Ilog2))
}

/// A random float in [0, 1), of a seed, the batch, the head and the two positions alone: [`Expr::Random`].
pub fn random(seed: Int) -> Float {
    Float(Traced::join([seed.traced()], |exprs| {
        let [seed] = take(exprs);
        Expr::random(seed)
    }))
}

/// `!a`.
pub fn not(a: Bool) -> Bool {
    Bool(a.traced().unary(UnaryOp::Not))
}

/// `a as f32`.
pub fn to_float<T: Value>(a: T) -> Float {
    match T::TYPE {
        Type::Float => Float(a.traced()),
        Type::Int | Type::Bool => Float(a.traced().unary(UnaryOp::ToFloat)),
    }
}

/// `a as i32`.
pub fn to_int<T: Value>(a: T) -> Int {
    match T::TYPE {
        Type::Int => Int(a.traced()),
        Type::Float | Type::Bool => Int(a.traced().unary(UnaryOp::ToInt)),
    }
}

/// `if condition { then } else { otherwise }`.
pub fn select<T: Value>(condition: Bool, then: T, otherwise: T) -> T {
    T::new(Traced::join([condition.traced(), then.traced(), otherwise.traced()], |exprs| {
        let [condition, then, otherwise] = take(exprs);
        Expr::select(condition, then, otherwise)
    }))
}

/// The score, with the key hidden where `visible` is false.
pub fn mask(score: Float, visible: Bool) -> Float {
    Float(Traced::join([score.traced(), visible.traced()], |exprs| {
        let [score, visible] = take(exprs);
        Expr::Mask(Box::new(score), Box::new(visible))
    }))
}

/// Collects what an attention says.
#[derive(Debug)]
pub struct Builder {
    spec: Spec,
}

impl Builder {
    /// An attention named `name` with the doc comment `doc`, written at `line` and `column` (from 1) of `file`.
    pub fn new(name: &str, doc: &str, file: &str, line: u32, column: u32) -> Self {
        Builder {
            spec: Spec {
                name: name.to_string(),
                doc: doc.to_string(),
                source: Location { file: file.to_string(), line, column },
                operands: Vec::new(),
                scalars: Vec::new(),
                tensors: Vec::new(),
                accumulators: Vec::new(),
                loops: Vec::new(),
                outputs: Vec::new(),
                origins: Vec::new(),
            },
        }
    }

    /// Declares queries, or another parameter along them, after those before, and gives its place.
    pub fn query(&mut self, name: &str) -> usize {
        self.operand(name, Role::Query)
    }

    /// Declares keys of a set, and gives their place.
    pub fn key(&mut self, name: &str, set: usize) -> usize {
        self.operand(name, Role::Key(set))
    }

    /// Declares values of a set, and gives their place.
    pub fn value(&mut self, name: &str, set: usize) -> usize {
        self.operand(name, Role::Value(set))
    }

    fn operand(&mut self, name: &str, role: Role) -> usize {
        self.spec.operands.push(OperandParam { name: name.to_string(), role });
        self.spec.operands.len() - 1
    }

    /// Declares a scalar parameter; `T` must be the type that `ty` has in expressions.
    ///
    /// # Panics
    /// If it is not.
    pub fn scalar<T: Value>(&mut self, name: &str, ty: ScalarType, comptime: bool) -> T {
        assert_eq!(ty.ty(), T::TYPE, "the scalar `{name}`");
        self.spec.scalars.push(ScalarParam { name: name.to_string(), ty, comptime });
        T::new(Traced::leaf(Expr::Scalar(self.spec.scalars.len() - 1)))
    }

    /// Declares a captured tensor.
    pub fn tensor<T: Value, const RANK: usize>(&mut self, name: &str) -> Captured<T, RANK> {
        let ty = match T::TYPE {
            Type::Int => TensorType::I32,
            Type::Float => TensorType::F32,
            Type::Bool => TensorType::Bool,
        };
        self.declare_tensor(TensorParam { name: name.to_string(), ty, rank: RANK, order: Order::Any })
    }

    /// Declares a captured tensor of integers that never decrease along the last dimension; `checked` says whether a launch
    /// makes sure of that.
    pub fn sorted_tensor<const RANK: usize>(&mut self, name: &str, checked: bool) -> Captured<Int, RANK> {
        let order = if checked { Order::Sorted } else { Order::SortedUnchecked };
        self.declare_tensor(TensorParam { name: name.to_string(), ty: TensorType::I32, rank: RANK, order })
    }

    fn declare_tensor<T: Value, const RANK: usize>(&mut self, param: TensorParam) -> Captured<T, RANK> {
        self.spec.tensors.push(param);
        Captured { place: self.spec.tensors.len() - 1, element: std::marker::PhantomData }
    }

    /// Declares an accumulator: `Softmax::new()`, or `Softmax::with_sink(sink)`.
    pub fn softmax(&mut self, name: &str, sink: Option<Float>) {
        let sink = sink.map(|sink| self.take(sink));
        self.accumulator(name, Accumulator::Softmax { sink });
    }

    /// Declares an accumulator: `Sum::new()`.
    pub fn sum(&mut self, name: &str) {
        self.accumulator(name, Accumulator::Sum);
    }

    /// Declares an accumulator: `Mean::new()`.
    pub fn mean(&mut self, name: &str) {
        self.accumulator(name, Accumulator::Mean);
    }

    fn accumulator(&mut self, name: &str, kind: Accumulator) {
        self.spec.accumulators.push(AccumulatorParam { name: name.to_string(), kind });
    }

    /// Begins a key loop over the keys of `set`, with the products of these queries and keys, by their places.
    pub fn key_loop(&mut self, set: usize, dots: &[(usize, usize)]) {
        let dots = dots.iter().map(|&(query, key)| DotParam { query, key }).collect();
        self.spec.loops.push(KeyLoop { set, dots, pushes: Vec::new() });
    }

    /// Pushes `score` with `values`, operands by their place, into the accumulator at this place, in the last key loop.
    ///
    /// # Panics
    /// If there is no key loop.
    pub fn push(&mut self, accumulator: usize, score: Float, values: impl Into<PushedValues>) {
        self.push_weighted(accumulator, score, None, values);
    }

    /// The same with what the weight is multiplied by in the output alone.
    ///
    /// # Panics
    /// If there is no key loop.
    pub fn push_weighted(
        &mut self,
        accumulator: usize,
        score: Float,
        weight: impl Into<Option<Float>>,
        values: impl Into<PushedValues>,
    ) {
        let set = self.spec.loops.last().expect("a push in a key loop").set;
        let of_loop = |value: Float| Float(value.traced().of_keys(set));
        let (score, weight) = (self.take(of_loop(score)), weight.into().map(|weight| self.take(of_loop(weight))));
        let PushedValues { values, dim } = values.into();
        let key_loop = self.spec.loops.last_mut().expect("a push in a key loop");
        key_loop.pushes.push(Push { accumulator, score, weight, values, dim });
    }

    /// What is stored: an output after those before. Without any, the first accumulator's result is stored as it is.
    pub fn output(&mut self, value: Float) {
        let output = self.take(value);
        self.spec.outputs.push(output);
    }

    /// The specification.
    pub fn finish(mut self) -> Spec {
        if self.spec.outputs.is_empty() {
            self.spec.outputs.push(Expr::Value(0));
        }
        self.spec
    }

    fn take(&mut self, value: Float) -> Expr {
        let traced = value.traced();
        add_origins(&mut self.spec.origins, traced.origins);
        traced.expr
    }
}

/// The values of a push: an operand by its place, all of a row or the first elements of it.
#[derive(Clone, Copy, Debug)]
pub struct PushedValues {
    values: usize,
    dim: Option<Leading>,
}

impl PushedValues {
    /// The first `dim` elements of each row.
    pub fn leading(values: usize, dim: usize) -> PushedValues {
        PushedValues { values, dim: Some(Leading::Literal(dim)) }
    }

    /// As many of the first elements of each row as the comptime scalar at this place says.
    pub fn leading_by_scalar(values: usize, scalar: usize) -> PushedValues {
        PushedValues { values, dim: Some(Leading::Scalar(scalar)) }
    }
}

impl From<usize> for PushedValues {
    fn from(values: usize) -> PushedValues {
        PushedValues { values, dim: None }
    }
}
