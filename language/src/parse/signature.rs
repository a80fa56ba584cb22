//! Reads the signature of a function: its parameters, and that there is nothing in it that the language has not.

use crate::diagnostic::Diagnostics;
use crate::names;
use crate::parse::parameters::{Reader, is_name, report_misdeclared, scalar_like, type_text, undeclared_tiles};
use crate::signature::{DeclaredParameter, Kind, ParameterKind, Signature};
use crate::source::Source;
use crate::tree::MAX_OUTPUTS;
use crate::types::ValueType;
use crate::uses::Uses;
use proc_macro2::Ident;
use syn::spanned::Spanned;
use syn::{GenericParam, ItemFn, ReturnType};

/// What a function is declared as.
pub struct Declaration {
    pub signature: Signature,
    /// The type of its value, if it is a `#[mask]`, `#[score]` or `#[index]`.
    pub output: ValueType,
    /// The names of its generic parameters, which were reported.
    pub reported: Vec<Ident>,
}

/// The declaration of `item`.
pub fn read(kind: Kind, item: &ItemFn, uses: &Uses, errors: &Diagnostics) -> Declaration {
    reject_qualifiers(kind, item, errors);
    let (output, outputs) = read_output(kind, item, errors);
    let generics: Vec<Ident> = item.sig.generics.params.iter().filter_map(generic_name).collect();
    let reader = Reader { kind, uses, generics: &generics, undeclared: undeclared_tiles(kind, item), errors };
    let mut parameters: Vec<DeclaredParameter> = Vec::new();
    let mut misdeclared = Vec::new();
    for argument in &item.sig.inputs {
        let Some(parameter) = reader.parameter(argument, &mut misdeclared) else { continue };
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
    report_misdeclared(&misdeclared, errors);
    if kind == Kind::Attention {
        check_tiles(&item.sig.ident, &parameters, uses, errors);
    }
    let signature = Signature {
        kind,
        attributes: item.attrs.clone(),
        visibility: item.vis.clone(),
        name: item.sig.ident.clone(),
        parameters,
        outputs,
    };
    Declaration { signature, output, reported: generics }
}

/// The name of a generic parameter of a type or of a constant.
fn generic_name(parameter: &GenericParam) -> Option<Ident> {
    match parameter {
        GenericParam::Type(parameter) => Some(parameter.ident.clone()),
        GenericParam::Const(parameter) => Some(parameter.ident.clone()),
        GenericParam::Lifetime(_) => None,
    }
}

/// Reports that `name` can't be the name of a `what`, if so.
pub fn reject_reserved(name: &Ident, what: &str, errors: &Diagnostics) {
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

fn reject_qualifiers(kind: Kind, item: &ItemFn, errors: &Diagnostics) {
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
    for parameter in &signature.generics.params {
        let message = format!("a function with `{attribute}` can't have generic parameters");
        let help = match parameter {
            GenericParam::Lifetime(_) => "remove it: parameters are no references".to_string(),
            GenericParam::Const(constant) => {
                let name = names::parameter_name(&constant.ident.to_string());
                let ty = scalar_like(&type_text(&constant.ty));
                let comptime = if kind == Kind::Attention { "#[comptime] " } else { "" };
                format!("write it as a parameter, `{comptime}{name}: {ty}`, and `{name}` where it is used")
            }
            GenericParam::Type(_) => {
                "remove it, and declare each parameter with its type, such as `x: f32`".to_string()
            }
        };
        errors.push(Source::of(parameter), message, help);
    }
    if let Some(clause) = &signature.generics.where_clause {
        // Of generic parameters, which were reported.
        if signature.generics.params.is_empty() {
            reject(clause.where_token.span().into(), "have a `where` clause");
        }
    }
    if let Some(variadic) = &signature.variadic {
        reject(Source::of(variadic), "take a variable number of arguments");
    }
}

/// The type of the function's value, where it is declared with the output of its kind, and how many of them it gives.
fn read_output(kind: Kind, item: &ItemFn, errors: &Diagnostics) -> (ValueType, Option<usize>) {
    let (accepted, ty): (&[&str], ValueType) = match kind {
        Kind::Attention => (&["Output"], ValueType::Unknown),
        Kind::Mask => (&["bool"], ValueType::Bool),
        Kind::Score => (&["Score", "f32"], ValueType::Float),
        Kind::Index => (&["i32"], ValueType::Int),
    };
    let (attribute, expected) = (kind.attribute(), accepted[0]);
    match &item.sig.output {
        ReturnType::Default => {
            let message = format!("a function with `{attribute}` returns `{expected}`");
            let help = format!("write `-> {expected}` after its parameters");
            errors.push(item.sig.ident.span(), message, help);
            (ValueType::Reported, None)
        }
        ReturnType::Type(_, declared) if kind == Kind::Attention && outputs_of(declared).is_some() => {
            (ty, read_outputs(declared, errors))
        }
        ReturnType::Type(_, declared) if !accepted.iter().any(|name| is_name(declared, name)) => {
            let found = type_text(declared);
            let message = format!("a function with `{attribute}` returns `{expected}`, found `{found}`");
            errors.push(Source::of(declared), message, format!("write `-> {expected}`"));
            (ValueType::Reported, None)
        }
        ReturnType::Type(..) => (ty, Some(1)),
    }
}

/// The types in a tuple that an attention returns; `None` of what is no tuple, or is empty.
fn outputs_of(declared: &syn::Type) -> Option<Vec<&syn::Type>> {
    match declared {
        syn::Type::Tuple(tuple) if !tuple.elems.is_empty() => Some(tuple.elems.iter().collect()),
        _ => None,
    }
}

/// How many outputs a tuple of them says, if it is one.
fn read_outputs(declared: &syn::Type, errors: &Diagnostics) -> Option<usize> {
    let outputs = outputs_of(declared)?;
    let others: Vec<_> = outputs.iter().filter(|output| !is_name(output, "Output")).collect();
    for other in &others {
        let message = format!("an output of an attention is an `Output`, found `{}`", type_text(other));
        errors.push(Source::of(*other), message, "write `Output`");
    }
    if !others.is_empty() {
        return None;
    }
    match outputs.len() {
        1 => {
            errors.push(Source::of(declared), "a tuple of outputs has several, and here is one", "write `-> Output`");
            None
        }
        count if count > MAX_OUTPUTS => {
            let message = format!("an attention has at most {MAX_OUTPUTS} outputs, and here are {count}");
            errors.push(Source::of(outputs[MAX_OUTPUTS]), message, "make the rest by an attention of their own");
            None
        }
        count => Some(count),
    }
}

/// Reports missing queries, keys and values. Keys serve as values where the body takes part of their rows.
fn check_tiles(function: &Ident, parameters: &[DeclaredParameter], uses: &Uses, errors: &Diagnostics) {
    let is_missing = |kind| parameters.iter().all(|parameter| parameter.kind != kind);
    if is_missing(ParameterKind::Query) {
        errors.push(function.span(), "an attention has a `Query`, and this one has none", "add a parameter `q: Query`");
    }
    if is_missing(ParameterKind::Key) {
        errors.push(function.span(), "an attention has a `Key`, and this one has none", "add a parameter `k: Key`");
    }
    if is_missing(ParameterKind::Value) && !uses.takes_leading() {
        errors.push(function.span(), "an attention has a `Value`, and this one has none", "add a parameter `v: Value`");
    }
}
