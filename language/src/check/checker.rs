//! What checks a function: where it is, and what it knows there. Loops and blocks hold statements, statements values, and
//! values blocks, so its methods, which the other files of this folder add, call each other.

use crate::ast::{self, Block, Expression, Over, Statement};
use crate::check::presence::Needs;
use crate::check::scopes::{Binding, Scopes};
use crate::diagnostic::Diagnostics;
use crate::parse::Parsed;
use crate::signature::{DeclaredParameter, ParameterKind, Signature};
use crate::source::Source;
use crate::tree::{CheckedOperand, CheckedRole, Node, TypedValue};
use crate::types::ValueType;
use crate::uses::Uses;
use proc_macro2::Ident;

/// The loop over keys that is being checked.
pub struct Current {
    /// The key parameter's place among the keys.
    pub key: usize,
    pub variable: Ident,
    /// The depth of the scope of its body.
    pub depth: usize,
    /// The places, among the operands, of the queries and keys of each of its products.
    pub dots: Vec<(usize, usize)>,
}

/// An accumulator that was declared.
pub struct DeclaredAccumulator {
    pub name: Ident,
    pub is_softmax: bool,
    pub is_pushed: bool,
    /// Whether something is made of its result.
    pub is_used: bool,
}

pub struct Checker<'a> {
    pub errors: &'a Diagnostics,
    pub signature: &'a Signature,
    pub uses: &'a Uses,
    pub scopes: Scopes,
    /// The variable of every loop and its head, to tell a misplaced variable from an unknown one.
    pub loops: Vec<(String, String)>,
    /// The variable of the loop over the queries.
    pub query_variable: Option<Ident>,
    pub current: Option<Current>,
    /// The place of the value parameter that goes with each key parameter.
    pub pairs: Vec<Option<usize>>,
    pub needs: Needs,
    /// The variables that are exponentials, and of what.
    pub exponentials: Vec<(String, Expression)>,
    /// The accumulators that were declared so far.
    pub accumulators: Vec<DeclaredAccumulator>,
    /// How many are declared in all.
    pub accumulator_count: usize,
    /// How many of the loops over keys are not checked yet.
    pub loops_left: usize,
    /// Keys and then values, each with one that is in the same set as it.
    sets: Vec<usize>,
    /// The variables that have a mask in them.
    pub masked: Vec<String>,
}

impl<'a> Checker<'a> {
    pub fn new(function: &'a Parsed, errors: &'a Diagnostics) -> Self {
        let signature = &function.signature;
        let mut loops = Vec::new();
        find_loops(&function.body, &mut loops);
        Checker {
            errors,
            signature,
            uses: &function.uses,
            scopes: Scopes::of_parameters(signature, &function.reported),
            loops,
            query_variable: None,
            current: None,
            pairs: vec![None; signature.of_kind(ParameterKind::Key).count()],
            needs: Needs::of(signature, function.uses.takes_leading()),
            exponentials: Vec::new(),
            accumulators: Vec::new(),
            accumulator_count: 0,
            loops_left: 0,
            sets: (0..signature.of_kind(ParameterKind::Key).chain(signature.of_kind(ParameterKind::Value)).count())
                .collect(),
            masked: Vec::new(),
        }
    }

