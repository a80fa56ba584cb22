//! Reads the parameters of a function: their types, and what a type that the language has not is meant for.

use crate::diagnostic::Diagnostics;
use crate::names;
use crate::parse::attributes::{Attributes, Owner};
use crate::signature::{DeclaredElement, DeclaredParameter, Kind, ParameterKind, Scalar};
use crate::source::Source;
use crate::uses::Uses;
use proc_macro2::Ident;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{FnArg, GenericArgument, ItemFn, Pat, PathArguments};

/// Reads the parameters of one function.
pub struct Reader<'a> {
    /// The macro of the function.
    pub kind: Kind,
    pub uses: &'a Uses,
    /// The generic parameters of the function, which were reported.
    pub generics: &'a [Ident],
    /// The kinds of tiles that the function declares no parameter of.
    pub undeclared: Vec<ParameterKind>,
    pub errors: &'a Diagnostics,
}

impl Reader<'_> {
    /// The parameter that `argument` is; one that stands for tiles and is declared as something else is added to `misdeclared`.
    pub fn parameter(&self, argument: &FnArg, misdeclared: &mut Vec<Misdeclared>) -> Option<DeclaredParameter> {
        let Reader { kind, errors, .. } = *self;
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
            Pat::Ident(pattern)
                if pattern.by_ref.is_none() && pattern.mutability.is_none() && pattern.subpat.is_none() =>
            {
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
        if let Some(tiles) = self.uses.tiles(&name).filter(|tiles| self.undeclared.contains(tiles)) {
            misdeclared.push(Misdeclared {
                name: name.clone(),
                tiles,
                ty: (Source::of(&typed.ty), type_text(&typed.ty)),
            });
            return Some(DeclaredParameter { name, kind: tiles, comptime: false, sorted: None });
        }
        let parameter = self.read_type(&name, &typed.ty);
        let owner = Owner { kind, name: &name, parameter, ty: type_text(&typed.ty) };
        let Attributes { comptime, sorted } = owner.read(&typed.attrs, errors);
        Some(DeclaredParameter { name, kind: parameter, comptime, sorted })
    }

    fn read_type(&self, name: &Ident, ty: &syn::Type) -> ParameterKind {
        let Reader { kind, errors, .. } = *self;
        let attention = kind == Kind::Attention;
        // A type that a `macro_rules!` macro was given.
        if let syn::Type::Group(group) = ty {
            return self.read_type(name, &group.elem);
        }
        let wrong = |source: Source, message: String, help: String| {
            errors.push(source, message, help);
            ParameterKind::Reported
        };
        let segment = match ty {
            syn::Type::Path(path) if path.qself.is_none() && path.path.segments.len() == 1 => &path.path.segments[0],
            syn::Type::Reference(reference) if matches!(*reference.elem, syn::Type::Slice(_) | syn::Type::Array(_)) => {
                return self.unknown_type(name, &reference.elem);
            }
            syn::Type::Reference(reference) => {
                return wrong(
                    reference.and_token.span().into(),
                    "the language has no references".to_string(),
                    format!("write `{name}: {}`", type_text(&reference.elem)),
                );
            }
            other => return self.unknown_type(name, other),
        };
        let text = segment.ident.to_string();
        if text == "Tensor" {
            return self.read_tensor(name, segment);
        }
        if !segment.arguments.is_none() {
            return self.unknown_type(name, ty);
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
                    "`{text}` is a parameter of a `#[mask]`, `#[score]` or `#[index]` function; an attention has it from its loops"
                ),
                if text == "Pos" {
                    format!(
                        "remove `{name}: Pos`, and use the variables of `for i in q.tiles()` and `for j in k.tiles()`"
                    )
                } else {
                    format!("remove `{name}: Score`, and write `dot(q[i], k[j]) * scale()` in the loop over the keys")
                },
            ),
            "Pos" => ParameterKind::Position,
            "Score" => ParameterKind::Score,
            _ => match Scalar::from_name(&text) {
                Some(scalar) => ParameterKind::Scalar(scalar),
                None => self.unknown_type(name, ty),
            },
        }
    }

    fn unknown_type(&self, name: &Ident, ty: &syn::Type) -> ParameterKind {
        let Reader { kind, errors, .. } = *self;
        if self.generics.iter().any(|generic| is_name(ty, &generic.to_string())) {
            return ParameterKind::Reported;
        }
        let rank = self.uses.rank(name).unwrap_or(1).clamp(1, 4);
        let element = match ty {
            syn::Type::Slice(slice) => element_like(&slice.elem),
            syn::Type::Array(array) => element_like(&array.elem),
            _ => "f32",
        };
        let tensor = format!("{name}: Tensor<{element}, {rank}>");
        let mut known = match kind {
            Kind::Attention => vec!["Query", "Key", "Value"],
            Kind::Mask | Kind::Score | Kind::Index => vec!["Pos", "Score"],
        };
        known.extend(["u32", "i32", "f32", "bool"]);
        let text = type_text(ty);
        let suggestion = rust_scalar(&text).or_else(|| names::nearest(&text, known.iter().copied().chain(["Tensor"])));
        let help = match suggestion {
            Some("Tensor") => format!("write `{tensor}`"),
            Some(suggestion) => format!("write `{name}: {suggestion}`"),
            None if matches!(ty, syn::Type::Array(_) | syn::Type::Slice(_)) || text.starts_with("Vec<") => {
                format!("write `{tensor}`")
            }
            None => format!("a parameter is one of `{}` and `Tensor<f32, 1>`", known.join("`, `")),
        };
        errors.push(Source::of(ty), format!("unknown type `{text}` of a parameter"), help);
        ParameterKind::Reported
    }

    fn read_tensor(&self, name: &Ident, segment: &syn::PathSegment) -> ParameterKind {
        let errors = self.errors;
        let arguments: Vec<&GenericArgument> = match &segment.arguments {
            PathArguments::AngleBracketed(arguments) => arguments.args.iter().collect(),
            _ => Vec::new(),
        };
        let used = self.uses.rank(name).unwrap_or(1).clamp(1, 4);
        let [element, rank] = arguments[..] else {
            let element = match arguments.first() {
                Some(GenericArgument::Type(ty)) if ["i32", "bool", "u8"].iter().any(|name| is_name(ty, name)) => {
                    type_text(ty)
                }
                _ => "f32".to_string(),
            };
            errors.push(
                Source::of(segment),
                "a captured tensor has an element type and a number of dimensions",
                format!("write `{name}: Tensor<{element}, {used}>`; elements are of `f32`, `i32`, `bool` or `u8`"),
            );
            return ParameterKind::Reported;
        };
        let known = match element {
            GenericArgument::Type(ty) if is_name(ty, "f32") => Some(DeclaredElement::F32),
            GenericArgument::Type(ty) if is_name(ty, "i32") => Some(DeclaredElement::I32),
            GenericArgument::Type(ty) if is_name(ty, "bool") || is_name(ty, "u8") => Some(DeclaredElement::Bool),
            _ => None,
        };
        if known.is_none() {
            let likely = match element {
                GenericArgument::Type(ty) => element_like(ty),
                _ => "f32",
            };
            errors.push(
                Source::of(element),
                "a captured tensor has elements of type `f32`, `i32`, `bool` or `u8`",
                format!("write `{name}: Tensor<{likely}, {}>`{}", rank.to_token_stream(), given_otherwise(element)),
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
                format!("write `{name}: Tensor<{}, {used}>`", element.to_token_stream()),
            );
        }
        known.zip(dimensions).map_or(ParameterKind::Reported, |(element, rank)| ParameterKind::Tensor(element, rank))
    }
}

