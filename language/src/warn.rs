//! Warns of predicates that are always true or always false.

use crate::constant::truth;
use crate::diagnostic::Diagnostic;
use crate::signature::Kind;
use crate::source::Source;
use crate::tree::{Body, CheckedAccumulator, KeyStep, Node, QueryStep, TypedLet, TypedValue};
use crate::types::ValueType;

/// The warnings of `body`, in the order in which they were found.
pub fn warnings(body: &Body) -> Vec<Diagnostic> {
    let mut warnings = Warnings::default();
    match body {
        Body::Value(Kind::Mask, value) => warnings.predicate(value, Effect::OnKeys),
        Body::Value(_, value) => warnings.masks(value, Effect::OnKeys),
        Body::Attention(attention) => {
            let pushes = |step: &QueryStep| match step {
                QueryStep::Loop(key_loop) => {
                    key_loop.steps.iter().filter(|step| matches!(step, KeyStep::Push(_))).count()
                }
                _ => 0,
            };
            let pushes: usize = attention.steps.iter().map(pushes).sum();
            let effect = if pushes == 1 { Effect::OnOutput } else { Effect::OnPush };
            for step in &attention.steps {
                match step {
                    QueryStep::Let(binding) => warnings.binding(binding),
                    QueryStep::Loop(key_loop) => {
                        for step in &key_loop.steps {
                            match step {
                                KeyStep::Let(binding) => warnings.binding(binding),
                                KeyStep::Push(push) => {
                                    warnings.masks(&push.score, effect);
                                    push.weight.iter().for_each(|weight| warnings.parts(weight));
                                }
                            }
                        }
                    }
                    QueryStep::Accumulator(_, CheckedAccumulator::Softmax(Some(sink))) => warnings.parts(sink),
                    QueryStep::Accumulator(..) => {}
                }
            }
            attention.outputs.iter().for_each(|output| warnings.parts(output));
        }
    }
    warnings.0
}

/// What a constant predicate does where it stands.
#[derive(Clone, Copy)]
enum Effect {
    /// It decides which keys are visible to the attention.
    OnOutput,
    /// It decides which keys one of several pushes sees.
    OnPush,
    /// It hides keys; what comes of that is decided elsewhere.
    OnKeys,
    /// It hides keys only if a branch is taken, for which a constant is the way to say it, or a function uses the score.
    Sometimes,
}

#[derive(Default)]
struct Warnings(Vec<Diagnostic>);

impl Warnings {
    fn push(&mut self, source: Source, message: &str) {
        self.0.push(Diagnostic { source, message: message.to_string(), help: None });
    }

    /// Looks for predicates of `mask(…)` in `value`, which is a score or a part of one.
    fn masks(&mut self, value: &TypedValue, effect: Effect) {
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
    fn predicate(&mut self, value: &TypedValue, effect: Effect) {
        let text = match (truth(value), effect) {
            (None, _) => return self.parts(value),
            (Some(_), Effect::Sometimes) => return,
            (Some(true), _) => "this predicate is always true: it hides no key",
            (Some(false), Effect::OnOutput) => {
                "this predicate is always false: no key is visible, and the output is zero"
            }
            (Some(false), Effect::OnPush) => "this predicate is always false: this push adds no key",
            (Some(false), Effect::OnKeys) => "this predicate is always false: it hides every key",
        };
        self.push(value.source, text);
    }

    /// Looks at the value of a `let`, of which a predicate or a score may be made.
    fn binding(&mut self, TypedLet { value, .. }: &TypedLet) {
        match (value.ty, &value.node) {
            // A constant that is given a name is meant.
            (ValueType::Bool, Node::Bool(_)) => {}
            (ValueType::Bool, _) => self.condition(value, ["", ""]),
            _ => self.masks(value, Effect::OnKeys),
        }
    }

    /// Looks at a part of a predicate; `means` says what comes of it if it is always false, or always true.
    fn condition(&mut self, value: &TypedValue, means: [&str; 2]) {
        match truth(value) {
            Some(truth) => {
                let means = means[usize::from(truth)];
                self.push(value.source, &format!("this condition is always {truth}{means}"));
            }
            None => self.parts(value),
        }
    }

    /// Looks at the operands of `&&` and `||`, and at the conditions of `if`, in a value that is not constant.
    fn parts(&mut self, value: &TypedValue) {
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
