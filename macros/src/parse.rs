//! Reads a function into the tree of [`crate::ast`], and reports every construct of Rust that the language has not.

use crate::ast::{
    Accumulator, AccumulatorKind, Binary, Block, Expr, ExprKind, Function, Kind, Let, Loop, Over, Push, Statement, Unary,
};
use crate::error::{Errors, Source};
use crate::names;
use crate::signature;
use crate::types::Type;
use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{BinOp, ItemFn, Lit, Pat, Stmt, UnOp};

/// The function that `item` is; nothing if it is no function, which is reported.
pub fn function(kind: Kind, arguments: TokenStream, item: TokenStream, errors: &Errors) -> Option<Function> {
    let attribute = kind.attribute();
    if !arguments.is_empty() {
        errors.push(Source::of(&arguments), format!("`{attribute}` takes no arguments"), format!("write `{attribute}`"));
    }
    let item: ItemFn = match syn::parse2(join_indices(item.clone())) {
        Ok(item) => item,
        Err(error) => {
            match syn::parse2::<syn::Item>(item.clone()) {
                Ok(_) => errors.push(
                    Source::of(&item.into_iter().next()),
                    format!("`{attribute}` belongs on a function"),
                    "write it above a `fn`",
                ),
                Err(_) => errors.push_error(error),
            }
            return None;
        }
    };
    let signature = signature::read(kind, &item, errors);
    let body = Parser { errors }.block(&item.block);
    Some(Function { signature, body })
}

/// Makes `a[b, c]`, which is no Rust, into `a[(b, c)]`, so that the body is parsed and the comma gets a help of ours beside
/// rustc's error.
fn join_indices(tokens: TokenStream) -> TokenStream {
    let mut indexable = false;
    let join = |token: TokenTree| {
        let TokenTree::Group(group) = token else {
            indexable = matches!(&token, TokenTree::Ident(ident) if syn::parse_str::<Ident>(&ident.to_string()).is_ok());
            return token;
        };
        let is_index = indexable && group.delimiter() == Delimiter::Bracket;
        indexable = matches!(group.delimiter(), Delimiter::Bracket | Delimiter::Parenthesis);
        let mut inner = join_indices(group.stream());
        let is_comma = |token: TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
        if is_index && inner.clone().into_iter().any(is_comma) {
            let mut tuple = Group::new(Delimiter::Parenthesis, inner);
            tuple.set_span(group.span());
            inner = TokenTree::Group(tuple).into();
        }
        let mut joined = Group::new(group.delimiter(), inner);
        joined.set_span(group.span());
        TokenTree::Group(joined)
    };
    tokens.into_iter().map(join).collect()
}

struct Parser<'a> {
    errors: &'a Errors,
}