/// The kinds of tiles that an attention declares no parameter of.
pub fn undeclared_tiles(kind: Kind, item: &ItemFn) -> Vec<ParameterKind> {
    let tiles = [("Query", ParameterKind::Query), ("Key", ParameterKind::Key), ("Value", ParameterKind::Value)];
    let is_declared = |name: &str| {
        item.sig.inputs.iter().any(|argument| matches!(argument, FnArg::Typed(typed) if is_name(&typed.ty, name)))
    };
    let undeclared = tiles.into_iter().filter(|(name, _)| kind == Kind::Attention && !is_declared(name));
    undeclared.map(|(_, kind)| kind).collect()
}

/// A parameter that stands for tiles, and is declared as something else.
pub struct Misdeclared {
    name: Ident,
    tiles: ParameterKind,
    /// The type it is declared with, and its text.
    ty: (Source, String),
}

/// Reports all of `misdeclared`, at once: it is one mistake.
pub fn report_misdeclared(misdeclared: &[Misdeclared], errors: &Diagnostics) {
    let [first, rest @ ..] = misdeclared else { return };
    let names: Vec<String> = misdeclared.iter().map(|parameter| format!("`{}`", parameter.name)).collect();
    let written: Vec<String> = misdeclared
        .iter()
        .map(|Misdeclared { name, tiles, .. }| match tiles {
            ParameterKind::Query => format!("{name}: Query"),
            ParameterKind::Key => format!("{name}: Key"),
            _ => format!("{name}: Value"),
        })
        .collect();
    let message = match rest {
        [] => format!("{} stands for tiles, and is declared as `{}`", names[0], first.ty.1),
        _ => {
            let (last, before) = names.split_last().expect("at least two");
            format!("{} and {last} stand for tiles, and are declared as something else", before.join(", "))
        }
    };
    let help = format!("write `{}`; their tensors are given where it is run", written.join(", "));
    errors.push(first.ty.0, message, help);
}

