//! Reads the signature of a function: its parameters, and that there is nothing in it that the language has not.

use crate::ast::{Element, Kind, Parameter, ParameterKind, Scalar, Signature};
use crate::attributes::{Attributes, Owner};
use crate::error::{Errors, Source};
use crate::names;
use proc_macro2::Ident;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{FnArg, GenericArgument, ItemFn, Pat, PathArguments, ReturnType};

/// The signature of `item`.
pub fn read(kind: Kind, item: &ItemFn, errors: &Errors) -> Signature {
    reject_qualifiers(kind, item, errors);
    let has_output = check_output(kind, item, errors);
    let mut parameters: Vec<Parameter> = Vec::new();
    for argument in &item.sig.inputs {
        let Some(parameter) = read_parameter(kind, argument, errors) else { continue };
        let name = parameter.name.to_string();
        if parameters.iter().any(|earlier| earlier.name == parameter.name) {
            errors.push(
                parameter.name.span(),
                format!("the name `{name}` is used for more than one parameter"),
                format!("rename one, such as `{name}2`"),
            );
        } else {
            reject_reserved(&parameter.name, "parameter", errors);
        }
        parameters.push(parameter);
    }
    if kind == Kind::Attention {
        check_tiles(&item.sig.ident, &parameters, errors);
    }
    Signature {
        kind,
        attributes: item.attrs.clone(),
        visibility: item.vis.clone(),
        name: item.sig.ident.clone(),
        parameters,
        has_output,
    }
}

/// Reports that `name` can't be the name of a `what`, if so.
pub fn reject_reserved(name: &Ident, what: &str, errors: &Errors) {
    let text = name.to_string();
    if names::is_reserved(&text) {
        let meaning = if names::ACCUMULATORS.contains(&text.as_str()) { "an accumulator" } else { "a function" };
        errors.push(
            name.span(),
            format!("`{text}` can't be the name of a {what}: it is {meaning} of the language"),
            format!("rename it, such as `{text}_value`"),
        );
    }
}

fn reject_qualifiers(kind: Kind, item: &ItemFn, errors: &Errors) {
    let signature = &item.sig;
    let attribute = kind.attribute();
    let reject = |source: Source, what: &str| {
        let message = format!("a function with `{attribute}` can't {what}");
        errors.push(source, message, format!("write `fn {}(…)`", signature.ident));
    };
    if let Some(token) = &signature.asyncness {
        reject(token.span().into(), "be `async`");
    }
    if let Some(token) = &signature.constness {
        reject(token.span().into(), "be `const`");
    }
    if let Some(token) = &signature.unsafety {
        reject(token.span().into(), "be `unsafe`");
    }
    if let Some(token) = &signature.abi {
        reject(token.extern_token.span().into(), "be `extern`");
    }
    if !signature.generics.params.is_empty() {
        reject(Source::of(&signature.generics), "have generic parameters");
    }
    if let Some(clause) = &signature.generics.where_clause {
        reject(clause.where_token.span().into(), "have a `where` clause");
    }
    if let Some(variadic) = &signature.variadic {
        reject(Source::of(variadic), "take a variable number of arguments");
    }
}

/// Whether the function is declared with the output of its kind.
fn check_output(kind: Kind, item: &ItemFn, errors: &Errors) -> bool {
    let accepted: &[&str] = match kind {
        Kind::Attention => &["Output"],
        Kind::Mask => &["bool"],
        Kind::Score => &["Score", "f32"],
    };
    let (attribute, expected) = (kind.attribute(), accepted[0]);
    match &item.sig.output {
        ReturnType::Default => {
            let message = format!("a function with `{attribute}` returns `{expected}`");
            let help = format!("write `-> {expected}` after its parameters");
            errors.push(item.sig.ident.span(), message, help);
            false
        }
        ReturnType::Type(_, ty) if !accepted.iter().any(|name| is_name(ty, name)) => {
            let found = type_text(ty);
            let message = format!("a function with `{attribute}` returns `{expected}`, found `{found}`");
            errors.push(Source::of(ty), message, format!("write `-> {expected}`"));
            false
        }
        ReturnType::Type(..) => true,
    }
}

fn is_name(ty: &syn::Type, name: &str) -> bool {
    matches!(ty, syn::Type::Path(path) if path.qself.is_none() && path.path.is_ident(name))
}

