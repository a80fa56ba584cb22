//! Reads expressions, and reports those of Rust that the language has not.

use crate::ast::{Binary, ExprKind, Expression, Unary};
use crate::foreign;
use crate::names;
use crate::parse::parameters::scalar_like;
use crate::parse::parser::BodyParser;
use crate::source::Source;
use crate::types::ValueType;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{BinOp, Lit, UnOp};

impl BodyParser<'_> {
    /// The expression that `expr` is.
    pub fn expr(&self, expr: &syn::Expr) -> Expression {
        let kind = match expr {
            syn::Expr::Lit(literal) => self.literal(literal, false),
            syn::Expr::Path(path) => match path.path.get_ident() {
                Some(name) if path.qself.is_none() => ExprKind::Name(name.clone()),
                _ => self.path(path),
            },
            syn::Expr::Paren(paren) => ExprKind::Paren(Box::new(self.expr(&paren.expr))),
            syn::Expr::Group(group) => return self.expr(&group.expr),
            syn::Expr::Unary(unary) => self.unary(unary),
            syn::Expr::Binary(binary) => self.binary(binary),
            syn::Expr::Cast(cast) => self.cast(cast),
            syn::Expr::Index(index) => self.index(index),
            syn::Expr::If(branch) => self.branch(branch),
            syn::Expr::Block(block) if block.label.is_none() => ExprKind::Block(self.block(&block.block)),
            syn::Expr::Call(call) => self.call(call),
            syn::Expr::MethodCall(call) => return self.method(call),
            other => self.unsupported_expr(other),
        };
        Expression { kind, source: Source::of(expr) }
    }

    /// A path of more than one name: a number of Rust's standard library, or a constant.
    fn path(&self, path: &syn::ExprPath) -> ExprKind {
        let text = path_text(&path.path);
        let of_standard = ["f32::consts::", "f32::MAX", "f32::MIN", "f32::EPSILON", "i32::MAX", "i32::MIN"];
        if of_standard.iter().any(|known| text.contains(known)) && path.qself.is_none() {
            return ExprKind::Constant(path.path.clone());
        }
        let last = path.path.segments.last().map_or(String::new(), |segment| segment.ident.to_string());
        let number = match (text.trim_start_matches("std::").trim_start_matches("core::"), last.as_str()) {
            (text, "INFINITY") if text.starts_with("f") => return ExprKind::Float(f32::INFINITY),
            (text, "NEG_INFINITY") if text.starts_with("f") => return ExprKind::Float(f32::NEG_INFINITY),
            (_, last) if text.contains("f64::consts::") => Some(format!("std::f32::consts::{last}")),
            ("f64::MAX", _) => Some("f32::MAX".to_string()),
            ("f64::MIN", _) => Some("f32::MIN".to_string()),
            ("u32::MAX" | "usize::MAX" | "i64::MAX" | "u64::MAX", _) => Some("i32::MAX".to_string()),
            ("i64::MIN", _) => Some("i32::MIN".to_string()),
            (_, last) if names::is_constant(last) && path.qself.is_none() && !is_elsewhere(&first_of(&path.path)) => {
                return ExprKind::Constant(path.path.clone());
            }
            _ => None,
        };
        let help = match number {
            Some(number) => format!("write `{number}`"),
            None => {
                let parameter = names::parameter_name(&last);
                format!("add a parameter, such as `{parameter}: f32` or `{parameter}: u32`, and give it `{text}`")
            }
        };
        self.report(Source::of(path), format!("expected a variable, found the path `{text}`"), help)
    }

    fn literal(&self, literal: &syn::ExprLit, negative: bool) -> ExprKind {
        let source = Source::of(literal);
        let text = literal.lit.to_token_stream().to_string();
        match &literal.lit {
            Lit::Int(int) if int.suffix() == "f32" => match int.base10_parse::<f32>() {
                Ok(value) => ExprKind::Float(value),
                Err(_) => self.report(source, "expected a float", "write `1.0`"),
            },
            Lit::Int(int) if !matches!(int.suffix(), "" | "i32" | "u32") => {
                let message = format!("`{}` is not a type of the language: integers are `i32`", int.suffix());
                self.report(source, message, format!("write `{}`", int.base10_digits()))
            }
            Lit::Int(int) => {
                match int.base10_digits().parse::<i64>().map(|value| if negative { -value } else { value }) {
                    Ok(value) if i32::try_from(value).is_ok() => ExprKind::Int(value as i32),
                    _ => {
                        let message = format!("the integer `{text}` does not fit in 32 bits, with a sign");
                        self.report(source, message, format!("write at most `{}`", i32::MAX))
                    }
                }
            }
            Lit::Float(float) if matches!(float.suffix(), "" | "f32") => match float.base10_parse::<f32>() {
                Ok(value) if value.is_finite() => ExprKind::Float(value),
                _ => {
                    let message = format!("the float `{text}` does not fit in an `f32`");
                    self.report(source, message, format!("write at most `{:?}`", f32::MAX))
                }
            },
            Lit::Float(float) => {
                let message = format!("`{}` is not a type of the language: floats are `f32`", float.suffix());
                self.report(source, message, format!("write `{}`", float.base10_digits()))
            }
            Lit::Bool(value) => ExprKind::Bool(value.value),
            Lit::Str(_) | Lit::ByteStr(_) | Lit::CStr(_) => {
                self.unsupported(source, "strings", "write an integer, a float, `true` or `false`")
            }
            _ => self.unsupported(source, "characters", "write an integer, a float, `true` or `false`"),
        }
    }

    fn unary(&self, unary: &syn::ExprUnary) -> ExprKind {
        let is_integer = |literal: &Lit| matches!(literal, Lit::Int(integer) if integer.suffix() != "f32");
        match (&unary.op, &*unary.expr) {
            // The smallest integer has no positive counterpart.
            (UnOp::Neg(_), syn::Expr::Lit(literal)) if is_integer(&literal.lit) => self.literal(literal, true),
            (UnOp::Neg(_), operand) => ExprKind::Unary(Unary::Neg, Box::new(self.expr(operand))),
            (UnOp::Not(_), operand) => ExprKind::Unary(Unary::Not, Box::new(self.expr(operand))),
            (_, operand) => {
                let operand = self.expr(operand);
                self.unsupported(unary.op.span().into(), "references", format!("write `{operand}`"))
            }
        }
    }

    fn binary(&self, binary: &syn::ExprBinary) -> ExprKind {
        // Python's `a ** b`, which Rust reads as a product with what `b` refers to.
        if let (BinOp::Mul(_), syn::Expr::Unary(syn::ExprUnary { op: syn::UnOp::Deref(_), expr, .. })) =
            (&binary.op, &*binary.right)
        {
            let (base, exponent) = (self.expr(&binary.left), self.expr(expr));
            let help = format!("write `pow({base}, {})`", exponent.as_float());
            return self.report(Source::of(&binary.op), "the language has no operator `**`", help);
        }
        let (a, b) = (Box::new(self.expr(&binary.left)), Box::new(self.expr(&binary.right)));
        let source = Source::of(&binary.op);
        let op = match binary.op {
            BinOp::Add(_) => Binary::Add,
            BinOp::Sub(_) => Binary::Sub,
            BinOp::Mul(_) => Binary::Mul,
            BinOp::Div(_) => Binary::Div,
            BinOp::Rem(_) => Binary::Rem,
            BinOp::Lt(_) => Binary::Lt,
            BinOp::Le(_) => Binary::Le,
            BinOp::Gt(_) => Binary::Gt,
            BinOp::Ge(_) => Binary::Ge,
            BinOp::Eq(_) => Binary::Eq,
            BinOp::Ne(_) => Binary::Ne,
            BinOp::And(_) => Binary::And,
            BinOp::Or(_) => Binary::Or,
            BinOp::BitAnd(_) => Binary::BitAnd,
            BinOp::BitOr(_) => Binary::BitOr,
            BinOp::BitXor(_) => Binary::BitXor,
            BinOp::Shl(_) => Binary::Shl,
            BinOp::Shr(_) => Binary::Shr,
            // The rest are `+=` and the like, in an expression.
            op => {
                let text = op.to_token_stream().to_string();
                let help = "an assignment has no value: write a `let` before this line";
                return self.unsupported(source, &format!("the assignment `{text}`"), help);
            }
        };
        ExprKind::Binary(op, source.start, a, b)
    }

    fn cast(&self, cast: &syn::ExprCast) -> ExprKind {
        let operand = self.expr(&cast.expr);
        let text = cast.ty.to_token_stream().to_string();
        match text.as_str() {
            "f32" => ExprKind::Cast(Box::new(operand), ValueType::Float),
            "i32" => ExprKind::Cast(Box::new(operand), ValueType::Int),
            "bool" => self.report(
                Source::of(&cast.ty),
                "a cast gives an `f32` or an `i32`",
                format!("write `{} != 0`", operand.operand()),
            ),
            _ => self.report(
                Source::of(&cast.ty),
                "a cast gives an `f32` or an `i32`",
                format!("write `{} as {}`", operand.operand(), scalar_like(&text).replace("u32", "i32")),
            ),
        }
    }

    /// `tile[..end]`, of which `range` is in the brackets.
    fn leading(&self, index: &syn::ExprIndex, range: &syn::ExprRange) -> ExprKind {
        let tile = self.expr(&index.expr);
        let end = range.end.as_ref().map(|end| self.expr(end));
        let is_zero = |start: &syn::Expr| matches!(start, syn::Expr::Lit(literal) if matches!(&literal.lit, Lit::Int(int) if int.base10_digits() == "0"));
        let included = matches!(range.limits, syn::RangeLimits::Closed(_));
        let text = match end {
            Some(end) if range.start.is_none() && !included => {
                return ExprKind::Leading(Box::new(tile), Box::new(end));
            }
            Some(end) if range.start.as_ref().is_none_or(|start| is_zero(start)) => match (&end.inner().kind, included)
            {
                (ExprKind::Int(last), true) => (i64::from(*last) + 1).to_string(),
                _ => end.to_string(),
            },
            _ => "64".to_string(),
        };
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let one_more = if included && !is_number { format!(", where `{text}` is one more") } else { String::new() };
        let (source, message) = (Source::of(range), "of each row only the first elements can be taken");
        let kind = self.report(source, message, format!("write `{tile}[..{text}]`{one_more}"));
        ExprKind::Leading(Box::new(tile), Box::new(Expression { kind, source }))
    }

    fn index(&self, index: &syn::ExprIndex) -> ExprKind {
        if let (syn::Expr::Range(range), syn::Expr::Index(_)) = (&*index.index, &*index.expr) {
            return self.leading(index, range);
        }
        let (mut base, mut indices) = (index, Vec::new());
        let name = loop {
            let several = match &*base.index {
                syn::Expr::Tuple(tuple) => Some(&tuple.elems),
                syn::Expr::Array(array) => Some(&array.elems),
                _ => None,
            };
            match several {
                Some(elements) => {
                    let mut elements: Vec<Expression> = elements.iter().map(|element| self.expr(element)).collect();
                    let text: String = elements.iter().map(|element| format!("[{element}]")).collect();
                    self.errors.push(
                        Source::of(&base.index),
                        "an index is one integer in brackets of its own",
                        format!("write `{}{text}`", base.expr.to_token_stream()),
                    );
                    elements.reverse();
                    indices.extend(elements);
                }
                None => indices.push(self.expr(&base.index)),
            }
            match &*base.expr {
                syn::Expr::Index(inner) => base = inner,
                syn::Expr::Path(path) if path.path.get_ident().is_some() => break path.path.get_ident().cloned(),
                _ => break None,
            }
        };
        indices.reverse();
        match name {
            Some(name) => ExprKind::Index(name, indices),
            None => {
                self.expr(&base.expr);
                self.report(
                    Source::of(&base.expr),
                    "only a tensor can be indexed, by its name",
                    "take it as a parameter, such as `slope: Tensor<f32, 1>`, and write `slope[head()]`",
                )
            }
        }
    }

    fn branch(&self, branch: &syn::ExprIf) -> ExprKind {
        if let syn::Expr::Let(condition) = &*branch.cond {
            return self.unsupported(
                condition.let_token.span().into(),
                "`if let`",
                "write a condition: `if i == j { … }`",
            );
        }
        let condition = Box::new(self.expr(&branch.cond));
        let then = self.block(&branch.then_branch);
        let otherwise = branch.else_branch.as_ref().map(|(_, otherwise)| Box::new(self.expr(otherwise)));
        ExprKind::If(condition, then, otherwise)
    }

    fn arguments(&self, arguments: &syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>) -> Vec<Expression> {
        arguments.iter().map(|argument| self.expr(argument)).collect()
    }

    fn call(&self, call: &syn::ExprCall) -> ExprKind {
        let arguments = self.arguments(&call.args);
        let path = match &*call.func {
            syn::Expr::Path(path) if path.qself.is_none() => &path.path,
            other => {
                let help = "call a function by its name, such as `causal(i, j)`";
                return self.report(Source::of(other), "expected the name of a function", help);
            }
        };
        if let Some(name) = path.get_ident()
            && let Some(builtin) = names::find(&name.to_string())
        {
            return ExprKind::Builtin(builtin, name.span(), arguments);
        }
        let first = path.segments[0].ident.to_string();
        let last = path.segments.last().expect("a path has a segment").ident.to_string();
        if path.segments.len() == 2 && names::ACCUMULATORS.contains(&first.as_str()) {
            let help = format!("write `let mut o = {first}::{last}(…);` in the loop over the queries");
            return self.report(Source::of(path), format!("the accumulator `{first}` is not a value"), help);
        }
        if path.segments.len() > 1 && is_elsewhere(&first) {
            let texts: Vec<String> = arguments.iter().map(Expression::to_string).collect();
            let help = match names::find(&last).or_else(|| names::nearest_builtin(&last)) {
                Some(found) => format!("write `{}({})`", found.name, texts.join(", ")),
                None if last == "from" || last == "try_from" => match (&arguments[..], first.as_str()) {
                    ([argument], "f32" | "f64") => format!("write `{} as f32`", argument.operand()),
                    ([argument], _) => format!("write `{} as i32`", argument.operand()),
                    _ => foreign::functions(),
                },
                None => foreign::help(&last, &arguments, Expression::is_condition).unwrap_or_else(foreign::functions),
            };
            return self.report(Source::of(path), format!("the language has no `{}`", path_text(path)), help);
        }
        ExprKind::Call(path.clone(), arguments)
    }

    fn method(&self, call: &syn::ExprMethodCall) -> Expression {
        let source = Source::of(call);
        let name = call.method.to_string();
        if let ("contains", Some((from, to, operator))) = (name.as_str(), range(&call.receiver)) {
            let value = call.args.first().map_or("j".to_string(), |value| match value {
                syn::Expr::Reference(reference) => self.expr(&reference.expr).to_string(),
                value => self.expr(value).to_string(),
            });
            let (from, to) = (self.expr(from), self.expr(to));
            let help = format!("write `{from} <= {value} && {value} {operator} {to}`");
            return Expression { kind: self.unsupported(Source::of(&call.receiver), "ranges", help), source };
        }
        let mut arguments = vec![self.expr(&call.receiver)];
        arguments.extend(self.arguments(&call.args));
        let is_method = |found: &names::Builtin| found.operands.is_method();
        if let Some(found) = names::find(&name).filter(is_method) {
            return Expression { kind: ExprKind::Builtin(found, call.method.span(), arguments), source };
        }
        // What is called on something that was reported needs no error of its own.
        if arguments[0].is_reported() {
            return Expression { kind: ExprKind::Reported, source };
        }
        let receiver = arguments[0].operand();
        let rest: Vec<String> = arguments[1..].iter().map(Expression::to_string).collect();
        let rest = rest.join(", ");
        let (message, help) = match name.as_str() {
            "push" => {
                ("`push` is a statement of its own, of the accumulator".into(), "write `o.push(score, v[j]);`".into())
            }
            "tiles" => {
                ("tiles are what a loop goes over".into(), format!("write `for j in {receiver}.tiles() {{ … }}`"))
            }
            "rem_euclid" => {
                (unknown_method(&name), format!("write `{receiver} % {rest}`: the remainder of floor division"))
            }
            "powi" => {
                let exponent = arguments.get(1).map_or("n".to_string(), Expression::as_float);
                (unknown_method(&name), format!("write `{receiver}.pow({exponent})`"))
            }
            _ => match names::nearest_builtin(&name).filter(is_method) {
                Some(found) => (unknown_method(&name), format!("write `{receiver}.{}({rest})`", found.name)),
                None => {
                    let help = foreign::help(&name, &arguments, Expression::is_condition);
                    (unknown_method(&name), help.unwrap_or_else(|| format!("the methods are {}", names_of_methods())))
                }
            },
        };
        let kind = self.report(call.method.span(), message, help);
        Expression { kind, source }
    }

    /// Reports a call of a macro of Rust.
    pub fn macro_call(&self, call: &syn::Macro) {
        let name = call.path.segments.last().map_or(String::new(), |segment| segment.ident.to_string());
        let help = match name.as_str() {
            "println" | "print" | "eprintln" | "eprint" | "dbg" => {
                "remove it: nothing can be printed from a kernel; `.reference(…)` computes the same on the CPU"
            }
            "assert" | "assert_eq" | "assert_ne" | "debug_assert" | "panic" | "unreachable" | "todo"
            | "unimplemented" => "remove it, and check the arguments before the call",
            _ => "write what it expands to",
        };
        self.unsupported(Source::of(&call.path), "macros", help);
    }

    fn unsupported_expr(&self, expr: &syn::Expr) -> ExprKind {
        let (source, what, help) = match expr {
            syn::Expr::Array(_) | syn::Expr::Repeat(_) => {
                (Source::of(expr), "arrays", "take a `Tensor` as a parameter")
            }
            syn::Expr::Assign(assign) => {
                let help = "an assignment has no value: write a `let` before this line";
                return self.unsupported(assign.eq_token.span().into(), "assignments", help);
            }
            syn::Expr::Async(expr) => (expr.async_token.span().into(), "`async`", "remove it"),
            syn::Expr::Await(expr) => (expr.await_token.span().into(), "`await`", "remove it"),
            syn::Expr::Block(expr) => (Source::of(&expr.label), "labels", "remove it"),
            syn::Expr::Break(_) => return ExprKind::Jump("break"),
            syn::Expr::Closure(expr) => {
                (expr.or1_token.span().into(), "closures", "write a function with `#[mask]`, `#[score]` or `#[index]`")
            }
            syn::Expr::Const(expr) => (expr.const_token.span().into(), "`const` blocks", "write the value itself"),
            syn::Expr::Continue(_) => return ExprKind::Jump("continue"),
            syn::Expr::Field(expr) => (Source::of(&expr.member), "fields", "take the value as a parameter"),
            syn::Expr::ForLoop(expr) => (
                expr.for_token.span().into(),
                "loops inside an expression",
                "write `for j in k.tiles() { … }` as a statement",
            ),
            syn::Expr::Let(expr) => (expr.let_token.span().into(), "`let` conditions", "write a comparison"),
            syn::Expr::Loop(expr) => (expr.loop_token.span().into(), "`loop`", "write `for j in k.tiles() { … }`"),
            syn::Expr::Macro(expr) => {
                self.macro_call(&expr.mac);
                return ExprKind::Reported;
            }
            syn::Expr::Match(expr) => (expr.match_token.span().into(), "`match`", "write `if … { … } else { … }`"),
            syn::Expr::Range(expr) => (Source::of(&expr.limits), "ranges", "write comparisons: `a <= j && j < b`"),
            syn::Expr::Reference(reference) => {
                let help = format!("write `{}`", self.expr(&reference.expr));
                return self.unsupported(reference.and_token.span().into(), "references", help);
            }
            syn::Expr::RawAddr(expr) => (expr.and_token.span().into(), "references", "remove it"),
            syn::Expr::Return(expr) => {
                let value = expr.expr.as_ref().map(|value| Box::new(self.expr(value)));
                return ExprKind::Return(expr.return_token.span(), value);
            }
            syn::Expr::Struct(expr) => (Source::of(&expr.path), "structs", "take each value as a parameter"),
            syn::Expr::Try(expr) => (expr.question_token.span().into(), "`?`", "remove it"),
            syn::Expr::TryBlock(expr) => (expr.try_token.span().into(), "`try`", "remove it"),
            syn::Expr::Tuple(_) => (Source::of(expr), "tuples", "write a `let` for each value"),
            syn::Expr::Unsafe(expr) => (expr.unsafe_token.span().into(), "`unsafe`", "remove it"),
            syn::Expr::While(expr) => (expr.while_token.span().into(), "`while`", "write `for j in k.tiles() { … }`"),
            syn::Expr::Yield(expr) => (expr.yield_token.span().into(), "`yield`", "remove it"),
            _ => (Source::of(expr), "this expression", "write arithmetic, comparisons, `if … else …` and calls"),
        };
        self.unsupported(source, what, help)
    }
}

