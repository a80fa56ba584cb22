//! Which names are known where, and what each stands for.

use crate::signature::{DeclaredElement, ParameterKind, Signature};
use crate::types::ValueType;
use proc_macro2::Ident;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A query parameter, by its place among the queries.
    Query(usize),
    /// A key parameter, by its place among the keys.
    Key(usize),
    /// A value parameter, by its place among the values.
    Value(usize),
    Tensor(DeclaredElement, usize),
    /// A scalar or a `let`: its type, and whether it is computed from a product of queries and keys.
    Local(ValueType, bool),
    /// The variable of the loop over the queries.
    QueryTile,
    /// The variable of a loop over the key parameter at this place among the keys.
    KeyTile(usize),
    /// An accumulator, by its number.
    Accumulator(usize),
    /// A `let` that is made of what the output is made of: it has a value for each element. Its type.
    OfOutput(ValueType),
    /// Something that was reported.
    Reported,
}

impl Binding {
    /// What it is, for messages.
    pub fn description(self) -> &'static str {
        match self {
            Binding::Query(0) => "the `Query`",
            Binding::Query(_) => "a `Query`",
            Binding::Key(_) => "a `Key`",
            Binding::Value(_) => "a `Value`",
            Binding::Tensor(..) => "a captured tensor",
            Binding::Local(ValueType::Int, _) => "an integer",
            Binding::Local(ValueType::Float, true) => "a score",
            Binding::Local(ValueType::Float, false) => "a float",
            Binding::Local(ValueType::Bool, _) => "a bool",
            Binding::Local(..) | Binding::Reported => "a value",
            Binding::QueryTile => "the variable of the loop over the queries",
            Binding::KeyTile(_) => "the variable of a loop over keys",
            Binding::Accumulator(0) => "the accumulator",
            Binding::Accumulator(_) => "an accumulator",
            Binding::OfOutput(_) => "a part of the output",
        }
    }
}

/// The names that are known, the innermost last.
pub struct Scopes(Vec<Vec<(String, Binding)>>);

impl Scopes {
    /// The parameters of a function, and names that were `reported` with them.
    pub fn of_parameters(signature: &Signature, reported: &[Ident]) -> Self {
        let (mut queries, mut keys, mut values) = (0.., 0.., 0..);
        let next = |counter: &mut std::ops::RangeFrom<usize>| counter.next().expect("a range without an end");
        let bind = |kind| match kind {
            ParameterKind::Query => Binding::Query(next(&mut queries)),
            ParameterKind::Key => Binding::Key(next(&mut keys)),
            ParameterKind::Value => Binding::Value(next(&mut values)),
            ParameterKind::Scalar(scalar) => Binding::Local(scalar.ty(), false),
            ParameterKind::Tensor(element, rank) => Binding::Tensor(element, rank),
            ParameterKind::Position => Binding::Local(ValueType::Int, false),
            ParameterKind::Score => Binding::Local(ValueType::Float, true),
            ParameterKind::Reported => Binding::Reported,
        };
        let names = signature.parameters.iter().map(|parameter| parameter.name.to_string());
        let reported = reported.iter().map(|name| (name.to_string(), Binding::Reported));
        let parameters = names.zip(signature.parameters.iter().map(|parameter| parameter.kind).map(bind));
        Scopes(vec![reported.chain(parameters).collect()])
    }

    /// How many blocks are around what is bound next, with that of the parameters.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// Which block `name` is bound in, from 1 for the parameters'.
    pub fn depth_of(&self, name: &impl ToString) -> Option<usize> {
        let name = name.to_string();
        self.0.iter().rposition(|scope| scope.iter().any(|(known, _)| *known == name)).map(|place| place + 1)
    }

    /// Begins a block.
    pub fn enter(&mut self) {
        self.0.push(Vec::new());
    }

    /// Ends a block.
    pub fn leave(&mut self) {
        self.0.pop();
    }

    /// Gives `name` a meaning in the innermost block.
    pub fn bind(&mut self, name: &impl ToString, binding: Binding) {
        self.0.last_mut().expect("the scope of the parameters").push((name.to_string(), binding));
    }

    /// What `name` stands for.
    pub fn find(&self, name: &impl ToString) -> Option<Binding> {
        let name = name.to_string();
        self.all().find(|(known, _)| *known == name).map(|(_, binding)| binding)
    }

    /// Whether `name` is a parameter.
    pub fn is_parameter(&self, name: &impl ToString) -> bool {
        let name = name.to_string();
        self.0[0].iter().any(|(parameter, _)| *parameter == name)
    }

    /// Every known name, the innermost first.
    pub fn all(&self) -> impl Iterator<Item = (&str, Binding)> {
        self.0.iter().rev().flat_map(|scope| scope.iter().rev()).map(|(name, binding)| (name.as_str(), *binding))
    }
}