fn read_parameter(kind: Kind, argument: &FnArg, errors: &Errors) -> Option<Parameter> {
    let attribute = kind.attribute();
    let typed = match argument {
        FnArg::Receiver(receiver) => {
            errors.push(
                receiver.self_token.span(),
                format!("a function with `{attribute}` has no `self`"),
                "move it out of the `impl` or `trait`, and remove `self`",
            );
            return None;
        }
        FnArg::Typed(typed) => typed,
    };
    let name = match &*typed.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.mutability.is_none() && pattern.subpat.is_none() => {
            pattern.ident.clone()
        }
        Pat::Ident(pattern) => {
            errors.push(
                Source::of(&typed.pat),
                "a parameter is a plain name",
                format!("write `{}: {}`", pattern.ident, type_text(&typed.ty)),
            );
            pattern.ident.clone()
        }
        pattern => {
            errors.push(
                Source::of(pattern),
                "a parameter is a plain name",
                format!("write `name: {}`", type_text(&typed.ty)),
            );
            return None;
        }
    };
    let parameter = read_type(kind, &name, &typed.ty, errors);
    let owner = Owner { kind, name: &name, parameter, ty: type_text(&typed.ty) };
    let Attributes { comptime, sorted } = owner.read(&typed.attrs, errors);
    Some(Parameter { name, kind: parameter, comptime, sorted })
}

/// The text of a type, as rustfmt would write it.
fn type_text(ty: &syn::Type) -> String {
    ty.to_token_stream().to_string().replace(" < ", "<").replace(" >", ">").replace(" ,", ",").replace("& ", "&")
}

fn read_type(kind: Kind, name: &Ident, ty: &syn::Type, errors: &Errors) -> ParameterKind {
    let attention = kind == Kind::Attention;
    // A type that a `macro_rules!` macro was given.
    if let syn::Type::Group(group) = ty {
        return read_type(kind, name, &group.elem, errors);
    }
    let wrong = |source: Source, message: String, help: String| {
        errors.push(source, message, help);
        ParameterKind::Wrong
    };
    let segment = match ty {
        syn::Type::Path(path) if path.qself.is_none() && path.path.segments.len() == 1 => &path.path.segments[0],
        syn::Type::Reference(reference) => {
            return wrong(
                reference.and_token.span().into(),
                "the language has no references".to_string(),
                format!("write `{name}: {}`", type_text(&reference.elem)),
            );
        }
        other => return unknown_type(kind, name, other, errors),
    };
    let text = segment.ident.to_string();
    if text == "Tensor" {
        return read_tensor(name, segment, errors);
    }
    if !segment.arguments.is_none() {
        return unknown_type(kind, name, ty, errors);
    }
    match text.as_str() {
        "Query" | "Key" | "Value" if !attention => wrong(
            segment.ident.span().into(),
            format!(
                "`{text}` is a parameter of an attention; `{}` takes positions, scores, scalars and tensors",
                kind.attribute()
            ),
            format!("take what the function computes with, such as `{name}: Score` or `{name}: Pos`"),
        ),
        "Query" => ParameterKind::Query,
        "Key" => ParameterKind::Key,
        "Value" => ParameterKind::Value,
        "Pos" | "Score" if attention => wrong(
            segment.ident.span().into(),
            format!(
                "`{text}` is a parameter of a `#[mask]` or `#[score]` function; an attention has it from its loops"
            ),
            if text == "Pos" {
                format!("remove `{name}: Pos`, and use the variables of `for i in q.tiles()` and `for j in k.tiles()`")
            } else {
                format!("remove `{name}: Score`, and write `dot(q[i], k[j]) * scale()` in the loop over the keys")
            },
        ),
        "Pos" => ParameterKind::Position,
        "Score" => ParameterKind::Score,
        _ => match Scalar::from_name(&text) {
            Some(scalar) => ParameterKind::Scalar(scalar),
            None => unknown_type(kind, name, ty, errors),
        },
    }
}