/// The name that a path begins with.
fn first_of(path: &syn::Path) -> String {
    path.segments.first().map_or(String::new(), |segment| segment.ident.to_string())
}

/// The ends of the range that `expr` is, if it has both, and how its elements compare with the last.
fn range(expr: &syn::Expr) -> Option<(&syn::Expr, &syn::Expr, &'static str)> {
    match expr {
        syn::Expr::Paren(paren) => range(&paren.expr),
        syn::Expr::Range(range) => {
            let operator = if matches!(range.limits, syn::RangeLimits::HalfOpen(_)) { "<" } else { "<=" };
            Some((range.start.as_deref()?, range.end.as_deref()?, operator))
        }
        _ => None,
    }
}

fn unknown_method(name: &str) -> String {
    format!("the language has no method `{name}`")
}

fn names_of_methods() -> String {
    let methods = names::BUILTINS.iter().filter(|builtin| builtin.operands.is_method());
    let names: Vec<String> = methods.map(|builtin| format!("`{}`", builtin.name)).collect();
    names.join(", ")
}

/// Whether a path that begins with `name` is one of Rust's standard library, or of a framework of Python's.
fn is_elsewhere(name: &str) -> bool {
    const ROOTS: [&str; 15] = [
        "std", "core", "f32", "f64", "i32", "i64", "u32", "usize", "bool", "torch", "tl", "triton", "np", "jnp", "jax",
    ];
    ROOTS.contains(&name)
}

fn path_text(path: &syn::Path) -> String {
    path.to_token_stream().to_string().replace(' ', "")
}
