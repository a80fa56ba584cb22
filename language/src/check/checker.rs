//! What checks a function: where it is, and what it knows there. Loops and blocks hold statements, statements values, and
//! values blocks, so its methods, which the other files of this folder add, call each other.

use crate::ast::{self, Block, Expression, Over, Statement};
use crate::check::presence::Needs;
use crate::check::scopes::{Binding, Scopes};
use crate::diagnostic::Diagnostics;
use crate::parse::Parsed;
use crate::signature::{ParameterKind, Signature};
use crate::source::Source;
use crate::tree::{Node, TypedValue};
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
    /// Whether the accumulator is a `Softmax`.
    pub is_softmax: bool,
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
            needs: Needs::of(signature),
            exponentials: Vec::new(),
            is_softmax: false,
        }
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
        if self.scopes.is_parameter(variable) || matches!(taken, Some(Binding::QueryTile | Binding::Accumulator)) {
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