fn unknown_type(kind: Kind, name: &Ident, ty: &syn::Type, errors: &Errors) -> ParameterKind {
    let mut known = match kind {
        Kind::Attention => vec!["Query", "Key", "Value"],
        Kind::Mask | Kind::Score => vec!["Pos", "Score"],
    };
    known.extend(["u32", "i32", "f32", "bool"]);
    let text = type_text(ty);
    let suggestion = match text.as_str() {
        "usize" | "u64" | "u16" | "u8" => Some("u32"),
        "isize" | "i64" | "i16" | "i8" => Some("i32"),
        "f64" | "f16" | "bf16" => Some("f32"),
        other => names::nearest(other, known.iter().copied().chain(["Tensor"])),
    };
    let help = match suggestion {
        Some("Tensor") => format!("write `{name}: Tensor<f32, 1>`"),
        Some(suggestion) => format!("write `{name}: {suggestion}`"),
        None if matches!(ty, syn::Type::Array(_) | syn::Type::Slice(_)) || text.starts_with("Vec<") => {
            format!("write `{name}: Tensor<f32, 1>`")
        }
        None => format!("a parameter is one of `{}` and `Tensor<f32, 1>`", known.join("`, `")),
    };
    errors.push(Source::of(ty), format!("unknown type `{text}` of a parameter"), help);
    ParameterKind::Wrong
}

fn read_tensor(name: &Ident, segment: &syn::PathSegment, errors: &Errors) -> ParameterKind {
    let arguments: Vec<&GenericArgument> = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().collect(),
        _ => Vec::new(),
    };
    let [element, rank] = arguments[..] else {
        errors.push(
            Source::of(segment),
            "a captured tensor has an element type and a number of dimensions",
            format!("write `{name}: Tensor<f32, 1>`"),
        );
        return ParameterKind::Wrong;
    };
    let known = match element {
        GenericArgument::Type(ty) if is_name(ty, "f32") => Some(Element::F32),
        GenericArgument::Type(ty) if is_name(ty, "i32") => Some(Element::I32),
        GenericArgument::Type(ty) if is_name(ty, "bool") || is_name(ty, "u8") => Some(Element::Bool),
        _ => None,
    };
    if known.is_none() {
        errors.push(
            Source::of(element),
            "a captured tensor has elements of type `f32`, `i32`, `bool` or `u8`",
            format!("write `{name}: Tensor<f32, {}>`", rank.to_token_stream()),
        );
    }
    let dimensions = match rank {
        GenericArgument::Const(syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(literal), .. })) => {
            literal.base10_parse().ok().filter(|rank| (1..=4).contains(rank))
        }
        _ => None,
    };
    if dimensions.is_none() {
        errors.push(
            Source::of(rank),
            "a captured tensor has 1 to 4 dimensions",
            format!("write `{name}: Tensor<{}, 1>`", element.to_token_stream()),
        );
    }
    known.zip(dimensions).map_or(ParameterKind::Wrong, |(element, rank)| ParameterKind::Tensor(element, rank))
}

/// Reports a missing query, a second one, and keys and values that are not as many.
fn check_tiles(function: &Ident, parameters: &[Parameter], errors: &Errors) {
    let of = |kind| parameters.iter().filter(move |parameter| parameter.kind == kind);
    if let Some(second) = of(ParameterKind::Query).nth(1) {
        errors.push(
            second.name.span(),
            "an attention has one `Query`",
            format!("remove `{}`, or make it another `Key` and `Value`", second.name),
        );
    }
    if of(ParameterKind::Query).next().is_none() {
        errors.push(function.span(), "an attention has a `Query`, and this one has none", "add a parameter `q: Query`");
    }
    let (keys, values) = (of(ParameterKind::Key).count(), of(ParameterKind::Value).count());
    if keys == 0 {
        errors.push(function.span(), "an attention has a `Key`, and this one has none", "add a parameter `k: Key`");
    }
    if values == 0 {
        errors.push(function.span(), "an attention has a `Value`, and this one has none", "add a parameter `v: Value`");
    }
    if keys > 0 && values > 0 && keys != values {
        let (more, fewer, kind) = if keys > values {
            ("keys", "values", ParameterKind::Key)
        } else {
            ("values", "keys", ParameterKind::Value)
        };
        let last = of(kind).next_back().expect("there is one");
        let other = if keys > values { "v2: Value" } else { "k2: Key" };
        errors.push(
            last.name.span(),
            format!("every `Key` goes with one `Value`, and there are more {more} than {fewer}"),
            format!("add a parameter `{other}`, or remove `{}`", last.name),
        );
    }
}
