//! Checks calls of functions, of the language and of the user.

use crate::ast::{Binary, ExprKind, Expression};
use crate::check::checker::Checker;
use crate::check::scopes::Binding;
use crate::check::tiles::OperandTile;
use crate::foreign;
use crate::names::{self, Builtin, BuiltinOperands};
use crate::signature::Kind;
use crate::source::Source;
use crate::tree::{Node, TypedValue};
use crate::types::ValueType;
use proc_macro2::{Ident, Span};

impl Checker<'_> {
    /// The value of a call of `builtin`, whose name is `token`.
    pub fn builtin(&mut self, builtin: Builtin, token: Span, arguments: &[Expression], source: Source) -> TypedValue {
        let Builtin { name, operands, usage } = builtin;
        let expected = operands.count();
        let counted = arguments.len() == expected;
        if !counted {
            let plural = if expected == 1 { "" } else { "s" };
            let message = format!("`{name}` takes {expected} argument{plural}, found {}", arguments.len());
            let token = arguments.get(expected).map_or(token.into(), |extra| extra.source);
            self.errors.push(token, message, format!("write `{usage}`"));
        }
        if operands == BuiltinOperands::Tiles {
            if self.signature.kind != Kind::Attention {
                let message = "`dot` belongs in a loop of an attention";
                self.errors.push(token, message, "take the product as a parameter: `s: Score`");
            }
            let is_attention = self.signature.kind == Kind::Attention;
            let place = if is_attention && counted { self.dot(token, arguments) } else { 0 };
            return TypedValue { node: Node::Dot(place, token), ty: ValueType::Float, score: true, source };
        }
        if name == "kv_len" && self.signature.kind == Kind::Attention && !self.in_key_loop() {
            self.length_of_several(token);
        }
        if operands == BuiltinOperands::Mask && self.signature.kind == Kind::Attention && !self.in_key_loop() {
            let message = "`mask` hides keys, and belongs in a loop over keys";
            let push =
                format!("{}.push(mask(s, visible), {})", self.accumulator_name(), self.tile_text(OperandTile::Values));
            self.errors.push(token, message, format!("write it where the score is pushed: `{push};`"));
        }
        let values: Vec<(TypedValue, &Expression)> = match (operands, arguments) {
            (BuiltinOperands::Floats(_), _) => {
                arguments.iter().map(|argument| (self.value_as(argument, ValueType::Float), argument)).collect()
            }
            (BuiltinOperands::Ints(_), _) => {
                arguments.iter().map(|argument| (self.value_as(argument, ValueType::Int), argument)).collect()
            }
            (BuiltinOperands::Mask, [score, visible]) => {
                vec![
                    (self.value_as(score, ValueType::Float), score),
                    (self.value_as(visible, ValueType::Bool), visible),
                ]
            }
            (BuiltinOperands::Numbers(_), [a, b, rest @ ..]) => {
                let (first, second) = self.value_pair(a, b);
                let ty = first.ty;
                let rest: Vec<_> = rest.iter().map(|argument| (self.value_as(argument, ty), argument)).collect();
                [(first, a), (second, b)].into_iter().chain(rest).collect()
            }
            // What is too many was reported.
            (BuiltinOperands::None(_), _) => Vec::new(),
            _ => arguments.iter().map(|argument| (self.value(argument), argument)).collect(),
        };
        if !counted {
            let ty = match operands {
                BuiltinOperands::None(ty) => ty,
                BuiltinOperands::Ints(_) => ValueType::Int,
                BuiltinOperands::Numbers(_) => ValueType::Reported,
                _ => ValueType::Float,
            };
            return TypedValue { ty, ..self.reported(source) };
        }
        match operands {
            BuiltinOperands::None(ty) => TypedValue::lang(name, token, Vec::new(), ty, source),
            BuiltinOperands::Floats(_) => {
                let values = values.into_iter().map(|(value, expr)| match whole_integer(name, &value, expr) {
                    Some(help) => {
                        self.errors.push(expr.source, "expected float, found integer", help);
                        self.reported(value.source)
                    }
                    None => self.expect(value, ValueType::Float, expr),
                });
                let values = values.collect();
                TypedValue::lang(name, token, values, ValueType::Float, source)
            }
            BuiltinOperands::Ints(_) => {
                let values = values.into_iter().map(|(value, expr)| self.expect(value, ValueType::Int, expr)).collect();
                let mut value = TypedValue::lang(name, token, values, ValueType::Int, source);
                value.locate_integer();
                value
            }
            BuiltinOperands::Numbers(_) => {
                let (mut values, ty) = self.same_number(values, "");
                if name != "clamp" {
                    let mut value = TypedValue::lang(name, token, values, ty, source);
                    value.locate_integer();
                    return value;
                }
                let high = values.pop().expect("three operands");
                TypedValue::lang(
                    "min",
                    token,
                    vec![TypedValue::lang("max", token, values, ty, source), high],
                    ty,
                    source,
                )
            }
            BuiltinOperands::Mask => {
                let [(score, score_expr), (visible, visible_expr)] =
                    <[_; 2]>::try_from(values).ok().expect("two operands");
                if score.ty == ValueType::Bool && visible.ty == ValueType::Float {
                    let message = "`mask` takes the score first, then what is visible";
                    let help = format!("write `mask({visible_expr}, {score_expr})`");
                    self.errors.push(
                        Source { start: score_expr.source.start, end: visible_expr.source.end },
                        message,
                        help,
                    );
                    return TypedValue { ty: ValueType::Float, ..self.reported(source) };
                }
                let operands = vec![
                    self.expect(score, ValueType::Float, score_expr),
                    self.expect(visible, ValueType::Bool, visible_expr),
                ];
                let mut value = TypedValue::lang("mask", token, operands, ValueType::Float, source);
                value.score = true;
                value.locate();
                value
            }
            BuiltinOperands::Tiles => unreachable!("returned above"),
        }
    }

    /// Reports `kv_len()` outside of the loops over keys, where those are over several keys.
    fn length_of_several(&self, token: Span) {
        let [first, others @ ..] = self.uses.looped() else { return };
        if others.iter().all(|other| other == first) {
            return;
        }
        let message = "`kv_len()` is how many keys a loop has, and there are loops over several";
        let help = format!("write it in the loop that it is of, such as `for j in {first}.tiles() {{ … }}`");
        self.errors.push(token, message, help);
    }

    /// The value of a call of the user's function `path`.
    pub fn call(&mut self, path: &syn::Path, arguments: &[Expression], source: Source) -> TypedValue {
        let mut similar = None;
        if let Some(name) = path.get_ident() {
            if let Some(binding) = self.scopes.find(name) {
                if matches!(binding, Binding::Reported | Binding::Local(ValueType::Reported, _)) {
                    return self.reported(source);
                }
                let message = format!("`{name}` is {}, not a function", binding.description());
                self.errors.push(name.span(), message, format!("write `{name}`, or rename it"));
                return self.reported(source);
            }
            if *name == self.signature.name {
                let message = format!("`{name}` calls itself");
                self.errors.push(name.span(), message, "write the value without the call");
                return self.reported(source);
            }
            if let Some(help) = foreign::help(&name.to_string(), arguments, |argument| self.is_predicate(argument)) {
                // What the help leaves out needs no error of its own.
                let arguments = arguments.iter().filter(|argument| !argument.is_infinite());
                let values: Vec<TypedValue> = arguments.map(|argument| self.argument(argument, name)).collect();
                self.errors.push(name.span(), format!("the language has no function `{name}`"), help);
                let score = values.iter().any(|value| value.score);
                return TypedValue { score, ..self.reported(source) };
            }
            similar = names::nearest_builtin(&name.to_string()).map(|builtin| builtin.name);
        }
        let function = &path.segments.last().expect("a path has a segment").ident;
        let arguments: Vec<TypedValue> = arguments.iter().map(|argument| self.argument(argument, function)).collect();
        let score = arguments.iter().any(|argument| argument.score);
        TypedValue { node: Node::Call(path.clone(), arguments, similar), ty: ValueType::Unknown, score, source }
    }

    /// An argument of the user's `function`: a value, or a captured tensor.
    fn argument(&mut self, expr: &Expression, function: &Ident) -> TypedValue {
        match &expr.kind {
            ExprKind::Name(name) if self.is_unknown(expr) => {
                self.unknown_argument(name, &function.to_string());
                self.reported(expr.source)
            }
            ExprKind::Name(name) if matches!(self.scopes.find(name), Some(Binding::Tensor(..))) => TypedValue {
                node: Node::Tensor(name.clone()),
                ty: ValueType::Unknown,
                score: false,
                source: expr.source,
            },
            _ => self.value(expr),
        }
    }
}

/// What to write for `expr`, an integer that `function` would make whole: it is so already.
fn whole_integer(function: &str, value: &TypedValue, expr: &Expression) -> Option<String> {
    if value.ty != ValueType::Int || !matches!(function, "floor" | "ceil" | "round") {
        return None;
    }
    Some(match (&expr.inner().kind, function) {
        (ExprKind::Binary(Binary::Div, _, a, b), "floor") => {
            format!("write `{} / {}`: of integers, it rounds down", a.operand(), b.operand())
        }
        (ExprKind::Binary(Binary::Div, _, a, b), "ceil") => {
            let (a, b) = (a.operand(), b.operand());
            format!("of integers, write `({a} + {b} - 1) / {b}`")
        }
        (ExprKind::Binary(Binary::Div, _, a, b), _) => {
            let float = |expr: &Expression| match expr.inner().kind {
                ExprKind::Int(_) => expr.as_float(),
                _ => format!("{} as f32", expr.operand()),
            };
            format!("write `round({} / {})`: of integers, `/` rounds down", float(a), float(b))
        }
        _ => format!("an integer is whole: write `{}`", expr.inner()),
    })
}