impl Parser<'_> {
    fn block(&self, block: &syn::Block) -> Block {
        let statements = block.stmts.iter().filter_map(|statement| self.statement(statement)).collect();
        Block { statements, close: block.brace_token.span.close() }
    }

    fn statement(&self, statement: &Stmt) -> Option<Statement> {
        match statement {
            Stmt::Local(local) => self.local(local),
            Stmt::Item(item) => {
                self.unsupported(first(item), "items inside a function", "move it out of the function");
                None
            }
            Stmt::Macro(call) => {
                self.unsupported(Source::of(&call.mac.path), "macros", "write what it expands to");
                None
            }
            Stmt::Expr(syn::Expr::ForLoop(for_loop), _) => self.for_loop(for_loop),
            Stmt::Expr(syn::Expr::MethodCall(call), semicolon) if call.method == "push" => {
                if let syn::Expr::Path(path) = &*call.receiver
                    && let Some(accumulator) = path.path.get_ident()
                {
                    let arguments = call.args.iter().map(|argument| self.expr(argument)).collect();
                    return Some(Statement::Push(Push {
                        accumulator: accumulator.clone(),
                        method: call.method.span(),
                        arguments,
                    }));
                }
                Some(Statement::Value(self.method(call), semicolon.map(|semicolon| semicolon.span())))
            }
            Stmt::Expr(expr, semicolon) => {
                Some(Statement::Value(self.expr(expr), semicolon.map(|semicolon| semicolon.span())))
            }
        }
    }

    fn local(&self, local: &syn::Local) -> Option<Statement> {
        self.attributes(&local.attrs);
        let (pattern, ty) = match &local.pat {
            Pat::Type(typed) => (&*typed.pat, self.annotation(&typed.ty)),
            pattern => (pattern, None),
        };
        let Some(init) = &local.init else {
            let message = "a `let` has a value";
            self.errors.push(Source::of(pattern), message, format!("write `let {} = …;`", pattern.to_token_stream()));
            return None;
        };
        if let Some((token, _)) = &init.diverge {
            self.unsupported(token.span().into(), "`let … else`", "write `let x = if … { … } else { … };`");
        }
        let Pat::Ident(name) = pattern else {
            let help = "write a `let` for each value, such as `let x = …;`";
            self.unsupported(Source::of(pattern), "patterns", help);
            self.expr(&init.expr);
            return None;
        };
        if name.by_ref.is_some() || name.subpat.is_some() {
            self.unsupported(Source::of(pattern), "patterns", format!("write `let {} = …;`", name.ident));
        }
        signature::reject_reserved(&name.ident, "variable", self.errors);
        if let Some(accumulator) = self.accumulator(name, &init.expr) {
            return Some(Statement::Accumulator(accumulator));
        }
        if let Some(token) = &name.mutability {
            self.unsupported(
                token.span().into(),
                "variables that change",
                format!("write `let {} = …;`; a second `let` of the name gives it a new value", name.ident),
            );
        }
        Some(Statement::Let(Let { name: name.ident.clone(), ty, value: self.expr(&init.expr) }))
    }

    /// The accumulator that `value` makes, if it does: `Softmax::new()`, or a path that looks like it.
    fn accumulator(&self, name: &syn::PatIdent, value: &syn::Expr) -> Option<Accumulator> {
        let syn::Expr::Call(call) = value else { return None };
        let syn::Expr::Path(path) = &*call.func else { return None };
        let [ty, constructor] = path.path.segments.iter().collect::<Vec<_>>()[..] else { return None };
        let (type_name, constructor_name) = (ty.ident.to_string(), constructor.ident.to_string());
        let known = names::ACCUMULATORS.contains(&type_name.as_str());
        if !known && constructor_name != "new" && constructor_name != "with_sink" {
            return None;
        }
        let kind = match (type_name.as_str(), constructor_name.as_str(), call.args.len()) {
            ("Softmax", "new", 0) => Some(AccumulatorKind::Softmax(None)),
            ("Softmax", "with_sink", 1) => Some(AccumulatorKind::Softmax(Some(self.expr(&call.args[0])))),
            ("Sum", "new", 0) => Some(AccumulatorKind::Sum),
            ("Mean", "new", 0) => Some(AccumulatorKind::Mean),
            ("Softmax", "with_sink", _) => {
                let help = "write `Softmax::with_sink(sink[head()])`";
                self.errors.push(constructor.ident.span(), "`with_sink` takes one score, the sink's", help);
                None
            }
            (_, "new", _) if known => {
                let help = format!("write `{type_name}::new()`");
                self.errors.push(Source::of(&call.args), "`new` takes nothing", help);
                None
            }
            _ if known => {
                self.errors.push(
                    constructor.ident.span(),
                    format!("`{type_name}` is not made by `{constructor_name}`"),
                    if type_name == "Softmax" {
                        "write `Softmax::new()`, or `Softmax::with_sink(sink)`".to_string()
                    } else {
                        format!("write `{type_name}::new()`")
                    },
                );
                None
            }
            _ => {
                let nearest = names::nearest(&type_name, names::ACCUMULATORS.iter().copied());
                self.errors.push(
                    ty.ident.span(),
                    format!("unknown accumulator `{type_name}`"),
                    match nearest {
                        Some(nearest) => format!("write `{nearest}::{constructor_name}(…)`"),
                        None => "write `Softmax::new()`, `Sum::new()` or `Mean::new()`".to_string(),
                    },
                );
                None
            }
        };
        Some(Accumulator { name: name.ident.clone(), mutable: name.mutability.is_some(), kind })
    }

    fn annotation(&self, ty: &syn::Type) -> Option<(Type, Span)> {
        let text = ty.to_token_stream().to_string();
        let known = match text.as_str() {
            "i32" | "u32" | "Pos" => Type::Int,
            "f32" | "Score" => Type::Float,
            "bool" => Type::Bool,
            _ => {
                self.errors.push(
                    Source::of(ty),
                    format!("unknown type `{text}` of a variable"),
                    format!("write `{}`, or leave the type out", nearest_scalar(&text)),
                );
                return None;
            }
        };
        Some((known, ty.span()))
    }

    fn for_loop(&self, for_loop: &syn::ExprForLoop) -> Option<Statement> {
        self.attributes(&for_loop.attrs);
        if let Some(label) = &for_loop.label {
            self.unsupported(Source::of(label), "labels", "remove it: a loop has no `break` or `continue`");
        }
        let variable = match &*for_loop.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.mutability.is_none() && name.subpat.is_none() => {
                signature::reject_reserved(&name.ident, "variable", self.errors);
                name.ident.clone()
            }
            pattern => {
                let message = "a loop over tiles has one variable, a plain name";
                self.errors.push(Source::of(pattern), message, "write `for j in k.tiles()`");
                // A name of its own, so that the loop is checked nonetheless.
                Ident::new("_", pattern.span())
            }
        };
        let over = match &*for_loop.expr {
            syn::Expr::MethodCall(call) if call.method == "tiles" && call.args.is_empty() => match &*call.receiver {
                syn::Expr::Path(path) => path.path.get_ident().cloned().map(Over::Tiles),
                _ => None,
            },
            syn::Expr::Path(path) => {
                path.path.get_ident().map(|name| Over::Other(name.span().into(), Some(name.clone())))
            }
            _ => None,
        };
        let over = over.unwrap_or_else(|| Over::Other(Source::of(&for_loop.expr), None));
        let keyword = for_loop.for_token.span();
        Some(Statement::Loop(Loop { keyword, variable, over, body: self.block(&for_loop.body) }))
    }

    fn expr(&self, expr: &syn::Expr) -> Expr {
        let kind = match expr {
            syn::Expr::Lit(literal) => self.literal(literal, false),
            syn::Expr::Path(path) => match path.path.get_ident() {
                Some(name) if path.qself.is_none() => ExprKind::Name(name.clone()),
                _ => {
                    self.errors.push(
                        Source::of(path),
                        format!("expected a variable, found the path `{}`", path_text(&path.path)),
                        "take the value as a parameter of the function",
                    );
                    ExprKind::Wrong
                }
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
        Expr { kind, source: Source::of(expr) }
    }

    fn literal(&self, literal: &syn::ExprLit, negative: bool) -> ExprKind {
        let source = Source::of(literal);
        let text = literal.lit.to_token_stream().to_string();
        match &literal.lit {
            Lit::Int(int) if int.suffix() == "f32" => match int.base10_parse::<f32>() {
                Ok(value) => ExprKind::Float(value),
                Err(_) => self.wrong(source, "expected a float", "write `1.0`"),
            },
            Lit::Int(int) if !matches!(int.suffix(), "" | "i32" | "u32") => {
                let message = format!("`{}` is not a type of the language: integers are `i32`", int.suffix());
                self.wrong(source, message, format!("write `{}`", int.base10_digits()))
            }
            Lit::Int(int) => match int.base10_digits().parse::<i64>().map(|value| if negative { -value } else { value }) {
                Ok(value) if i32::try_from(value).is_ok() => ExprKind::Int(value as i32),
                _ => {
                    let message = format!("the integer `{text}` does not fit in 32 bits, with a sign");
                    self.wrong(source, message, format!("write at most `{}`", i32::MAX))
                }
            },
            Lit::Float(float) if matches!(float.suffix(), "" | "f32") => match float.base10_parse::<f32>() {
                Ok(value) if value.is_finite() => ExprKind::Float(value),
                _ => {
                    let message = format!("the float `{text}` does not fit in an `f32`");
                    self.wrong(source, message, format!("write at most `{:?}`", f32::MAX))
                }
            },
            Lit::Float(float) => {
                let message = format!("`{}` is not a type of the language: floats are `f32`", float.suffix());
                self.wrong(source, message, format!("write `{}`", float.base10_digits()))
            }
            Lit::Bool(value) => ExprKind::Bool(value.value),
            Lit::Str(_) | Lit::ByteStr(_) | Lit::CStr(_) => {
                self.unsupported(source, "strings", "write an integer, a float, `true` or `false`")
            }
            _ => self.unsupported(source, "characters", "write an integer, a float, `true` or `false`"),
        }
    }

    fn unary(&self, unary: &syn::ExprUnary) -> ExprKind {
        match (&unary.op, &*unary.expr) {
            (UnOp::Neg(_), syn::Expr::Lit(literal)) if matches!(&literal.lit, Lit::Int(int) if int.suffix() != "f32") => {
                self.literal(literal, true)
            }
            (UnOp::Neg(_), operand) => ExprKind::Unary(Unary::Neg, Box::new(self.expr(operand))),
            (UnOp::Not(_), operand) => ExprKind::Unary(Unary::Not, Box::new(self.expr(operand))),
            (_, operand) => {
                let operand = self.expr(operand);
                self.unsupported(unary.op.span().into(), "references", format!("write `{operand}`"))
            }
        }
    }

    fn binary(&self, binary: &syn::ExprBinary) -> ExprKind {
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
            BinOp::BitAnd(_) => return self.unsupported(source, "`&`", format!("write `{a} && {b}`")),
            BinOp::BitOr(_) => return self.unsupported(source, "`|`", format!("write `{a} || {b}`")),
            BinOp::BitXor(_) => return self.unsupported(source, "`^`", format!("of bools, write `{a} != {b}`")),
            BinOp::Shl(_) => return self.unsupported(source, "`<<`", "multiply by a power of two: `a * 8`"),
            BinOp::Shr(_) => return self.unsupported(source, "`>>`", "divide by a power of two: `a / 8` rounds down"),
            // The rest are `+=` and the like.
            op => {
                let text = op.to_token_stream().to_string();
                let help = format!("write `let {a} = {a} {} …;`", text.trim_end_matches('='));
                return self.unsupported(source, &format!("the assignment `{text}`"), help);
            }
        };
        let token = match binary.op {
            // The first character of `<=` and the like.
            op => Source::of(&op).start,
        };
        ExprKind::Binary(op, token, a, b)
    }

    fn cast(&self, cast: &syn::ExprCast) -> ExprKind {
        let operand = self.expr(&cast.expr);
        let text = cast.ty.to_token_stream().to_string();
        match text.as_str() {
            "f32" => ExprKind::Cast(Box::new(operand), Type::Float),
            "i32" => ExprKind::Cast(Box::new(operand), Type::Int),
            "bool" => self.wrong(
                Source::of(&cast.ty),
                "a cast gives an `f32` or an `i32`",
                format!("write `{} != 0`", operand.operand()),
            ),
            _ => self.wrong(
                Source::of(&cast.ty),
                "a cast gives an `f32` or an `i32`",
                format!("write `{} as {}`", operand.operand(), nearest_scalar(&text).replace("u32", "i32")),
            ),
        }
    }

    fn index(&self, index: &syn::ExprIndex) -> ExprKind {
        let (mut base, mut indices) = (index, Vec::new());
        let name = loop {
            let several = match &*base.index {
                syn::Expr::Tuple(tuple) => Some(&tuple.elems),
                syn::Expr::Array(array) => Some(&array.elems),
                _ => None,
            };
            match several {
                Some(elements) => {
                    let mut elements: Vec<Expr> = elements.iter().map(|element| self.expr(element)).collect();
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
                self.wrong(
                    Source::of(&base.expr),
                    "only a tensor can be indexed, by its name",
                    "take it as a parameter, such as `slope: Tensor<f32, 1>`, and write `slope[head()]`",
                )
            }
        }
    }

    fn branch(&self, branch: &syn::ExprIf) -> ExprKind {
        if let syn::Expr::Let(condition) = &*branch.cond {
            return self.unsupported(condition.let_token.span().into(), "`if let`", "write a condition: `if i == j { … }`");
        }
        let condition = Box::new(self.expr(&branch.cond));
        let then = self.block(&branch.then_branch);
        match &branch.else_branch {
            Some((_, otherwise)) => ExprKind::If(condition, then, Box::new(self.expr(otherwise))),
            None => self.wrong(
                branch.if_token.span(),
                "an `if` is a value, and needs an `else`",
                format!("write `if {condition} {then} else {{ … }}`"),
            ),
        }
    }

    fn arguments(&self, arguments: &syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>) -> Vec<Expr> {
        arguments.iter().map(|argument| self.expr(argument)).collect()
    }

    fn call(&self, call: &syn::ExprCall) -> ExprKind {
        let arguments = self.arguments(&call.args);
        let path = match &*call.func {
            syn::Expr::Path(path) if path.qself.is_none() => &path.path,
            other => {
                let help = "call a function by its name, such as `causal(i, j)`";
                return self.wrong(Source::of(other), "expected the name of a function", help);
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
            return self.wrong(Source::of(path), format!("the accumulator `{first}` is not a value"), help);
        }
        if path.segments.len() == 2 && matches!(first.as_str(), "f32" | "i32" | "u32" | "f64" | "bool") {
            let arguments = Expr { kind: ExprKind::Call(path.clone(), arguments), source: Source::of(call) }.to_string();
            let function = names::find(&last).or_else(|| names::nearest_builtin(&last)).map_or("", |found| found.name);
            let help = match arguments.split_once('(') {
                Some((_, arguments)) if !function.is_empty() => format!("write `{function}({arguments}`"),
                _ => format!("the functions are {}", names_of_functions()),
            };
            return self.wrong(Source::of(path), format!("the language has no `{}`", path_text(path)), help);
        }
        ExprKind::Call(path.clone(), arguments)
    }

    fn method(&self, call: &syn::ExprMethodCall) -> Expr {
        let source = Source::of(call);
        let name = call.method.to_string();
        let mut arguments = vec![self.expr(&call.receiver)];
        arguments.extend(self.arguments(&call.args));
        let is_method = |found: &names::Builtin| {
            matches!(found.operands, names::Operands::Floats(_) | names::Operands::Numbers(_))
        };
        if let Some(found) = names::find(&name).filter(is_method) {
            return Expr { kind: ExprKind::Builtin(found, call.method.span(), arguments), source };
        }
        let receiver = arguments[0].operand();
        let rest: Vec<String> = arguments[1..].iter().map(Expr::to_string).collect();
        let rest = rest.join(", ");
        let (message, help) = match name.as_str() {
            "push" => ("`push` is a statement of its own, of the accumulator".into(), "write `o.push(score, v[j]);`".into()),
            "tiles" => ("tiles are what a loop goes over".into(), format!("write `for j in {receiver}.tiles() {{ … }}`")),
            "rem_euclid" => (unknown_method(&name), format!("write `{receiver} % {rest}`: the remainder of floor division")),
            _ => match names::nearest_builtin(&name).filter(is_method) {
                Some(found) => (unknown_method(&name), format!("write `{receiver}.{}({rest})`", found.name)),
                None => (unknown_method(&name), format!("the methods are {}", names_of_methods())),
            },
        };
        let kind = self.wrong(call.method.span(), message, help);
        Expr { kind, source }
    }

    fn unsupported_expr(&self, expr: &syn::Expr) -> ExprKind {
        let (source, what, help) = match expr {
            syn::Expr::Array(_) | syn::Expr::Repeat(_) => (Source::of(expr), "arrays", "take a `Tensor` as a parameter"),
            syn::Expr::Assign(assign) => {
                let help = format!("write `let {} = …;`", self.expr(&assign.left));
                return self.unsupported(assign.eq_token.span().into(), "assignments", help);
            }
            syn::Expr::Async(expr) => (expr.async_token.span().into(), "`async`", "remove it"),
            syn::Expr::Await(expr) => (expr.await_token.span().into(), "`await`", "remove it"),
            syn::Expr::Block(expr) => (Source::of(&expr.label), "labels", "remove it"),
            syn::Expr::Break(expr) => {
                (expr.break_token.span().into(), "`break`", "hide the keys: `mask(s, visible)`; hidden tiles are skipped")
            }
            syn::Expr::Closure(expr) => {
                (expr.or1_token.span().into(), "closures", "write a function with `#[mask]` or `#[score]`")
            }
            syn::Expr::Const(expr) => (expr.const_token.span().into(), "`const` blocks", "write the value itself"),
            syn::Expr::Continue(expr) => {
                (expr.continue_token.span().into(), "`continue`", "hide the keys: `mask(s, visible)`; hidden tiles are skipped")
            }
            syn::Expr::Field(expr) => (Source::of(&expr.member), "fields", "take the value as a parameter"),
            syn::Expr::ForLoop(expr) => {
                (expr.for_token.span().into(), "loops inside an expression", "write `for j in k.tiles() { … }` as a statement")
            }
            syn::Expr::Let(expr) => (expr.let_token.span().into(), "`let` conditions", "write a comparison"),
            syn::Expr::Loop(expr) => (expr.loop_token.span().into(), "`loop`", "write `for j in k.tiles() { … }`"),
            syn::Expr::Macro(expr) => (Source::of(&expr.mac.path), "macros", "write what it expands to"),
            syn::Expr::Match(expr) => (expr.match_token.span().into(), "`match`", "write `if … { … } else { … }`"),
            syn::Expr::Range(expr) => (Source::of(&expr.limits), "ranges", "write comparisons: `a <= j && j < b`"),
            syn::Expr::Reference(reference) => {
                let help = format!("write `{}`", self.expr(&reference.expr));
                return self.unsupported(reference.and_token.span().into(), "references", help);
            }
            syn::Expr::RawAddr(expr) => (expr.and_token.span().into(), "references", "remove it"),
            syn::Expr::Return(expr) => {
                (expr.return_token.span().into(), "`return`", "write the value as the last line of its block, without `;`")
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

    fn attributes(&self, attributes: &[syn::Attribute]) {
        if let Some(attribute) = attributes.first() {
            self.unsupported(Source::of(&attribute.meta), "attributes in a body", "write it above the function");
        }
    }

    fn unsupported(&self, source: Source, what: &str, help: impl std::fmt::Display) -> ExprKind {
        let verb = if what.ends_with('s') { "are" } else { "is" };
        self.wrong(source, format!("{what} {verb} not in the language"), help)
    }

    fn wrong(
        &self,
        source: impl Into<Source>,
        message: impl std::fmt::Display,
        help: impl std::fmt::Display,
    ) -> ExprKind {
        self.errors.push(source, message, help);
        ExprKind::Wrong
    }
}

fn unknown_method(name: &str) -> String {
    format!("the language has no method `{name}`")
}

fn names_of_functions() -> String {
    let names: Vec<String> = names::BUILTINS.iter().map(|builtin| format!("`{}`", builtin.name)).collect();
    names.join(", ")
}

fn names_of_methods() -> String {
    let is_method =
        |builtin: &&names::Builtin| matches!(builtin.operands, names::Operands::Floats(_) | names::Operands::Numbers(_));
    let names: Vec<String> =
        names::BUILTINS.iter().filter(is_method).map(|builtin| format!("`{}`", builtin.name)).collect();
    names.join(", ")
}

/// The first token of `item`.
fn first(item: &impl ToTokens) -> Source {
    Source::from(Source::of(item).start)
}

fn path_text(path: &syn::Path) -> String {
    path.to_token_stream().to_string().replace(' ', "")
}

/// The scalar type that is most like the type `text` of Rust.
fn nearest_scalar(text: &str) -> &'static str {
    match text {
        "usize" | "u64" | "u16" | "u8" => "u32",
        "f64" | "f16" | "bf16" => "f32",
        _ => "i32",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn indices_are_joined_where_something_is_indexed() {
        let joined = |tokens| join_indices(tokens).to_string();
        assert_eq!(joined(quote!(doc[batch(), i])), quote!(doc[(batch(), i)]).to_string());
        assert_eq!(joined(quote!(f(a[b][c, d]))), quote!(f(a[b][(c, d)])).to_string());
        assert_eq!(joined(quote!(let x = [a, b];)), quote!(let x = [a, b];).to_string());
        assert_eq!(joined(quote!(for x in [a, b])), quote!(for x in [a, b]).to_string());
        assert_eq!(joined(quote!(vec![a, b])), quote!(vec![a, b]).to_string());
    }
}
