//! Reads how an accumulator is made.

use crate::ast::{AccumulatorKind, AccumulatorLet};
use crate::names;
use crate::parse::parser::BodyParser;
use crate::source::Source;

impl BodyParser<'_> {
    /// Whether `value` looks like what makes an accumulator.
    pub fn makes_accumulator(value: &syn::Expr) -> bool {
        let syn::Expr::Call(call) = value else { return false };
        let syn::Expr::Path(path) = &*call.func else { return false };
        let segments = &path.path.segments;
        segments.len() == 2 && names::ACCUMULATORS.contains(&segments[0].ident.to_string().as_str())
    }

    /// The accumulator that `value` makes, if it does: `Softmax::new()`, or a path that looks like it.
    pub fn accumulator(&self, name: &syn::PatIdent, value: &syn::Expr) -> Option<AccumulatorLet> {
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
                        Some(nearest) if constructor_name == "new" => format!("write `{nearest}::new()`"),
                        Some(nearest) => format!("write `{nearest}::{constructor_name}(…)`"),
                        None => "write `Softmax::new()`, `Sum::new()` or `Mean::new()`".to_string(),
                    },
                );
                None
            }
        };
        Some(AccumulatorLet { name: name.ident.clone(), mutable: name.mutability.is_some(), of_tuple: false, kind })
    }
}