    /// The parameters that lie along queries and keys, in order.
    fn operands(&self) -> impl Iterator<Item = &'a DeclaredParameter> {
        let is_operand = |kind| matches!(kind, ParameterKind::Query | ParameterKind::Key | ParameterKind::Value);
        self.signature.parameters.iter().filter(move |parameter| is_operand(parameter.kind))
    }

    /// The place among the operands of the parameter of a kind at `place` among those.
    pub fn operand(&self, kind: ParameterKind, place: usize) -> usize {
        let places = self.operands().enumerate().filter(|(_, parameter)| parameter.kind == kind);
        places.map(|(operand, _)| operand).nth(place).unwrap_or_default()
    }

    /// The place of values in the list of sets.
    fn of_values(&self, value: usize) -> usize {
        self.needs.keys.len() + value
    }

    fn representative(&self, mut member: usize) -> usize {
        while self.sets[member] != member {
            member = self.sets[member];
        }
        member
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.representative(a), self.representative(b));
        self.sets[a.max(b)] = a.min(b);
    }

    /// Remembers that two keys are of one set.
    pub fn join_keys(&mut self, key: usize, other: usize) {
        self.join(key, other);
    }

    /// Remembers that values are of a set.
    pub fn join_values(&mut self, key: usize, value: usize) {
        let value = self.of_values(value);
        self.join(key, value);
    }

    /// The number of the set that keys are of.
    pub fn set_of_key(&self, key: usize) -> usize {
        let first = self.representative(key);
        // Each set is known by its first keys.
        (0..first).filter(|other| self.representative(*other) == *other).count()
    }

    /// The operands and what each is, when all sets are known.
    pub fn roles(&self) -> Vec<CheckedOperand> {
        let (mut keys, mut values) = (0.., self.needs.keys.len()..);
        let operands = self.operands().map(|parameter| {
            let role = match parameter.kind {
                ParameterKind::Query => CheckedRole::Query,
                ParameterKind::Key => CheckedRole::Key(self.set_of_key(keys.next().unwrap_or_default())),
                // Of values that nothing uses, which were reported, there is no set.
                _ => CheckedRole::Value(self.set_of_key(self.representative(values.next().unwrap_or_default()))),
            };
            CheckedOperand { name: parameter.name.clone(), role }
        });
        operands.collect()
    }

    /// Whether `name` is an accumulator that takes exponentials.
    pub fn is_softmax(&self, name: &Ident) -> bool {
        self.accumulators.iter().any(|accumulator| accumulator.name == *name && accumulator.is_softmax)
    }

    /// The name of the first accumulator.
    pub fn accumulator_name(&self) -> String {
        self.accumulators.first().map_or("o".to_string(), |accumulator| accumulator.name.to_string())
    }

    /// Whether the statement that is being checked is in a loop over keys.
    pub fn in_key_loop(&self) -> bool {
        self.current.is_some()
    }

    fn name_of(&self, kind: ParameterKind, place: usize, otherwise: &str) -> String {
        let mut parameters = self.signature.of_kind(kind);
        parameters.nth(place).map_or(otherwise.to_string(), |parameter| parameter.name.to_string())
    }

    pub fn query_name(&self) -> String {
        self.name_of(ParameterKind::Query, 0, "q")
    }

    pub fn key_name(&self, place: usize) -> String {
        self.name_of(ParameterKind::Key, place, "k")
    }

    pub fn value_name(&self, place: usize) -> String {
        self.name_of(ParameterKind::Value, place, "v")
    }

    /// A value that was reported.
    pub fn reported(&self, source: Source) -> TypedValue {
        TypedValue { node: Node::Reported, ty: ValueType::Reported, score: false, source }
    }

    /// Makes the variable of a loop known.
    pub fn bind_loop(&mut self, variable: &Ident, binding: Binding) {
        let taken = self.scopes.find(variable);
        if self.scopes.is_parameter(variable) || matches!(taken, Some(Binding::QueryTile | Binding::Accumulator(_))) {
            let what = taken
                .map_or("a parameter", |_| if self.scopes.is_parameter(variable) { "a parameter" } else { "in use" });
            let message = format!("the variable of a loop can't be named `{variable}`: that is {what}");
            let name = if binding == Binding::QueryTile { "i" } else { "j" };
            let name = if self.scopes.find(&name).is_none() { name } else { "position" };
            self.errors.push(variable.span(), message, format!("rename it, such as `{name}`"));
            return self.scopes.bind(variable, Binding::Reported);
        }
        self.scopes.bind(variable, binding);
    }
}

/// The variable and the head of every loop in `block`.
fn find_loops(block: &Block, loops: &mut Vec<(String, String)>) {
    for statement in &block.statements {
        if let Statement::Loop(found) = statement {
            find_loop(found, loops);
        }
    }
}

/// The variable and the head of `found` and of every loop in it.
pub fn find_loop(found: &ast::Loop, loops: &mut Vec<(String, String)>) {
    let variable = &found.head.variable;
    if let Over::Tiles(over) = &found.head.over {
        loops.push((variable.to_string(), format!("for {variable} in {over}.tiles()")));
    }
    find_loops(&found.body, loops);
}
