//! Reads the attributes of a parameter: `#[comptime]` of a scalar, `#[sorted]` of a captured tensor.

use crate::diagnostic::Diagnostics;
use crate::names;
use crate::signature::{DeclaredElement, Kind, ParameterKind, Sorted};
use crate::source::Source;
use proc_macro2::Ident;
use quote::ToTokens;
use syn::{Attribute, Meta};

/// The attributes of a parameter; meaningful only if no error was reported.
#[derive(Default)]
pub struct Attributes {
    pub comptime: bool,
    pub sorted: Option<Sorted>,
}

/// The parameter that has the attributes.
pub struct Owner<'a> {
    /// The macro of its function.
    pub kind: Kind,
    pub name: &'a Ident,
    pub parameter: ParameterKind,
    /// The type, as it is written.
    pub ty: String,
}

impl Owner<'_> {
    /// What `attributes` say of the parameter.
    pub fn read(&self, attributes: &[Attribute], errors: &Diagnostics) -> Attributes {
        let mut read = Attributes::default();
        for (place, attribute) in attributes.iter().enumerate() {
            let (meta, path) = (&attribute.meta, attribute.path());
            let is_comptime = matches!(meta, Meta::Path(path) if path.is_ident("comptime"));
            let is_sorted = path.is_ident("sorted");
            if !is_comptime && !is_sorted {
                report_unknown(meta, errors);
            } else if attributes[..place].iter().any(|earlier| earlier.path() == path) {
                let message = format!("`#[{}]` is given twice", path.to_token_stream());
                errors.push(Source::of(meta), message, "remove one of the two");
            } else if is_comptime {
                read.comptime = self.comptime(meta, errors);
            } else {
                read.sorted = self.sorted(meta, errors);
            }
        }
        read
    }

    fn comptime(&self, meta: &Meta, errors: &Diagnostics) -> bool {
        let Owner { name, ty, .. } = self;
        if self.kind != Kind::Attention {
            errors.push(
                Source::of(meta),
                "`#[comptime]` belongs to the parameters of an attention",
                "remove it here, and write it in the attention that calls this function",
            );
            return false;
        }
        if !matches!(self.parameter, ParameterKind::Scalar(_) | ParameterKind::Reported) {
            errors.push(
                Source::of(meta),
                format!("only a scalar can be `#[comptime]`, and `{name}` is not one"),
                format!("write `{name}: {ty}` without it"),
            );
            return false;
        }
        true
    }

    fn sorted(&self, meta: &Meta, errors: &Diagnostics) -> Option<Sorted> {
        let Owner { name, ty, .. } = self;
        let (message, help) = match self.parameter {
            ParameterKind::Tensor(DeclaredElement::I32, _) if self.kind == Kind::Attention => {
                return sorted_argument(meta, errors);
            }
            ParameterKind::Tensor(DeclaredElement::I32, _) => (
                "`#[sorted]` belongs to the parameters of an attention".to_string(),
                format!("remove it here, and write `#[sorted] {name}: {ty}` in the attention that calls this function"),
            ),
            ParameterKind::Tensor(..) => (
                format!("only a `Tensor<i32, R>` can be `#[sorted]`, and `{name}` is a `{ty}`"),
                format!("write `{name}: {ty}` without it"),
            ),
            // Of what type it is meant to be is not known.
            ParameterKind::Reported => return None,
            _ => (
                format!("only a captured tensor can be `#[sorted]`, and `{name}` is not one"),
                format!("write `{name}: {ty}` without it"),
            ),
        };
        errors.push(Source::of(meta), message, help);
        None
    }
}

/// What `#[sorted]` says by its argument.
fn sorted_argument(meta: &Meta, errors: &Diagnostics) -> Option<Sorted> {
    let fault = match meta {
        Meta::Path(_) => return Some(Sorted::Checked),
        Meta::List(list) => {
            let is_unchecked = |token: &proc_macro2::TokenTree| token.to_string() == "unchecked";
            let tokens: Vec<_> = list.tokens.clone().into_iter().collect();
            match &tokens[..] {
                [] => Source::of(meta),
                [only] if is_unchecked(only) => return Some(Sorted::Unchecked),
                [first, second, ..] if is_unchecked(first) => second.span().into(),
                [first, ..] => first.span().into(),
            }
        }
        Meta::NameValue(pair) => Source::of(&pair.value),
    };
    let help = "write `#[sorted]`, or `#[sorted(unchecked)]` to launch without a check of the order";
    errors.push(fault, "`#[sorted]` takes nothing but `unchecked`", help);
    None
}

fn report_unknown(meta: &Meta, errors: &Diagnostics) {
    let name = meta.path().to_token_stream().to_string();
    let help = match names::nearest(&name, ["comptime", "sorted"]) {
        Some(nearest) => format!("write `#[{nearest}]`"),
        None => {
            "a parameter has `#[comptime]`, if it is a scalar, or `#[sorted]`, if it is a `Tensor<i32, R>`".to_string()
        }
    };
    errors.push(Source::of(meta), format!("unknown attribute of a parameter: `{name}`"), help);
}
