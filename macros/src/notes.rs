//! Warns of predicates that are always true or always false.
//!
//! A macro on stable Rust can report errors but no warnings. rustc itself warns where something deprecated is used, at the
//! tokens of the use and with a text of our choice, so a note is expanded to such a use:
//!
//! ```text
//! {
//!     struct Predicate(#[deprecated(note = "this predicate is always true: it hides no key")] ());
//!     let _ = Predicate(()).0;
//! }
//! ```
//!
//! It is a field, because rustc marks all of `Predicate(()).0` for a field, and only the last name for a path: with the span
//! of the predicate's first token on `Predicate` and of the last on `0`, that is the predicate. The field has no name, so
//! that making the struct is no second use. The lint is `deprecated`, which a user silences or denies as any other.

use crate::ast::Kind;
use crate::constant::truth;
use crate::error::Source;
use crate::typed::{Body, KeyLoop, Let, Node, Step, Value};
use crate::types::Type;
use proc_macro2::{Ident, Literal, TokenStream};
use quote::quote;

/// Statements that rustc warns of, one for each note on `body`.
pub fn statements(body: &Body) -> TokenStream {
    let mut notes = Notes::default();
    match body {
        Body::Value(Kind::Mask, value) => notes.predicate(value, Effect::OnKeys),
        Body::Value(_, value) => notes.masks(value, Effect::OnKeys),
        Body::Attention(attention) => {
            let loops = attention.steps.iter().filter(|step| matches!(step, Step::Loop(_))).count();
            let effect = if loops == 1 { Effect::OnOutput } else { Effect::OnLoop };
            for step in &attention.steps {
                match step {
                    Step::Let(binding) => notes.binding(binding),
                    Step::Loop(KeyLoop { lets, score, .. }) => {
                        lets.iter().for_each(|binding| notes.binding(binding));
                        notes.masks(score, effect);
                    }
                    // Nothing is hidden by these.
                    Step::Softmax(_) | Step::Sum | Step::Mean => {}
                }
            }
        }
    }
    notes.0
}

/// What a constant predicate does where it stands.
#[derive(Clone, Copy)]
enum Effect {
    /// It decides which keys are visible to the attention.
    OnOutput,
    /// It decides which keys of one of several loops are visible.
    OnLoop,
    /// It hides keys; what comes of that is decided elsewhere.
    OnKeys,
    /// It hides keys only if a branch is taken, for which a constant is the way to say it, or a function uses the score.
    Sometimes,
}

/// The statements, in the order in which they were found.
#[derive(Default)]
struct Notes(TokenStream);

impl Notes {
    fn push(&mut self, Source { start, end }: Source, text: &str) {
        let name = Ident::new("Predicate", start);
        let mut field = Literal::usize_unsuffixed(0);
        field.set_span(end);
        self.0.extend(quote! {{
            struct Predicate(#[deprecated(note = #text)] ());
            let _ = #name(()).#field;
        }});
    }

    /// Looks for predicates of `mask(…)` in `value`, which is a score or a part of one.
    fn masks(&mut self, value: &Value, effect: Effect) {
        match &value.node {
            Node::Lang { function: "mask", operands, .. } => {
                let [score, visible] = &operands[..] else { unreachable!("`mask` has two operands") };
                self.masks(score, effect);
                self.predicate(visible, effect);
            }
            Node::Lang { function: "select", operands, .. } | Node::Call(_, operands, _) => {
                operands.iter().for_each(|operand| self.masks(operand, Effect::Sometimes));
            }
            Node::Block(lets, tail) => {
                lets.iter().for_each(|binding| self.binding(binding));
                self.masks(tail, effect);
            }
            Node::Lang { operands, .. } => {
                operands.iter().for_each(|operand| self.masks(operand, effect));
            }
            _ => {}
        }
    }

    /// Looks at a whole predicate.
    fn predicate(&mut self, value: &Value, effect: Effect) {
        let text = match (truth(value), effect) {
            (None, _) => return self.parts(value),
            (Some(_), Effect::Sometimes) => return,
            (Some(true), _) => "this predicate is always true: it hides no key",
            (Some(false), Effect::OnOutput) => {
                "this predicate is always false: no key is visible, and the output is zero"
            }
            (Some(false), Effect::OnLoop) => "this predicate is always false: no key of this loop is visible",
            (Some(false), Effect::OnKeys) => "this predicate is always false: it hides every key",
        };
        self.push(value.source, text);
    }

    /// Looks at the value of a `let`, of which a predicate or a score may be made.
    fn binding(&mut self, Let { value, .. }: &Let) {
        match (value.ty, &value.node) {
            // A constant that is given a name is meant.
            (Type::Bool, Node::Bool(_)) => {}
            (Type::Bool, _) => self.condition(value, ["", ""]),
            _ => self.masks(value, Effect::OnKeys),
        }
    }

    /// Looks at a part of a predicate; `means` says what comes of it if it is always false, or always true.
    fn condition(&mut self, value: &Value, means: [&str; 2]) {
        match truth(value) {
            Some(truth) => {
                let means = means[usize::from(truth)];
                self.push(value.source, &format!("this condition is always {truth}{means}"));
            }
            None => self.parts(value),
        }
    }

    /// Looks at the operands of `&&` and `||`, and at the conditions of `if`, in a value that is not constant.
    fn parts(&mut self, value: &Value) {
        match &value.node {
            Node::Lang { function: "and" | "or", operands, .. } => {
                for operand in operands {
                    self.condition(operand, [": it can be left out"; 2]);
                }
            }
            Node::Lang { function: "select", operands, .. } => {
                let [test, branches @ ..] = &operands[..] else { unreachable!("`select` has operands") };
                self.condition(test, [": the `else` is always taken", ": the `else` is never taken"]);
                branches.iter().for_each(|branch| self.parts(branch));
            }
            Node::Block(lets, tail) => {
                lets.iter().for_each(|binding| self.binding(binding));
                self.parts(tail);
            }
            Node::Lang { operands, .. } | Node::Load(_, operands) | Node::Call(_, operands, _) => {
                operands.iter().for_each(|operand| self.parts(operand));
            }
            _ => {}
        }
    }
}