/// The text of a type, as rustfmt would write it.
pub fn type_text(ty: &syn::Type) -> String {
    ty.to_token_stream().to_string().replace(" < ", "<").replace(" >", ">").replace(" ,", ",").replace("& ", "&")
}

/// Whether `ty` is `name`.
pub fn is_name(ty: &syn::Type, name: &str) -> bool {
    match ty {
        syn::Type::Path(path) => path.qself.is_none() && path.path.is_ident(name),
        // A type that a `macro_rules!` macro was given.
        syn::Type::Group(group) => is_name(&group.elem, name),
        _ => false,
    }
}

/// The scalar of the language that is like the scalar `text` of Rust, which the language has not.
fn rust_scalar(text: &str) -> Option<&'static str> {
    match text {
        "usize" | "u64" | "u16" | "u8" => Some("u32"),
        "isize" | "i64" | "i16" | "i8" => Some("i32"),
        "f64" | "f16" | "bf16" => Some("f32"),
        _ => None,
    }
}

/// The scalar of the language that is most like the type `text` of Rust.
pub fn scalar_like(text: &str) -> &'static str {
    rust_scalar(text).or_else(|| Scalar::from_name(text).map(Scalar::name)).unwrap_or("i32")
}

/// That a captured tensor may be given with elements of another type than it is declared with.
fn given_otherwise(element: &GenericArgument) -> &'static str {
    match element {
        GenericArgument::Type(ty) if is_name(ty, "f16") || is_name(ty, "bf16") => {
            ": it takes a tensor of f16 or bf16 too, and reads it as f32"
        }
        GenericArgument::Type(ty) if is_name(ty, "i64") || is_name(ty, "u32") => {
            ": `Tensor::from_slice` makes `i32` of such integers, and refuses those without 32 bits"
        }
        _ => "",
    }
}

/// The type of elements of a captured tensor that is most like `ty`.
fn element_like(ty: &syn::Type) -> &'static str {
    let text = type_text(ty);
    match (text.as_str(), rust_scalar(&text)) {
        ("u8", _) => "u8",
        ("bool", _) => "bool",
        ("i32" | "u32", _) | (_, Some("i32" | "u32")) => "i32",
        _ => "f32",
    }
}
